"""Objects that no row names, and rows whose object is missing; the former moved aside when asked, and back again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from migrate_storage.application.application import Application
from migrate_storage.core.errors import ConfigurationError, KeyRefusedError, RunError, StoppedError
from migrate_storage.core.events import Listener, Noted, RunFinished, RunStarted, silent
from migrate_storage.core.model import Location, Note, Outcome, OutcomeKind, Severity, Slot, Way
from migrate_storage.core.parallel import parallel_map
from migrate_storage.core.text import MiB
from migrate_storage.database.connection import Database
from migrate_storage.engine.known_losses import KnownLosses, ended, known_loss_of, stale_note
from migrate_storage.engine.memory_budget import MemoryBudget
from migrate_storage.engine.probe import check_source
from migrate_storage.engine.references import sides_of
from migrate_storage.engine.transfer import CopyResources
from migrate_storage.jobs.connections import connected
from migrate_storage.jobs.old_base import PacedJob
from migrate_storage.jobs.orphans.quarantine import Quarantine, check_prefix, reason_not_to_move
from migrate_storage.jobs.orphans.quarantine_batches import QuarantineBatches
from migrate_storage.jobs.orphans.reachability import IN_QUARANTINE, Reachability
from migrate_storage.journal import Journal, KnownLoss, RunRecord, new_run_id
from migrate_storage.reporting import LISTED, Report
from migrate_storage.stores.listing import ListedObject
from migrate_storage.stores.resolved_backend import ResolvedBackend
from migrate_storage.stores.retry import CircuitBreaker, StoreRequestError

__all__ = ("Orphans", "OrphansOptions")

_PART = 1000
"""Marks that are written together."""
_NOWHERE = Location("", "")


@dataclass(frozen=True, kw_only=True, slots=True)
class OrphansOptions:
    """What is looked at, and what is done with what is found.

    Raises:
        ConfigurationError: two options contradict each other, or a number is out of its range.
    """

    #: Backend keys whose objects are listed; empty means all that are registered.
    keys: tuple[str, ...] = ()
    #: Seconds below which an object may be an upload whose row is not committed yet.
    min_age: float = 86400.0
    #: A file with a filename a line, or a SELECT: names that something other than rows uses.
    references: tuple[str, ...] = ()
    #: Move orphans aside, below this prefix of their backend.
    quarantine: str | None = None
    #: More orphans than this, and none is moved.
    max_quarantine: int = 1000
    #: Put back what this run moved aside, by its id or the beginning of it; ``all`` for every run.
    restore: str | None = None
    #: Mark the missing objects of rows as known losses, for this reason.
    mark_missing: str | None = None
    #: Take marks away: ``all``, or the ``stale`` ones, which say nothing any more.
    unmark: str | None = None
    #: Really move, mark or unmark; without it everything is only looked at.
    yes: bool = False
    concurrency: int = 16
    bandwidth: int | None = None
    max_requests_per_second: float | None = None
    journal: str | None = None
    journal_schema: str | None = None
    lease: float = 15.0

    @property
    def acts(self) -> bool:
        """Whether anything is to be done but look."""
        done = (self.quarantine, self.restore, self.mark_missing, self.unmark)
        return any(each is not None for each in done)

    def __post_init__(self) -> None:
        modes = {"quarantine": self.quarantine, "restore": self.restore, "unmark": self.unmark}
        given = [name for name, value in modes.items() if value is not None]
        if len(given) > 1 or (self.mark_missing is not None and given in (["restore"], ["unmark"])):
            names = " and ".join(f"--{name}" for name in (*given, *(("mark-missing",) if len(given) < 2 else ())))
            raise ConfigurationError(f"{names} are different jobs: do one after the other")
        if self.mark_missing is not None and not self.mark_missing.strip():
            raise ConfigurationError("--mark-missing needs a reason: why is it known that these objects are lost?")
        if self.concurrency < 1 or self.max_quarantine < 0 or self.min_age < 0:
            raise ConfigurationError("--concurrency must be at least 1, --max-quarantine and --min-age at least 0")
        for name, value in (("bandwidth", self.bandwidth), ("max-requests-per-second", self.max_requests_per_second)):
            if value is not None and value <= 0:
                raise ConfigurationError(f"--{name} must be more than 0, not {value}; leave it out for no limit")


class Orphans(PacedJob):
    """One look at what the stores of some backends hold and what rows name, and what is done about the difference.

    Args:
        application: its rows, and all backends that any row may name.
        options: what is looked at and done.
        listener: called with each event; every object that is held is an ``ItemFinished``, and so is every missing one.
    """

    def __init__(self, application: Application, options: OrphansOptions, *, listener: Listener = silent) -> None:
        super().__init__(
            listener, concurrency=options.concurrency, bandwidth=options.bandwidth, requests=options.max_requests_per_second
        )  # fmt: skip
        self._application, self._options = application, options
        self._patience = CircuitBreaker()
        self._notes: list[Note] = []

    def run(self) -> Report:
        """Do it.

        Returns:
            What was found and done. A job that could not list or read everything has failed, and calls nothing an orphan.

        Raises:
            ConfigurationError: no such key, something that cannot be resolved or listed, or more orphans than allowed:
                nothing was moved.
            LeaseHeldError: a run is at work on this database.
        """
        options = self._options
        sides = sides_of(self._application.backends, self._pace)
        keys = self._keys(sides)
        with connected(self._application, options.journal, options.journal_schema) as (database, journal):
            if options.yes:
                journal.prepare()
            with self._hold(journal, options.lease) if options.yes else nullcontext():
                return self._job(database, journal, sides, keys)

    def _keys(self, sides: Mapping[str, ResolvedBackend]) -> tuple[str, ...]:
        unknown = [key for key in self._options.keys if key not in sides]
        if unknown:
            raise ConfigurationError(
                f"no storage backend is registered under {unknown[0]!r}; registered: {', '.join(sorted(sides))}"
            )
        return tuple(dict.fromkeys(self._options.keys)) or tuple(sorted(sides))

    def _job(
        self, database: Database, journal: Journal, sides: Mapping[str, ResolvedBackend], keys: Sequence[str]
    ) -> Report:
        options, began, name = self._options, time.time(), new_run_id()
        looked = ", ".join(keys) if options.keys else "all keys"
        looked = looked if len(looked) < 250 else f"{len(keys)} keys"
        reason, work = self._work(database, journal, sides, keys, name)
        named: dict[str, Any] = {"source": looked, "destination": looked, "way": Way.SWAP}
        self._tally.tell(
            RunStarted(
                kind="orphans", run=name, reason=reason, dry_run=not options.yes, resumed=False, rows=None, **named
            )
        )
        if options.yes:
            journal.runs.begin(
                RunRecord(id=name, kind="orphans", state="running", started=began, updated=began, **named)
            )
        state, error, refused = "finished", "", None
        try:
            work()
        except (StoppedError, KeyboardInterrupt):
            state = "stopped"
        except (ConfigurationError, RunError, StoreRequestError) as failure:
            state, error = "failed", str(failure)
            refused = failure if isinstance(failure, ConfigurationError) else None
        state, error = self._final_state(state, error)
        report = self._report(name, state, error, began, reason, named)
        if options.yes and self._fatal is None:
            journal.runs.update(name, state=state, report=json.dumps(report.to_dict()), finished=report.finished)
        if refused is not None:
            raise refused
        self._tally.tell(RunFinished(run=name, state=report.state))
        return report

    def _report(self, name: str, state: str, error: str, began: float, reason: str, named: Mapping[str, Any]) -> Report:
        options, counts = self._options, dict(self._tally.counts)
        acts = options.acts
        finished = state == "finished"
        return Report(
            kind="orphans", run=name, way_reason=reason,
            state="planned" if acts and not options.yes and finished else state, error=error,
            dry_run=acts and not options.yes, started=began, finished=time.time(), passes=1, counts=counts,
            bytes_moved=self._tally.bytes, evidence=self._tally.evidence, listed=self._tally.listed[:LISTED],
            notes=tuple(self._notes),
            next_command=self._next(name, finished=finished), **named,
        )  # fmt: skip

    def _next(self, name: str, *, finished: bool) -> str:
        options = self._options
        if options.acts and (options.yes is not finished):
            return "migrate-storage orphans --yes"
        if not finished:
            return "migrate-storage orphans"
        if options.quarantine and self._tally.counts.get(OutcomeKind.QUARANTINED):
            return f"migrate-storage orphans --restore {name}"
        return "migrate-storage orphans --quarantine PREFIX" if self._tally.counts.get(OutcomeKind.ORPHAN) else ""

    def _work(
        self, database: Database, journal: Journal, sides: Mapping[str, ResolvedBackend], keys: Sequence[str], name: str
    ) -> tuple[str, Callable[[], None]]:
        """What this job is, in a few words, and the doing of it."""
        options = self._options
        known = journal if journal.exists else None
        resources = CopyResources(
            retry=self._retry, memory=MemoryBudget(64 * MiB).reserve, on_bytes=self._tally.moved,
            checkpoint=self._checkpoint,
        )  # fmt: skip
        quarantine = Quarantine(sides, resources, dry_run=not options.yes)
        sweep = QuarantineBatches(
            quarantine, journal, sides, limiter=self._gate, stopping=self._stopping, on_outcome=self._tally.ended
        )  # fmt: skip
        if options.restore is not None:
            runs = (
                None
                if options.restore == "all"
                else journal.runs.find(options.restore).id
                if known
                else options.restore
            )
            return "put back from quarantine", lambda: sweep.put_back(runs, dry_run=not options.yes) if known else None
        if options.unmark is not None:
            return (
                f"{options.unmark} marks taken away",
                lambda: self._unmark(known, self._ended(known, database, sides), keys),
            )
        reason = "objects that no row names, and rows whose object is missing"
        prefix = check_prefix(options.quarantine, sides, keys) if options.quarantine is not None else None

        def find() -> None:
            with Reachability(
                sides, keys, database, self._application.columns, known, min_age=options.min_age
            ) as liveness:
                for key in keys:
                    check_source(sides[key], [sides[key].root], self._retry)
                self._find(liveness, sides, keys, known, database)
                self._each(liveness, sides, prefix)
                if prefix is not None and options.yes:
                    sweep.move(liveness, liveness.inventory.chosen, prefix, name)

        return reason, find

    # -- what is there, and what is named

    def _find(
        self,
        liveness: Reachability,
        sides: Mapping[str, ResolvedBackend],
        keys: Sequence[str],
        journal: Journal | None,
        database: Database,
    ) -> None:
        """List, read, and tell of rows whose object is missing; after this, what nothing keeps alive is an orphan."""
        liveness.list(lambda message: self._note("listing.fallback", "", message), self._checkpoint)
        liveness.read(self._options.references, keys)
        known = KnownLosses(journal)
        marks: list[KnownLoss] = []
        for _, outcome in parallel_map(
            lambda slot: self._missing(slot, sides), liveness.unlisted(keys), self._options.concurrency
        ):
            self._checkpoint()
            if outcome is None:
                continue
            outcome = self._aside(known.mark_known(outcome), sides, liveness)
            if outcome.kind is OutcomeKind.MISSING and self._options.mark_missing is not None:
                marks.append(known_loss_of(outcome, self._options.mark_missing))
                outcome = replace(outcome, kind=OutcomeKind.KNOWN, reason=f"marked now: {self._options.mark_missing}")
                if journal is not None and self._options.yes and len(marks) >= _PART:
                    journal.known_losses.add(marks)
                    marks.clear()
            self._tally.ended(outcome)
        if journal is not None and self._options.yes:
            journal.known_losses.add(marks)
        if known:
            self._notes.extend(stale_note(*each) for each in islice(self._ended(journal, database, sides), 100))

    def _missing(self, slot: Slot, sides: Mapping[str, ResolvedBackend]) -> Outcome | None:
        """What is wrong with an object that no listing showed; ``None`` where it is there when asked for."""
        here = Location(slot.file["backend"], slot.file["filename"])

        def outcome(kind: OutcomeKind, reason: str) -> Outcome:
            return Outcome(kind=kind, source=here, destination=_NOWHERE, reason=reason, refs=(slot.ref,))

        try:
            with self._gate.acquire():
                found = self._retry.or_none_if_missing(sides[here.backend].resolve(here.path).head)
        except KeyRefusedError as error:
            return outcome(OutcomeKind.FAILED, str(error))
        except StoreRequestError as error:
            self._patience.record(error.failure)
            return outcome(OutcomeKind.FAILED, str(error))
        self._patience.record(None)
        if found is not None:
            return None
        return outcome(OutcomeKind.MISSING, f"the row names an object that {here.backend!r} does not hold")

    def _aside(self, outcome: Outcome, sides: Mapping[str, ResolvedBackend], liveness: Reachability) -> Outcome:
        if outcome.kind is not OutcomeKind.MISSING:
            return outcome
        if not liveness.in_quarantine(sides[outcome.source.backend].place(outcome.source.path)):
            return outcome
        # Not a loss, and never to be marked as one.
        reason = "a row names an object that is in quarantine: --restore puts it back"
        return replace(outcome, kind=OutcomeKind.CONFLICT, reason=reason)

    def _each(self, liveness: Reachability, sides: Mapping[str, ResolvedBackend], prefix: str | None) -> None:
        """Tell of every object; orphans that are to be moved are chosen, and told when they were."""
        chosen = 0
        for held in liveness.inventory:
            self._checkpoint()
            why = liveness.reason_in_use(held)
            below = prefix is not None and held.location.path.startswith(f"{prefix}/")
            if below and why != IN_QUARANTINE:
                raise ConfigurationError(
                    f"--quarantine {prefix}: there is {held.location} already, which no quarantine put there; choose another prefix: nothing was moved"
                )
            if why:
                self._tally.ended(_kept(held, why))
            elif prefix is None or (fixed := reason_not_to_move(held, sides[held.location.backend])):
                self._tally.ended(_orphan(held, "" if prefix is None else fixed))
            else:
                chosen += 1
                liveness.inventory.choose(held)
        if chosen > self._options.max_quarantine:
            raise ConfigurationError(
                f"{chosen} objects would be moved, --max-quarantine allows {self._options.max_quarantine}: nothing was moved; raise it if that is right"
            )
        if prefix is not None and not self._options.yes:
            for held in liveness.inventory.chosen:
                self._tally.ended(
                    replace(_orphan(held), kind=OutcomeKind.QUARANTINED, reason="", evidence="no row names it")
                )

    # -- marks

    def _ended(
        self, journal: Journal | None, database: Database, sides: Mapping[str, ResolvedBackend]
    ) -> Iterator[tuple[KnownLoss, str]]:
        if journal is None:
            return iter(())
        return ended(journal, database, self._application.columns, sides, self._retry)

    def _unmark(self, journal: Journal | None, stale: Iterator[tuple[KnownLoss, str]], keys: Sequence[str]) -> None:
        if journal is None:
            return
        every = ((mark, "") for batch in journal.known_losses.all() for mark in batch)
        for mark, why in stale if self._options.unmark == "stale" else every:
            self._checkpoint()
            if mark.location.backend not in keys and self._options.keys:
                continue
            if self._options.yes:
                journal.known_losses.remove([mark.id])
            self._tally.ended(
                Outcome(
                    kind=OutcomeKind.SKIPPED, source=mark.location, destination=_NOWHERE,
                    evidence=f"unmarked: {why}" if why else "unmarked",
                )
            )  # fmt: skip

    def _note(self, code: str, subject: str, message: str) -> None:
        note = Note(severity=Severity.INFO, code=code, subject=subject, message=message)
        self._notes.append(note)
        self._tally.tell(Noted(note=note))


def _kept(held: ListedObject, why: str) -> Outcome:
    return Outcome(
        kind=OutcomeKind.SKIPPED, source=held.location, destination=_NOWHERE, size=held.meta.size, evidence=why
    )


def _orphan(held: ListedObject, more: str = "") -> Outcome:
    return Outcome(
        kind=OutcomeKind.ORPHAN, source=held.location, destination=_NOWHERE, size=held.meta.size,
        reason=f"no row names it; {more}" if more else "no row names it",
    )  # fmt: skip
