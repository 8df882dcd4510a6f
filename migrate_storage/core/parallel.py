"""Ask the same of many, several at a time, in bounded memory and in order."""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ("parallel_map", "parallel_unordered")

Given = TypeVar("Given")
Got = TypeVar("Got")


def parallel_map(work: Callable[[Given], Got], given: Iterable[Given], workers: int) -> Iterator[tuple[Given, Got]]:
    """Do ``work`` for each of a stream.

    Args:
        work: what is done, on a thread of its own; what it raises is raised here.
        given: taken as it is needed, never far ahead.
        workers: how many at once.

    Yields:
        Each of the stream with what ``work`` returned for it, in the stream's order.
    """
    waiting: deque[tuple[Given, Future[Got]]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="ask") as pool:
        try:
            for each in given:
                waiting.append((each, pool.submit(work, each)))
                if len(waiting) >= 4 * workers:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            for _, future in waiting:
                future.cancel()


_MOST = 1024
"""Threads at most; a thread is made when there is work for it."""


def parallel_unordered(
    work: Callable[[Given], Got], given: Iterable[Given], at_once: Callable[[], int]
) -> Iterator[Got]:
    """Do ``work`` for each of a stream; one that takes long holds up no other.

    Args:
        work: what is done, on a thread of its own; what it raises is raised here.
        given: taken as it is needed, never far ahead.
        at_once: how many at once, asked again and again: twice as many are taken.

    Yields:
        What ``work`` returned, in the order in which it ended.
    """
    done: queue.SimpleQueue[Future[Got]] = queue.SimpleQueue()
    under_way = 0
    pool = ThreadPoolExecutor(_MOST, thread_name_prefix="carry")
    failure: Exception | None = None
    stream = iter(given)
    try:
        while True:
            try:
                each = next(stream)
            except StopIteration:
                break
            except Exception as error:  # noqa: BLE001 - it waits until all that was begun is told
                failure = error
                break
            pool.submit(work, each).add_done_callback(done.put)
            under_way += 1
            while under_way and (under_way >= 2 * at_once() or not done.empty()):
                under_way -= 1
                yield done.get().result()
        for _ in range(under_way):
            yield done.get().result()
    finally:
        pool.shutdown(cancel_futures=True)
    if failure is not None:
        raise failure
