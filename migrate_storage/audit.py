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
from migrate_storage.errors import ConfigurationError, KeyRefusedError
from migrate_storage.events import Listener, RunFinished, RunStarted, silent
from migrate_storage.journal import Entry, Journal, new_run_id
from migrate_storage.model import Location, Outcome, OutcomeKind, RowRef, Slot, Way
from migrate_storage.preflight import select_columns
from migrate_storage.report import LISTED, Report
from migrate_storage.retry import Retry, StoreFailure
from migrate_storage.rows import BrokenValueError, Rows, parse_slots
from migrate_storage.stores.failure import FailureKind
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
            look = _Look(sides, journal if journal.exists else None, options, self._retry)
            state = "finished"
            for _, outcome in in_parallel(look, self._slots(database), options.concurrency):
                self._tally.ended(outcome)
                if self._stopping.is_set():
                    state = "stopped"
                    break
        counts = dict(self._tally.counts)
        report = Report(
            kind="verify", run=name, way_reason=how, state=state, started=began, finished=time.time(), passes=1, counts=counts,
            evidence=self._tally.evidence, listed=self._tally.listed[:LISTED],
            listed_total=sum(count for kind, count in counts.items() if not kind.done), next_command="", **named,
        )  # fmt: skip
        self._tally.tell(RunFinished(run=name, state=report.state))
        return report

    def _slots(self, database: Database) -> Iterator[Slot | Outcome]:
        options = self._options
        for column in select_columns(self._application.columns, options.columns):
            rows = Rows(database, column, where=options.where)
            for window in rows.windows(options.key, 1000):
                for row in window:
                    try:
                        slots = parse_slots(column, row)
                    except BrokenValueError as error:
                        ref = RowRef(column, row.pk)
                        yield Outcome(
                            kind=OutcomeKind.FAILED,
                            source=Location("", str(ref)),
                            destination=Location("", ""),
                            reason=str(error),
                            refs=(ref,),
                        )
                        continue
                    for slot in slots:
                        if (options.key is None or slot.file["backend"] == options.key) and self._sampled(slot):
                            yield slot
                if self._stopping.is_set():
                    return

    def _sampled(self, slot: Slot) -> bool:
        name = f"{slot.file['backend']}\0{slot.file['filename']}".encode("utf-8", "surrogatepass")
        share = int.from_bytes(hashlib.blake2b(name, digest_size=4).digest(), "big") / 2**32
        return share * 100 < self._options.sample


class _Look:
    def __init__(self, sides: dict[str, Side], journal: Journal | None, options: AuditOptions, retry: Retry) -> None:
        self._sides, self._journal, self._options, self._retry = sides, journal, options, retry

    def __call__(self, given: Slot | Outcome) -> Outcome:
        if isinstance(given, Outcome):
            return given
        began = time.monotonic()
        here = Location(given.file["backend"], given.file["filename"])
        other = Location(self._options.through or here.backend, here.path)

        def outcome(kind: OutcomeKind, reason: str = "", evidence: str = "", size: int | None = None) -> Outcome:
            return Outcome(
                kind=kind,
                source=here,
                destination=other,
                reason=reason,
                evidence=evidence,
                size=size,
                refs=(given.ref,),
                seconds=time.monotonic() - began,
            )

        try:
            return self._look(given, here, outcome)
        except KeyRefusedError as error:
            return outcome(OutcomeKind.FAILED, str(error))
        except StoreFailure as error:
            return outcome(OutcomeKind.FAILED, str(error))

    def _look(self, slot: Slot, here: Location, outcome: Callable[..., Outcome]) -> Outcome:
        side = self._sides.get(here.backend)
        if side is None:
            return outcome(OutcomeKind.FAILED, f"the row names the backend {here.backend!r}, which is not registered")
        store, key = side.at(here.path)
        found = self._head(store, key)
        if found is None:
            return outcome(OutcomeKind.MISSING, f"the row names an object that {here.backend!r} does not hold")
        size = slot.file.get("size")
        if isinstance(size, int) and size != found.size:
            return outcome(
                OutcomeKind.DIFFERS, f"the row says {size} bytes, the object has {found.size}", size=found.size
            )
        if self._options.through is not None:
            return self._compare(store, key, *self._sides[self._options.through].at(here.path), outcome, found.size)
        entry = self._entry(here)
        if self._options.deep and entry is not None:
            source = self._sides.get(entry.source_key)
            if source is not None:
                return self._compare(*source.at(entry.source_path), store, key, outcome, found.size)
        checksum = slot.file.get("checksum")
        if self._options.deep and isinstance(checksum, str) and checksum.startswith("sha256:"):
            if self._retry(lambda: sha256_of(store, key)) == checksum.removeprefix("sha256:"):
                return outcome(OutcomeKind.SKIPPED, evidence="row's checksum", size=found.size)
            return outcome(OutcomeKind.DIFFERS, "the object's bytes do not have the row's checksum", size=found.size)
        if entry is not None and unchanged(entry.destination_evidence, found.evidence):
            return outcome(OutcomeKind.SKIPPED, evidence="journal", size=found.size)
        if entry is not None:
            return outcome(
                OutcomeKind.DIFFERS,
                "it was replaced since it was verified (by the application, perhaps)",
                size=found.size,
            )
        return outcome(
            OutcomeKind.UNVERIFIED,
            "it exists and opens, but nothing tells what it should hold: --deep or --with compares bytes",
            size=found.size,
        )

    def _compare(
        self, one: Any, one_key: str, other: Any, other_key: str, outcome: Callable[..., Outcome], size: int
    ) -> Outcome:
        if self._head(other, other_key) is None:
            return outcome(OutcomeKind.MISSING, f"{other.name} does not hold it")
        if self._head(one, one_key) is None:
            return outcome(
                OutcomeKind.UNVERIFIED, f"{one.name} does not hold it any more, so that nothing can be compared"
            )
        if self._retry(lambda: sha256_of(one, one_key)) == self._retry(lambda: sha256_of(other, other_key)):
            return outcome(OutcomeKind.SKIPPED, evidence="both read", size=size)
        return outcome(OutcomeKind.DIFFERS, f"{one.name} and {other.name} hold different bytes", size=size)

    def _entry(self, here: Location) -> Entry | None:
        """The journal's line of the copy that a row names."""
        if self._journal is None:
            return None
        return self._journal.at_destination(here.backend, here.path)

    def _head(self, store: Any, key: str) -> Any:
        try:
            return self._retry(lambda: store.head(key))
        except StoreFailure as error:
            if error.failure.kind is FailureKind.MISSING:
                return None
            raise
