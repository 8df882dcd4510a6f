"""Bring one store level with another: what is missing or different is copied, verified as by ``run``; what is extra, deleted.

One more planner before the same engine: the two listings take the place of the rows.
"""

from __future__ import annotations

import contextlib
import json
import time
from functools import partial
from typing import Any

from migrate_storage.application.application import Application
from migrate_storage.core.errors import ConfigurationError, RunError, StoppedError
from migrate_storage.core.events import Listener, Noted, PassStarted, RunFinished, RunStarted, silent
from migrate_storage.core.filters import Filters
from migrate_storage.core.model import Note, Way
from migrate_storage.database.connection import Database
from migrate_storage.database.load_monitor import LoadMonitor
from migrate_storage.engine.memory_budget import MemoryBudget
from migrate_storage.engine.object_copier import ObjectCopier
from migrate_storage.engine.recorder import temporary_journal
from migrate_storage.engine.transfer import CopyResources
from migrate_storage.jobs.check import note_of_fallback
from migrate_storage.jobs.connections import journaled
from migrate_storage.jobs.context import JobPace
from migrate_storage.jobs.distributed.shard import ShardedJob, ShardRun
from migrate_storage.jobs.distributed.shards import ShardRef, plan_of, uncut
from migrate_storage.jobs.old_base import SharedJob
from migrate_storage.jobs.sync.options import SyncOptions
from migrate_storage.jobs.sync.preflight import SyncPreflight, between
from migrate_storage.jobs.sync.reconcile import Reconciler
from migrate_storage.journal import Journal, RunRecord, digest, new_run_id
from migrate_storage.reporting import LISTED, Report
from migrate_storage.stores.listing import IncompleteError
from migrate_storage.stores.resolved_backend import ResolvedBackend

__all__ = ("Sync",)


class Sync(SharedJob):
    """One sync of two stores.

    Args:
        source: a storage backend, see :func:`migrate_storage.application.endpoints.backend_at`.
        destination: another one, which obstore reaches.
        options: how.
        application: whose rows say what must stay at the destination, and whose database holds the journal; ``None``
            where there is none.
        filters: the keys that it deals with.
        listener: called with each event, one at a time.
        part: which range of the keys' digests this one does, where several processes share the sync; ``None`` does all.
    """

    def __init__(
        self,
        source: Any,
        destination: Any,
        options: SyncOptions,
        *,
        application: Application | None = None,
        filters: Filters | None = None,
        listener: Listener = silent,
        part: ShardRef | None = None,
    ) -> None:
        super().__init__(
            listener, part=part, duration=options.max_duration, most=options.max_bytes, concurrency=options.concurrency,
            attempts=options.attempts, bandwidth=options.bandwidth, requests=options.max_requests_per_second,
        )  # fmt: skip
        self._options, self._application, self._filters = options, application, filters or Filters()
        self._source, self._destination = (ResolvedBackend(each, pace=self._pace) for each in (source, destination))

    def run(self) -> Report:
        """Do it.

        Returns:
            What was done and what is left; ``exit_code`` says whether a person is needed.

        Raises:
            ConfigurationError: bad options or configuration, found before anything was touched.
            LeaseHeldError: another sync of the same two stores is at work.
        """
        options = self._options
        with journaled(self._application, options.journal, options.journal_schema) as (database, journal):
            facts = between(self._source, self._destination, self._retry, dry_run=options.dry_run)
            if options.dry_run and self._part is None:
                with temporary_journal() as notes_of_it:
                    return self._job(
                        self._mirroring(facts, database), notes_of_it, database, facts.notes, resumed=False
                    )
            journal.prepare()
            if self._part is not None:
                return self._in_part(facts, journal, database, self._part)
            with self._hold(journal, options.lease, name=self._lease):
                mirroring = self._mirroring(facts, database)
                engine = partial(self._hold, journal, options.lease)
                mirroring.apart = engine if self._application else contextlib.nullcontext
                return self._job(mirroring, journal, database, facts.notes, resumed=self._resumes(journal))

    def begin(self, ranges: int) -> tuple[str, str]:
        """Join the sync of several processes that is under way, or begin one, cut into so many ranges; do none of them.

        Returns:
            Its id, and the name of the lease that whoever sees to it is to hold in its name.
        """
        options = self._options
        with journaled(self._application, options.journal, options.journal_schema) as (_, journal):
            journal.prepare()
            return self._begin(journal, self._work(), ranges)

    @property
    def _lease(self) -> str:
        return f"sync-{digest(self._source.key, self._destination.key)}"

    def _mirroring(self, facts: SyncPreflight, database: Database | None, share: ShardRun | None = None) -> Reconciler:
        resources = CopyResources(
            retry=self._retry, memory=MemoryBudget(self._options.memory).reserve, on_bytes=self._tally.moved,
            checkpoint=self._checkpoint,
        )  # fmt: skip
        carrier = ObjectCopier(facts.route, facts.capabilities, resources, dry_run=self._options.dry_run)
        return Reconciler(
            facts.route, carrier, self._options, self._filters, retry=self._retry, gate=self._gate, tally=self._tally,
            ended=self._ended, tell=self._fallback,
            rows=(self._application, database) if self._application and database else None,
            mine=None if share is None else share.has,
        )  # fmt: skip

    def _work(self) -> ShardedJob:
        """What several processes share."""
        options = self._options
        if options.watch is not None or options.dry_run:
            raise ConfigurationError(f"{'--watch' if options.watch else '--dry-run'} is for one process")
        if options.delete and not options.max_delete.strip().endswith("%"):
            raise ConfigurationError(
                f"--max-delete {options.max_delete} counts what one process sees: say a share, such as 10%, where several work"
            )
        plan = plan_of(
            "sync", self._source.key, self._destination.key, options.by, options.delete, options.max_delete,
            options.min_age, self._filters.given,
        )  # fmt: skip
        return ShardedJob(
            lease=self._lease,
            seconds=options.lease,
            plan=plan,
            limits=JobPace.from_options(options),
            line=self._line,
            cut=uncut,
            ends=False,
        )

    def _line(self, run: str) -> RunRecord:
        began = time.time()
        return RunRecord(id=run, kind="sync", state="running", started=began, updated=began, **self._named)

    @property
    def _named(self) -> dict[str, Any]:
        return {"source": self._source.key, "destination": self._destination.key, "way": Way.TAKE_OVER}

    def _in_part(
        self,
        facts: SyncPreflight,
        journal: Journal,
        database: Database | None,
        part: ShardRef,
    ) -> Report:
        """Do one range."""
        with self._taken(journal, self._work(), part) as share:
            if share.done:
                return share.found()
            mirroring = self._mirroring(facts, database, share)
            engine = partial(self._hold, journal, self._options.lease, owner=share.run)
            mirroring.apart = engine if self._application else contextlib.nullcontext
            return self._job(mirroring, journal, database, facts.notes, resumed=share.bytes_before > 0)

    # -- the job

    def _job(
        self,
        mirroring: Reconciler,
        journal: Journal,
        database: Database | None,
        notes: tuple[Note, ...],
        *,
        resumed: bool,
    ) -> Report:
        options, share, named, began = self._options, self._share, self._named, time.time()
        run = new_run_id() if share is None else share.run
        how = (
            f"compared by {options.by or 'size, then digest or time'}{', extra ones deleted' if options.delete else ''}"
        )
        if share is None:
            journal.runs.begin(self._line(run))
        self._tally.tell(
            RunStarted(run=run, reason=how, dry_run=options.dry_run, resumed=resumed, rows=None, kind="sync", **named)
        )
        for note in notes:
            self._tally.tell(Noted(note=note))
        helm = self._helm(share or journal.runs, run, LoadMonitor(database or journal.database))
        state, error, passes = "finished", "", 0
        try:
            with helm.running():
                state, passes = self._passes(mirroring)
        except (StoppedError, KeyboardInterrupt):
            state = "stopped" if self._stopping.is_set() or not self._allowance.spent else "limited"
        except IncompleteError as failure:
            state, error = "failed", f"{failure}; nothing was deleted: run the same command again to go on"
        except RunError as failure:
            state, error = "failed", str(failure)
        finally:
            if state != "finished":
                self._stopping.set()
        state, error = self._final_state(state, error)
        counts = dict(self._tally.counts)
        report = Report(
            kind="sync", run=run, way_reason=how, state="planned" if options.dry_run and state == "finished" else state,
            error=error, dry_run=options.dry_run, resumed=resumed, started=began, finished=time.time(), passes=passes,
            counts=counts, bytes_moved=self._tally.bytes, evidence=self._tally.evidence, notes=notes,
            listed=self._tally.listed[:LISTED], next_command=self._next(state),
            **named,
        )  # fmt: skip
        with contextlib.suppress(RunError) if state == "failed" else contextlib.nullcontext():
            if share is not None:
                report = share.finish(report)
            else:
                journal.runs.update(run, state=state, report=json.dumps(report.to_dict()), finished=report.finished)
        self._tally.tell(RunFinished(run=run, state=report.state))
        return report

    def _passes(self, mirroring: Reconciler) -> tuple[str, int]:
        """Pass after pass while it is to watch; how it ended, and the number of passes."""
        number = 0
        while True:
            number += 1
            self._gate.wait()
            self._tally.tell(PassStarted(number=number))
            self._tally.tell(mirroring.run_pass(quiet=number > 1))
            if self._stopping.is_set():
                return "stopped", number
            if self._allowance.spent:
                return "limited", number
            if self._options.watch is None:
                return "finished", number
            if self._stopping.wait(self._options.watch):
                return "stopped", number

    def _ended(self) -> bool:
        """Whether no further object is to be begun."""
        return self._stopping.is_set() or self._allowance.spent

    # -- news

    def _fallback(self, message: str) -> None:
        self._tally.tell(Noted(note=note_of_fallback(message)))

    def _resumes(self, journal: Journal) -> bool:
        keys = ("sync", self._source.key, self._destination.key)
        last = next((run for run in journal.runs.latest(1000) if (run.kind, run.source, run.destination) == keys), None)
        return last is not None and last.state != "finished"

    def _next(self, state: str) -> str:
        what = "check" if state == "finished" and not self._options.dry_run else "sync"
        return f"migrate-storage {what} {self._source.key} {self._destination.key}"
