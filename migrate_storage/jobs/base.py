"""The frame of every job: its lease, journal record, events, errors, final state and report."""

from __future__ import annotations

import json
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, TypeVar

from migrate_storage.core.errors import ConfigurationError, RunError, StoppedError
from migrate_storage.core.events import (
    DiagnosticRaised,
    Listener,
    PassStarted,
    RunFinished,
    RunStarted,
    ThrottleChanged,
)
from migrate_storage.core.model import Note, OutcomeKind, Strategy
from migrate_storage.database.load_monitor import LoadMonitor
from migrate_storage.engine.concurrency import ConcurrencyLimiter
from migrate_storage.engine.control import ControlLoop
from migrate_storage.engine.run_limits import RunLimits
from migrate_storage.jobs.context import JobContext, JobPace
from migrate_storage.jobs.distributed.shard import ShardedJob, ShardRun
from migrate_storage.jobs.distributed.shards import ShardCoordinator, ShardRef
from migrate_storage.journal import Journal, RunRecord
from migrate_storage.journal.lease_holder import Lease, hold_lease
from migrate_storage.reporting import MAX_PROBLEMS, Report
from migrate_storage.reporting.run_stats import RunStats
from migrate_storage.stores.rate_limit import StoreLimits
from migrate_storage.stores.retry import Retry, StoreRequestError

__all__ = ("Job", "JobDescription")

F = TypeVar("F")


@dataclass(frozen=True, kw_only=True, slots=True)
class JobDescription:
    """What a job is, known before its first object."""

    #: The run's id.
    run: str
    source: str
    destination: str
    strategy: Strategy = Strategy.IN_PLACE
    #: What is done, or the reason for the strategy, in one line.
    reason: str
    #: Whether the job only plans what it would do.
    dry_run: bool = False
    #: Whether the job changes nothing, and plans nothing either.
    read_only: bool = False
    #: Whether earlier runs between the same two ends did a part of the work.
    resumed: bool = False
    #: Rows to go through; ``None`` where they were not counted.
    rows: int | None = None
    notes: tuple[Note, ...] = ()


class Job(ABC, Generic[F]):
    """A job that goes through many objects, and can be ended between two of them.

    A subclass opens its databases in ``run``, finds its facts, and passes them to :meth:`execute`.

    Args:
        listener: called with each event, one at a time.
        pace: how fast it may work, and after how much it ends.
        part: the shard that this process does; ``None`` where it does all.
    """

    #: ``run``, ``verify`` and so on, as events, journal and report name it.
    kind: ClassVar[str]

    def __init__(self, listener: Listener, pace: JobPace, *, part: ShardRef | None = None) -> None:
        stop = threading.Event()
        limiter = ConcurrencyLimiter(
            pace.concurrency, stop, self._report_throttle, widest=pace.widest if part is None else None
        )
        self.context = JobContext(
            stats=RunStats(listener), stop=stop, retry=Retry(pace.max_attempts, stop, limiter.on_throttled), limiter=limiter,
            limits=StoreLimits(pace.bandwidth, pace.max_requests_per_second, stop, pace.max_memory),
        )  # fmt: skip
        self.part = part
        self.share: ShardRun | None = None
        self.run_limits = RunLimits(pace.max_duration, pace.max_bytes, self._count_bytes)
        self.pace, self._passes = pace, 0
        self._lease_error: RunError | None = None

    @abstractmethod
    def describe(self, facts: F) -> JobDescription:
        """Return what the job is."""

    @abstractmethod
    def work(self, facts: F) -> str:
        """Do the work.

        Returns:
            ``completed``, ``interrupted`` or ``limit_reached``.

        Raises:
            RunError: the job failed; its message goes to the report.
            ConfigurationError: the job refuses to begin: recorded as failed, and raised again.
        """

    def complete(self, facts: F, report: Report) -> Report:
        """Add to the report what only this job knows."""
        del facts
        return report

    def next_command(self, report: Report) -> str:
        """Return what to type next; empty where there is nothing."""
        del report
        return ""

    def count_repointed_rows(self, facts: F) -> int:
        """Return how many rows the job changed so far."""
        del facts
        return 0

    def stop(self) -> None:
        """End soon, from any thread or a signal handler: objects under way are finished, none is begun."""
        self.context.stop.set()

    def begin_pass(self) -> int:
        """Announce one more pass over the rows or listings; its number, from 1."""
        self._passes += 1
        self.context.stats.send(PassStarted(number=self._passes))
        return self._passes

    def hold_lease(
        self, journal: Journal, seconds: float, *, name: str = "engine", owner: str | None = None
    ) -> AbstractContextManager[Lease]:
        """Exclude others while the block runs, see :func:`migrate_storage.journal.lease_holder.hold_lease`."""
        return hold_lease(
            journal, seconds, stopping=self.context.stop, lost=self._on_lease_lost, name=name, owner=owner
        )

    def begin_shards(self, journal: Journal, sharded: ShardedJob, shards: int) -> tuple[str, str]:
        """Join the run that is under way, or begin one.

        Returns:
            Its id, and the name of the lease that its driver has in the run's name.
        """
        return self._coordinator(journal, sharded).begin(total=None, into=shards), sharded.lease

    def run_shard(
        self, journal: Journal, sharded: ShardedJob, part: ShardRef, do: Callable[[ShardRun], Report]
    ) -> Report:
        """Do one shard under its lease, within what is left of the whole job's limits.

        Returns:
            What ``do`` returned, or the report of a shard that was done before.
        """
        coordinator = self._coordinator(journal, sharded)
        run = part.run or coordinator.begin(total=part.total, into=part.total or 1)
        with coordinator.take(run, part.number) as share:
            if share.done:
                return share.found()
            self.share, self.context.limits.requests.guard = share, share.check
            self.run_limits = RunLimits(share.left(self.pace.max_duration), self.pace.max_bytes, self._count_bytes)
            return do(share)

    def new_record(
        self, run: str, began: float, source: str, destination: str, strategy: Strategy = Strategy.IN_PLACE
    ) -> RunRecord:
        """Return the journal record of a run that began at this time of the database's clock."""
        return RunRecord(
            id=run, kind=self.kind, state="running", started=began, updated=began, source=source, destination=destination,
            way=strategy,
        )  # fmt: skip

    def execute(self, facts: F, journal: Journal | None, load: LoadMonitor | None = None) -> Report:
        """Do the work, and report how it ended.

        Args:
            facts: what the job found before its first object.
            journal: where the run's record is written; ``None`` writes none.
            load: reports whether the database is overloaded. With it, the job obeys ``migrate-storage control``.

        Raises:
            ConfigurationError: the job refused to begin.
        """
        what, stats, share, began = self.describe(facts), self.context.stats, self.share, time.monotonic()
        started = time.time() if journal is None else journal.database.time()
        ends: dict[str, Any] = {"source": what.source, "destination": what.destination, "strategy": what.strategy}
        if journal is not None and share is None:
            journal.runs.begin(self.new_record(what.run, started, **ends))
        stats.send(
            RunStarted(
                job=self.kind, run=what.run, reason=what.reason, dry_run=what.dry_run or what.read_only, resumed=what.resumed,
                same_run=what.resumed and share is not None, rows=what.rows, **ends,
            )
        )  # fmt: skip
        for note in what.notes:
            stats.send(DiagnosticRaised(note=note))
        state, error, refusal = "completed", "", None
        try:
            with self._steered(facts, what.run, journal, load):
                state = self.work(facts)
        except (StoppedError, KeyboardInterrupt):
            state = "limit_reached" if self.run_limits.spent and not self.context.stop.is_set() else "interrupted"
        except (RunError, StoreRequestError) as failure:
            state, error = "failed", str(failure)
        except ConfigurationError as failure:
            state, error, refusal = "failed", str(failure), failure
        if self._lease_error is not None:
            state, error = "failed", str(self._lease_error)
        report = Report(
            kind=self.kind, run=what.run, strategy_reason=what.reason, state="planned" if what.dry_run and state == "completed" else state,
            error=error, dry_run=what.dry_run, resumed=what.resumed, started=started, finished=started + time.monotonic() - began,
            passes=self._passes, counts=dict(stats.counts), rows_repointed=self.count_repointed_rows(facts), bytes_copied=stats.bytes, bytes_copied_by_service=stats.service_bytes, verified_by=dict(stats.verified_by),
            problems=stats.problems[:MAX_PROBLEMS], kept=stats.reasons[OutcomeKind.KEPT], in_use=stats.reasons[OutcomeKind.IN_USE], notes=what.notes, **ends,
        )  # fmt: skip
        report = self.complete(facts, report)
        report = replace(report, next_command=self.next_command(report))
        # A job may fail because of the journal's database. Its record then stays at ``running`` until the next run.
        with suppress(RunError) if state == "failed" else nullcontext():
            if share is not None:
                report = share.finish(report)
            elif journal is not None:
                text = json.dumps(report.to_dict())
                journal.runs.update(what.run, state=state, report=text, finished=report.finished)
        if refusal is not None:
            raise refusal
        stats.send(RunFinished(run=what.run, state=report.state))
        return report

    def _steered(
        self, facts: F, run: str, journal: Journal | None, load: LoadMonitor | None
    ) -> AbstractContextManager[None]:
        channel = self.share or (journal.runs if journal is not None else None)
        if channel is None or load is None:
            return nullcontext()
        stats = self.context.stats
        return ControlLoop(
            channel, run, limiter=self.context.limiter, limits=self.context.limits, stop=self.stop, pressure=load,
            state=lambda: {**stats.totals, "rows_repointed": self.count_repointed_rows(facts)},
        ).running()  # fmt: skip

    def _coordinator(self, journal: Journal, sharded: ShardedJob) -> ShardCoordinator:
        return ShardCoordinator(journal, sharded, stopping=self.context.stop, lost=self._on_lease_lost)

    def _count_bytes(self) -> int:
        """Bytes of content that the whole job, all its shards, moved so far."""
        share = self.share
        return self.context.stats.bytes + (share.bytes_before + share.bytes_elsewhere if share is not None else 0)

    def _report_throttle(self, limiter: ConcurrencyLimiter) -> None:
        pace = ThrottleChanged(concurrency=limiter.limit, most_concurrency=limiter.max_limit, paused=limiter.paused)
        self.context.stats.send(pace)

    def _on_lease_lost(self, error: RunError) -> None:
        """End the job: another may be at work."""
        self._lease_error = error
        self.context.stop.set()
