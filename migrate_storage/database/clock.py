"""The database's clock, estimated between two measurements, so that most times cost no request."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

__all__ = ("DatabaseClock",)

MAX_ESTIMATE_SECONDS = 60.0
"""Seconds after which the database's clock is read again."""
MAX_CLOCK_STEP_SECONDS = 0.5
"""Seconds by which the clocks of this process may drift apart before the database's clock is read again.

More means that a clock was set, or that the machine slept.
"""


class DatabaseClock:
    """Gives the database's time from any thread, without the time zone, the errors or the steps of this machine's clock.

    Args:
        read: reads the database's clock, in seconds since the epoch, with the monotonic time of that moment.
    """

    def __init__(self, read: Callable[[], tuple[float, float]]) -> None:
        self._read, self._lock = read, threading.Lock()
        self._until = self._offset = self._wall_offset = 0.0

    def now(self) -> float:
        """Return the database's time in seconds since the epoch.

        Raises:
            RunError: it must be read, and the database cannot be reached.
        """
        with self._lock:
            monotonic = time.monotonic()
            stepped = abs(time.time() - monotonic - self._wall_offset) > MAX_CLOCK_STEP_SECONDS
            if stepped or monotonic >= self._until:
                value, at = self._read()
                self._offset, self._until = value - at, at + MAX_ESTIMATE_SECONDS
                monotonic = time.monotonic()
                self._wall_offset = time.time() - monotonic
            return monotonic + self._offset
