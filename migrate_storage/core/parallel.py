"""Parallel work on a stream of inputs, in bounded memory."""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self, TypeVar

__all__ = ("SideBySide", "parallel_map", "parallel_unordered")

Given = TypeVar("Given")
Got = TypeVar("Got")


def parallel_map(work: Callable[[Given], Got], given: Iterable[Given], workers: int) -> Iterator[tuple[Given, Got]]:
    """Do ``work`` for each input of a stream, and keep the order.

    Args:
        work: called in a worker thread; its exception is raised here.
        given: the inputs, read only a few ahead of the work.
        workers: inputs in progress at once.

    Yields:
        Each input with the result of ``work``, in the order of the stream.
    """
    waiting: deque[tuple[Given, Future[Got]]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="ask") as pool:
        try:
            for item in given:
                waiting.append((item, pool.submit(work, item)))
                if len(waiting) >= 4 * workers:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            for _, future in waiting:
                future.cancel()


class SideBySide:
    """Calls that do not depend on each other, each in a thread of its own, while a ``with`` block runs.

    The end of the block waits for all of them, also where the block or one of them raised. The caller asks for the results
    in an order of its own, so the same error is raised whichever call failed first.

    Args:
        calls: the number of calls at most.
        in_turn: make each call when its result is asked for instead, in the thread that asks: for calls that wait for nothing.
    """

    def __init__(self, calls: int, *, in_turn: bool = False) -> None:
        self._pool = None if in_turn else ThreadPoolExecutor(calls, thread_name_prefix="beside")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def start(self, work: Callable[[], Got]) -> Callable[[], Got]:
        """Start a call; return what waits for it, and returns its result or raises its exception; to be called once."""
        return work if self._pool is None else self._pool.submit(work).result


_MAX_THREADS = 1024
"""A thread is started when there is work for it."""


def parallel_unordered(
    work: Callable[[Given], Got], given: Iterable[Given], at_once: Callable[[], int]
) -> Iterator[Got]:
    """Do ``work`` for each input of a stream. A slow one does not delay the others.

    Args:
        work: called in a worker thread; its exception is raised here.
        given: the inputs, read only a few ahead of the work.
        at_once: returns how many inputs are in progress at once. It is called for each input; twice as many are read.

    Yields:
        The results of ``work``, in the order in which they are done.
    """
    done: queue.SimpleQueue[Future[Got]] = queue.SimpleQueue()
    in_progress = 0
    pool = ThreadPoolExecutor(_MAX_THREADS, thread_name_prefix="carry")
    failure: Exception | None = None
    stream = iter(given)
    try:
        while True:
            try:
                item = next(stream)
            except StopIteration:
                break
            except Exception as error:  # noqa: BLE001 - it is raised after the results of the inputs before it
                failure = error
                break
            pool.submit(work, item).add_done_callback(done.put)
            in_progress += 1
            while in_progress and (in_progress >= 2 * at_once() or not done.empty()):
                in_progress -= 1
                yield done.get().result()
        for _ in range(in_progress):
            yield done.get().result()
    finally:
        pool.shutdown(cancel_futures=True)
    if failure is not None:
        raise failure
