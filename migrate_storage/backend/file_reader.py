"""An object as a readable file, by range requests."""

from __future__ import annotations

import io
from typing import Any

from migrate_storage.backend.errors import ErrorTranslator
from migrate_storage.stores.sync_async import AWAITING, BLOCKING, Caller, run

__all__ = ("AsyncObjectReader", "ObjectReader", "Ranges")


class Ranges:
    """Ranges of one version of an object.

    A read after it was replaced raises, instead of mixing old and new bytes.

    Args:
        store: the obstore store.
        key: the object's key in it.
        meta: obstore's description of the object.
        translate_errors: turns errors into Python's own.
    """

    def __init__(self, store: Any, key: str, meta: Any, translate_errors: ErrorTranslator) -> None:
        self._store = store
        self._key = key
        self._e_tag = meta["e_tag"]
        self._translate_errors = translate_errors
        self.size: int = meta["size"]

    async def read(self, caller: Caller, start: int, size: int) -> bytes:
        """Return at most ``size`` bytes from ``start`` on; none at the end."""
        end = min(start + size, self.size)
        if start >= end:
            return b""
        with self._translate_errors:
            options = {"range": (start, end), "if_match": self._e_tag}
            result = await caller.call(self._store, "get", self._key, options=options)
            return bytes((await caller.call(result, "bytes")).to_bytes())


class ObjectReader(io.RawIOBase):
    """A binary file over :class:`Ranges`; ``open`` adds a buffer."""

    def __init__(self, ranges: Ranges, name: str) -> None:
        super().__init__()
        self._ranges = ranges
        self._position = 0
        self.name = name

    def readable(self) -> bool:
        """Return ``True``."""
        return True

    def seekable(self) -> bool:
        """Return ``True``."""
        return True

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Set the position in bytes and return it."""
        self._position = _move_position(offset, whence, self._position, self._ranges.size)
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        """Read once into a buffer."""
        content = run(self._ranges.read(BLOCKING, self._position, len(buffer)))
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)


class AsyncObjectReader:
    """A binary file whose ``read`` is awaited; every read is a request."""

    def __init__(self, ranges: Ranges, name: str) -> None:
        self._ranges = ranges
        self._position = 0
        self.name = name
        self.closed = False

    async def __aenter__(self) -> AsyncObjectReader:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def read(self, size: int | None = -1) -> bytes:
        """Return at most ``size`` bytes; all remaining ones for ``-1`` or ``None``."""
        if self.closed:
            raise ValueError("I/O operation on closed file")
        wanted = self._ranges.size if size is None or size < 0 else size
        content = await self._ranges.read(AWAITING, self._position, wanted)
        self._position += len(content)
        return content

    async def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position in bytes and return it."""
        self._position = _move_position(offset, whence, self._position, self._ranges.size)
        return self._position

    async def tell(self) -> int:
        """Return the position in bytes."""
        return self._position

    async def close(self) -> None:
        """Mark it closed; there is no connection to close."""
        self.closed = True


def _move_position(offset: int, whence: int, here: int, size: int) -> int:
    target = offset + {io.SEEK_SET: 0, io.SEEK_CUR: here, io.SEEK_END: size}[whence]
    if target < 0:
        raise ValueError(f"negative seek position {target}")
    return target
