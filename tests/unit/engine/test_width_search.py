"""A wider limit is kept where it makes a job faster, and given up where it does not."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from migrate_storage.engine.concurrency import ConcurrencyLimiter
from migrate_storage.engine.width_search import REST_SECONDS, WidthSearch


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def run(search: WidthSearch, clock: Clock, rate: Callable[[int], float], seconds: float) -> set[int]:
    """Finish objects at the rate of each width for so many seconds; return the widths that were tried."""
    until, widths = clock.now + seconds, set()
    while clock.now < until:
        clock.now += 1 / rate(search.width)
        search.count_success(is_full=True)
        widths.add(search.width)
    return widths


def test_it_widens_to_the_widest_while_each_object_only_waits() -> None:
    clock = Clock()
    search = WidthSearch(32, 256, clock)
    run(search, clock, lambda width: width / 0.1, 60)
    assert search.width == 256


@pytest.mark.parametrize("most", [60, 100, 200])
def test_it_stays_near_the_width_at_which_the_rate_stops_growing(most: int) -> None:
    clock = Clock()
    search = WidthSearch(32, 256, clock)
    run(search, clock, lambda width: min(width, most) / 0.1, REST_SECONDS * 10)
    assert most * 0.6 <= search.width <= most * 1.6


def test_where_more_at_once_is_not_faster_one_trial_in_a_while_is_all() -> None:
    clock = Clock()
    search = WidthSearch(32, 256, clock)
    assert run(search, clock, lambda _: 500.0, 20) == {32, 49}
    assert search.width == 32
    assert run(search, clock, lambda _: 500.0, REST_SECONDS - 20) == {32}


def test_where_the_width_is_not_used_nothing_is_tried() -> None:
    clock = Clock()
    search = WidthSearch(32, 256, clock)
    for _ in range(10_000):
        clock.now += 0.01
        assert not search.count_success(is_full=False)
    assert search.width == 32


def _pass_full(limiter: ConcurrencyLimiter, clock: Clock, times: int) -> None:
    """Pass as many at once as allowed, ``times`` times. Each round takes a tenth of a second."""
    for _ in range(times):
        inside = [limiter.acquire() for _ in range(limiter.limit)]
        for each in inside:
            each.__enter__()
        clock.now += 0.1
        for each in inside:
            each.__exit__(None, None, None)


def test_a_limiter_without_a_given_limit_widens_and_a_throttling_service_ends_that() -> None:
    clock = Clock()
    limiter = ConcurrencyLimiter(4, threading.Event(), clock=clock, widest=64)
    for _ in range(2000):
        with limiter.acquire():
            clock.now += 0.1
    assert limiter.limit == 4, "one at a time says nothing about more"
    for _ in range(200):
        waiting = [limiter.acquire() for _ in range(limiter.limit)]
        for each in waiting:
            each.__enter__()
        clock.now += 0.1
        while waiting:
            # The next one comes in as soon as one has left.
            waiting.pop().__exit__(None, None, None)
            if len(waiting) == limiter.limit - 1 and clock.now < 103:
                waiting.insert(0, limiter.acquire())
                waiting[0].__enter__()
                clock.now += 0.1 / limiter.limit
    wide = limiter.max_limit
    limiter.on_throttled()
    assert limiter.limit == max(1, wide // 2)
    _pass_full(limiter, clock, 500)
    assert (limiter.limit, limiter.max_limit) == (wide, wide)


def test_a_person_s_limit_ends_the_search() -> None:
    clock = Clock()
    limiter = ConcurrencyLimiter(4, threading.Event(), clock=clock, widest=64)
    limiter.resize(7)
    _pass_full(limiter, clock, 500)
    assert (limiter.limit, limiter.max_limit) == (7, 7)
