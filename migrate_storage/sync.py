"""Bring one store level with another: what is missing or different is copied, verified as by ``run``; what is extra, deleted.

One more planner before the same engine: the two listings take the place of the rows.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from functools import partial
from typing import Any

from migrate_storage.application import Application
from migrate_storage.carry import Budget, Carrier
from migrate_storage.check import note_of_fallback
from migrate_storage.compare import IncompleteError
from migrate_storage.connections import journaled
from migrate_storage.control import Helm
from migrate_storage.database import Database
from migrate_storage.errors import RunError, StoppedError
from migrate_storage.events import Listener, Noted, PaceChanged, PassStarted, RunFinished, RunStarted, silent
from migrate_storage.filters import Filters
from migrate_storage.gate import Gate
from migrate_storage.journal import Journal, Run, digest, new_run_id
from migrate_storage.lease import hold
from migrate_storage.ledger import scratch
from migrate_storage.limits import Allowance, Pace
from migrate_storage.mirroring import Mirroring
from migrate_storage.model import Note, Way
from migrate_storage.options import SyncOptions
from migrate_storage.pressure import Pressure
from migrate_storage.report import LISTED, Report
from migrate_storage.retry import Retry
from migrate_storage.routing import between
from migrate_storage.stores.side import Side
from migrate_storage.tally import Tally

__all__ = ("Sync",)


class Sync:
    """One sync of two stores.

    Args:
        source: a storage backend, see :func:`migrate_storage.ends.backend_at`.
        destination: another one, which obstore reaches.
        options: how.
        application: whose rows say what must stay at the destination, and whose database holds the journal; ``None``
            where there is none.
        filters: the keys that it deals with.
        listener: called with each event, one at a time.
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
    ) -> None:
        self._options, self._application, self._filters = options, application, filters or Filters()
        self._tally, self._stopping = Tally(listener), threading.Event()
        self._gate = Gate(options.concurrency, self._stopping, self._told)
        self._pace = Pace(options.bandwidth, options.max_requests_per_second, self._stopping)
        self._retry = Retry(options.attempts, self._stopping, self._gate.slow_down)
        self._allowance = Allowance(options.max_duration, options.max_bytes, lambda: self._tally.bytes)
        self._source, self._destination = (Side(each, pace=self._pace) for each in (source, destination))
        self._fatal: RunError | None = None

    def stop(self) -> None:
        """End soon, from any thread or a signal handler: small objects in flight finish, large ones stop."""
        self._stopping.set()

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
            route, capabilities, notes = between(self._source, self._destination, self._retry, dry_run=options.dry_run)
            carrier = Carrier(
                route, capabilities, retry=self._retry, budget=Budget(options.memory), moved=self._tally.moved,
                checkpoint=self._checkpoint, dry_run=options.dry_run,
            )  # fmt: skip
            mirroring = Mirroring(
                route, carrier, options, self._filters, retry=self._retry, gate=self._gate, tally=self._tally,
                ended=self._ended, tell=self._fallback,
                rows=(self._application, database) if self._application and database else None,
            )  # fmt: skip
            if options.dry_run:
                with scratch() as notes_of_it:
                    return self._job(mirroring, notes_of_it, database, notes, resumed=False)
            journal.prepare()
            name = f"sync-{digest(self._source.key, self._destination.key)}"
            with hold(journal, options.lease, stopping=self._stopping, lost=self._lost, name=name):
                engine = partial(hold, journal, options.lease, stopping=self._stopping, lost=self._lost)
                mirroring.apart = engine if self._application else contextlib.nullcontext
                return self._job(mirroring, journal, database, notes, resumed=self._resumes(journal))

    # -- the job

    def _job(
        self,
        mirroring: Mirroring,
        journal: Journal,
        database: Database | None,
        notes: tuple[Note, ...],
        *,
        resumed: bool,
    ) -> Report:
        options, run, began = self._options, new_run_id(), time.time()
        named: dict[str, Any] = {
            "source": self._source.key, "destination": self._destination.key, "way": Way.TAKE_OVER
        }  # fmt: skip
        how = (
            f"compared by {options.by or 'size, then digest or time'}{', extra ones deleted' if options.delete else ''}"
        )
        journal.begin(Run(id=run, kind="sync", state="running", started=began, updated=began, **named))
        self._tally.tell(
            RunStarted(run=run, reason=how, dry_run=options.dry_run, resumed=resumed, rows=None, kind="sync", **named)
        )
        for note in notes:
            self._tally.tell(Noted(note=note))
        helm = Helm(
            journal, run, gate=self._gate, pace=self._pace, stop=self.stop, pressure=Pressure(database or journal.database),
            state=lambda: {**self._tally.totals, "rows_moved": 0},
        )  # fmt: skip
        state, error, passes = "finished", "", 0
        try:
            with helm.held():
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
        if self._fatal is not None:
            state, error = "failed", str(self._fatal)
        counts = dict(self._tally.counts)
        report = Report(
            kind="sync", run=run, way_reason=how, state="planned" if options.dry_run and state == "finished" else state,
            error=error, dry_run=options.dry_run, resumed=resumed, started=began, finished=time.time(), passes=passes,
            counts=counts, bytes_moved=self._tally.bytes, evidence=self._tally.evidence, notes=notes,
            listed=self._tally.listed[:LISTED], next_command=self._next(state),
            listed_total=sum(count for kind, count in counts.items() if not kind.done), **named,
        )  # fmt: skip
        with contextlib.suppress(RunError) if state == "failed" else contextlib.nullcontext():
            journal.progress(run, state=state, report=json.dumps(report.to_dict()), finished=report.finished)
        self._tally.tell(RunFinished(run=run, state=report.state))
        return report

    def _passes(self, mirroring: Mirroring) -> tuple[str, int]:
        """Pass after pass while it is to watch; how it ended, and the number of passes."""
        number = 0
        while True:
            number += 1
            self._gate.wait()
            self._tally.tell(PassStarted(number=number))
            self._tally.tell(mirroring.level(quiet=number > 1))
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

    def _checkpoint(self) -> None:
        if self._stopping.is_set():
            raise StoppedError("the sync was told to stop: a large object was left half-way, its upload aborted")

    # -- news

    def _told(self, gate: Gate) -> None:
        self._tally.tell(PaceChanged(concurrency=gate.width, most_concurrency=gate.widest, paused=gate.paused))

    def _lost(self, error: RunError) -> None:
        self._fatal = error
        self._stopping.set()

    def _fallback(self, message: str) -> None:
        self._tally.tell(Noted(note=note_of_fallback(message)))

    def _resumes(self, journal: Journal) -> bool:
        keys = ("sync", self._source.key, self._destination.key)
        last = next((run for run in journal.runs(1000) if (run.kind, run.source, run.destination) == keys), None)
        return last is not None and last.state != "finished"

    def _next(self, state: str) -> str:
        what = "check" if state == "finished" and not self._options.dry_run else "sync"
        return f"migrate-storage {what} {self._source.key} {self._destination.key}"
