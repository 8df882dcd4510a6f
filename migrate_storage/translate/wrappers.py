"""Unwrap filesystems around another one: directories, caches and chained URLs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from migrate_storage.core.model import Note
from migrate_storage.translate.notes import note
from migrate_storage.translate.option_tables import mapping, text
from migrate_storage.translate.places import join_folder, join_prefix

__all__ = ("Unwrapped", "unwrap", "unwrap_url")

_CACHES = frozenset({"simplecache", "filecache", "blockcache", "cached", "asyncwrapper", "async_wrapper"})

#: No one nests deeper; only a mapping that contains itself would.
_MAX_DEPTH = 32


@dataclass(frozen=True, slots=True)
class Unwrapped:
    """The filesystem below all wrappers, and their common prefix."""

    protocol: str
    options: Mapping[str, Any]
    prefix: str | None
    notes: tuple[Note, ...] = ()


def unwrap(protocol: str, options: Mapping[str, Any], prefix: str | None) -> Unwrapped:
    """Remove all wrappers.

    Args:
        protocol: fsspec's name of the outermost filesystem.
        options: its arguments; ``target_protocol``, ``target_options`` and ``fo`` are followed.
        prefix: the prefix on the outermost filesystem.
    """
    notes: list[Note] = []
    for _ in range(_MAX_DEPTH):
        if protocol == "dir":
            folder = text(options.get("path")) or text(options.get("fo"))
            prefix = join_folder(folder.rstrip("/"), prefix or "") or None
        elif protocol in _CACHES:
            notes.append(note("wrapper.cache", protocol))
        else:
            break
        protocol, options = text(options.get("target_protocol")), mapping(options.get("target_options"))
    return Unwrapped(protocol, options, prefix, tuple(notes))


def unwrap_url(url: str, storage_options: Mapping[str, Any]) -> Unwrapped:
    """Read a URL with storage options, chained ones such as ``simplecache::s3://bucket/folder`` included.

    The options of an inner protocol are given under its name, as in fsspec.
    """
    notes: list[Note] = []
    links = url.split("::")
    names = [link.partition("://")[0] if "://" in link else (link if len(links) > 1 else "file") for link in links]
    outer = {key: value for key, value in storage_options.items() if key not in names[1:]}
    folder = ""
    for position, (name, link) in enumerate(zip(names, links, strict=True)):
        options = outer if position == 0 else mapping(storage_options.get(name))
        path = link if "://" in link or len(links) == 1 else ""
        if name in _CACHES:
            notes.append(note("wrapper.cache", name))
        if name == "dir" or name in _CACHES:
            inner = path.partition("://")[2]
            folder = join_folder(inner, folder) if inner else folder
            continue
        bare = name.lower()
        return Unwrapped(bare, options, join_prefix(path, folder) if folder else path or None, tuple(notes))
    return Unwrapped("", {}, None, tuple(notes))
