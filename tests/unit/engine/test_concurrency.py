"""The gate narrows by half, widens by one, and lets nobody in while paused; no worker is lost in it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from migrate_storage.core.errors import StoppedError
from migrate_storage.engine.concurrency import ConcurrencyLimiter


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def passed(gate: ConcurrencyLimiter, times: int) -> None:
    for _ in range(times):
        with gate.acquire():
            pass


def test_it_halves_and_widens_by_one_after_full_rounds_of_successes() -> None:
    clock = Clock()
    seen: list[int] = []
    gate = ConcurrencyLimiter(16, threading.Event(), lambda gate: seen.append(gate.limit), clock)
    passed(gate, 100)
    assert gate.limit == 16
    gate.on_throttled()
    gate.on_throttled()
    assert gate.limit == 8, "refusals of one moment are one answer"
    for expected in (4, 2, 1, 1):
        clock.now += 2
        gate.on_throttled()
        assert gate.limit == expected
    passed(gate, 2)
    assert gate.limit == 2
    passed(gate, 3)
    assert gate.limit == 2
    passed(gate, 1)
    assert gate.limit == 3
    passed(gate, 1000)
    assert gate.limit == 16
    assert seen == [8, 4, 2, 1, *range(2, 17)]


def test_a_failure_is_no_success() -> None:
    clock = Clock()
    gate = ConcurrencyLimiter(4, threading.Event(), clock=clock)
    gate.on_throttled()
    for _ in range(20):
        with pytest.raises(ZeroDivisionError), gate.acquire():
            raise ZeroDivisionError
    assert gate.limit == 2


@pytest.mark.parametrize("width", [1, 3])
def test_no_more_than_its_width_are_inside_and_nobody_is_forgotten(width: int) -> None:
    gate = ConcurrencyLimiter(width, threading.Event())
    inside, most, lock = 0, 0, threading.Lock()

    def work(_: int) -> int:
        nonlocal inside, most
        with gate.acquire():
            with lock:
                inside += 1
                most = max(most, inside)
            threading.Event().wait(0.001)
            with lock:
                inside -= 1
        return 1

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(work, range(200))) == 200
    assert 1 <= most <= width


def test_a_pause_keeps_everybody_out_until_it_ends_and_says_why() -> None:
    gate = ConcurrencyLimiter(2, threading.Event())
    gate.pause("the database is busy")
    begun = threading.Event()

    def work() -> None:
        with gate.acquire():
            begun.set()

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(work)
        assert not begun.wait(0.3)
        assert gate.paused == "the database is busy"
        gate.pause("")
        done.result(60)
    assert begun.is_set()
    gate.wait()


def test_who_waits_is_sent_away_when_the_run_stops() -> None:
    stopping = threading.Event()
    gate = ConcurrencyLimiter(1, stopping)
    gate.pause("asked")
    with ThreadPoolExecutor(2) as pool:
        worker, reader = pool.submit(passed, gate, 1), pool.submit(gate.wait)
        stopping.set()
        with pytest.raises(StoppedError):
            worker.result(60)
        assert reader.result(60) is None


def test_it_can_be_made_wider_and_narrower() -> None:
    gate = ConcurrencyLimiter(4, threading.Event())
    gate.resize(9)
    assert (gate.max_limit, gate.limit) == (9, 9)
    gate.resize(0)
    assert (gate.max_limit, gate.limit) == (1, 1)
