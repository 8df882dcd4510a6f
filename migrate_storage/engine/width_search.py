"""Find how many objects to process at once: more while that makes the job faster."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ("WidthSearch",)

GROWTH_FACTOR = 1.5
"""How much wider each trial is."""
MIN_GAIN_SHARE = 0.5
"""The gain of rate that a wider trial must bring, as a share of its gain of width."""
MIN_TRIAL_SECONDS = 1.0
"""Seconds for which a rate is measured at least."""
REST_SECONDS = 30.0
"""Seconds after a trial that gained nothing until the next one: the objects or the network may be others by then."""


class WidthSearch:
    """Compares the rate at one width with the rate at a wider one. It is not thread-safe.

    Args:
        width: objects at once at the beginning.
        widest: objects at once at most.
        clock: seconds.
    """

    def __init__(self, width: int, widest: int, clock: Callable[[], float]) -> None:
        self._widest, self._clock = widest, clock
        #: Objects at once now.
        self.width = width
        #: The width before the trial under way, with its rate; ``None`` while there is none.
        self._narrower: tuple[int, float] | None = None
        self._rest_until = clock()
        self._begin_measuring()

    def count_success(self, *, is_full: bool) -> bool:
        """Count one object, and judge the width when enough of them were counted.

        Args:
            is_full: whether as many objects as allowed were in progress. Otherwise the width did not limit the rate.

        Returns:
            Whether the width changed.
        """
        if not is_full:
            self._begin_measuring()
            return False
        self._count += 1
        if self._count == 0:
            self._began = self._clock()
        seconds = self._clock() - self._began
        if self._count < 2 * self.width or seconds < MIN_TRIAL_SECONDS:
            return False
        before = self.width
        self._judge(self._count / seconds)
        self._begin_measuring()
        return self.width != before

    def _judge(self, rate: float) -> None:
        if self._narrower is not None and not self._has_gained(*self._narrower, rate):
            self.width, self._narrower = self._narrower[0], None
            self._rest_until = self._clock() + REST_SECONDS
        elif self.width < self._widest and self._clock() >= self._rest_until:
            self._narrower = self.width, rate
            self.width = min(self._widest, int(self.width * GROWTH_FACTOR) + 1)
        else:
            self._narrower = None

    def _has_gained(self, narrower: int, rate_before: float, rate: float) -> bool:
        return rate / rate_before - 1 >= MIN_GAIN_SHARE * (self.width / narrower - 1)

    def _begin_measuring(self) -> None:
        # The first objects were begun at another width, and are not counted.
        self._count, self._began = -self.width, self._clock()
