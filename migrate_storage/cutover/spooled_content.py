"""Content of a save, buffered so that it can be sent to two stores."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from migrate_storage.backend.upload import close_source, open_source
from migrate_storage.core.text import MiB
from migrate_storage.stores.sync_async import Caller

__all__ = ("SpooledContent", "spool")

MAX_MEMORY_BYTES = 8 * MiB


class SpooledContent:
    """Content that can be read from its start repeatedly."""

    def __init__(self, content: bytes | Path, *, owned: bool = False) -> None:
        self._content = content
        self._owned = owned

    def read_from_start(self, *, as_bytes: bool) -> bytes | Path:
        """Return the content; with ``as_bytes`` never as a path, for a backend that takes only bytes."""
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
    source, _ = open_source(caller, data)
    writer = _SpoolWriter()
    try:
        if isinstance(source, AsyncIterator):
            async for piece in source:
                writer.add(piece)
        else:
            await caller.run_blocking(writer.add_all, source)
    except BaseException:
        close_source(source)
        writer.discard()
        raise
    return writer.finish()


class _SpoolWriter:
    """Collects pieces in memory, beyond :data:`MAX_MEMORY_BYTES` in a temporary file."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0
        self._file: Any = None

    def add_all(self, pieces: Iterator[bytes]) -> None:
        for piece in pieces:
            self.add(piece)

    def add(self, piece: bytes) -> None:
        if self._file is None and self._size + len(piece) > MAX_MEMORY_BYTES:
            self._file = tempfile.NamedTemporaryFile(prefix="migrate-storage-", delete=False)  # noqa: SIM115
            self._file.writelines(self._pieces)
            self._pieces.clear()
        self._size += len(piece)
        if self._file is not None:
            self._file.write(piece)
        else:
            self._pieces.append(piece)

    def finish(self) -> SpooledContent:
        if self._file is None:
            return SpooledContent(b"".join(self._pieces))
        self._file.close()
        return SpooledContent(Path(self._file.name), owned=True)

    def discard(self) -> None:
        if self._file is not None:
            self._file.close()
            Path(self._file.name).unlink()
