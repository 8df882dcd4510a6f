"""A store over an fsspec filesystem.

It serves sources that obstore cannot open, and keys that obstore cannot address.
"""

from __future__ import annotations

import datetime
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from migrate_storage.core.errors import KeyRefusedError
from migrate_storage.core.model import Attributes, ObjectMeta
from migrate_storage.stores.base import DigestHeaders, plain_e_tag
from migrate_storage.stores.digest_headers import md5_to_hex, read_s3fs_digest_headers
from migrate_storage.stores.obstore_store import HEADERS, to_attributes
from migrate_storage.translate import PROTOCOLS

__all__ = ("FsspecStore", "usable")

_SINGLE_CONNECTION = frozenset({"sftp", "ssh", "ftp", "ftps", "smb", "tar", "zip", "libarchive"})
"""Protocols of one connection or one file: threads would read each other's answers, and paramiko would wait for ever."""
_LOCKS: WeakKeyDictionary[Any, threading.Lock] = WeakKeyDictionary()
_WRAPPERS = ("fsspec.implementations.cached", "fsspec.implementations.dirfs", "fsspec.implementations.chained")
_BLOCK_BYTES = 4 * 1024 * 1024
_WRITE_BLOCK_BYTES = 8 * 1024 * 1024
"""S3 takes no part below 5 MiB but the last."""
_BUCKETED = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss", "cos", "obs"})
"""Protocols whose paths begin with a bucket or container."""
_TIMES = ("LastModified", "Last-Modified", "last_modified", "mtime", "updated", "modified", "created")
_TAGS = ("ETag", "etag", "e_tag", "ino")
_VERSIONS = ("VersionId", "version_id", "generation")


def usable(fs: Any) -> Any:
    """Return the filesystem below all folders and caches, for use without an event loop.

    Caches may be stale. Paths come from :attr:`migrate_storage.translate.registration.Registration.path`.

    Args:
        fs: any fsspec filesystem instance.
    """
    while type(fs).__module__.startswith(_WRAPPERS) and getattr(fs, "fs", None) is not None:
        fs = fs.fs
    if getattr(fs, "asynchronous", False):
        options = {**fs.storage_options, "asynchronous": False, "skip_instance_cache": True}
        return type(fs)(*fs.storage_args, **options)
    return fs


def _get_lock(fs: Any) -> AbstractContextManager[Any]:
    """Return the lock that all stores of a single-connection filesystem share."""
    protocols = (fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol
    return nullcontext() if _SINGLE_CONNECTION.isdisjoint(protocols) else _LOCKS.setdefault(fs, threading.Lock())


class _OpenedObject:
    def __init__(self, fs: Any, path: str, meta: ObjectMeta, attributes: Attributes) -> None:
        self._fs, self._path, self._lock = fs, path, _get_lock(fs)
        self.meta, self.attributes = meta, attributes

    def read(self) -> bytes:
        with self._lock:
            content = self._fs.cat_file(self._path)
        return content.encode() if isinstance(content, str) else bytes(content)

    def chunks(self) -> Iterator[bytes]:
        with self._lock, self._fs.open(self._path, "rb", block_size=_BLOCK_BYTES) as file:
            while piece := file.read(_BLOCK_BYTES):
                yield bytes(piece)


class FsspecStore:
    """An fsspec filesystem, addressed by its own paths.

    Args:
        fs: the filesystem, as an application made it.
        name: its name in messages.
        root: for local disks, the directory that no path may leave; ``None`` permits all.
    """

    def __init__(self, fs: Any, name: str, *, root: str | None = None) -> None:
        self._fs = usable(fs)
        self.name = name
        self._lock = _get_lock(self._fs)
        protocol = self._fs.protocol
        protocols = (protocol,) if isinstance(protocol, str) else tuple(protocol)
        self._local = "file" in protocols
        self._memory = "memory" in protocols
        self._service = next((PROTOCOLS[name] for name in protocols if name in PROTOCOLS), "")
        self._bucketed = not _BUCKETED.isdisjoint(protocols)
        self.is_local = self._local or self._memory
        self._root = os.path.realpath(root) if root and self._local else None

    def head(self, path: str) -> ObjectMeta:
        """See :class:`migrate_storage.stores.base.Store`."""
        return self._make_meta(path, self._fetch_info(path))

    def head_with_attributes(self, path: str) -> tuple[ObjectMeta, Attributes]:
        """See :class:`migrate_storage.stores.base.Store`."""
        opened = self.open(path)
        return opened.meta, opened.attributes

    def digest_headers(self, path: str) -> DigestHeaders:
        """See :class:`migrate_storage.stores.base.Store`."""
        if self._service == "s3":
            with self._lock:
                return read_s3fs_digest_headers(self._fs, path)
        if self._service not in ("gcs", "azure"):
            return DigestHeaders()  # no other filesystem reports a digest
        # Its API may have another ETag for the same object.
        return DigestHeaders(md5=self.head(path).md5)

    def open(self, path: str) -> _OpenedObject:
        """See :class:`migrate_storage.stores.base.Store`."""
        info = self._fetch_info(path)
        return _OpenedObject(self._fs, path, self._make_meta(path, info), self._read_attributes(path, info))

    def put(
        self,
        path: str,
        content: bytes | Iterable[bytes],
        *,
        attributes: Attributes,
        create: bool,
        part_size: int | None,
        replaces: ObjectMeta | None = None,
    ) -> ObjectMeta:
        """Write one object: only for a revert. S3, Google Cloud Storage and Azure keep its attributes."""
        del replaces  # fsspec knows no such condition
        self._check_path(path)
        options = _WRITE_OPTIONS[self._service](attributes) if self._service in _WRITE_OPTIONS else {}
        with self._lock:
            if create and self._fs.exists(path):
                raise FileExistsError(f"an object is at {path} already")
            size = 0
            if isinstance(content, bytes) and self._service != "azure":
                self._fs.pipe_file(path, content, **options)
                size = len(content)
            else:
                # Only so does adlfs take metadata.
                with self._fs.open(path, "wb", block_size=part_size or _WRITE_BLOCK_BYTES, **options) as file:
                    for piece in (content,) if isinstance(content, bytes) else content:
                        file.write(piece)
                        size += len(piece)
        # fsspec returns nothing of the answer to a write.
        return ObjectMeta(path=path, size=size)

    def delete(self, path: str) -> None:
        """Delete one object; not by ``rm``, which reads ``*`` and ``[`` as patterns."""
        self._check_path(path)
        with suppress(FileNotFoundError), self._lock:
            self._fs.rm_file(path)

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectMeta]:
        """List objects; the filesystem lists all keys in any case."""
        return (meta for meta in self._list_folders(prefix) if meta.path > after)

    def list_stepwise(self, prefix: str, *, after: str) -> Iterator[ObjectMeta]:
        """List nothing: the filesystem lists whole folders."""
        del prefix, after
        return iter(())

    def _list_folders(self, prefix: str) -> Iterator[ObjectMeta]:
        self._fs.invalidate_cache()
        if self._bucketed:
            self._require_bucket(prefix)
        # Not ``walk``: below the first level it shows a folder that cannot be listed as an empty one.
        folders = [prefix]
        while folders:
            folder = folders.pop()
            try:
                with self._lock:
                    listing = self._fs.ls(folder, detail=True)
            except FileNotFoundError:
                continue
            within = [str(info["name"]) for info in listing if info.get("type") == "directory"]
            if any(name.strip("/") == folder.strip("/") for name in within):
                # A folder without a name, as in ``a//b``, cannot be listed alone: list all below at once, in memory.
                for name, info in self._fs.find(folder, detail=True).items():
                    yield self._make_meta(str(name), info)
                continue
            folders += within
            for info in listing:
                if info.get("type") != "directory" and self._is_file(info):
                    yield self._make_meta(str(info["name"]), info)

    def _is_file(self, info: Mapping[str, Any]) -> bool:
        """Whether an entry is a file or a link to one: a pipe would be read for ever."""
        return not self._local or info.get("type") != "other" or Path(info["name"]).is_file()

    def _require_bucket(self, path: str) -> None:
        """Raise for a bucket that does not exist, which fsspec lists as an empty one."""
        bucket = path.strip("/").partition("/")[0]
        try:
            self._fs.info(bucket)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"The specified bucket does not exist: {bucket}") from error
        except Exception:  # noqa: BLE001 - credentials that may list objects may be refused the bucket itself
            return

    def _fetch_info(self, path: str) -> Mapping[str, Any]:
        self._check_path(path)
        self._fs.invalidate_cache(path)
        with self._lock:
            info: Mapping[str, Any] = self._fs.info(path)
        if info.get("type") == "directory" and self._memory:
            # It can have ``a`` beside ``a/b``, but returns the folder only.
            file = self._fs.store.get(self._fs._strip_protocol(path))  # noqa: SLF001 - fsspec's own name for it
            info = info if file is None else {"name": path, "size": file.size, "modified": file.modified}
        if info.get("type") == "directory" and path.endswith("/"):
            raise KeyRefusedError(
                f"{path} ends with a slash, and {self.name} shows a folder there: give the object another name"
            )
        if info.get("type") == "directory":
            raise FileNotFoundError(f"{path} is a directory")
        return info

    def _check_path(self, path: str) -> None:
        if self._root is None:
            return
        real = os.path.realpath(self._fs._strip_protocol(path))  # noqa: SLF001 - fsspec's own name for it
        if self._root != "/" and os.path.commonpath((self._root, real)) != self._root:
            raise KeyRefusedError(f"{path} leads out of {self._root} (by .. or a symbolic link); it was not touched")

    def _make_meta(self, path: str, info: Mapping[str, Any]) -> ObjectMeta:
        version = _find_first(info, _VERSIONS)
        tag = _find_first(info, _TAGS)
        return ObjectMeta(
            path=path,
            size=int(info["size"] or 0),
            e_tag=plain_e_tag(str(tag)) if tag is not None else None,
            last_modified=_to_seconds(_find_first(info, _TIMES)),
            version=str(version) if version is not None else None,
            md5=_read_md5(info),
        )

    def _read_attributes(self, path: str, info: Mapping[str, Any]) -> Attributes:
        info = self._fetch_s3_headers(path, info)
        settings: Any = info.get("content_settings") or {}
        found: dict[str, str] = {}
        for field, header in HEADERS.items():
            pascal = header.replace("-", "")
            camel = pascal[0].lower() + pascal[1:]
            if value := _find_first(info, (pascal, camel, field)) or settings.get(field):
                found[header] = str(value)
        metadata = info.get("metadata") or info.get("Metadata")
        if metadata is None and hasattr(self._fs, "metadata"):
            metadata = self._fs.metadata(path)
        return to_attributes({**{str(key): str(value) for key, value in (metadata or {}).items()}, **found})

    def _fetch_s3_headers(self, path: str, info: Mapping[str, Any]) -> Mapping[str, Any]:
        """Add what ``info`` of s3fs leaves out: all headers but the content type."""
        if self._service != "s3" or not hasattr(self._fs, "call_s3"):
            return info
        bucket, key, version = self._fs.split_path(path)
        of_version = {"VersionId": version} if version else {}
        answer = self._fs.call_s3("head_object", self._fs.kwargs, Bucket=bucket, Key=key, **of_version)
        if plain_e_tag(str(answer.get("ETag"))) != plain_e_tag(str(info.get("ETag"))):
            raise ConnectionError(f"{path} was replaced between two HEAD requests")
        return {**answer, **info}


def _make_s3_options(attributes: Attributes) -> dict[str, Any]:
    headers = {header.replace("-", ""): getattr(attributes, field) for field, header in HEADERS.items()}
    metadata = {"Metadata": dict(attributes.metadata)} if attributes.metadata else {}
    return {**{name: value for name, value in headers.items() if value}, **metadata}


def _make_gcs_options(attributes: Attributes) -> dict[str, Any]:
    fixed = {field: value for field in HEADERS if field != "content_type" and (value := getattr(attributes, field))}
    content_type = {"content_type": attributes.content_type} if attributes.content_type else {}
    return {**content_type, "fixed_key_metadata": fixed or None, "metadata": dict(attributes.metadata) or None}


def _make_azure_options(attributes: Attributes) -> dict[str, Any]:
    from azure.storage.blob import ContentSettings

    settings = ContentSettings(**{field: getattr(attributes, field) for field in HEADERS})
    return {"content_settings": settings, "metadata": dict(attributes.metadata) or None}


_WRITE_OPTIONS: Mapping[str, Callable[[Attributes], dict[str, Any]]] = {
    "s3": _make_s3_options, "gcs": _make_gcs_options, "azure": _make_azure_options,
}  # fmt: skip
"""The arguments of a write that give an object its headers and user metadata."""


def _find_first(info: Mapping[str, Any], names: Iterable[str]) -> Any:
    return next((info[name] for name in names if info.get(name) is not None), None)


def _to_seconds(moment: Any) -> float | None:
    if isinstance(moment, datetime.datetime):
        return moment.timestamp()
    if isinstance(moment, (int, float)):
        return float(moment)
    if isinstance(moment, str):
        for parse in (datetime.datetime.fromisoformat, parsedate_to_datetime):
            with suppress(ValueError):
                return parse(moment).timestamp()
    return None


def _read_md5(info: Mapping[str, Any]) -> str | None:
    """Return the MD5 digest of GCS (``md5Hash``) or Azure (``content_md5``)."""
    settings: Any = info.get("content_settings") or {}
    digest = info.get("md5Hash") or settings.get("content_md5")
    if isinstance(digest, (bytes, bytearray)):
        return bytes(digest).hex()
    return md5_to_hex(digest) if isinstance(digest, str) else None
