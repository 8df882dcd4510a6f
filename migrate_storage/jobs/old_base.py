"""The former base classes, until each job is on :class:`migrate_storage.jobs.base.Job`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from migrate_storage.core.errors import RunError, StoppedError
from migrate_storage.core.events import Listener, PaceChanged
from migrate_storage.database.load_monitor import LoadMonitor
from migrate_storage.engine.concurrency import ConcurrencyLimiter
from migrate_storage.engine.control import ControlChannel, ControlLoop
from migrate_storage.engine.run_limits import RunLimits
from migrate_storage.jobs.distributed.shard import ShardedJob, ShardRun
from migrate_storage.jobs.distributed.shards import ShardCoordinator, ShardRef
from migrate_storage.journal import Journal
from migrate_storage.journal.lease_holder import Lease, hold_lease
from migrate_storage.reporting.run_stats import RunStats
from migrate_storage.stores.rate_limit import StoreLimits
from migrate_storage.stores.retry import Retry

__all__ = ("BatchJob", "PacedJob", "SharedJob")


class BatchJob:
    """A job that goes through many objects, and can be ended between two of them.

    Args:
        listener: called with each event, one at a time.
        attempts: how often a request is sent before it counts as failed.
    """

    def __init__(self, listener: Listener, *, attempts: int = 5) -> None:
        self._tally, self._stopping = RunStats(listener), threading.Event()
        self._retry = Retry(attempts, self._stopping)
        self._fatal: RunError | None = None

    def stop(self) -> None:
        """End soon, from any thread or a signal handler: small objects under way are finished, nothing more is begun."""
        self._stopping.set()

    def _on_lease_lost(self, error: RunError) -> None:
        """The lease is gone: somebody else may be at work."""
        self._fatal = error
        self._stopping.set()

    def _hold(self, journal: Journal, seconds: float, **how: Any) -> AbstractContextManager[Lease]:
        """Keep others out while the block runs, see :func:`migrate_storage.journal.lease_holder.hold_lease`."""
        return hold_lease(journal, seconds, stopping=self._stopping, lost=self._on_lease_lost, **how)

    def _final_state(self, state: str, error: str) -> tuple[str, str]:
        """How it ended, where losing the lease says so in place of all else."""
        return (state, error) if self._fatal is None else ("failed", str(self._fatal))

    def _checkpoint(self) -> None:
        """Called between the pieces of a large object.

        Raises:
            StoppedError: told to stop.
        """
        if self._stopping.is_set():
            raise StoppedError("told to stop: a large object was left half-way, its upload aborted")


class PacedJob(BatchJob):
    """A job with several objects under way at once.

    Args:
        listener: called with each event, one at a time.
        concurrency: how many, at most.
        attempts: how often a request is sent before it counts as failed.
        bandwidth: bytes in a second; ``None`` sets no limit.
        requests: in a second; ``None`` sets no limit.
    """

    def __init__(
        self,
        listener: Listener,
        *,
        concurrency: int,
        attempts: int = 5,
        bandwidth: int | None = None,
        requests: float | None = None,
    ) -> None:
        super().__init__(listener, attempts=attempts)
        self._gate = ConcurrencyLimiter(concurrency, self._stopping, self._told)
        self._pace = StoreLimits(bandwidth, requests, self._stopping)
        self._retry = Retry(attempts, self._stopping, self._gate.on_throttled)

    def _told(self, gate: ConcurrencyLimiter) -> None:
        self._tally.tell(PaceChanged(concurrency=gate.limit, most_concurrency=gate.max_limit, paused=gate.paused))

    def _helm(
        self, desk: ControlChannel, run: str, pressure: LoadMonitor, rows_moved: Callable[[], int] = int
    ) -> ControlLoop:
        """What steers it from outside while it goes on."""
        return ControlLoop(
            desk, run, gate=self._gate, pace=self._pace, stop=self.stop, pressure=pressure,
            state=lambda: {**self._tally.totals, "rows_moved": rows_moved()},
        )  # fmt: skip


class SharedJob(PacedJob):
    """A job that several processes may share, a range each.

    Args:
        listener: called with each event, one at a time.
        part: which range this process does; ``None`` where it does all.
        duration: seconds after which no further object is begun; ``None`` sets no limit.
        most: bytes of content after which none is begun; ``None`` sets no limit.
        pace: as :class:`PacedJob` takes it.
    """

    def __init__(
        self,
        listener: Listener,
        *,
        part: ShardRef | None,
        duration: float | None = None,
        most: int | None = None,
        **pace: Any,
    ) -> None:
        super().__init__(listener, **pace)
        self._part = part
        self._share: ShardRun | None = None
        self._duration, self._most = duration, most
        self._allowance = RunLimits(duration, most, self._bytes)

    def _bytes(self) -> int:
        """Bytes of content that the whole job moved so far."""
        share = self._share
        return self._tally.bytes + (share.bytes_before + share.bytes_elsewhere if share is not None else 0)

    def _sharing(self, journal: Journal, work: ShardedJob) -> ShardCoordinator:
        return ShardCoordinator(journal, work, stopping=self._stopping, lost=self._on_lease_lost)

    def _begin(self, journal: Journal, work: ShardedJob, ranges: int) -> tuple[str, str]:
        """Join the job that is under way, or begin one; its id, and the lease that whoever sees to it is to hold in its name."""
        return self._sharing(journal, work).begin(total=None, into=ranges), work.lease

    @contextmanager
    def _taken(self, journal: Journal, work: ShardedJob, part: ShardRef) -> Iterator[ShardRun]:
        """Hold a range while the block runs, within what is left of the whole job's limits."""
        sharing = self._sharing(journal, work)
        run = part.run or sharing.begin(total=part.total, into=part.total or 1)
        with sharing.take(run, part.number) as share:
            if not share.done:
                self._share, self._pace.requests.guard = share, share.check
                self._allowance = RunLimits(share.left(self._duration), self._most, self._bytes)
            yield share
