"""The workers of a run, and the queue on which they bring back what they did: nothing else in the engine starts a thread for it."""

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

T = TypeVar("T")
S = TypeVar("S")


class Admission(Enum):
    """When a piece of work is let in."""

    #: When its turn at the gate comes, unless a limit is reached or the run is to stop.
    NEW = "fresh"
    #: The same, limits apart: what was begun is brought to its end.
    CONTINUATION = "begun"
    #: At the gate, and though the run is to stop: it was under way then.
    FINAL = "last"
    #: At once.
    UNGATED = "open"


class WorkerPool:
    """Runs pieces of work, and gives back what became of them to the one thread that takes it.

    Args:
        gate: how many may be at it at once.
        stopping: set when nothing more is to be begun.
        spent: whether a limit is reached, so that nothing fresh is to be begun either.
    """

    def __init__(self, gate: ConcurrencyLimiter, stopping: threading.Event, spent: Callable[[], bool]) -> None:
        self._gate, self._stopping, self._spent = gate, stopping, spent
        #: How many there are.
        self.width = gate.max_limit
        #: Pieces of work that were not taken back yet.
        self.under_way = 0
        self._pool = self._made()
        self._done: queue.SimpleQueue[tuple[str, str, Future[Any]]] = queue.SimpleQueue()

    def _made(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.width, thread_name_prefix="carry")

    def submit(self, kind: str, id_: str, work: Callable[[], Any], door: Admission) -> None:
        """Have something done.

        Args:
            kind: what it is, given back with it.
            id_: of what it is about, given back too.
            work: the thing itself.
            door: when it is let in.
        """
        if self._gate.max_limit > self.width:
            # A pool does not grow: what the old one has it finishes, and the gate counts the workers of both.
            self._pool.shutdown(wait=False)
            self.width = self._gate.max_limit
            self._pool = self._made()
        self.under_way += 1
        future: Future[Any] = self._pool.submit(self._let_in, work, door)
        future.add_done_callback(lambda done: self._done.put((kind, id_, done)))

    def take(self, *, block: bool) -> tuple[str, str, Future[Any]] | None:
        """One piece of work that ended; with ``block`` after waiting a little for one. ``None`` where there is none."""
        if not self.under_way:
            return None
        try:
            found = self._done.get(block=block, timeout=0.2 if block else None)
        except queue.Empty:
            return None
        self.under_way -= 1
        return found

    def each(self, work: Callable[[S], T], things: Sequence[S]) -> list[T]:
        """Do the same with each of a batch, as many at once as there are workers."""
        return list(self._pool.map(lambda thing: self._let_in(partial(work, thing), Admission.CONTINUATION), things))

    def close(self) -> None:
        """Let the workers go."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _let_in(self, work: Callable[[], T], door: Admission) -> T:
        stopping = self._stopping.is_set()
        with (
            nullcontext()
            if door is Admission.UNGATED or (door is Admission.FINAL and stopping)
            else self._gate.acquire()
        ):
            fresh = door is Admission.NEW
            if door in (Admission.NEW, Admission.CONTINUATION) and (
                self._stopping.is_set() or (fresh and self._spent())
            ):
                raise StoppedError("not begun")
            return work()
