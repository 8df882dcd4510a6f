"""How long one run may take, and how many bytes it may copy, before it begins no further object."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ("RunLimits",)


class RunLimits:
    """What one run may do; when it is used up, no further object is begun.

    Args:
        seconds: from now; ``None`` sets no limit.
        bytes_: of content; ``None`` sets no limit.
        used: tells the bytes so far.
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
        """Whether it is used up."""
        if self._bytes is not None and self._used() >= self._bytes:
            return True
        return self._until is not None and self._clock() >= self._until
