"""Limit how many objects are processed at once, while the run is active.

Each worker passes the limiter with an object. The limit is halved when a service throttles, grows by one after a full round of
successes, and is zero while the run is paused. Where the user gave no limit, it also grows while that makes the run faster.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from migrate_storage.core.errors import StoppedError
from migrate_storage.engine.width_search import WidthSearch

__all__ = ("ConcurrencyLimiter",)

THROTTLE_WINDOW_SECONDS = 1.0
"""Seconds in which several throttling answers count as one: their requests were sent before the limit was halved."""
_FULL_SHARE = 0.75
"""The share of the limit at which it counts as used: some workers are between two objects."""
STOP_POLL_SECONDS = 0.2
"""Seconds after which a waiting worker checks whether the run was asked to stop."""


class ConcurrencyLimiter:
    """Admits a bounded number of workers; additive increase, multiplicative decrease.

    Args:
        max_limit: objects processed at once, at most; with ``widest`` at the beginning.
        stopping: set when the run is to stop; waiting workers then get an error.
        changed: called with the limiter, outside its lock, when :attr:`limit` or :attr:`paused` changed.
        clock: seconds, for tests.
        widest: objects to which ``max_limit`` may grow while more of them at once are done faster, and no service throttles.
    """

    def __init__(
        self,
        max_limit: int,
        stopping: threading.Event,
        changed: Callable[[ConcurrencyLimiter], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        *,
        widest: int | None = None,
    ) -> None:
        self._condition = threading.Condition()
        self._stopping, self._changed, self._clock = stopping, changed, clock
        self._inside = self._successes = 0
        self._throttled_at = clock() - THROTTLE_WINDOW_SECONDS
        self._search = WidthSearch(max_limit, widest, clock) if widest is not None else None
        #: What was asked for, or what the search for a faster width tries: :attr:`limit` never exceeds it.
        self.max_limit = max_limit
        #: How many workers may be inside now.
        self.limit = max_limit
        #: Why no worker is admitted; empty while the run is not paused.
        self.paused = ""

    @contextmanager
    def acquire(self) -> Iterator[None]:
        """Process one object inside the block; it succeeds if no exception leaves it.

        Raises:
            StoppedError: the run was asked to stop; nothing was begun.
        """
        self._enter()
        succeeded = False
        try:
            yield
            succeeded = True
        finally:
            self._leave(succeeded=succeeded)

    def wait(self) -> None:
        """Wait while the run is paused; return at once where it was asked to stop."""
        with self._condition:
            while self.paused and not self._stopping.is_set():
                self._condition.wait(STOP_POLL_SECONDS)

    def on_throttled(self) -> None:
        """Halve the limit, because a service asked for fewer requests."""
        with self._condition:
            now = self._clock()
            self._successes, self._search = 0, None
            if now - self._throttled_at < THROTTLE_WINDOW_SECONDS:
                return
            self._throttled_at = now
            before, self.limit = self.limit, max(1, self.limit // 2)
        if self.limit != before:
            self._changed(self)

    def resize(self, max_limit: int) -> None:
        """Set another limit from now on."""
        with self._condition:
            before = (self.max_limit, self.limit)
            self._search = None
            self.max_limit = self.limit = max(1, max_limit)
            self._condition.notify_all()
        if before != (self.max_limit, self.limit):
            self._changed(self)

    def pause(self, reason: str) -> None:
        """Admit no worker, for this reason; an empty reason ends the pause."""
        with self._condition:
            before, self.paused = self.paused, reason
            self._condition.notify_all()
        if before != reason:
            self._changed(self)

    def _enter(self) -> None:
        with self._condition:
            while self.paused or self._inside >= self.limit:
                if self._stopping.is_set():
                    raise StoppedError("not begun")
                self._condition.wait(STOP_POLL_SECONDS)
            self._inside += 1

    def _leave(self, *, succeeded: bool) -> None:
        with self._condition:
            before = self.limit
            if self._search is not None and succeeded:
                is_full = self._inside >= _FULL_SHARE * self.limit
                if self._search.count_success(is_full=is_full):
                    self.max_limit = self.limit = self._search.width
                    self._condition.notify_all()
            self._inside -= 1
            self._successes += succeeded
            if self.limit < self.max_limit and self._successes >= 2 * self.limit:
                self._successes = 0
                self.limit += 1
            self._condition.notify()
        if self.limit != before:
            self._changed(self)
