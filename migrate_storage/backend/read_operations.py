"""The reading half of a backend, for synchronous and asynchronous callers."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from advanced_alchemy.types.file_object.base import PathLike
from obstore.exceptions import BaseError, GenericError, NotSupportedError

from migrate_storage.backend import attributes as object_attributes
from migrate_storage.backend.base import Located, text
from migrate_storage.backend.file_reader import AsyncObjectReader, ObjectReader, Ranges
from migrate_storage.backend.get_options import get_options
from migrate_storage.backend.odd_objects import is_unreadable, open_stored, read_decompressed
from migrate_storage.backend.ranges import FromEnd, is_past_end, slice_of
from migrate_storage.core.model import Attributes, ObjectMeta
from migrate_storage.core.text import MiB
from migrate_storage.stores.obstore_store import to_meta
from migrate_storage.stores.sync_async import AWAITING, BLOCKING, Caller, run

__all__ = ("Reads",)


class Reads(Located):
    """Read content, metadata and listings."""

    def get_content(self, path: PathLike, *, options: Mapping[str, Any] | None = None) -> bytes:
        """Return the bytes of an object.

        Args:
            path: its key.
            options: ``start`` and ``end`` (end exclusive, negative ones count from the end; nothing past the end), or obstore's
                ``range``, ``if_match``, ``if_none_match``, ``if_modified_since``, ``if_unmodified_since``, ``version``.

        Raises:
            FileNotFoundError: there is no such object.
            ConditionFailedError: a condition is not met.
            PermissionError: credentials were refused.
            KeyRefusedError: no store can have such a key.
        """
        return run(self._get_content(BLOCKING, path, options))

    async def get_content_async(self, path: PathLike, *, options: Mapping[str, Any] | None = None) -> bytes:
        """See :meth:`get_content`."""
        return await self._get_content(AWAITING, path, options)

    async def _get_content(self, caller: Caller, path: PathLike, options: Mapping[str, Any] | None) -> bytes:
        store, key = self._locate(path)
        with self._translate_errors("reading", path):
            result = await self._send_get(caller, store, key, get_options(options or {}))
            if isinstance(result, bytes):
                return result
            content: bytes = (await caller.call(result, "bytes")).to_bytes()
            return content

    async def _send_get(self, caller: Caller, store: Any, key: str, wanted: dict[str, Any] | None) -> Any:
        """Return obstore's answer; the bytes where the range is empty, or obstore cannot read the object."""
        if wanted is None:
            await self._send(caller, (store, key), "head")
            return b""
        asked = wanted.get("range")
        try:
            if isinstance(asked, FromEnd):
                first, last = asked.within((await caller.call(store, "head", key))["size"])
                if first == last:
                    return b""
                wanted = {**wanted, "range": (first, last)}
            return await caller.call(store, "get", key, options=wanted or None)
        except BaseError as error:
            return await self._read_otherwise(caller, (store, key), asked, error)

    async def _read_otherwise(self, caller: Caller, at: tuple[Any, str], asked: Any, error: BaseError) -> Any:
        """Read what a GET could not: a range past the end, a suffix on Azure, a gzip-encoded object on Google."""
        store, key = at
        if is_unreadable(error) and (stored := open_stored(self._locator.config_of(store))):
            return slice_of(await read_decompressed(caller, stored, key), asked)
        unsupported = isinstance(error, NotSupportedError) and isinstance(asked, Mapping) and "suffix" in asked
        if asked is None or not (unsupported or isinstance(error, GenericError)) or isinstance(asked, FromEnd):
            raise error
        size = (await caller.call(store, "head", key))["size"]
        if is_past_end(asked, size):
            return b""
        if not unsupported:
            raise error
        return await caller.call(store, "get", key, options={"range": (max(0, size - asked["suffix"]), size)})

    async def _send(self, caller: Caller, at: tuple[Any, str], name: str, **options: Any) -> Any:
        """Send a request; once more for the stored bytes where obstore cannot read the answer."""
        store, key = at
        try:
            return await caller.call(store, name, key, **options)
        except BaseError as error:
            stored = open_stored(self._locator.config_of(store)) if is_unreadable(error) else None
            if stored is None:
                raise
            return await caller.call(stored, name, key, **options)

    def stream(
        self, path: PathLike, *, chunk_size: int = MiB, options: Mapping[str, Any] | None = None
    ) -> Iterator[bytes]:
        """Return the bytes of an object in pieces, in bounded memory.

        The request is sent at once.

        Args:
            path: its key.
            chunk_size: bytes of a piece at least, except the last.
            options: as for :meth:`get_content`.
        """
        return self._iterate(run(self._open_stream(BLOCKING, path, chunk_size, options)), path)

    async def stream_async(
        self, path: PathLike, *, chunk_size: int = MiB, options: Mapping[str, Any] | None = None
    ) -> AsyncIterator[bytes]:
        """See :meth:`stream`: ``async for piece in await backend.stream_async(path)``."""
        return self._iterate_async(await self._open_stream(AWAITING, path, chunk_size, options), path)

    async def _open_stream(self, caller: Caller, path: PathLike, size: int, options: Mapping[str, Any] | None) -> Any:
        store, key = self._locate(path)
        wanted = get_options(options or {})
        with self._translate_errors("reading", path):
            result = await self._send_get(caller, store, key, wanted)
            # What obstore could not read is in memory already.
            return [result] if isinstance(result, bytes) else result.stream(min_chunk_size=size)

    async def _read_piece(self, caller: Caller, stream: Any, path: PathLike) -> bytes | None:
        if isinstance(stream, list):
            return stream.pop() or None if stream else None
        with self._translate_errors("reading", path):
            piece = await caller.next(stream)
            return None if piece is None else bytes(piece)

    def _iterate(self, stream: Any, path: PathLike) -> Iterator[bytes]:
        while (piece := run(self._read_piece(BLOCKING, stream, path))) is not None:
            yield piece

    async def _iterate_async(self, stream: Any, path: PathLike) -> AsyncIterator[bytes]:
        while (piece := await self._read_piece(AWAITING, stream, path)) is not None:
            yield piece

    def open(self, path: PathLike, *, buffer_size: int = MiB) -> io.BufferedReader:
        """Open an object as a binary file that reads by ranges.

        A read after the object was replaced raises.

        Args:
            path: its key.
            buffer_size: bytes of one request.
        """
        return io.BufferedReader(ObjectReader(run(self._open_ranges(BLOCKING, path)), str(path)), buffer_size)

    async def open_async(self, path: PathLike) -> AsyncObjectReader:
        """See :meth:`open`; each ``read`` is one request, without a buffer."""
        return AsyncObjectReader(await self._open_ranges(AWAITING, path), str(path))

    async def _open_ranges(self, caller: Caller, path: PathLike) -> Ranges:
        store, key = self._locate(path)
        translate_errors = self._translate_errors("reading", path)
        with translate_errors:
            return Ranges(store, key, await caller.call(store, "head", key), translate_errors)

    def head(self, path: PathLike) -> ObjectMeta:
        """Send a HEAD for an object.

        Raises:
            FileNotFoundError: there is no such object.
        """
        return run(self._fetch_head(BLOCKING, path))

    async def head_async(self, path: PathLike) -> ObjectMeta:
        """See :meth:`head`."""
        return await self._fetch_head(AWAITING, path)

    async def _fetch_head(self, caller: Caller, path: PathLike) -> ObjectMeta:
        store, key = self._locate(path)
        with self._translate_errors("reading attributes of", path):
            return to_meta(str(path), await self._send(caller, (store, key), "head"))

    def attributes(self, path: PathLike) -> Attributes:
        """Return the headers and user metadata of an object as they were saved.

        Raises:
            FileNotFoundError: there is no such object.
        """
        return run(self._fetch_attributes(BLOCKING, path))

    async def attributes_async(self, path: PathLike) -> Attributes:
        """See :meth:`attributes`."""
        return await self._fetch_attributes(AWAITING, path)

    async def _fetch_attributes(self, caller: Caller, path: PathLike) -> Attributes:
        store, key = self._locate(path)
        with self._translate_errors("reading attributes of", path):
            result = await self._send(caller, (store, key), "get", options={"head": True})
            return object_attributes.decode(result.attributes)

    def exists(self, path: PathLike) -> bool:
        """Whether there is such an object. A refused request raises."""
        return run(self._check_exists(BLOCKING, path))

    async def exists_async(self, path: PathLike) -> bool:
        """See :meth:`exists`."""
        return await self._check_exists(AWAITING, path)

    async def _check_exists(self, caller: Caller, path: PathLike) -> bool:
        store, key = self._locate(path)
        try:
            with self._translate_errors("reading attributes of", path):
                await caller.call(store, "head", key)
        except FileNotFoundError:
            return False
        except OSError as error:
            # The service has answered that there is one.
            if error.__context__ is None or not is_unreadable(error.__context__):
                raise
        return True

    def list(self, prefix: PathLike = "") -> Iterator[ObjectMeta]:
        """List all objects below a folder, in no order.

        Args:
            prefix: whole path segments: ``a`` finds ``a/b``, not ``ab``. Empty for all.

        Raises:
            KeyRefusedError: the folder has a key that obstore cannot address.
        """
        listing = self._locator.list(text(prefix).strip("/"))
        while batch := run(self._list_batch(BLOCKING, listing, prefix)):
            yield from batch

    async def list_async(self, prefix: PathLike = "") -> AsyncIterator[ObjectMeta]:
        """See :meth:`list`."""
        listing = self._locator.list(text(prefix).strip("/"))
        while batch := await self._list_batch(AWAITING, listing, prefix):
            for meta in batch:
                yield meta

    async def _list_batch(self, caller: Caller, listing: Any, prefix: PathLike) -> Sequence[ObjectMeta]:
        with self._translate_errors("listing", prefix):
            batch = await caller.next(listing)
            return [to_meta(meta["path"], meta) for meta in batch or ()]
