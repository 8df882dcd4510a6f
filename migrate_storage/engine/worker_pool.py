"""The worker threads of a run, and the queue of their results."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from enum import Enum
from functools import partial
from typing import Any, TypeVar

from migrate_storage.core.errors import StoppedError
from migrate_storage.engine.concurrency import ConcurrencyLimiter

__all__ = ("Admission", "WorkerPool")

TAKE_SECONDS = 0.2
"""Seconds for which a result is waited for."""

T = TypeVar("T")
S = TypeVar("S")


class Admission(Enum):
    """When a piece of work may begin."""

    NEW = "new"
    """When the limiter admits it, unless a limit is reached or the run was asked to stop."""
    CONTINUATION = "continuation"
    """As ``NEW``, but also after a limit is reached, because its object was begun."""
    FINAL = "final"
    """When the limiter admits it; after a request to stop at once, because its object was under way then."""
    UNGATED = "ungated"
    """At once."""


class WorkerPool:
    """Runs work in threads, and queues the results for the one thread that takes them.

    Args:
        limiter: how many pieces of work run at once.
        stopping: set when nothing more may be begun.
        limit_reached: whether a limit of the run is reached, so that nothing new may be begun.
    """

    def __init__(
        self, limiter: ConcurrencyLimiter, stopping: threading.Event, limit_reached: Callable[[], bool]
    ) -> None:
        self._limiter, self._stopping, self._limit_reached = limiter, stopping, limit_reached
        #: How many threads there are at most.
        self.width = limiter.max_limit
        #: Pieces of work whose results were not taken yet.
        self.under_way = 0
        self._executor = self._create_executor()
        self._done: queue.SimpleQueue[tuple[Enum, str, Future[Any]]] = queue.SimpleQueue()

    def _create_executor(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.width, thread_name_prefix="copy")

    def submit(self, kind: Enum, id_: str, work: Callable[[], Any], admission: Admission) -> None:
        """Run work in a thread.

        Args:
            kind: what it is; returned with its result.
            id_: the object that it concerns; returned too.
            work: the function to call.
            admission: when it may begin.
        """
        if self._limiter.max_limit > self.width:
            # An executor cannot grow. The old one finishes its work, and the limiter counts the workers of both.
            self._executor.shutdown(wait=False)
            self.width = self._limiter.max_limit
            self._executor = self._create_executor()
        self.under_way += 1
        future: Future[Any] = self._executor.submit(self._run, work, admission)
        future.add_done_callback(lambda done: self._done.put((kind, id_, done)))

    def take(self, *, block: bool) -> tuple[Enum, str, Future[Any]] | None:
        """Take the result of one piece of work.

        Args:
            block: wait up to ``TAKE_SECONDS`` for one.

        Returns:
            Its kind, its id and its result; ``None`` where there is none.
        """
        if not self.under_way:
            return None
        try:
            found = self._done.get(block=block, timeout=TAKE_SECONDS if block else None)
        except queue.Empty:
            return None
        self.under_way -= 1
        return found

    def run_each(self, work: Callable[[S], T], batch: Sequence[S]) -> list[T]:
        """Call a function with each element of a batch, in all workers."""
        return list(self._executor.map(lambda each: self._run(partial(work, each), Admission.CONTINUATION), batch))

    def close(self) -> None:
        """End the threads; work that was not begun is cancelled."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _run(self, work: Callable[[], T], admission: Admission) -> T:
        stopping = self._stopping.is_set()
        with (
            nullcontext()
            if admission is Admission.UNGATED or (admission is Admission.FINAL and stopping)
            else self._limiter.acquire()
        ):
            if admission in (Admission.NEW, Admission.CONTINUATION) and (
                self._stopping.is_set() or (admission is Admission.NEW and self._limit_reached())
            ):
                raise StoppedError("not begun")
            return work()
