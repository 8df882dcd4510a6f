"""Content to be saved: bytes, or a stream that is measured as it passes."""

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

__all__ = ("DEFAULT_PART_BYTES", "Measure", "Upload", "close_source", "open_source", "prepare", "prepare_small")

DEFAULT_PART_BYTES = 5 * MiB
"""The value that advanced-alchemy passes where the caller gives none."""

#: S3 and GCS accept at most 10,000 parts. The target is lower, so that a source that grows meanwhile still fits.
_TARGET_PARTS = 9_000
_MAX_PARTS = 10_000
#: For a stream of unknown length where the caller gives no size: enough for 156 GiB.
_STREAM_PART_BYTES = 16 * MiB
_UPLOAD_MEMORY_BYTES = 256 * MiB
#: Up to this size, hashing costs less than a switch to another thread.
_HASH_INLINE_BYTES = MiB
#: hashlib releases the interpreter lock for more bytes. To get it back from obstore's threads costs more than the hash.
_HASH_LOCKED_BYTES = 2047


class Measure:
    """Size and SHA-256 of the content so far, and the error of its source."""

    __slots__ = ("_hash", "error", "limit", "size")

    def __init__(self, limit: int | None = None, content: bytes = b"") -> None:
        self._hash = hashlib.sha256()
        view = memoryview(content)
        for start in range(0, len(content), _HASH_LOCKED_BYTES):
            self._hash.update(view[start : start + _HASH_LOCKED_BYTES])
        self.size = len(content)
        self.limit = limit
        self.error: BaseException | None = None

    def add(self, piece: bytes) -> None:
        """Add a piece."""
        self._hash.update(piece)
        self.size += len(piece)
        if self.limit is not None and self.size > self.limit:
            raise ConfigurationError(
                f"more than {_MAX_PARTS:,} parts: the stream is longer than {self.limit:,} bytes; give a larger chunk_size"
            )

    @property
    def checksum(self) -> str:
        """``sha256:`` and the digest in hexadecimal."""
        return f"sha256:{self._hash.hexdigest()}"


class Upload(NamedTuple):
    """The arguments of obstore's ``put``."""

    body: Any
    #: ``use_multipart``, ``chunk_size`` and ``max_concurrency``.
    options: dict[str, Any]
    measure: Measure


_ONE_REQUEST = {"use_multipart": False}


def prepare_small(data: Any, use_multipart: bool | None, chunk_size: int) -> Upload | None:
    """Return the upload of small ``bytes``, as most are; ``None`` for other content."""
    if type(data) is bytes and not use_multipart and len(data) <= _HASH_INLINE_BYTES and len(data) <= chunk_size:
        return Upload(data, _ONE_REQUEST, Measure(content=data))
    return None


async def prepare(
    caller: Caller, data: Any, *, service: str, use_multipart: bool | None, chunk_size: int, max_concurrency: int
) -> Upload:
    """Prepare content for an upload.

    Content of one part or less is read whole and sent in one request. Larger content is streamed in parts, which grow
    with the size, so that there are never more parts than a service accepts.

    Args:
        caller: whether asynchronous sources can be read.
        data: bytes, text, a path, a binary file (its ``read`` may be a coroutine), or an iterable of bytes.
        service: S3 and GCS accept no part below 5 MiB.
        use_multipart: ``None`` decides by size; ``False`` reads everything into memory.
        chunk_size: bytes of a part, grown where the size needs it.
        max_concurrency: parts that are uploaded at once.

    Raises:
        TypeError: the data is none of these, or an asynchronous source in a synchronous call.
    """
    part = max(chunk_size, DEFAULT_PART_BYTES) if service in ("s3", "gcs") else max(chunk_size, 1)
    if isinstance(data, str):
        data = data.encode()
    if isinstance(data, bytes | bytearray | memoryview):
        data = bytes(data)
        return await _prepare_whole(caller, data, use_multipart, part, max_concurrency)
    source, size = open_source(caller, data)
    try:
        head, more = await _read_beginning(caller, source, None if use_multipart is False else part)
    except BaseException:
        close_source(source)
        raise
    if not more:
        return await _prepare_whole(caller, head, use_multipart, part, max_concurrency)
    if size is not None:
        part = _grow_part(part, size)
    elif chunk_size == DEFAULT_PART_BYTES:
        part, max_concurrency = max(part, _STREAM_PART_BYTES), min(max_concurrency, 4)
    measure = Measure(None if size is not None or service in ("file", "memory") else part * _MAX_PARTS)
    measured: Any = _measure_async if isinstance(source, AsyncIterator) else _measure
    options = _make_options(part, max_concurrency, grew=part > chunk_size)
    return Upload(measured(head, source, measure), options, measure)


def _grow_part(part: int, size: int) -> int:
    least = -(-size // _TARGET_PARTS)
    return part if least <= part else -(-least // MiB) * MiB


def _make_options(part: int, max_concurrency: int, *, grew: bool) -> dict[str, Any]:
    if grew:
        max_concurrency = max(1, min(max_concurrency, _UPLOAD_MEMORY_BYTES // part))
    return {"use_multipart": True, "chunk_size": part, "max_concurrency": max_concurrency}


async def _prepare_whole(
    caller: Caller, data: bytes, use_multipart: bool | None, part: int, max_concurrency: int
) -> Upload:
    measure = Measure()
    if len(data) > _HASH_INLINE_BYTES:
        await caller.run_blocking(measure.add, data)
    else:
        measure.add(data)
    if not (len(data) > part if use_multipart is None else use_multipart):
        return Upload(data, _ONE_REQUEST, measure)
    grown = _grow_part(part, len(data))
    return Upload(data, _make_options(grown, max_concurrency, grew=grown > part), measure)


def open_source(caller: Caller, data: Any) -> tuple[Iterator[bytes] | AsyncIterator[bytes], int | None]:
    """Return the source as an iterator of pieces, and its size in bytes where it is known.

    Args:
        caller: whether asynchronous sources can be read.
        data: a path, a binary file (its ``read`` may be a coroutine), or an iterable of bytes.

    Raises:
        TypeError: the data is none of these, or an asynchronous source in a synchronous call.
    """
    if isinstance(data, os.PathLike):
        path = Path(data)
        return _read_path(path), path.stat().st_size
    read = getattr(data, "read", None)
    if callable(read):
        if inspect.iscoroutinefunction(read):
            _require_async(caller, data)
            return _read_file_async(data), None
        return _read_file(data), _count_remaining(data)
    if hasattr(data, "__aiter__"):
        _require_async(caller, data)
        return _read_pieces_async(data), None
    if isinstance(data, Iterable) and not isinstance(data, dict):
        return _read_pieces(data), None
    raise TypeError(f"cannot save a {type(data).__name__}; give bytes, a Path, a binary file or an iterable of bytes")


def _require_async(caller: Caller, data: Any) -> None:
    if not caller.awaits:
        raise TypeError(f"a {type(data).__name__} is read asynchronously; save it with save_async()")


def _count_remaining(file: Any) -> int | None:
    try:
        here: int = file.tell()
        end: int = file.seek(0, os.SEEK_END)
        file.seek(here)
    except (AttributeError, OSError, ValueError, TypeError):
        return None
    return end - here if isinstance(end, int) and isinstance(here, int) else None


def _to_bytes(piece: Any) -> bytes:
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


def _read_path(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from _read_file(file)


def _read_file(file: Any) -> Iterator[bytes]:
    while piece := file.read(MiB):
        yield _to_bytes(piece)


async def _read_file_async(file: Any) -> AsyncIterator[bytes]:
    while piece := await file.read(MiB):
        yield _to_bytes(piece)


def _read_pieces(pieces: Iterable[Any]) -> Iterator[bytes]:
    for piece in pieces:
        yield _to_bytes(piece)


async def _read_pieces_async(pieces: Any) -> AsyncIterator[bytes]:
    async for piece in pieces:
        yield _to_bytes(piece)


async def _read_beginning(caller: Caller, source: Any, most: int | None) -> tuple[bytes, bool]:
    """Return at most so many bytes (``None``: all), and whether there may be more."""
    pieces: list[bytes] = []
    size = 0
    if isinstance(source, AsyncIterator):
        async for piece in source:
            pieces.append(piece)
            size += len(piece)
            if most is not None and size > most:
                return b"".join(pieces), True
        return b"".join(pieces), False
    return await caller.run_blocking(_read_beginning_blocking, source, most)


def _read_beginning_blocking(source: Iterator[bytes], most: int | None) -> tuple[bytes, bool]:
    pieces: list[bytes] = []
    size = 0
    for piece in source:
        pieces.append(piece)
        size += len(piece)
        if most is not None and size > most:
            return b"".join(pieces), True
    return b"".join(pieces), False


def _measure(head: bytes, source: Iterator[bytes], measure: Measure) -> Iterator[bytes]:
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
        close_source(source)


async def _measure_async(head: bytes, source: AsyncIterator[bytes], measure: Measure) -> AsyncIterator[bytes]:
    try:
        measure.add(head)
        yield head
        async for piece in source:
            measure.add(piece)
            yield piece
    except Exception as error:
        measure.error = error
        raise


def close_source(source: Any) -> None:
    """Close the iterator of :func:`open_source`, which closes a file that was opened for it."""
    close = getattr(source, "close", None)
    if close is not None:
        close()
