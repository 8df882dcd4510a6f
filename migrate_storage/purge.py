"""Delete what a migration left behind, at last: source objects whose copies serve, or copies made in vain.

Only here does anything get deleted, and only what passes every test: journaled as verified by a run that is over, soaked,
named by no row or list under any key, still what was copied, its copy still good, and not one and the same place.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from migrate_storage.application import Application
from migrate_storage.connections import connected
from migrate_storage.database import Database
from migrate_storage.errors import ConfigurationError, RunError
from migrate_storage.events import Listener, RunFinished, RunStarted, silent
from migrate_storage.journal import Entry, Journal, Run, new_run_id
from migrate_storage.lease import hold
from migrate_storage.model import Location, Outcome, OutcomeKind, Place, Way
from migrate_storage.plan import actual
from migrate_storage.probe import same_storage
from migrate_storage.references import References, Services, sides_of
from migrate_storage.report import LISTED, Report
from migrate_storage.retry import Retry, StoreFailure
from migrate_storage.stores.failure import FailureKind
from migrate_storage.stores.side import Side
from migrate_storage.tally import Tally
from migrate_storage.verify import sha256_of, unchanged

__all__ = ("Purge", "PurgeOptions")

_BATCH = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class PurgeOptions:
    """What is to be deleted, and within which bounds."""

    #: Copies made in vain, at the destination, instead of source objects.
    leftovers: bool = False
    #: Also source objects whose rows the application has deleted since.
    deleted: bool = False
    #: Seconds that must have passed since an object's copy was verified.
    older_than: float = 7 * 86400.0
    #: More candidates than this stop the purge before the first delete.
    max_delete: int = 1000
    #: A file with a filename a line, or a SELECT: names that something other than rows uses.
    references: tuple[str, ...] = ()
    #: Really delete; without it everything is only looked at.
    yes: bool = False
    journal: str | None = None
    journal_schema: str | None = None
    lease: float = 15.0


class Purge:
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
        self._tally = Tally(listener)
        self._stopping = threading.Event()
        self._retry = Retry(5, self._stopping)
        self._fatal: RunError | None = None

    def stop(self) -> None:
        """End soon, between two objects."""
        self._stopping.set()

    def run(self) -> Report:
        """Do it.

        Raises:
            ConfigurationError: no such run, something that cannot be resolved or read, or more candidates than allowed:
                nothing was deleted.
            LeaseHeldError: a run is at work on this database.
        """
        options = self._options
        with connected(self._application, options.journal, options.journal_schema) as (database, journal):
            first = journal.run(self._wanted)
            if first.kind != "run":
                raise ConfigurationError(f"{first.id} is a {first.kind}, not a run: name one of 'migrate-storage runs'")
            guard = (
                hold(journal, options.lease, stopping=self._stopping, lost=self._lost) if options.yes else nullcontext()
            )
            with guard:
                return self._job(database, journal, first)

    def _lost(self, error: RunError) -> None:
        self._fatal = error
        self._stopping.set()

    def _job(self, database: Database, journal: Journal, first: Run) -> Report:
        options, began, name = self._options, time.time(), new_run_id()
        sides = sides_of(self._application.backends)
        missing = [key for key in (first.source, first.destination) if key not in sides]
        if missing:
            raise ConfigurationError(
                f"the run went between keys of which {', '.join(missing)} is not registered: register it to purge"
            )
        source, destination = sides[first.source], sides[first.destination]
        shared, _ = same_storage(source, destination, self._retry, probe=options.yes)
        services = Services(sides.values(), apart=None if shared else (source, destination))
        reason = "copies made in vain" if options.leftovers else "source objects whose copies serve"
        named: dict[str, Any] = {"source": first.source, "destination": first.destination, "way": Way(first.way)}
        self._tally.tell(
            RunStarted(run=name, reason=reason, dry_run=not options.yes, resumed=False, rows=None, **named)
        )
        with References(services) as references:
            references.add_rows(database, self._application.columns, sides)
            for listed in options.references:
                references.add_listed(listed, database, source)
            judge = _Judge(source, destination, references, services, options, self._retry)
            candidates = sum(1 for entry in self._entries(journal, first) if judge.candidate(entry))
            if candidates > options.max_delete:
                raise ConfigurationError(
                    f"{candidates} objects would be deleted, --max-delete allows {options.max_delete}: nothing was deleted; raise it if that is right"
                )
            if options.yes:
                journal.begin(Run(id=name, kind="purge", state="running", started=began, updated=began, **named))
            state, error = "finished", ""
            try:
                for entry in self._entries(journal, first):
                    if self._stopping.is_set():
                        state = "stopped"
                        break
                    self._one(journal, judge, entry)
            except (RunError, StoreFailure) as failure:
                state, error = "failed", f"{failure}; nothing after this object was deleted"
        if self._fatal is not None:
            state, error = "failed", str(self._fatal)
        counts = dict(self._tally.counts)
        report = Report(
            kind="purge", run=name, way_reason=reason, state="planned" if not options.yes and state == "finished" else state, error=error,
            dry_run=not options.yes, started=began, finished=time.time(), passes=1, counts=counts, listed=self._tally.listed[:LISTED],
            listed_total=sum(count for kind, count in counts.items() if not kind.done),
            next_command="migrate-storage status" if options.yes else "migrate-storage purge --yes", **named,
        )  # fmt: skip
        if options.yes:
            journal.progress(name, state=state, report=json.dumps(report.to_dict()), finished=report.finished)
        self._tally.tell(RunFinished(run=name, state=report.state))
        return report

    def _entries(self, journal: Journal, first: Run) -> Iterator[Entry]:
        state = "leftover" if self._options.leftovers else "held"
        for run in journal.runs(limit=1000):
            if (run.kind, run.source, run.destination) == ("run", first.source, first.destination) and (
                self._wanted is None or run.id == first.id
            ):
                for batch in journal.objects(run.id, state=state):
                    yield from batch

    def _one(self, journal: Journal, judge: _Judge, entry: Entry) -> None:
        kind, reason = judge.verdict(entry)
        if kind is OutcomeKind.PURGED and self._options.yes:
            # The intent first: a killed purge leaves a line that says what may be gone.
            journal.purging(entry.id, "purging")
            judge.delete(entry)
            journal.purging(entry.id, "purged")
        location = entry.destination if self._options.leftovers else entry.source
        self._tally.ended(
            Outcome(
                kind=kind,
                source=location,
                destination=Location("", "purged"),
                reason=reason,
                size=entry.size,
                evidence=judge.evidence(kind),
            )
        )


class _Judge:
    """Decides about one object, from the outside in: cheap tests first, the stores last, just before the delete."""

    def __init__(
        self,
        source: Side,
        destination: Side,
        references: References,
        services: Services,
        options: PurgeOptions,
        retry: Retry,
    ) -> None:
        self._source, self._destination = source, destination
        self._references, self._services, self._options, self._retry = references, services, options, retry
        self._now = time.time()

    def candidate(self, entry: Entry) -> bool:
        """Whether nothing but the stores could still speak against it."""
        return not self._kept(entry)

    def verdict(self, entry: Entry) -> tuple[OutcomeKind, str]:
        """What is to be done with it: ``PURGED`` or ``SKIPPED``, or why a person must look."""
        kept = self._kept(entry)
        if kept:
            return OutcomeKind.SKIPPED, kept
        return self._leftover(entry) if self._options.leftovers else self._served(entry)

    def delete(self, entry: Entry) -> None:
        """Delete it."""
        side, path = (
            (self._destination, entry.destination_path)
            if self._options.leftovers
            else (self._source, entry.source_path)
        )
        store, key = side.at(path)
        self._retry(lambda: store.delete(key))

    def evidence(self, kind: OutcomeKind) -> str:
        """What the report says of a purged object."""
        return "verified again" if kind is OutcomeKind.PURGED else ""

    def _kept(self, entry: Entry) -> str:
        here, there = self._places(entry)
        if entry.ours is not True and self._options.leftovers:
            return "not provably written by us"
        if self._now - entry.updated < self._options.older_than:
            return f"verified less than {self._options.older_than:.0f} s ago"
        if self._options.leftovers:
            return "a row or list names it" if there in self._references else ""
        if self._services.name(here) == self._services.name(there):
            return "source and destination are one place"
        if entry.outcome not in (OutcomeKind.REWRITTEN, OutcomeKind.COPIED):
            return f"its run ended as {entry.outcome}"
        if here in self._references:
            return "a row or list still names it"
        if there not in self._references and not self._options.deleted:
            return "its row is gone: --deleted takes such objects too"
        return ""

    def _places(self, entry: Entry) -> tuple[Place, Place]:
        return actual(self._source.place(entry.source_path)), actual(self._destination.place(entry.destination_path))

    def _served(self, entry: Entry) -> tuple[OutcomeKind, str]:
        store, key = self._source.at(entry.source_path)
        here = self._head(store, key)
        if here is None:
            return OutcomeKind.SKIPPED, "gone already"
        if not unchanged(entry.source_evidence, here.evidence):
            return OutcomeKind.CHANGED, "it was replaced since it was copied: run again before you purge"
        copy, there = self._destination.at(entry.destination_path)
        found = self._head(copy, there)
        if found is None:
            return OutcomeKind.MISSING, f"its copy {entry.destination} is gone: this may be the last one"
        if unchanged(entry.destination_evidence, found.evidence):
            return OutcomeKind.PURGED, ""
        if entry.sha256 and self._retry(lambda: sha256_of(copy, there)) == entry.sha256:
            return OutcomeKind.PURGED, ""
        return (
            OutcomeKind.CHANGED,
            f"its copy {entry.destination} was replaced since: look at both before you delete one",
        )

    def _leftover(self, entry: Entry) -> tuple[OutcomeKind, str]:
        store, key = self._destination.at(entry.destination_path)
        found = self._head(store, key)
        if found is None:
            return OutcomeKind.SKIPPED, "gone already"
        if entry.destination_etag is None and entry.destination_modified is None:
            return OutcomeKind.UNVERIFIED, "nothing in the journal tells whether it still is what we put"
        if not unchanged(entry.destination_evidence, found.evidence):
            return OutcomeKind.CHANGED, "it was replaced since we put it: somebody else's now"
        return OutcomeKind.PURGED, ""

    def _head(self, store: Any, key: str) -> Any:
        try:
            return self._retry(lambda: store.head(key))
        except StoreFailure as error:
            if error.failure.kind is FailureKind.MISSING:
                return None
            raise
