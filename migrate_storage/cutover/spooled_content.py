"""Content of a save, buffered so that it can be sent to two stores."""

from __future__ import annotations

import contextlib
import inspect
import os
import tempfile
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

from migrate_storage.core.text import MiB
from migrate_storage.stores.sync_async import Caller

__all__ = ("SpooledContent", "spool")

MAX_MEMORY_BYTES = 8 * MiB
PIECE_BYTES = MiB


class SpooledContent:
    """Content that can be read from its start repeatedly."""

    def __init__(self, content: bytes | Path, *, owned: bool = False) -> None:
        self._content = content
        self._owned = owned

    def read_from_start(self, *, as_bytes: bool) -> bytes | Path:
        """Return the content.

        Args:
            as_bytes: never as a path, for a backend that takes only bytes.
        """
        if as_bytes and isinstance(self._content, Path):
            return self._content.read_bytes()
        return self._content

    def close(self) -> None:
        """Remove the temporary file."""
        if self._owned and isinstance(self._content, Path):
            with contextlib.suppress(FileNotFoundError):
                self._content.unlink()


async def spool(caller: Caller, data: Any) -> SpooledContent:
    """Read the content of a save to its end.

    Args:
        caller: whether asynchronous sources can be read.
        data: bytes, text, a path, a binary file (its ``read`` may be a coroutine), or an iterable of bytes.

    Raises:
        TypeError: another type, or an asynchronous source in a synchronous call.
    """
    if isinstance(data, str):
        return SpooledContent(data.encode())
    if isinstance(data, bytes | bytearray | memoryview):
        return SpooledContent(bytes(data))
    writer = _SpoolWriter()
    try:
        if isinstance(data, os.PathLike):
            await caller.run_blocking(_read_path, Path(data), writer)
        elif inspect.iscoroutinefunction(getattr(data, "read", None)):
            _require_async_caller(caller, data)
            while piece := await data.read(PIECE_BYTES):
                writer.add(piece)
        elif callable(getattr(data, "read", None)):
            await caller.run_blocking(_read_file, data, writer)
        elif isinstance(data, AsyncIterator) or hasattr(data, "__aiter__"):
            _require_async_caller(caller, data)
            async for piece in data:
                writer.add(piece)
        elif isinstance(data, Iterable) and not isinstance(data, dict):
            await caller.run_blocking(_read_pieces, data, writer)
        else:
            raise TypeError(
                f"cannot save a {type(data).__name__}; give bytes, a Path, a binary file or an iterable of bytes"
            )
    except BaseException:
        writer.discard()
        raise
    return writer.finish()


class _SpoolWriter:
    """Collects pieces in memory, beyond :data:`MAX_MEMORY_BYTES` in a temporary file."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0
        self._file: Any = None

    def add(self, piece: Any) -> None:
        if not isinstance(piece, bytes | bytearray | memoryview):
            raise TypeError(f"the content gives {type(piece).__name__}, not bytes; open files in binary mode")
        if self._file is None and self._size + len(piece) > MAX_MEMORY_BYTES:
            self._file = tempfile.NamedTemporaryFile(prefix="migrate-storage-", delete=False)  # noqa: SIM115
            self._file.writelines(self._pieces)
            self._pieces.clear()
        self._size += len(piece)
        if self._file is not None:
            self._file.write(piece)
        else:
            self._pieces.append(bytes(piece))

    def finish(self) -> SpooledContent:
        if self._file is None:
            return SpooledContent(b"".join(self._pieces))
        self._file.close()
        return SpooledContent(Path(self._file.name), owned=True)

    def discard(self) -> None:
        if self._file is not None:
            self._file.close()
            Path(self._file.name).unlink()


def _require_async_caller(caller: Caller, data: Any) -> None:
    if not caller.awaits:
        raise TypeError(f"a {type(data).__name__} is read asynchronously; save it with save_async()")


def _read_pieces(pieces: Iterable[Any], writer: _SpoolWriter) -> None:
    for piece in pieces:
        writer.add(piece)


def _read_file(file: Any, writer: _SpoolWriter) -> None:
    while piece := file.read(PIECE_BYTES):
        writer.add(piece)


def _read_path(path: Path, writer: _SpoolWriter) -> None:
    with path.open("rb") as file:
        _read_file(file, writer)
