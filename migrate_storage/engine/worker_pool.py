"""The worker threads of a run, and the queue of their results."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from enum import Enum
from functools import partial
from typing import Any, NamedTuple, TypeVar

from migrate_storage.core.errors import StoppedError
from migrate_storage.core.parallel import parallel_map
from migrate_storage.engine.concurrency import ConcurrencyLimiter

__all__ = ("Admission", "Finished", "WorkerPool")

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


class Finished(NamedTuple):
    """What became of a piece of work."""

    kind: Enum
    #: The object that it concerns.
    id: str
    value: Any
    error: BaseException | None

    def result(self) -> Any:
        """Return what the work returned, or raise what it raised."""
        if self.error is not None:
            raise self.error
        return self.value


class _Task(NamedTuple):
    kind: Enum
    id: str
    work: Callable[[], Any]
    admission: Admission


class WorkerPool:
    """Runs work in threads, and queues the results for the one thread that takes them.

    An executor would make a Future with a lock for each of many small objects.

    Args:
        limiter: how many pieces of work run at once.
        stopping: set when nothing more may be begun.
        limit_reached: whether a limit of the run is reached, so that nothing new may be begun.
    """

    def __init__(
        self, limiter: ConcurrencyLimiter, stopping: threading.Event, limit_reached: Callable[[], bool]
    ) -> None:
        self._limiter, self._stopping, self._limit_reached = limiter, stopping, limit_reached
        #: Pieces of work whose results were not taken yet.
        self.under_way = 0
        self._threads = 0
        self._threads_lock = threading.Lock()
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Finished] = queue.SimpleQueue()

    @property
    def width(self) -> int:
        """How many pieces of work run at once at most."""
        return self._limiter.max_limit

    def submit(self, kind: Enum, id_: str, work: Callable[[], Any], admission: Admission) -> None:
        """Run work in a thread.

        Args:
            kind: what it is; returned with its result.
            id_: the object that it concerns; returned too.
            work: the function to call.
            admission: when it may begin.
        """
        self.under_way += 1
        self._tasks.put(_Task(kind, id_, work, admission))
        self._start_thread()

    def take(self, *, block: bool) -> Finished | None:
        """Take the result of one piece of work.

        Args:
            block: wait up to ``TAKE_SECONDS`` for one.

        Returns:
            ``None`` where there is none.
        """
        if not self.under_way:
            return None
        try:
            found = self._done.get(block=block, timeout=TAKE_SECONDS if block else None)
        except queue.Empty:
            return None
        self.under_way -= 1
        self._start_thread()  # the limiter may admit more by now
        return found

    def run_each(self, work: Callable[[S], T], batch: Sequence[S]) -> list[T]:
        """Call a function with each element of a batch, as many at once as the limiter admits."""
        if not batch:
            return []
        gated = parallel_map(
            lambda each: self._run(partial(work, each), Admission.CONTINUATION), batch, min(self.width, len(batch))
        )
        return [result for _, result in gated]

    def close(self) -> None:
        """End the threads; work that was not begun is dropped."""
        while True:
            try:
                self._tasks.get_nowait()
            except queue.Empty:
                break
        with self._threads_lock:
            ending, self._threads = self._threads, 0
        for _ in range(ending):
            self._tasks.put(None)

    def _start_thread(self) -> None:
        """Start a thread where the limiter admits another one and there is work for it."""
        if self._threads >= min(self.under_way, self._limiter.limit):
            return
        with self._threads_lock:
            self._threads += 1
        threading.Thread(target=self._work, name=f"copy-{self._threads}").start()

    def _retire_thread(self) -> bool:
        """Give up one thread where the limiter admits fewer.

        A thread that waits for the limiter takes the place of one that could continue: the system switches between them for each object.
        """
        with self._threads_lock:
            if self._threads <= self._limiter.limit:
                return False
            self._threads -= 1
            return True

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            value, error = None, None
            try:
                value = self._run(task.work, task.admission)
            except BaseException as raised:  # noqa: BLE001 - raised again where the result is taken
                error = raised
            self._done.put(Finished(task.kind, task.id, value, error))
            # An idle thread keeps no object alive.
            del task, value, error
            if self._threads > self._limiter.limit and self._retire_thread():
                return

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
