"""Limit the duration and the bytes of one run."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ("RunLimits",)


class RunLimits:
    """The limits of one run; after one is reached no further object is begun.

    Args:
        seconds: from now; ``None`` sets no limit.
        bytes_: bytes of content; ``None`` sets no limit.
        used: returns the bytes copied so far.
        clock: seconds, for tests.
    """

    def __init__(
        self,
        seconds: float | None,
        bytes_: int | None,
        used: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._until = None if seconds is None else clock() + seconds
        self._bytes, self._used, self._clock = bytes_, used, clock

    @property
    def spent(self) -> bool:
        """Whether a limit is reached."""
        if self._bytes is not None and self._used() >= self._bytes:
            return True
        return self._until is not None and self._clock() >= self._until
