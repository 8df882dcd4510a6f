"""What is to be saved, in any of its forms, as bytes or as a stream that is measured while it passes."""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.text import MiB
from migrate_storage.stores.sync_async import Caller

__all__ = ("DEFAULT_PART", "Measure", "Upload", "prepare", "small")

DEFAULT_PART = 5 * MiB
"""What advanced-alchemy passes when the caller said nothing."""

_PIECE = MiB
#: S3 and GCS take at most 10,000 parts; a margin below, so that a source that grows meanwhile still fits.
_MOST_PARTS = 9_000
_PARTS_LIMIT = 10_000
#: A stream whose length nobody knows, and whose caller said nothing: 156 GiB before the parts run out.
_UNKNOWN_PART = 16 * MiB
_MEMORY = 256 * MiB
#: Below this, hashing is shorter than handing it to another thread.
_HASH_HERE = MiB
#: hashlib lets go of the interpreter for more than this, and to get it back from obstore's threads costs more than the hash.
_HASH_HELD = 2047


class Measure:
    """Size and SHA-256 of what passed, and what went wrong in the caller's own source."""

    __slots__ = ("_hash", "error", "limit", "size")

    def __init__(self, limit: int | None = None, content: bytes = b"") -> None:
        self._hash = hashlib.sha256()
        view = memoryview(content)
        for start in range(0, len(content), _HASH_HELD):
            self._hash.update(view[start : start + _HASH_HELD])
        self.size = len(content)
        self.limit = limit
        self.error: BaseException | None = None

    def add(self, piece: bytes) -> None:
        """Count a piece."""
        self._hash.update(piece)
        self.size += len(piece)
        if self.limit is not None and self.size > self.limit:
            raise ConfigurationError(
                f"more than {_PARTS_LIMIT:,} parts: the stream is longer than {self.limit:,} bytes; give a larger chunk_size"
            )

    @property
    def checksum(self) -> str:
        """``sha256:`` and the digest in hex."""
        return f"sha256:{self._hash.hexdigest()}"


class Upload(NamedTuple):
    """What to hand to obstore's ``put``."""

    body: Any
    #: ``use_multipart``, ``chunk_size`` and ``max_concurrency``.
    options: dict[str, Any]
    measure: Measure


_AT_ONCE = {"use_multipart": False}


def small(data: Any, use_multipart: bool | None, chunk_size: int) -> Upload | None:
    """What is by far most saves, without anything to open, to grow or to hand to another thread; else ``None``."""
    if type(data) is bytes and not use_multipart and len(data) <= _HASH_HERE and len(data) <= chunk_size:
        return Upload(data, _AT_ONCE, Measure(content=data))
    return None


async def prepare(
    caller: Caller, data: Any, *, service: str, use_multipart: bool | None, chunk_size: int, max_concurrency: int
) -> Upload:
    """Get content ready to be sent.

    What is not larger than a part is read whole and sent in one request; what is larger, or asked for, is streamed in
    parts that grow with the size, so that there are never more than a service takes.

    Args:
        caller: whether asynchronous sources can be read.
        data: bytes, text, a path, a binary file (its ``read`` may be a coroutine), or an iterable of bytes.
        service: S3 and GCS take no part below 5 MiB.
        use_multipart: ``None`` decides by size; ``False`` reads everything into memory.
        chunk_size: bytes of a part, grown where the size needs it.
        max_concurrency: parts under way at once.

    Raises:
        TypeError: for what is none of these, and for asynchronous sources in a synchronous call.
    """
    part = max(chunk_size, DEFAULT_PART) if service in ("s3", "gcs") else max(chunk_size, 1)
    if not isinstance(data, bytes):
        if isinstance(data, str):
            data = data.encode()
        elif isinstance(data, bytearray | memoryview):
            data = bytes(data)
    if isinstance(data, bytes):
        return await _whole(caller, data, use_multipart, part, max_concurrency)
    source, size = _open(caller, data)
    try:
        head, more = await _head(caller, source, None if use_multipart is False else part)
    except BaseException:
        _close(source)
        raise
    if not more:
        return await _whole(caller, head, use_multipart, part, max_concurrency)
    if size is not None:
        part = _grown(part, size)
    elif chunk_size == DEFAULT_PART:
        part, max_concurrency = max(part, _UNKNOWN_PART), min(max_concurrency, 4)
    measure = Measure(None if size is not None or service in ("file", "memory") else part * _PARTS_LIMIT)
    body = (
        _measured_async(head, source, measure)
        if isinstance(source, AsyncIterator)
        else _measured(head, source, measure)
    )
    return Upload(body, _options(True, part, max_concurrency, grew=part > chunk_size), measure)


def _grown(part: int, size: int) -> int:
    least = -(-size // _MOST_PARTS)
    return part if least <= part else -(-least // MiB) * MiB


def _options(use_multipart: bool, part: int, max_concurrency: int, *, grew: bool) -> dict[str, Any]:
    if grew:
        max_concurrency = max(1, min(max_concurrency, _MEMORY // part))
    return {"use_multipart": use_multipart, "chunk_size": part, "max_concurrency": max_concurrency}


async def _whole(caller: Caller, data: bytes, use_multipart: bool | None, part: int, max_concurrency: int) -> Upload:
    measure = Measure()
    if len(data) > _HASH_HERE:
        await caller.run_blocking(measure.add, data)
    else:
        measure.add(data)
    multipart = len(data) > part if use_multipart is None else use_multipart
    if not multipart:
        return Upload(data, {"use_multipart": False}, measure)
    grown = _grown(part, len(data))
    return Upload(data, _options(True, grown, max_concurrency, grew=grown > part), measure)


def _open(caller: Caller, data: Any) -> tuple[Iterator[bytes] | AsyncIterator[bytes], int | None]:
    """The source as an iterator of pieces, and its size where it can be known."""
    if isinstance(data, os.PathLike):
        path = Path(data)
        return _path_pieces(path), path.stat().st_size
    read = getattr(data, "read", None)
    if callable(read):
        if inspect.iscoroutinefunction(read):
            _need_loop(caller, data)
            return _async_file_pieces(data), None
        return _file_pieces(data), _remaining(data)
    if hasattr(data, "__aiter__"):
        _need_loop(caller, data)
        return _async_pieces(data), None
    if isinstance(data, Iterable) and not isinstance(data, dict):
        return _pieces(data), None
    raise TypeError(f"cannot save a {type(data).__name__}; give bytes, a Path, a binary file or an iterable of bytes")


def _need_loop(caller: Caller, data: Any) -> None:
    if not caller.awaits:
        raise TypeError(f"a {type(data).__name__} is read asynchronously; save it with save_async()")


def _remaining(file: Any) -> int | None:
    try:
        here: int = file.tell()
        end: int = file.seek(0, os.SEEK_END)
        file.seek(here)
    except (AttributeError, OSError, ValueError, TypeError):
        return None
    return end - here if isinstance(end, int) and isinstance(here, int) else None


def _bytes(piece: Any) -> bytes:
    if isinstance(piece, bytes):
        return piece
    if isinstance(piece, str) or (not isinstance(piece, bytearray | memoryview) and not hasattr(piece, "__buffer__")):
        try:
            if not isinstance(piece, str | int):
                return bytes(memoryview(piece))
        except TypeError:
            pass
        raise TypeError(f"the content gives {type(piece).__name__}, not bytes; open files in binary mode")
    return bytes(piece)


def _path_pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece


def _file_pieces(file: Any) -> Iterator[bytes]:
    while piece := file.read(_PIECE):
        yield _bytes(piece)


async def _async_file_pieces(file: Any) -> AsyncIterator[bytes]:
    while piece := await file.read(_PIECE):
        yield _bytes(piece)


def _pieces(pieces: Iterable[Any]) -> Iterator[bytes]:
    for piece in pieces:
        yield _bytes(piece)


async def _async_pieces(pieces: Any) -> AsyncIterator[bytes]:
    async for piece in pieces:
        yield _bytes(piece)


async def _head(caller: Caller, source: Any, most: int | None) -> tuple[bytes, bool]:
    """The beginning of a source, and whether there may be more; ``most`` is ``None`` to read it to its end."""
    pieces: list[bytes] = []
    size = 0
    if isinstance(source, AsyncIterator):
        async for piece in source:
            pieces.append(piece)
            size += len(piece)
            if most is not None and size > most:
                return b"".join(pieces), True
        return b"".join(pieces), False
    return await caller.run_blocking(_read_head, source, most)


def _read_head(source: Iterator[bytes], most: int | None) -> tuple[bytes, bool]:
    pieces: list[bytes] = []
    size = 0
    for piece in source:
        pieces.append(piece)
        size += len(piece)
        if most is not None and size > most:
            return b"".join(pieces), True
    return b"".join(pieces), False


def _measured(head: bytes, source: Iterator[bytes], measure: Measure) -> Iterator[bytes]:
    try:
        measure.add(head)
        yield head
        for piece in source:
            measure.add(piece)
            yield piece
    except Exception as error:
        measure.error = error
        raise
    finally:
        _close(source)


async def _measured_async(head: bytes, source: AsyncIterator[bytes], measure: Measure) -> AsyncIterator[bytes]:
    try:
        measure.add(head)
        yield head
        async for piece in source:
            measure.add(piece)
            yield piece
    except Exception as error:
        measure.error = error
        raise


def _close(source: Any) -> None:
    close = getattr(source, "close", None)
    if close is not None:
        close()
