"""The pool has a thread for each piece of work that the limiter admits, and no thread that only waits for the limiter."""

from __future__ import annotations

import enum
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from migrate_storage.engine.concurrency import ConcurrencyLimiter
from migrate_storage.engine.worker_pool import Admission, WorkerPool


class Kind(enum.Enum):
    WORK = "work"


@pytest.fixture
def stopping() -> threading.Event:
    return threading.Event()


@pytest.fixture
def limiter(stopping: threading.Event) -> ConcurrencyLimiter:
    return ConcurrencyLimiter(4, stopping)


@pytest.fixture
def pool(limiter: ConcurrencyLimiter, stopping: threading.Event) -> Iterator[WorkerPool]:
    pool = WorkerPool(limiter, stopping, lambda: False)
    yield pool
    pool.close()


def submit(pool: WorkerPool, *works: Callable[[], object]) -> None:
    for number, work in enumerate(works):
        pool.submit(Kind.WORK, str(number), work, Admission.NEW)


def take_all(pool: WorkerPool) -> list[object]:
    taken = []
    while pool.under_way:
        if (found := pool.take(block=True)) is not None:
            taken.append(found.result())
    return taken


def pass_each_thread(pool: WorkerPool) -> bool:
    """Give each idle thread a piece of work, after which it may end."""
    submit(pool, *[lambda: None] * 4)
    return not any(take_all(pool))


def wait_for(reached: Callable[[], bool]) -> None:
    while not reached():
        time.sleep(0.01)


def test_a_thread_whose_place_is_gone_ends_and_the_others_do_the_work(
    pool: WorkerPool, limiter: ConcurrencyLimiter
) -> None:
    together = threading.Barrier(4)
    threads: list[threading.Thread] = []

    def meet() -> None:
        threads.append(threading.current_thread())
        together.wait(60)

    submit(pool, *[meet] * 4)
    take_all(pool)
    assert len(set(threads)) == 4, "four were at work at once"
    limiter.resize(1)
    wait_for(lambda: pass_each_thread(pool) and sum(thread.is_alive() for thread in threads) == 1)
    [left] = [thread for thread in threads if thread.is_alive()]
    submit(pool, *[threading.current_thread] * 8)
    assert set(take_all(pool)) == {left}


def test_a_wider_limiter_gets_threads_for_what_was_submitted_before(
    pool: WorkerPool, limiter: ConcurrencyLimiter
) -> None:
    limiter.resize(1)
    together = threading.Barrier(3)
    submit(pool, lambda: limiter.resize(3), *[lambda: together.wait(60)] * 3)
    assert len(take_all(pool)) == 4, "three of them waited for one another"


def test_a_closed_pool_leaves_no_thread(pool: WorkerPool, limiter: ConcurrencyLimiter) -> None:
    threads: list[threading.Thread] = []
    submit(pool, *[lambda: threads.append(threading.current_thread())] * 50)
    take_all(pool)
    limiter.resize(2)
    pool.close()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
