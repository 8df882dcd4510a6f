"""Limit the memory for object content, over all workers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from migrate_storage.core.text import MiB

__all__ = ("MemoryBudget",)


class MemoryBudget:
    """Bytes of content that may be in memory at once.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = self._left = limit
        self._condition = threading.Condition()

    @classmethod
    def default(cls) -> Self:
        """Return a budget of 64 MiB."""
        return cls(64 * MiB)

    @contextmanager
    def reserve(self, size: int) -> Iterator[None]:
        """Reserve ``size`` bytes, at most the limit, for the block; wait until free."""
        size = min(size, self._limit)
        with self._condition:
            self._condition.wait_for(lambda: self._left >= size)
            self._left -= size
        try:
            yield
        finally:
            with self._condition:
                self._left += size
                self._condition.notify_all()
