"""Ask the same of many, several at a time, in bounded memory and in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ("in_parallel",)

Given = TypeVar("Given")
Got = TypeVar("Got")


def in_parallel(work: Callable[[Given], Got], given: Iterable[Given], workers: int) -> Iterator[tuple[Given, Got]]:
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
