"""Limits on bytes and requests per second, and on memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from migrate_storage.core.errors import StoppedError
from migrate_storage.core.timetable import Timetable, current_rate
from migrate_storage.stores.memory_budget import MemoryBudget

__all__ = ("RateLimiter", "StoreLimits")

_BURST_SECONDS = 0.5
"""An unused rate may be used later for so long."""
_STOP_POLL_SECONDS = 0.2
"""How often a waiting thread checks whether the job is to stop."""


class RateLimiter:
    """Limits an amount per second over all threads, first come, first served.

    Args:
        per_second: the amount; ``None`` sets no limit.
        stopping: set when the job is to stop; waiting threads then raise.
        clock: seconds, for tests.
        schedule: returns the amount per second that applies now, until :meth:`set` is called; ``None`` keeps the first one.
    """

    def __init__(
        self,
        per_second: float | None,
        stopping: threading.Event,
        clock: Callable[[], float] = time.monotonic,
        schedule: Callable[[], float | None] | None = None,
    ) -> None:
        self._condition = threading.Condition()
        self._stopping, self._clock, self._schedule = stopping, clock, schedule
        #: The current limit; ``None`` where there is none.
        self.per_second = per_second
        #: Called after the wait, right before the amount is used; an error that it raises prevents the use.
        self.guard: Callable[[], None] = lambda: None
        self._promised = self._granted = 0.0
        self._at = clock()

    def set(self, per_second: float | None) -> None:
        """Change the limit, also for threads that wait."""
        with self._condition:
            self._schedule = None
            self._change(per_second)

    def _change(self, per_second: float | None) -> None:
        """Change the limit; the caller has the lock."""
        self._grant()
        self.per_second = per_second
        self._condition.notify_all()

    def _follow_schedule(self) -> None:
        if self._schedule is None:
            return
        with self._condition:
            if self._schedule is not None and (rate := self._schedule()) != self.per_second:
                self._change(rate)

    def acquire(self, amount: float) -> None:
        """Wait until this amount may be used.

        Raises:
            StoppedError: the job is to stop.
        """
        self._follow_schedule()
        if self.per_second is not None:
            self._wait(amount)
        self.guard()

    def _wait(self, amount: float) -> None:
        with self._condition:
            self._grant()
            self._promised += amount
            mine = self._promised
            while (left := self._seconds_until(mine)) > 0:
                if self._stopping.is_set():
                    raise StoppedError("stopped while waiting for a limit")
                self._condition.wait(min(left, _STOP_POLL_SECONDS))
                self._follow_schedule()
                self._grant()

    def _seconds_until(self, mine: float) -> float:
        """Return the seconds until ``mine`` is granted; the caller has the lock."""
        return 0.0 if self.per_second is None else (mine - self._granted) / self.per_second

    def _grant(self) -> None:
        now, before = self._clock(), self._at
        self._at = now
        if self.per_second is None:
            self._granted = self._promised
        else:
            most = self._promised + _BURST_SECONDS * self.per_second
            self._granted = min(self._granted + (now - before) * self.per_second, most)


class StoreLimits:
    """The limits of a job's requests to its stores.

    Args:
        bandwidth: bytes of content read per second, over all objects, or a timetable of them; ``None`` sets no limit.
        requests: requests per second, about: a library below may send several for one call, such as the parts of a
            large upload.
        stopping: set when the job is to stop.
        memory: bytes of content that stores which read objects whole may have in memory at once; ``None`` means 64 MiB.
    """

    def __init__(
        self,
        bandwidth: float | Timetable | None,
        requests: float | None,
        stopping: threading.Event,
        memory: int | None = None,
    ) -> None:
        self.memory = MemoryBudget.default() if memory is None else MemoryBudget(memory)
        schedule = bandwidth.rate if isinstance(bandwidth, Timetable) else None
        self.bandwidth = RateLimiter(current_rate(bandwidth), stopping, schedule=schedule)
        self.requests = RateLimiter(requests, stopping)
