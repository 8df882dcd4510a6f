"""Delete what a migration left behind, at last: source objects whose copies serve, or copies made in vain.

Only here does anything get deleted, and only what passes every test: journaled as verified by a run that is over, soaked,
named by no row or list under any key, still what was copied, its copy still good, and not one and the same place.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

from migrate_storage.application.application import Application
from migrate_storage.core.errors import ConfigurationError, RunError, StoppedError
from migrate_storage.core.events import Listener, RunFinished, RunStarted, silent
from migrate_storage.core.model import Location, Note, Outcome, OutcomeKind, Severity, Way
from migrate_storage.database.connection import Database
from migrate_storage.engine.probe import same_storage
from migrate_storage.engine.references import ReferencedPlaces, ServiceIdentity, sides_of
from migrate_storage.jobs.base import BatchJob
from migrate_storage.jobs.connections import connected
from migrate_storage.jobs.purge.rules import PurgeOptions, PurgeRules
from migrate_storage.journal import Journal, ObjectRecord, RunRecord, new_run_id
from migrate_storage.reporting import LISTED, Report
from migrate_storage.stores.retry import StoreRequestError

__all__ = ("Purge",)


_AGAIN = 60.0
"""Seconds after which the rows are read anew: somebody may have re-pointed one to the old key, though nobody should."""


_SHARE = 10
"""How many times longer than it takes to read them it is at least until they are read anew."""


class Purge(BatchJob):
    """One purge of what one run, or all runs between its two keys, left behind.

    Args:
        application: its rows, and all backends that any row may name.
        options: what and how much.
        run: id of a run, or the beginning of it; ``None`` means the latest.
        listener: called with each event.
    """

    def __init__(
        self, application: Application, options: PurgeOptions, *, run: str | None = None, listener: Listener = silent
    ) -> None:
        self._application, self._options, self._wanted = application, options, run
        super().__init__(listener)
        self._versioned = self._freed = 0

    def run(self) -> Report:
        """Do it.

        Raises:
            ConfigurationError: no such run, something that cannot be resolved or read, or more candidates than allowed:
                nothing was deleted.
            LeaseHeldError: a run is at work on this database.
        """
        options = self._options
        with connected(self._application, options.journal, options.journal_schema) as (database, journal):
            first = journal.runs.migration_run(self._wanted)
            runs = [first] if self._wanted else journal.runs.migration_runs(first)
            with self._hold(journal, options.lease) if options.yes else nullcontext():
                return self._job(database, journal, first, [run.id for run in runs])

    def _job(self, database: Database, journal: Journal, first: RunRecord, runs: Sequence[str]) -> Report:
        options, began, name = self._options, time.time(), new_run_id()
        sides = sides_of(self._application.backends)
        missing = [key for key in (first.source, first.destination) if key not in sides]
        if missing:
            raise ConfigurationError(
                f"the run went between keys of which {', '.join(missing)} is not registered: register it to purge"
            )
        source, destination = sides[first.source], sides[first.destination]
        shared, _ = same_storage(source, destination, self._retry, probe=options.yes)
        services = ServiceIdentity(sides.values(), apart=None if shared else (source, destination))
        reason = "copies made in vain" if options.leftovers else "source objects whose copies serve"
        named: dict[str, Any] = {"source": first.source, "destination": first.destination, "way": Way(first.way)}
        self._tally.tell(
            RunStarted(run=name, reason=reason, dry_run=not options.yes, resumed=False, rows=None, **named)
        )
        with ReferencedPlaces(services) as references:

            def reread() -> float:
                began = time.monotonic()
                references.add_rows(database, self._application.columns, sides)
                return time.monotonic() + max(_AGAIN, _SHARE * (time.monotonic() - began))

            fresh_until = reread()
            for listed in options.references:
                references.add_listed(listed, database, (source, destination))
            judge = PurgeRules(source, destination, references, services, options, self._retry)
            candidates = sum(1 for entry in self._entries(journal, runs) if judge.candidate(entry))
            if candidates > options.max_delete:
                raise ConfigurationError(
                    f"{candidates} objects would be deleted, --max-delete allows {options.max_delete}: nothing was deleted; raise it if that is right"
                )
            if options.yes:
                journal.runs.begin(
                    RunRecord(id=name, kind="purge", state="running", started=began, updated=began, **named)
                )
            state, error = self._each(journal, judge, runs, reread, fresh_until)
        counts = dict(self._tally.counts)
        again = " ".join(("migrate-storage purge", *([self._wanted] if self._wanted else ()), "--yes"))
        report = Report(
            kind="purge", run=name, way_reason=reason, state="planned" if not options.yes and state == "finished" else state, error=error,
            dry_run=not options.yes, started=began, finished=time.time(), passes=1, counts=counts, listed=self._tally.listed[:LISTED],
            bytes_moved=self._freed, evidence=self._tally.evidence, notes=self._notes(),
            next_command=again if not options.yes or state != "finished" else "migrate-storage verify", **named,
        )  # fmt: skip
        if options.yes and self._fatal is None:
            journal.runs.update(name, state=state, report=json.dumps(report.to_dict()), finished=report.finished)
        self._tally.tell(RunFinished(run=name, state=report.state))
        return report

    def _each(
        self, journal: Journal, judge: PurgeRules, runs: Sequence[str], reread: Callable[[], float], fresh_until: float
    ) -> tuple[str, str]:
        """Judge and delete, one after the other; how it ended, and why."""
        state, error = "finished", ""
        try:
            for entry in self._entries(journal, runs):
                if self._stopping.is_set():
                    state = "stopped"
                    break
                if time.monotonic() > fresh_until:
                    fresh_until = reread()
                self._one(journal, judge, entry)
        except (StoppedError, KeyboardInterrupt):
            state = "stopped"
        except (RunError, StoreRequestError) as failure:
            state, error = "failed", f"{failure}; nothing after this object was deleted"
        return self._final_state(state, error)

    def _notes(self) -> tuple[Note, ...]:
        if not self._versioned:
            return ()
        objects = f"{self._versioned} object{'s' if self._versioned > 1 else ''}"
        return (
            Note(
                severity=Severity.WARNING,
                code="purge.versions",
                subject=objects,
                message="the bucket keeps versions: what was deleted stays there as an old version, and is paid for",
                todo="let a lifecycle rule expire old versions, or delete them by their version",
            ),
        )

    def _entries(self, journal: Journal, runs: Sequence[str]) -> Iterator[ObjectRecord]:
        # What a purge that was killed had in hand comes first: its line says that it may be gone. Few, if any.
        begun, whole = ("removing", "leftover") if self._options.leftovers else ("purging", "held")
        first = [entry for run in runs for batch in journal.objects.of_run(run, state=begun) for entry in batch]
        yield from first
        seen = {entry.id for entry in first}
        for run in runs:
            for batch in journal.objects.of_run(run, state=whole):
                yield from (entry for entry in batch if entry.id not in seen)

    def _one(self, journal: Journal, judge: PurgeRules, entry: ObjectRecord) -> None:
        ruling = judge.decide(entry)
        leftover = self._options.leftovers
        begun, over = ("removing", "removed") if leftover else ("purging", "purged")
        if ruling.kind is OutcomeKind.PURGED:
            if self._options.yes:
                # The intent first: a killed purge leaves a line that says what may be gone.
                journal.objects.set_state(entry.id, begun)
                if not ruling.gone:
                    judge.delete(entry)
                journal.objects.set_state(entry.id, over)
            self._versioned += ruling.versioned
            self._freed += 0 if ruling.versioned or ruling.gone else entry.size or 0
        elif entry.state == begun and self._options.yes:
            # It was not deleted after all, and must not be now.
            journal.objects.set_state(entry.id, "leftover" if leftover else "held")
        self._tally.ended(
            Outcome(
                kind=ruling.kind,
                source=entry.destination if leftover else entry.source,
                destination=Location("", "purged"),
                reason="" if ruling.kind is OutcomeKind.PURGED else ruling.reason,
                size=entry.size,
                evidence=ruling.reason if ruling.kind is OutcomeKind.PURGED else "",
            )
        )
