"""Look at what rows name, any time: does it exist, is it what the row and the journal say, do both sides hold the same?"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from migrate_storage.application import Application
from migrate_storage.connections import connected
from migrate_storage.control import Helm
from migrate_storage.database import Database
from migrate_storage.errors import ConfigurationError, KeyRefusedError, RunError, StoppedError
from migrate_storage.events import Listener, RunFinished, RunStarted, silent
from migrate_storage.gate import Gate
from migrate_storage.journal import Entry, Journal, Run, new_run_id
from migrate_storage.limits import Pace
from migrate_storage.marks import Known
from migrate_storage.model import Location, ObjectMeta, Outcome, OutcomeKind, RowRef, Slot, Way
from migrate_storage.preflight import select_columns
from migrate_storage.pressure import Pressure
from migrate_storage.report import LISTED, Report
from migrate_storage.retry import Patience, Retry, StoreFailure
from migrate_storage.rows import Rows
from migrate_storage.shards import Part, begun, cut_rows, plan_of, taken
from migrate_storage.share import Share, Work
from migrate_storage.stores.base import Store
from migrate_storage.stores.failure import classify
from migrate_storage.stores.side import Side
from migrate_storage.tally import Tally
from migrate_storage.values import BrokenValueError, parse_slots
from migrate_storage.verify import sha256_of, unchanged
from migrate_storage.workers import in_parallel

__all__ = ("LEASE", "Audit", "AuditOptions")


LEASE = 15.0
"""Seconds after which a process that died is not waited for, where several look together."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditOptions:
    """What is looked at, and how closely."""

    #: Only rows that name this backend key; ``None`` means all.
    key: str | None = None
    columns: tuple[str, ...] = ()
    where: str | None = None
    #: Read both sides of what was copied, and compare.
    deep: bool = False
    #: Open every row through this other registration as well, and compare.
    through: str | None = None
    #: Share of objects looked at, in percent: always the same ones.
    sample: float = 100.0
    concurrency: int = 32
    bandwidth: int | None = None
    max_requests_per_second: float | None = None
    journal: str | None = None
    journal_schema: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.sample <= 100:
            raise ConfigurationError(f"--sample must be above 0 and at most 100 percent, not {self.sample}")


class Audit:
    """One look at all objects that rows name. Nothing is written, the journal is only read.

    Args:
        application: its rows and backends.
        options: what and how.
        listener: called with each event; every object is an ``ItemFinished``, equal ones too.
        part: which range of the rows this one looks at, where several processes share the look; ``None`` looks at all.
            Then the journal is written too: what was cut how, and how far each is.
    """

    def __init__(
        self,
        application: Application,
        options: AuditOptions,
        *,
        listener: Listener = silent,
        part: Part | None = None,
    ) -> None:
        self._application, self._options, self._part = application, options, part
        self._tally = Tally(listener)
        self._stopping = threading.Event()
        self._gate = Gate(options.concurrency, self._stopping)
        self._pace = Pace(None, None, self._stopping)
        self._retry = Retry(5, self._stopping, self._gate.slow_down)
        self._fatal: RunError | None = None

    def stop(self) -> None:
        """End soon."""
        self._stopping.set()

    def run(self) -> Report:
        """Do it.

        Raises:
            ConfigurationError: no such key or column.
        """
        options = self._options
        sides = {key: Side(backend, pace=self._pace) for key, backend in self._application.backends.items()}
        for key in (options.key, options.through):
            if key is not None and key not in sides:
                raise ConfigurationError(
                    f"no storage backend is registered under {key!r}; registered: {', '.join(sorted(sides))}"
                )
        with connected(self._application, options.journal, options.journal_schema) as (database, journal):
            if self._part is None:
                return self._job(sides, self._rows(database), database, journal, new_run_id())
            journal.prepare()
            work = self._work(database)
            waiting: dict[str, Any] = {"stopping": self._stopping, "lost": self._lost}
            total = self._part.total
            run = self._part.run or begun(journal, work, total=total, into=total or 1, **waiting)
            with taken(journal, work, run, self._part.number, **waiting) as share:
                if share.done:
                    return share.found()
                return self._job(sides, share.rows(self._rows(database)), database, journal, run, share)

    def begin(self, ranges: int) -> tuple[str, str]:
        """Join the look of several processes that is under way, or begin one, cut into so many ranges; do none of them.

        Returns:
            Its id, and the name of the lease that whoever sees to it is to hold in its name.
        """
        with connected(self._application, self._options.journal, self._options.journal_schema) as (database, journal):
            journal.prepare()
            work = self._work(database)
            return begun(journal, work, total=None, into=ranges, stopping=self._stopping, lost=self._lost), work.lease

    def _rows(self, database: Database) -> tuple[Rows, ...]:
        columns = select_columns(self._application.columns, self._options.columns)
        return tuple(Rows(database, column, where=self._options.where) for column in columns)

    def _work(self, database: Database) -> Work:
        """What several processes share."""
        options = self._options
        plan = plan_of(
            "verify", options.key, options.columns, options.where, options.deep, options.through, options.sample
        )

        def line(run: str) -> Run:
            began = time.time()
            return Run(id=run, kind="verify", state="running", started=began, updated=began, **self._named)

        return Work(
            lease=f"verify-{plan}", seconds=LEASE, plan=plan, limits=options, line=line,
            cut=lambda into: cut_rows(self._rows(database), into), ends=False,
        )  # fmt: skip

    def _lost(self, error: RunError) -> None:
        self._fatal = error
        self._stopping.set()

    @property
    def _named(self) -> dict[str, Any]:
        options = self._options
        return {
            "source": options.key or "all keys",
            "destination": options.through or options.key or "all keys",
            "way": Way.SWAP,
        }

    def _job(
        self,
        sides: dict[str, Side],
        rows: Sequence[Rows],
        database: Database,
        journal: Journal,
        name: str,
        share: Share | None = None,
    ) -> Report:
        options, began, named = self._options, time.time(), self._named
        how = (
            "both sides read"
            if options.deep
            else f"opened through {options.through} too"
            if options.through
            else "looked at"
        )
        self._tally.tell(RunStarted(run=name, reason=how, dry_run=True, resumed=False, rows=None, **named))
        known = Known(journal)
        look = _Look(sides, options, self._retry, known)
        with self._steered(share, database):
            state, error = self._each(look, rows, journal if journal.exists else None)
        if self._fatal is not None:
            state, error = "failed", str(self._fatal)
        counts = dict(self._tally.counts)
        report = Report(
            kind="verify", run=name, way_reason=how, state=state, error=error, started=began, finished=time.time(), passes=1,
            counts=counts, evidence=self._tally.evidence, listed=self._tally.listed[:LISTED],
            listed_total=sum(count for kind, count in counts.items() if not kind.done), next_command="",
            notes=tuple(known.stale.values()), **named,
        )  # fmt: skip
        if share is not None:
            report = share.finish(report)
        self._tally.tell(RunFinished(run=name, state=report.state))
        return report

    def _steered(self, share: Share | None, database: Database) -> AbstractContextManager[None]:
        """A hand on it, where it is known to the journal."""
        if share is None:
            return nullcontext()
        return Helm(
            share, share.run, gate=self._gate, pace=self._pace, stop=self.stop, pressure=Pressure(database),
            state=lambda: {**self._tally.totals, "rows_moved": 0},
        ).held()  # fmt: skip

    def _each(self, look: _Look, rows: Sequence[Rows], journal: Journal | None) -> tuple[str, str]:
        """Look at one after the other; how it ended, and why."""

        def let_in(given: _Known | Outcome) -> Outcome:
            with self._gate():
                return look(given)

        try:
            for _, outcome in in_parallel(let_in, self._slots(rows, journal), self._options.concurrency):
                self._tally.ended(outcome)
                if self._stopping.is_set():
                    return "stopped", ""
        except (StoppedError, KeyboardInterrupt):
            return "stopped", ""
        except RunError as failure:
            return "failed", str(failure)
        return "finished", ""

    def _slots(self, tables: Sequence[Rows], journal: Journal | None) -> Iterator[_Known | Outcome]:
        """The slots of all rows, each with what the journal knows of it; asked of the database on this thread only."""
        options = self._options
        for rows in tables:
            for window in rows.windows(options.key, 1000):
                found: list[Slot] = []
                for row in window:
                    try:
                        slots = parse_slots(rows.column, row)
                    except BrokenValueError as error:
                        yield _broken(RowRef(rows.column, row.pk), str(error))
                        continue
                    found.extend(
                        slot
                        for slot in slots
                        if (options.key is None or slot.file["backend"] == options.key) and self._sampled(slot)
                    )
                entries = journal.at_destinations([_location(slot) for slot in found]) if journal else {}
                for slot in found:
                    entry = entries.get(_location(slot))
                    yield _Known(slot, entry if entry is not None and entry.state in _VERIFIED else None)
                if self._stopping.is_set():
                    return

    def _sampled(self, slot: Slot) -> bool:
        name = f"{slot.file['backend']}\0{slot.file['filename']}".encode("utf-8", "surrogatepass")
        share = int.from_bytes(hashlib.blake2b(name, digest_size=4).digest(), "big") / 2**32
        return share * 100 < self._options.sample


_VERIFIED = ("held", "purging", "purged")
"""States of a journal line that say: this copy was proved to be one."""


@dataclass(frozen=True, slots=True)
class _Known:
    """A slot of a row, with the journal's line of the copy that it names."""

    slot: Slot
    entry: Entry | None


def _location(slot: Slot) -> Location:
    return Location(slot.file["backend"], slot.file["filename"])


def _broken(ref: RowRef, reason: str) -> Outcome:
    nowhere = Location("", "")
    return Outcome(
        kind=OutcomeKind.FAILED, source=Location("", str(ref)), destination=nowhere, reason=reason, refs=(ref,)
    )


class _Look:
    """Looks at one slot, from any thread."""

    def __init__(self, sides: dict[str, Side], options: AuditOptions, retry: Retry, known: Known) -> None:
        self._sides, self._options, self._retry, self._known = sides, options, retry, known
        self._patience = Patience()

    def __call__(self, given: _Known | Outcome) -> Outcome:
        if isinstance(given, Outcome):
            return given
        began, here = time.monotonic(), _location(given.slot)
        other = Location(self._options.through or here.backend, here.path)

        def outcome(kind: OutcomeKind, reason: str = "", evidence: str = "", size: int | None = None) -> Outcome:
            return Outcome(
                kind=kind, source=here, destination=other, reason=reason, evidence=evidence, size=size,
                refs=(given.slot.ref,), seconds=time.monotonic() - began,
            )  # fmt: skip

        try:
            found = self._look(given.slot, given.entry, here, outcome)
            self._patience(None)
            return found
        except RunError:
            raise
        except StoreFailure as error:
            self._patience(error.failure)
            return outcome(OutcomeKind.FAILED, str(error))
        except KeyRefusedError as error:
            return outcome(OutcomeKind.FAILED, str(error))
        except Exception as error:  # noqa: BLE001 - one item's failure is a value
            return outcome(OutcomeKind.FAILED, classify(error).message)

    def _look(self, slot: Slot, entry: Entry | None, here: Location, outcome: Callable[..., Outcome]) -> Outcome:
        side = self._sides.get(here.backend)
        if side is None:
            return outcome(OutcomeKind.FAILED, f"the row names the backend {here.backend!r}, which is not registered")
        store, key = side.at(here.path)
        found = self._head(store, key)
        if found is None:
            return self._missing(here, outcome)
        self._known.there(slot.ref, here)
        size = slot.file.get("size")
        if isinstance(size, int) and size != found.size:
            return outcome(
                OutcomeKind.DIFFERS, f"the row says {size} bytes, the object has {found.size}", size=found.size
            )
        if self._options.through is not None:
            return self._through(store, key, here, outcome, found.size)
        if self._options.deep:
            return self._deep(slot, entry, store, key, outcome, found)
        if entry is not None and unchanged(entry.destination_evidence, found.evidence):
            return outcome(OutcomeKind.SKIPPED, evidence="journal", size=found.size)
        if entry is not None:
            reason = "it was replaced since it was verified (by the application, perhaps)"
            return outcome(OutcomeKind.DIFFERS, reason, size=found.size)
        return outcome(OutcomeKind.UNVERIFIED, _UNVERIFIED, size=found.size)

    def _missing(self, here: Location, outcome: Callable[..., Outcome]) -> Outcome:
        reason = f"the row names an object that {here.backend!r} does not hold"
        if self._options.through is not None:
            other, path = self._sides[self._options.through].at(here.path)
            only = self._head(other, path)
            if only is not None:
                return outcome(OutcomeKind.MISSING, f"{reason}; {other.name} does", size=only.size)
        return self._known(outcome(OutcomeKind.MISSING, reason))

    def _through(self, store: Store, key: str, here: Location, outcome: Callable[..., Outcome], size: int) -> Outcome:
        """Read it through both registrations."""
        other, path = self._sides[str(self._options.through)].at(here.path)
        if self._head(other, path) is None:
            return outcome(OutcomeKind.MISSING, f"{other.name} does not hold it")
        return self._read(store, key, other, path, outcome, size)

    def _deep(
        self,
        slot: Slot,
        entry: Entry | None,
        store: Store,
        key: str,
        outcome: Callable[..., Outcome],
        found: ObjectMeta,
    ) -> Outcome:
        """Read it, and what it was copied from; where that is gone, the digest of what was copied speaks for it."""
        source = self._sides.get(entry.source_key) if entry is not None else None
        if entry is not None and source is not None:
            origin, path = source.at(entry.source_path)
            if self._head(origin, path) is not None:
                return self._read(origin, path, store, key, outcome, found.size)
        checksum = slot.file.get("checksum")
        known = entry.sha256 if entry is not None else None
        whose = "journal's SHA-256"
        if known is None and isinstance(checksum, str) and checksum.startswith("sha256:"):
            known, whose = checksum.removeprefix("sha256:"), "row's SHA-256"
        if known is None:
            return outcome(OutcomeKind.UNVERIFIED, "there is nothing to compare it with", size=found.size)
        if self._retry(lambda: sha256_of(store, key)) == known:
            return outcome(OutcomeKind.SKIPPED, evidence=whose, size=found.size)
        return outcome(OutcomeKind.DIFFERS, f"its bytes do not have the {whose}", size=found.size)

    def _read(
        self, one: Store, one_key: str, other: Store, other_key: str, outcome: Callable[..., Outcome], size: int
    ) -> Outcome:
        if self._retry(lambda: sha256_of(one, one_key)) == self._retry(lambda: sha256_of(other, other_key)):
            return outcome(OutcomeKind.SKIPPED, evidence="both read", size=size)
        return outcome(OutcomeKind.DIFFERS, f"{one.name} and {other.name} hold different bytes", size=size)

    def _head(self, store: Store, key: str) -> ObjectMeta | None:
        return self._retry.unless_missing(lambda: store.head(key))


_UNVERIFIED = "it exists, but nothing tells what it should hold: --deep or --with compares bytes"
