"""A store that only an fsspec filesystem speaks to: the one adapter for every source that obstore has no counterpart for."""

from __future__ import annotations

import base64
import datetime
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from migrate_storage.core.errors import KeyRefusedError
from migrate_storage.core.model import Attributes, ObjectMeta
from migrate_storage.stores.obstore_store import plain_e_tag, to_attributes

__all__ = ("FsspecStore", "usable")

_ONE_BY_ONE = frozenset({"sftp", "ssh", "ftp", "ftps", "smb", "tar", "zip", "libarchive"})
"""Protocols of one connection or one file: two threads at once wait for each other's answers, with paramiko for ever."""
_TURNS: WeakKeyDictionary[Any, threading.Lock] = WeakKeyDictionary()
_WRAPPERS = ("fsspec.implementations.cached", "fsspec.implementations.dirfs", "fsspec.implementations.chained")
_BLOCK = 4 * 1024 * 1024
_BUCKETED = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss", "cos", "obs"})
"""Protocols whose paths begin with a bucket or container."""
_TIMES = ("LastModified", "last_modified", "mtime", "updated", "modified", "created")
_TAGS = ("ETag", "etag", "e_tag", "ino")
_VERSIONS = ("VersionId", "version_id", "generation")


def usable(fs: Any) -> Any:
    """The innermost filesystem, which :attr:`migrate_storage.translate.registration.Registration.path` speaks to.

    Unwrapped from folders and from caches (which answer stale), and rebuilt for use without an event loop.

    Args:
        fs: any fsspec filesystem instance.
    """
    while type(fs).__module__.startswith(_WRAPPERS) and getattr(fs, "fs", None) is not None:
        fs = fs.fs
    if getattr(fs, "asynchronous", False):
        options = {**fs.storage_options, "asynchronous": False, "skip_instance_cache": True}
        return type(fs)(*fs.storage_args, **options)
    return fs


def _turn(fs: Any) -> AbstractContextManager[Any]:
    """What is held while a filesystem is spoken to, where only one may at a time, by whatever store."""
    protocols = (fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol
    return nullcontext() if _ONE_BY_ONE.isdisjoint(protocols) else _TURNS.setdefault(fs, threading.Lock())


class _Reading:
    def __init__(self, fs: Any, path: str, meta: ObjectMeta, attributes: Attributes) -> None:
        self._fs, self._path, self._turn = fs, path, _turn(fs)
        self.meta = meta
        self.attributes = attributes

    def read(self) -> bytes:
        with self._turn:
            content = self._fs.cat_file(self._path)
        return content.encode() if isinstance(content, str) else bytes(content)

    def chunks(self) -> Iterator[bytes]:
        with self._turn, self._fs.open(self._path, "rb", block_size=_BLOCK) as file:
            while piece := file.read(_BLOCK):
                yield bytes(piece)


class FsspecStore:
    """An fsspec filesystem, spoken to in its own paths.

    Args:
        fs: the filesystem, as an application made it.
        name: what a person would call it.
        root: for local disks, the directory that no path may leave; ``None`` sets no bound.
    """

    def __init__(self, fs: Any, name: str, *, root: str | None = None) -> None:
        self._fs = usable(fs)
        self.name = name
        self._turn = _turn(self._fs)
        protocol = self._fs.protocol
        protocols = (protocol,) if isinstance(protocol, str) else tuple(protocol)
        self._local = "file" in protocols
        self._memory = "memory" in protocols
        self._bucketed = not _BUCKETED.isdisjoint(protocols)
        self.is_local = self._local or self._memory
        self._root = os.path.realpath(root) if root and self._local else None

    def head(self, path: str) -> ObjectMeta:
        """See :class:`migrate_storage.stores.base.Store`."""
        return self._meta(path, self._info(path))

    def head_with_attributes(self, path: str) -> tuple[ObjectMeta, Attributes]:
        """See :class:`migrate_storage.stores.base.Store`."""
        opened = self.open(path)
        return opened.meta, opened.attributes

    def open(self, path: str) -> _Reading:
        """See :class:`migrate_storage.stores.base.Store`."""
        info = self._info(path)
        return _Reading(self._fs, path, self._meta(path, info), self._attributes(path, info))

    def put(
        self,
        path: str,
        content: bytes | Iterable[bytes],
        *,
        attributes: Attributes,  # noqa: ARG002 - fsspec has no common way to keep them
        create: bool,
        part_size: int | None,
        stat_after: bool = True,  # noqa: ARG002 - fsspec's answer to a put tells nothing
    ) -> ObjectMeta:
        """Write one object: only ever to take a changed object back to where it came from. Attributes stay in the row."""
        self._guard(path)
        with self._turn:
            if create and self._fs.exists(path):
                raise FileExistsError(f"something stands at {path} already")
            if isinstance(content, bytes):
                self._fs.pipe_file(path, content)
            else:
                with self._fs.open(path, "wb", block_size=part_size or _BLOCK) as file:
                    for piece in content:
                        file.write(piece)
        return self.head(path)

    def delete(self, path: str) -> None:
        """See :class:`migrate_storage.stores.base.Store`. Never ``rm``, which takes ``*`` and ``[`` for patterns."""
        self._guard(path)
        try:
            with self._turn:
                self._fs.rm_file(path)
        except FileNotFoundError:
            return

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectMeta]:
        """See :class:`migrate_storage.stores.base.Store`. It begins at the first key in any case."""
        return (meta for meta in self._listed(prefix) if meta.path > after)

    def _listed(self, prefix: str) -> Iterator[ObjectMeta]:
        self._fs.invalidate_cache()
        if self._bucketed:
            self._require_bucket(prefix)
        # Not ``walk``: below the first level it takes a folder that could not be listed for an empty one.
        folders = [prefix]
        while folders:
            folder = folders.pop()
            try:
                with self._turn:
                    listing = self._fs.ls(folder, detail=True)
            except FileNotFoundError:
                continue
            within = [str(info["name"]) for info in listing if info.get("type") == "directory"]
            if any(name.strip("/") == folder.strip("/") for name in within):
                # A folder of no name, as in ``a//b``, cannot be asked for: all below in one answer, and so in memory.
                for name, info in self._fs.find(folder, detail=True).items():
                    yield self._meta(str(name), info)
                continue
            folders += within
            for info in listing:
                if info.get("type") != "directory" and self._is_file(info):
                    yield self._meta(str(info["name"]), info)

    def _is_file(self, info: Mapping[str, Any]) -> bool:
        """Of a disk, files and links to files; no pipe, which would be read for ever, and no link to a folder."""
        return not self._local or info.get("type") != "other" or Path(info["name"]).is_file()

    def _require_bucket(self, path: str) -> None:
        """Fsspec lists a bucket that does not exist as an empty one."""
        bucket = path.strip("/").partition("/")[0]
        try:
            self._fs.info(bucket)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"The specified bucket does not exist: {bucket}") from error
        except Exception:  # noqa: BLE001 - who may list a bucket's objects may not always ask for the bucket
            return

    def _info(self, path: str) -> Mapping[str, Any]:
        self._guard(path)
        self._fs.invalidate_cache(path)
        with self._turn:
            info: Mapping[str, Any] = self._fs.info(path)
        if info.get("type") == "directory" and self._memory:
            # It holds ``a`` beside ``a/b``, and tells of the folder alone.
            held = self._fs.store.get(self._fs._strip_protocol(path))  # noqa: SLF001 - fsspec's own name for it
            info = info if held is None else {"name": path, "size": held.size, "modified": held.modified}
        if info.get("type") == "directory" and path.endswith("/"):
            raise KeyRefusedError(
                f"{path} ends with a slash, and {self.name} shows a folder there: give the object another name"
            )
        if info.get("type") == "directory":
            raise FileNotFoundError(f"{path} is a directory")
        return info

    def _guard(self, path: str) -> None:
        if self._root is None:
            return
        real = os.path.realpath(self._fs._strip_protocol(path))  # noqa: SLF001 - fsspec's own name for it
        if self._root != "/" and os.path.commonpath((self._root, real)) != self._root:
            raise KeyRefusedError(f"{path} leads out of {self._root} (by .. or a symbolic link); it was not touched")

    def _meta(self, path: str, info: Mapping[str, Any]) -> ObjectMeta:
        version = _first(info, _VERSIONS)
        tag = _first(info, _TAGS)
        return ObjectMeta(
            path=path,
            size=int(info["size"] or 0),
            e_tag=plain_e_tag(str(tag)) if tag is not None else None,
            last_modified=_seconds(_first(info, _TIMES)),
            version=str(version) if version is not None else None,
            md5=_md5(info),
        )

    def _attributes(self, path: str, info: Mapping[str, Any]) -> Attributes:
        settings: Any = info.get("content_settings") or {}
        found: dict[str, str] = {}
        for header, names in {
            "Content-Type": ("ContentType", "contentType", "content_type"),
            "Content-Encoding": ("ContentEncoding", "contentEncoding", "content_encoding"),
            "Content-Language": ("ContentLanguage", "contentLanguage", "content_language"),
            "Content-Disposition": ("ContentDisposition", "contentDisposition", "content_disposition"),
            "Cache-Control": ("CacheControl", "cacheControl", "cache_control"),
        }.items():
            value = _first(info, names) or settings.get(names[-1])
            if value:
                found[header] = str(value)
        metadata = info.get("metadata") or info.get("Metadata")
        if metadata is None and hasattr(self._fs, "metadata"):
            metadata = self._fs.metadata(path)
        return to_attributes({**{str(key): str(value) for key, value in (metadata or {}).items()}, **found})


def _first(info: Mapping[str, Any], names: Iterable[str]) -> Any:
    return next((info[name] for name in names if info.get(name) is not None), None)


def _seconds(moment: Any) -> float | None:
    if isinstance(moment, datetime.datetime):
        return moment.timestamp()
    if isinstance(moment, (int, float)):
        return float(moment)
    if isinstance(moment, str):
        try:
            return datetime.datetime.fromisoformat(moment).timestamp()
        except ValueError:
            return None
    return None


def _md5(info: Mapping[str, Any]) -> str | None:
    """A real digest that a service tells: GCS ``md5Hash``, Azure ``content_md5``."""
    settings: Any = info.get("content_settings") or {}
    digest = info.get("md5Hash") or settings.get("content_md5")
    if isinstance(digest, (bytes, bytearray)):
        return bytes(digest).hex()
    if isinstance(digest, str):
        try:
            return base64.b64decode(digest, validate=True).hex()
        except ValueError:
            return None
    return None
