"""Delete what a migration left behind, at last: source objects whose copies serve, or copies made in vain.

Only here does anything get deleted, and only what passes every test: journaled as verified by a run that is over, soaked,
named by no row or list under any key, still what was copied, its copy still good, and not one and the same place.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from migrate_storage.application import Application
from migrate_storage.connections import connected
from migrate_storage.database import Database
from migrate_storage.errors import ConfigurationError, KeyRefusedError, RunError, StoppedError
from migrate_storage.events import Listener, RunFinished, RunStarted, silent
from migrate_storage.journal import Entry, Journal, Run, new_run_id, object_id
from migrate_storage.lease import hold
from migrate_storage.model import Evidence, Location, Note, ObjectMeta, Outcome, OutcomeKind, Place, Severity, Way
from migrate_storage.plan import actual
from migrate_storage.probe import same_storage
from migrate_storage.references import References, Services, sides_of
from migrate_storage.report import LISTED, Report
from migrate_storage.retry import Retry, StoreFailure
from migrate_storage.stores.base import Store
from migrate_storage.stores.side import Side
from migrate_storage.tally import Tally
from migrate_storage.verify import certainly_unchanged, sha256_of, unchanged

__all__ = ("Purge", "PurgeOptions")

_AGAIN = 60.0
"""Seconds after which the rows are read anew: somebody may have re-pointed one to the old key, though nobody should."""
_SHARE = 10
"""How many times longer than it takes to read them it is at least until they are read anew."""


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
        self._versioned = self._freed = 0

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
            first = journal.move(self._wanted)
            runs = [first] if self._wanted else journal.moves(first)
            guard = (
                hold(journal, options.lease, stopping=self._stopping, lost=self._lost) if options.yes else nullcontext()
            )
            with guard:
                return self._job(database, journal, first, [run.id for run in runs])

    def _lost(self, error: RunError) -> None:
        self._fatal = error
        self._stopping.set()

    def _job(self, database: Database, journal: Journal, first: Run, runs: Sequence[str]) -> Report:
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

            def reread() -> float:
                began = time.monotonic()
                references.add_rows(database, self._application.columns, sides)
                return time.monotonic() + max(_AGAIN, _SHARE * (time.monotonic() - began))

            fresh_until = reread()
            for listed in options.references:
                references.add_listed(listed, database, (source, destination))
            judge = _Judge(source, destination, references, services, options, self._retry)
            candidates = sum(1 for entry in self._entries(journal, runs) if judge.candidate(entry))
            if candidates > options.max_delete:
                raise ConfigurationError(
                    f"{candidates} objects would be deleted, --max-delete allows {options.max_delete}: nothing was deleted; raise it if that is right"
                )
            if options.yes:
                journal.begin(Run(id=name, kind="purge", state="running", started=began, updated=began, **named))
            state, error = self._each(journal, judge, runs, reread, fresh_until)
        counts = dict(self._tally.counts)
        again = " ".join(("migrate-storage purge", *([self._wanted] if self._wanted else ()), "--yes"))
        report = Report(
            kind="purge", run=name, way_reason=reason, state="planned" if not options.yes and state == "finished" else state, error=error,
            dry_run=not options.yes, started=began, finished=time.time(), passes=1, counts=counts, listed=self._tally.listed[:LISTED],
            bytes_moved=self._freed, evidence=self._tally.evidence, notes=self._notes(),
            listed_total=sum(count for kind, count in counts.items() if not kind.done),
            next_command=again if not options.yes or state != "finished" else "migrate-storage verify", **named,
        )  # fmt: skip
        if options.yes and self._fatal is None:
            journal.progress(name, state=state, report=json.dumps(report.to_dict()), finished=report.finished)
        self._tally.tell(RunFinished(run=name, state=report.state))
        return report

    def _each(
        self, journal: Journal, judge: _Judge, runs: Sequence[str], reread: Callable[[], float], fresh_until: float
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
        except (RunError, StoreFailure) as failure:
            state, error = "failed", f"{failure}; nothing after this object was deleted"
        return ("failed", str(self._fatal)) if self._fatal is not None else (state, error)

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

    def _entries(self, journal: Journal, runs: Sequence[str]) -> Iterator[Entry]:
        # What a purge that was killed had in hand comes first: its line says that it may be gone. Few, if any.
        begun, whole = ("removing", "leftover") if self._options.leftovers else ("purging", "held")
        first = [entry for run in runs for batch in journal.objects(run, state=begun) for entry in batch]
        yield from first
        seen = {entry.id for entry in first}
        for run in runs:
            for batch in journal.objects(run, state=whole):
                yield from (entry for entry in batch if entry.id not in seen)

    def _one(self, journal: Journal, judge: _Judge, entry: Entry) -> None:
        ruling = judge.ruling(entry)
        leftover = self._options.leftovers
        begun, over = ("removing", "removed") if leftover else ("purging", "purged")
        if ruling.kind is OutcomeKind.PURGED:
            if self._options.yes:
                # The intent first: a killed purge leaves a line that says what may be gone.
                journal.purging(entry.id, begun)
                if not ruling.gone:
                    judge.delete(entry)
                journal.purging(entry.id, over)
            self._versioned += ruling.versioned
            self._freed += 0 if ruling.versioned or ruling.gone else entry.size or 0
        elif entry.state == begun and self._options.yes:
            # It was not deleted after all, and must not be now.
            journal.purging(entry.id, "leftover" if leftover else "held")
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


@dataclass(frozen=True, slots=True)
class _Ruling:
    """What is to be done with one object."""

    kind: OutcomeKind
    #: Why not; for ``PURGED``, what speaks for it.
    reason: str
    #: Its store keeps old versions.
    versioned: bool = False
    #: A purge that was killed deleted it, and could not write that down.
    gone: bool = False


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

    def ruling(self, entry: Entry) -> _Ruling:
        """What is to be done with it."""
        kept = self._kept(entry)
        if kept:
            return _Ruling(OutcomeKind.SKIPPED, kept)
        try:
            return self._leftover(entry) if self._options.leftovers else self._served(entry)
        except KeyRefusedError as error:
            return _Ruling(OutcomeKind.FAILED, str(error))

    def delete(self, entry: Entry) -> None:
        """Delete it."""
        side, path = (
            (self._destination, entry.destination_path)
            if self._options.leftovers
            else (self._source, entry.source_path)
        )
        store, key = side.at(path)
        self._retry(lambda: store.delete(key))

    def _kept(self, entry: Entry) -> str:
        here, there = self._places(entry)
        if self._now - entry.updated < self._options.older_than:
            return f"verified less than {self._options.older_than:.0f} s ago"
        if object_id(here, entry.destination_key) != entry.id:
            return f"{entry.source_key!r} is registered for another place now than when it was copied"
        if self._options.leftovers:
            if entry.ours is not True:
                return "not provably written by us"
            if self._references.names(there):
                return "a row or list names it"
            return "it may be the source object itself" if self._services.one(here, there) else ""
        if self._services.one(here, there) or entry.same_place:
            return "source and destination are one place"
        if entry.outcome not in (OutcomeKind.REWRITTEN, OutcomeKind.COPIED):
            return f"its run ended as {entry.outcome}"
        if self._references.names(here):
            return "a row or list still names it"
        if not self._references.names(there) and not self._options.deleted:
            return "its row is gone: --deleted takes such objects too"
        return ""

    def _places(self, entry: Entry) -> tuple[Place, Place]:
        return actual(self._source.place(entry.source_path)), actual(self._destination.place(entry.destination_path))

    def _served(self, entry: Entry) -> _Ruling:
        store, key = self._source.at(entry.source_path)
        here = self._retry.unless_missing(lambda: store.head(key))
        copy, there = self._destination.at(entry.destination_path)
        found = self._retry.unless_missing(lambda: copy.head(there))
        # Where no row is left, the application has most likely deleted the copy with it; that is what --deleted is for.
        orphan = not self._references.names(self._places(entry)[1])
        if here is None:
            if entry.state == "purging":
                return _Ruling(OutcomeKind.PURGED, "deleted before", gone=True)
            if found is None and not orphan:
                return _Ruling(OutcomeKind.MISSING, f"it and its copy {entry.destination} are both gone")
            return _Ruling(OutcomeKind.SKIPPED, "gone already")
        if found is None and not orphan:
            return _Ruling(OutcomeKind.MISSING, f"its copy {entry.destination} is gone: this may be the last one")
        if not self._is(store, key, here, entry.source_evidence, entry.sha256):
            return _Ruling(OutcomeKind.CHANGED, "it was replaced since it was copied: run again before you purge")
        if found is not None and not self._is(copy, there, found, entry.destination_evidence, entry.sha256):
            return _Ruling(
                OutcomeKind.CHANGED,
                f"its copy {entry.destination} was replaced since: look at both before you delete one",
            )
        why = "row deleted" if orphan else "copy verified again"
        return _Ruling(OutcomeKind.PURGED, why, versioned=here.version is not None)

    def _is(self, store: Store, key: str, now: ObjectMeta, then: Evidence, sha256: str | None) -> bool:
        """Whether an object is what was journaled, by what its store tells of it or else by its bytes."""
        if certainly_unchanged(then, now.evidence):
            return True
        return sha256 is not None and now.size == then.size and self._retry(lambda: sha256_of(store, key)) == sha256

    def _leftover(self, entry: Entry) -> _Ruling:
        store, key = self._destination.at(entry.destination_path)
        found = self._retry.unless_missing(lambda: store.head(key))
        if found is None:
            if entry.state == "removing":
                return _Ruling(OutcomeKind.PURGED, "deleted before", gone=True)
            return _Ruling(OutcomeKind.SKIPPED, "gone already")
        if not unchanged(entry.destination_evidence, found.evidence):
            return _Ruling(OutcomeKind.CHANGED, "it was replaced since we put it: somebody else's now")
        if not certainly_unchanged(entry.destination_evidence, found.evidence):
            return _Ruling(OutcomeKind.UNVERIFIED, "nothing tells whether it still is what we put")
        return _Ruling(OutcomeKind.PURGED, "still what we put", versioned=found.version is not None)
