"""A store over obstore's synchronous API."""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from obstore.exceptions import PreconditionError
from obstore.store import LocalStore, MemoryStore

from migrate_storage.core.errors import KeyRefusedError
from migrate_storage.core.model import Attributes, ObjectMeta
from migrate_storage.stores.base import DigestHeaders, plain_e_tag
from migrate_storage.stores.delete import delete_object
from migrate_storage.stores.digest_headers import read_digest_headers
from migrate_storage.stores.fork_guard import touch
from migrate_storage.stores.listed_paths import ListedPaths
from migrate_storage.stores.sync_async import BLOCKING, run

__all__ = ("HEADERS", "ObstoreStore", "readable_attributes", "unpanicked")

T = TypeVar("T")

_FIELDS = ("content_type", "content_encoding", "content_language", "content_disposition", "cache_control")
HEADERS = {field: field.replace("_", "-").title() for field in _FIELDS}
"""The header of each field of ``Attributes``."""
_FIELD_OF = {header.lower(): field for field, header in HEADERS.items()}
_PARTS_AT_ONCE = 2
"""Parts of one upload that are sent at once. With four, a process whose objects are large takes more than 200 MB."""
_PAGE_OBJECTS = 1000
"""Objects in one page of a listing, as in one answer of S3."""
_PAGES_AHEAD = 4
"""Pages of a listing that are requested before they are needed."""
_DEFAULT_TYPES = frozenset({"binary/octet-stream", "application/octet-stream", "application/x-www-form-urlencoded"})
"""Content types that services report for an object that was stored without one."""


def to_meta(path: str, meta: Mapping[str, Any]) -> ObjectMeta:
    """Return obstore's metadata of an object as ``ObjectMeta``."""
    modified = meta.get("last_modified")
    return ObjectMeta(
        path=path,
        size=int(meta["size"]),
        e_tag=plain_e_tag(meta.get("e_tag")),
        last_modified=modified.timestamp() if modified is not None else None,
        version=meta.get("version"),
    )


def to_attributes(found: Mapping[Any, str]) -> Attributes:
    """Return obstore's attributes of an object as ``Attributes``."""
    named: dict[str, str] = {}
    metadata: dict[str, str] = {}
    for key, value in found.items():
        field = _FIELD_OF.get(str(key).lower())
        if field is not None:
            named[field] = value
        elif str(key).lower() != "storage-class":
            metadata[str(key).lower()] = value
    # adlfs sets this on every blob.
    if metadata.get("is_directory") == "false":
        del metadata["is_directory"]
    if named.get("content_type") in _DEFAULT_TYPES:
        del named["content_type"]
    return Attributes(**named, metadata=metadata)


def from_attributes(attributes: Attributes) -> dict[str, str]:
    """Return attributes as obstore takes them."""
    headers = {header: value for field, header in HEADERS.items() if (value := getattr(attributes, field))}
    if attributes.storage_class:
        headers["Storage-Class"] = attributes.storage_class
    return {**attributes.metadata, **headers}


def readable_attributes(attributes: Attributes) -> tuple[Attributes, tuple[str, ...]]:
    """Leave out each header and each entry of user metadata that obstore could not read back.

    Returns:
        The attributes that can be written, and the names of those that are left out.
    """
    named = {field: value for field in HEADERS if (value := getattr(attributes, field))}
    if not attributes.metadata and all(map(_is_readable, named.values())):
        return attributes, ()
    lost = {field: HEADERS[field] for field, value in named.items() if not _is_readable(value)}
    metadata = {
        name: value for name, value in attributes.metadata.items() if _is_readable(name) and _is_readable(value)
    }
    names = (*lost.values(), *(f"metadata {name!a}" for name in attributes.metadata if name not in metadata))
    if not names:
        return attributes, ()
    return replace(attributes, **dict.fromkeys(lost), metadata=metadata), names


def _is_readable(text: str) -> bool:
    return text.isascii() and text.replace("\t", " ").isprintable()


class _Count:
    """Counts the bytes of pieces that pass."""

    def __init__(self) -> None:
        self.bytes = 0

    def count_bytes(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self.bytes += len(piece)
            yield piece


class _OpenedObject:
    def __init__(self, store: Any, path: str, result: Any, chunk: int) -> None:
        self._store, self._result, self._chunk = store, result, chunk
        self.meta = to_meta(path, result.meta)
        self.attributes = to_attributes(result.attributes)

    def read(self) -> bytes:
        return bytes(unpanicked(self._result.bytes))

    def chunks(self) -> Iterator[bytes]:
        if isinstance(self._store, LocalStore):
            return self._read_ranges()
        return map(bytes, _iterate_stream(self._result.stream(min_chunk_size=self._chunk)))

    def _read_ranges(self) -> Iterator[bytes]:
        """Read a local file in chunks: obstore streams 8 KiB at a time, 20 times slower."""
        path, size = self.meta.path, self.meta.size
        for start in range(0, size, self._chunk):
            piece = {"range": (start, min(start + self._chunk, size)), "if_match": self._result.meta["e_tag"]}
            try:
                yield bytes(unpanicked(lambda: self._store.get(path, options=piece).bytes()))  # noqa: B023
            except PreconditionError as error:
                raise ConnectionError(f"{path} was written to while it was read") from error


class ObstoreStore:
    """One bucket, container or directory through obstore's sync API.

    Args:
        store: any obstore store.
        name: its name in messages.
        within: for a local disk, the directory that no path may leave; ``None`` means the store's own root.
        chunk: bytes of one piece of a stream, at least.
        open_for_listings: opens the same place as a store that repeats a failed request by itself; called by the first
            listing. ``None`` means ``store``. One listing sends many requests: without attempts of its own for each of
            them, a listing of many pages would not reach its end where a few requests fail.
    """

    def __init__(
        self,
        store: Any,
        name: str,
        *,
        within: str | None = None,
        chunk: int = 1024 * 1024,
        open_for_listings: Callable[[], Any] | None = None,
    ) -> None:
        self._store, self.name, self._chunk = store, name, chunk
        self._open_for_listings = open_for_listings
        self._root = Path(store.prefix or "/") if isinstance(store, LocalStore) else None
        self._within = os.path.realpath(within or self._root) if self._root is not None else "/"
        self.is_local = isinstance(store, (LocalStore, MemoryStore))
        self._keeps_attributes = self._root is None

    @cached_property
    def _for_listings(self) -> Any:
        return self._store if self._open_for_listings is None else self._open_for_listings()

    def head(self, path: str) -> ObjectMeta:
        """See :class:`migrate_storage.stores.base.Store`."""
        self._check_path(path)
        return to_meta(path, self._read(path, lambda: self._store.head(path)))

    def head_with_attributes(self, path: str) -> tuple[ObjectMeta, Attributes]:
        """See :class:`migrate_storage.stores.base.Store`."""
        self._check_path(path)
        found = self._read(path, lambda: self._store.get(path, options={"head": True}))
        return to_meta(path, found.meta), to_attributes(found.attributes)

    def digest_headers(self, path: str) -> DigestHeaders:
        """See :class:`migrate_storage.stores.base.Store`."""
        return read_digest_headers(self._store, path)

    def open(self, path: str) -> _OpenedObject:
        """See :class:`migrate_storage.stores.base.Store`."""
        self._check_path(path)
        return _OpenedObject(self._store, path, self._read(path, lambda: self._store.get(path)), self._chunk)

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
        """See :class:`migrate_storage.stores.base.Store`."""
        self._check_path(path)
        arguments: dict[str, Any] = {"use_multipart": part_size is not None}
        if part_size is not None:
            arguments.update(chunk_size=part_size, max_concurrency=_PARTS_AT_ONCE)
        elif create:
            arguments["mode"] = "create"
        elif replaces is not None and replaces.e_tag and self._root is None:
            # A weak ETag never matches; what is refused then is sent again without the condition.
            version = {"version": replaces.version} if replaces.version else {}
            arguments["mode"] = {"e_tag": f'"{replaces.e_tag}"', **version}
        if self._keeps_attributes:
            arguments["attributes"] = from_attributes(attributes) or None
            if attributes.tags:
                arguments["tags"] = dict(parse_qsl(attributes.tags, keep_blank_values=True))
        if part_size is not None and create and self._exists(path):
            # No service can complete a multipart upload on the condition that there is no object.
            raise FileExistsError(f"an object is at {path} already")
        # obstore takes pieces on a thread of its runtime, where reading them through obstore would panic.
        sent = _Count()
        pieces = content if isinstance(content, bytes) else _read_in_thread(sent.count_bytes(content))
        try:
            answer = unpanicked(lambda: self._store.put(path, pieces, **arguments))
        except Exception as error:
            if self._root is not None and (taken := _find_taken_name(self._root, path)):
                raise KeyRefusedError(
                    f"a disk cannot have a file and a folder of one name, and has {taken}: give one of them another name"
                ) from error
            if type(error).__name__ == "AlreadyExistsError":
                raise FileExistsError(f"an object is at {path} already") from error
            if type(error).__name__ == "PreconditionError" and "mode" in arguments:
                raise FileExistsError(f"another object is at {path} than the one to be replaced") from error
            raise
        if self._root is not None:
            _sync_to_disk(self._root / path)
        size = len(content) if isinstance(content, bytes) else sent.bytes
        return ObjectMeta(path=path, size=size, e_tag=plain_e_tag(answer.get("e_tag")), version=answer.get("version"))

    def _read(self, path: str, call: Callable[[], T]) -> T:
        """Send a HEAD or a GET. Nothing is below a file of a disk, where obstore raises another error."""
        try:
            return unpanicked(call)
        except Exception as error:
            if self._root is not None and f"(os error {errno.ENOTDIR})" in str(error):
                raise FileNotFoundError(f"{path} is below a file") from error
            raise

    def _exists(self, path: str) -> bool:
        try:
            self.head(path)
        except FileNotFoundError:
            return False
        return True

    def delete(self, path: str) -> None:
        """See :class:`migrate_storage.stores.base.Store`."""
        self._check_path(path)
        with suppress(FileNotFoundError):
            unpanicked(lambda: run(delete_object(BLOCKING, self._store, path)))

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectMeta]:
        """See :class:`migrate_storage.stores.base.Store`."""
        # The service prepares the next pages while one page is processed.
        pages = self._list_pages(prefix, after, _PAGES_AHEAD)
        if self.is_local:
            for page in pages:
                yield from page
            return
        paths = ListedPaths(
            prefix.strip("/"),
            lambda path: to_meta(path, unpanicked(lambda: self._for_listings.head(path))),
            lambda *of: chain.from_iterable(self._list_pages(*of)),
        )
        yield from paths.correct(pages, after=after)

    def list_stepwise(self, prefix: str, *, after: str) -> Iterator[ObjectMeta]:
        """See :class:`migrate_storage.stores.base.Store`."""
        # A chunk of one object is complete without the next page.
        stream = self._for_listings.list(prefix or None, offset=after or None, chunk_size=1)
        for (meta,) in _iterate_stream(stream):
            yield to_meta(meta["path"], meta)

    def _list_pages(self, prefix: str, after: str, ahead: int = 1) -> Iterator[Sequence[ObjectMeta]]:
        """Yield pages of a listing, with paths as obstore returns them."""
        stream = self._for_listings.list(prefix or None, offset=after or None, chunk_size=_PAGE_OBJECTS)
        for page in _read_in_thread(_iterate_stream(stream), ahead):
            if page:
                yield [to_meta(meta["path"], meta) for meta in page]

    def _check_path(self, path: str) -> None:
        """Refuse a path of a local store that leaves its root, also through a link."""
        if self._root is None:
            return
        real = os.path.realpath(os.path.join(self._root, path))  # noqa: PTH118 - pathlib would not resolve a missing tail alike
        if self._within != "/" and os.path.commonpath((self._within, real)) != self._within:
            raise KeyRefusedError(f"{path} leads out of {self._within} (by .. or a symbolic link); it was not touched")


def _find_taken_name(root: Path, path: str) -> str:
    """Return what is where a file's folder would be, or the folder that is where the file would be; empty where nothing is."""
    if (root / path).is_dir():
        return f"the folder {root / path}"
    folders = (root / folder for folder in Path(path).parents)
    return next((f"the file {folder}" for folder in folders if folder.is_file()), "")


def _read_in_thread(pieces: Iterator[T], ahead: int = 1) -> Iterator[T]:
    """Yield the pieces; a thread reads so many of them ahead."""
    reader = ThreadPoolExecutor(1, thread_name_prefix="read")
    try:
        coming = deque(reader.submit(next, pieces, None) for _ in range(ahead))
        while (piece := coming.popleft().result()) is not None:
            coming.append(reader.submit(next, pieces, None))
            yield piece
    finally:
        reader.shutdown(cancel_futures=True)


def _sync_to_disk(path: Path) -> None:
    """Write the bytes and the name of a file to the disk (fsync)."""
    for name, flags in ((path, os.O_RDONLY), (path.parent, os.O_RDONLY | os.O_DIRECTORY)):
        descriptor = os.open(name, flags)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _iterate_stream(stream: Iterator[Any]) -> Iterator[Any]:
    """Yield the items of one of obstore's streams; a panic is raised as ``OSError``."""
    return iter(lambda: unpanicked(lambda: next(stream, None)), None)


def unpanicked(call: Callable[[], T]) -> T:
    """Call obstore; raise a Rust panic (a ``BaseException``) as ``OSError``."""
    touch()
    try:
        return call()
    except Exception:
        raise
    except BaseException as panic:
        if type(panic).__name__ == "PanicException":
            raise OSError(f"obstore panicked: {str(panic).splitlines()[0][:200]}") from None
        raise
