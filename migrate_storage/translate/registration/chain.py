"""The filesystem below wrappers, and its class and arguments."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from migrate_storage.core.model import Note
from migrate_storage.translate.notes import note
from migrate_storage.translate.places import join_folder

__all__ = ("Chain", "class_name", "constructor_options", "protocol_of", "unwrap_filesystem")


@dataclass(frozen=True, slots=True)
class Chain:
    """The filesystem below all wrappers, their common path rule, and notes."""

    innermost: Any
    path: Callable[[str], str]
    notes: tuple[Note, ...] = ()

    @property
    def whole_prefix(self) -> str | None:
        """Everything that a path has before the filename."""
        return self.path("x")[:-1].rstrip("/") or None


_CACHES = frozenset(
    {"CachingFileSystem", "WholeFileCacheFileSystem", "SimpleCacheFileSystem", "AsyncFileSystemWrapper"}
)

#: Canonical protocol by the name of the class, so that nothing must be imported.
_CLASSES = {
    "S3FileSystem": "s3", "GCSFileSystem": "gcs", "AzureBlobFileSystem": "azure",
    "LocalFileSystem": "file", "MemoryFileSystem": "memory", "HTTPFileSystem": "http",
    **dict.fromkeys(("DirFileSystem", "GenericFileSystem", "FsspecStore", *_CACHES), ""),
}  # fmt: skip

_MAX_DEPTH = 32


def class_name(filesystem: Any) -> str:
    """Return the name of a filesystem's known base class, or of its own class."""
    names = (kind.__name__ for kind in type(filesystem).__mro__)
    return next((name for name in names if name in _CLASSES), type(filesystem).__name__)


def unwrap_filesystem(filesystem: Any, path: Callable[[str], str]) -> Chain:
    """Return the filesystem below caches and folders.

    Args:
        filesystem: the outermost one.
        path: makes its path of a filename.
    """
    notes: list[Note] = []
    for _ in range(_MAX_DEPTH):
        name = class_name(filesystem)
        inner = getattr(filesystem, "fs", None)
        if inner is None or (name != "DirFileSystem" and name not in _CACHES):
            break
        if name == "DirFileSystem":
            path = functools.partial(_join_in_folder, str(getattr(filesystem, "path", "")), path)
        else:
            notes.append(note("wrapper.cache", protocol_of(filesystem)))
        filesystem = inner
    return Chain(filesystem, path, tuple(notes))


def _join_in_folder(folder: str, path: Callable[[str], str], filename: str) -> str:
    return join_folder(folder, path(filename))


def protocol_of(filesystem: Any) -> str:
    """Return the canonical protocol of a filesystem, or its own name of another one."""
    known = _CLASSES.get(class_name(filesystem))
    if known:
        return known
    protocol = getattr(filesystem, "protocol", "")
    return str(protocol if isinstance(protocol, str) else next(iter(protocol or ()), ""))


def constructor_options(filesystem: Any) -> dict[str, Any]:
    """Return all arguments of the instance by name: positional ones, then keywords."""
    options = dict(getattr(filesystem, "storage_options", None) or {})
    arguments = tuple(getattr(filesystem, "storage_args", None) or ())
    if not arguments:
        return options
    try:
        names = [name for name in inspect.signature(type(filesystem).__init__).parameters if name != "self"]
    except (TypeError, ValueError):
        return options
    return {**dict(zip(names, arguments, strict=False)), **options}
