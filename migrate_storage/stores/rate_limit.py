"""Limits that a person sets: bytes and requests in a second, and how much one run may do before it stops."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from migrate_storage.core.errors import StoppedError

__all__ = (
    "RateLimiter",
    "StoreLimits",
)

_SAVED = 0.5
"""Seconds of an unused rate that may be caught up on."""
_LOOK = 0.2
"""Seconds after which one who waits looks whether the run is to stop."""


class RateLimiter:
    """So much in a second, over all threads, first come first served.

    Args:
        per_second: how much; ``None`` sets no limit.
        stopping: set when the run is to stop: who waits is sent away.
        clock: seconds, for tests.
    """

    def __init__(
        self, per_second: float | None, stopping: threading.Event, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._condition = threading.Condition()
        self._stopping, self._clock = stopping, clock
        self._per_second = per_second
        #: Called when one's turn has come, right before it is used; what it raises keeps it from being used.
        self.guard: Callable[[], None] = lambda: None
        self._promised = self._granted = 0.0
        self._at = clock()

    @property
    def per_second(self) -> float | None:
        """The limit now; ``None`` where there is none."""
        return self._per_second

    def set(self, per_second: float | None) -> None:
        """Another limit from now on, for those who wait too."""
        with self._condition:
            self._grant()
            self._per_second = per_second
            self._condition.notify_all()

    def acquire(self, amount: float) -> None:
        """Wait until this much more may be used.

        Raises:
            StoppedError: the run is to stop.
        """
        if self._per_second is not None:
            self._wait(amount)
        self.guard()

    def _wait(self, amount: float) -> None:
        with self._condition:
            self._grant()
            self._promised += amount
            mine = self._promised
            while (left := self._due(mine)) > 0:
                if self._stopping.is_set():
                    raise StoppedError("stopped while waiting for a limit")
                self._condition.wait(min(left, _LOOK))
                self._grant()

    def _due(self, mine: float) -> float:
        """Seconds until everything up to ``mine`` is granted; the caller holds the lock."""
        return 0.0 if self._per_second is None else (mine - self._granted) / self._per_second

    def _grant(self) -> None:
        now, before = self._clock(), self._at
        self._at = now
        if self._per_second is None:
            self._granted = self._promised
        else:
            most = self._promised + _SAVED * self._per_second
            self._granted = min(self._granted + (now - before) * self._per_second, most)


class StoreLimits:
    """How fast a run may speak to its stores.

    Args:
        bandwidth: bytes of content read in a second, over all objects under way; ``None`` sets no limit.
        requests: requests in a second, about: a library below may send several for one call, such as the parts of a
            large upload, and its own.
        stopping: set when the run is to stop.
    """

    def __init__(self, bandwidth: float | None, requests: float | None, stopping: threading.Event) -> None:
        self.bandwidth = RateLimiter(bandwidth, stopping)
        self.requests = RateLimiter(requests, stopping)
