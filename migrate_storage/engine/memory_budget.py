"""Memory for content that is under way, shared by all workers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ("MemoryBudget",)


class MemoryBudget:
    """Bytes of content held in memory at once, over all workers.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = self._left = limit
        self._condition = threading.Condition()

    @contextmanager
    def reserve(self, wanted: int) -> Iterator[None]:
        """Hold ``wanted`` bytes of the budget, at most all of it."""
        wanted = min(wanted, self._limit)
        with self._condition:
            self._condition.wait_for(lambda: self._left >= wanted)
            self._left -= wanted
        try:
            yield
        finally:
            with self._condition:
                self._left += wanted
                self._condition.notify_all()
