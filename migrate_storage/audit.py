"""Look at what rows name, any time: does it exist, is it what the row and the journal say, do both sides hold the same?"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from migrate_storage.application import Application
from migrate_storage.connections import connected
from migrate_storage.database import Database
from migrate_storage.errors import ConfigurationError, KeyRefusedError, RunError, StoppedError
from migrate_storage.events import Listener, RunFinished, RunStarted, silent
from migrate_storage.journal import Entry, Journal, new_run_id
from migrate_storage.marks import Known
from migrate_storage.model import Location, ObjectMeta, Outcome, OutcomeKind, RowRef, Slot, Way
from migrate_storage.preflight import select_columns
from migrate_storage.report import LISTED, Report
from migrate_storage.retry import Patience, Retry, StoreFailure
from migrate_storage.rows import BrokenValueError, Rows, parse_slots
from migrate_storage.stores.base import Store
from migrate_storage.stores.failure import classify
from migrate_storage.stores.side import Side
from migrate_storage.tally import Tally
from migrate_storage.verify import sha256_of, unchanged
from migrate_storage.workers import in_parallel

__all__ = ("Audit", "AuditOptions")


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
    """

    def __init__(self, application: Application, options: AuditOptions, *, listener: Listener = silent) -> None:
        self._application, self._options = application, options
        self._tally = Tally(listener)
        self._stopping = threading.Event()
        self._retry = Retry(5, self._stopping)

    def stop(self) -> None:
        """End soon."""
        self._stopping.set()

    def run(self) -> Report:
        """Do it.

        Raises:
            ConfigurationError: no such key or column.
        """
        options, began, name = self._options, time.time(), new_run_id()
        sides = {key: Side(backend) for key, backend in self._application.backends.items()}
        for key in (options.key, options.through):
            if key is not None and key not in sides:
                raise ConfigurationError(
                    f"no storage backend is registered under {key!r}; registered: {', '.join(sorted(sides))}"
                )
        named: dict[str, Any] = {
            "source": options.key or "all keys",
            "destination": options.through or options.key or "all keys",
            "way": Way.SWAP,
        }
        how = (
            "both sides read"
            if options.deep
            else f"opened through {options.through} too"
            if options.through
            else "looked at"
        )
        with connected(self._application, options.journal, options.journal_schema) as (database, journal):
            self._tally.tell(RunStarted(run=name, reason=how, dry_run=True, resumed=False, rows=None, **named))
            known = Known(journal)
            state, error = self._each(
                _Look(sides, options, self._retry, known), database, journal if journal.exists else None
            )
        counts = dict(self._tally.counts)
        report = Report(
            kind="verify", run=name, way_reason=how, state=state, error=error, started=began, finished=time.time(), passes=1,
            counts=counts, evidence=self._tally.evidence, listed=self._tally.listed[:LISTED],
            listed_total=sum(count for kind, count in counts.items() if not kind.done), next_command="",
            notes=tuple(known.stale.values()), **named,
        )  # fmt: skip
        self._tally.tell(RunFinished(run=name, state=report.state))
        return report

    def _each(self, look: _Look, database: Database, journal: Journal | None) -> tuple[str, str]:
        """Look at one after the other; how it ended, and why."""
        try:
            for _, outcome in in_parallel(look, self._slots(database, journal), self._options.concurrency):
                self._tally.ended(outcome)
                if self._stopping.is_set():
                    return "stopped", ""
        except (StoppedError, KeyboardInterrupt):
            return "stopped", ""
        except RunError as failure:
            return "failed", str(failure)
        return "finished", ""

    def _slots(self, database: Database, journal: Journal | None) -> Iterator[_Known | Outcome]:
        """The slots of all rows, each with what the journal knows of it; asked of the database on this thread only."""
        options = self._options
        for column in select_columns(self._application.columns, options.columns):
            rows = Rows(database, column, where=options.where)
            for window in rows.windows(options.key, 1000):
                found: list[Slot] = []
                for row in window:
                    try:
                        slots = parse_slots(column, row)
                    except BrokenValueError as error:
                        yield _broken(RowRef(column, row.pk), str(error))
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
