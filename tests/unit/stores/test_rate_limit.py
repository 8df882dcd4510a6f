"""Rates hold over all threads, can be changed while somebody waits, and cost nothing when they are off."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from migrate_storage.core.errors import StoppedError
from migrate_storage.engine.run_limits import RunLimits
from migrate_storage.stores.rate_limit import RateLimiter


def taken(rate: RateLimiter, amounts: list[float], workers: int = 4) -> float:
    began = time.monotonic()
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(rate.acquire, amounts))
    return time.monotonic() - began


def test_a_rate_holds_over_all_threads() -> None:
    seconds = taken(RateLimiter(1000, threading.Event()), [50] * 30)
    # 1,500 at 1,000 a second; half a second of an unused rate may be caught up on.
    assert seconds >= 0.95


def test_one_amount_above_the_rate_is_waited_for_and_not_refused() -> None:
    assert taken(RateLimiter(100, threading.Event()), [30]) >= 0.25


def test_without_a_limit_nobody_waits() -> None:
    rate = RateLimiter(None, threading.Event())
    assert taken(rate, [10.0**12] * 50) < 5
    assert rate.per_second is None


def test_a_new_rate_is_for_those_who_wait_too() -> None:
    rate = RateLimiter(0.001, threading.Event())
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(rate.acquire, 10) for _ in range(2)]
        assert not waiting[0].done()
        rate.set(10_000)
        for each in waiting:
            each.result(60)
        slow = pool.submit(rate.acquire, 10**9)
        rate.set(None)
        slow.result(60)


def test_who_waits_is_sent_away_when_the_run_stops() -> None:
    stopping = threading.Event()
    rate = RateLimiter(0.001, stopping)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(rate.acquire, 10)
        stopping.set()
        with pytest.raises(StoppedError):
            waiting.result(60)


def test_an_allowance_is_spent_by_bytes_or_by_time() -> None:
    now, used = 0.0, 0

    def allowance(seconds: float | None, bytes_: int | None) -> RunLimits:
        return RunLimits(seconds, bytes_, lambda: used, lambda: now)

    endless, timed, sized = allowance(None, None), allowance(10, None), allowance(None, 500)
    assert not any(each.spent for each in (endless, timed, sized))
    now = 9.9
    assert not timed.spent
    now = 10
    assert timed.spent
    used = 499
    assert not sized.spent
    used = 500
    assert sized.spent
    assert not endless.spent


def test_a_rate_of_a_schedule_is_for_those_who_wait_too_until_another_is_set() -> None:
    now: list[float | None] = [0.001]
    rate = RateLimiter(0.001, threading.Event(), schedule=lambda: now[0])
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(rate.acquire, 10)
        assert not waiting.done()
        now[0] = 10_000
        waiting.result(60)
        assert rate.per_second == 10_000
        now[0] = None
        rate.acquire(10.0**12)
        assert rate.per_second is None
        rate.set(0.001)
        slow = pool.submit(rate.acquire, 10)
        assert not slow.done()
        assert rate.per_second == 0.001
        rate.set(None)
        slow.result(60)
