"""Unwrap filesystems around another one: directories and caches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from migrate_storage.core.model import Note
from migrate_storage.translate.notes import note
from migrate_storage.translate.option_tables import mapping, text
from migrate_storage.translate.places import join_folder

__all__ = ("Unwrapped", "unwrap")

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
