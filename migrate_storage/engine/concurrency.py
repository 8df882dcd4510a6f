"""The gate before the stores: how many objects may be under way at once, while the run goes on.

Each worker passes it with an object. It narrows by half when a service asks to slow down, widens by one after a full
round of successes, and lets nobody through while the run is paused.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from migrate_storage.core.errors import StoppedError

__all__ = ("ConcurrencyLimiter",)

_ONE_ANSWER = 1.0
"""Seconds in which several refusals are one answer to one load: requests that were sent before the gate narrowed."""
_LOOK = 0.2
"""Seconds after which one who waits looks whether the run is to stop."""


class ConcurrencyLimiter:
    """Lets a bounded number of workers through; additive increase, multiplicative decrease.

    Args:
        widest: objects under way at once, at most.
        stopping: set when the run is to stop: who waits is sent away.
        changed: called with the gate, outside of its lock, whenever :attr:`width` or :attr:`paused` changed.
        clock: seconds, for tests.
    """

    def __init__(
        self,
        widest: int,
        stopping: threading.Event,
        changed: Callable[[ConcurrencyLimiter], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._condition = threading.Condition()
        self._stopping, self._changed, self._clock = stopping, changed, clock
        self._inside = self._successes = 0
        self._narrowed = clock() - _ONE_ANSWER
        self._widest = self._width = widest
        self._paused = ""

    @property
    def max_limit(self) -> int:
        """What was asked for: :attr:`width` never exceeds it."""
        return self._widest

    @property
    def limit(self) -> int:
        """How many may be inside now."""
        return self._width

    @property
    def paused(self) -> str:
        """Why nobody is let in; empty while the run goes on."""
        return self._paused

    @contextmanager
    def acquire(self) -> Iterator[None]:
        """Pass with one object; leaving without an exception is a success.

        Raises:
            StoppedError: the run is to stop; nothing was begun.
        """
        self._enter()
        succeeded = False
        try:
            yield
            succeeded = True
        finally:
            self._leave(succeeded=succeeded)

    def wait(self) -> None:
        """Wait while the run is paused; returns at once where it is to stop."""
        with self._condition:
            while self._paused and not self._stopping.is_set():
                self._condition.wait(_LOOK)

    def on_throttled(self) -> None:
        """A service asked for fewer requests: half as many from here on. Refusals of one moment count once."""
        with self._condition:
            now = self._clock()
            self._successes = 0
            if now - self._narrowed < _ONE_ANSWER:
                return
            self._narrowed = now
            before, self._width = self._width, max(1, self._width // 2)
        if self._width != before:
            self._changed(self)

    def resize(self, widest: int) -> None:
        """Ask for another number at once, from now on."""
        with self._condition:
            before = (self._widest, self._width)
            self._widest = self._width = max(1, widest)
            self._condition.notify_all()
        if before != (self._widest, self._width):
            self._changed(self)

    def pause(self, reason: str) -> None:
        """Let nobody in, and say why; an empty reason lets them in again. Who is inside finishes."""
        with self._condition:
            before, self._paused = self._paused, reason
            self._condition.notify_all()
        if before != reason:
            self._changed(self)

    def _enter(self) -> None:
        with self._condition:
            while self._paused or self._inside >= self._width:
                if self._stopping.is_set():
                    raise StoppedError("not begun")
                self._condition.wait(_LOOK)
            self._inside += 1

    def _leave(self, *, succeeded: bool) -> None:
        with self._condition:
            self._inside -= 1
            self._successes += succeeded
            before = self._width
            if self._width < self._widest and self._successes >= 2 * self._width:
                self._successes = 0
                self._width += 1
            self._condition.notify()
        if self._width != before:
            self._changed(self)
