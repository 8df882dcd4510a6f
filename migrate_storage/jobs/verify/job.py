"""Check every object that a row names: it exists, it is what row and journal record, both backends read the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from migrate_storage.application.application import Application
from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.events import Listener, silent
from migrate_storage.core.model import Location, Note, Outcome, RowRef, Severity, Slot
from migrate_storage.core.parallel import parallel_map
from migrate_storage.cutover.resolved import resolve_backend
from migrate_storage.database.connection import Database
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.file_json import BrokenValueError, Row, parse_slots
from migrate_storage.database.load_monitor import LoadMonitor
from migrate_storage.database.row_identity import find_doubtful_keys
from migrate_storage.engine.known_losses import KnownLosses
from migrate_storage.jobs.base import Job, JobDescription
from migrate_storage.jobs.connections import connected, find_backend
from migrate_storage.jobs.context import JobPace
from migrate_storage.jobs.cutovers import cutovers_among
from migrate_storage.jobs.distributed.shard import ShardedJob, ShardRun
from migrate_storage.jobs.distributed.shards import ShardRef, cut_rows, plan_of
from migrate_storage.jobs.verify.check_object import NamedObject, ObjectCheck, VerifyOptions, outcome_of_broken_row
from migrate_storage.journal import Journal, ObjectRecord, ObjectState, new_run_id
from migrate_storage.reporting import Report
from migrate_storage.stores.resolved_backend import ResolvedBackend

__all__ = ("LEASE", "VerifyJob")

LEASE = 15.0
"""Seconds after which a process that died is not waited for, where several verify together."""
WINDOW_ROWS = 1000
"""Rows read in one short transaction."""
VERIFIED_STATES = (ObjectState.VERIFIED, ObjectState.SOURCE_DELETING, ObjectState.SOURCE_DELETED)
"""States of a journal record whose copy was verified."""


@dataclass(frozen=True, kw_only=True)
class _Facts:
    run: str
    rows: Sequence[FileColumn]
    #: The job's journal first; empty where there is none.
    journals: Sequence[Journal]
    known_losses: KnownLosses
    sides: Mapping[str, ResolvedBackend]
    check: ObjectCheck


class VerifyJob(Job[_Facts]):
    """One check of all objects that rows name. Nothing is written, the journal is only read.

    Args:
        application: its rows and backends.
        options: what and how.
        listener: called with each event; every object is an ``ObjectFinished``, equal ones too.
        part: which shard of the rows this one checks, where several processes share the job; ``None`` checks all.
            Then the journal is written too: the shards, and how far each is.
    """

    kind = "verify"

    def __init__(
        self,
        application: Application,
        options: VerifyOptions,
        *,
        listener: Listener = silent,
        part: ShardRef | None = None,
    ) -> None:
        super().__init__(listener, JobPace.from_options(options), part=part)
        self._application, self._options = application, options
        self._source = options.key or "all keys"
        self._destination = options.compare_with or self._source

    def run(self) -> Report:
        """Do it.

        Raises:
            ConfigurationError: no such key or column.
        """
        options, backends = self._options, self._application.backends
        sides = {key: resolve_backend(backend, pace=self.context.limits) for key, backend in backends.items()}
        for key in (options.key, options.compare_with):
            if key is not None:
                find_backend(sides, key)
        shared = self.part is not None
        with connected(self._application, options.journal, options.journal_schema, shared=shared) as (
            database,
            journal,
        ):

            def verify(run: str, rows: Sequence[FileColumn], load: LoadMonitor | None) -> Report:
                known = KnownLosses(journal)
                facts = _Facts(
                    run=run, rows=rows, journals=_find_journals(journal, database, sides), known_losses=known,
                    sides=sides,
                    check=ObjectCheck(sides, options, self.context.retry, known),
                )  # fmt: skip
                return self.execute(facts, None, load)

            if self.part is None:
                return verify(new_run_id(), self._rows(database), None)
            journal.prepare()

            def verify_shard(share: ShardRun) -> Report:
                return verify(share.run, share.rows(self._rows(database)), LoadMonitor(database))

            return self.run_shard(journal, self._sharded(database), self.part, verify_shard)

    def begin(self, ranges: int) -> tuple[str, str]:
        """Join the verify of several processes that is under way, or begin one, cut into so many shards; do none of them.

        Returns:
            Its id, and the name of the lease that its driver has in its name.
        """
        options = self._options
        with connected(self._application, options.journal, options.journal_schema, shared=True) as (database, journal):
            journal.prepare()
            return self.begin_shards(journal, self._sharded(database), ranges)

    def describe(self, facts: _Facts) -> JobDescription:
        """See :meth:`Job.describe`."""
        through = f"opened through {self._options.compare_with} too" if self._options.compare_with else "checked"
        return JobDescription(
            run=facts.run, source=self._source, destination=self._destination, read_only=True,
            reason="both sides read" if self._options.read_content else through,
        )  # fmt: skip

    def work(self, facts: _Facts) -> str:
        """Check one object after the other, several at once."""

        def check(given: NamedObject | Outcome) -> Outcome:
            with self.context.limiter.acquire():
                return facts.check.check(given)

        for _, outcome in parallel_map(check, self._read_slots(facts), self._options.concurrency):
            self.context.stats.add_outcome(outcome)
            if self.context.stop.is_set():
                return "interrupted"
        return "completed"

    def complete(self, facts: _Facts, report: Report) -> Report:
        """Add notes of cutovers, and of known losses whose objects were found."""
        phases = (
            Note(
                severity=Severity.INFO, code="cutover.phase", subject=cutover.key,
                message=f"a cutover, {cutover.state.describe()}: each object was checked where its processes read it",
            )
            for cutover in cutovers_among(facts.sides)
        )  # fmt: skip
        return replace(report, passes=1, notes=(*phases, *facts.known_losses.stale.values()))

    def _rows(self, database: Database) -> tuple[FileColumn, ...]:
        columns = self._application.select(self._options.columns)
        return tuple(FileColumn(database, column, where=self._options.where) for column in columns)

    def _sharded(self, database: Database) -> ShardedJob:
        options = self._options
        plan = plan_of(
            "verify",
            options.key,
            options.columns,
            options.where,
            options.read_content,
            options.compare_with,
            options.sample,
        )
        return ShardedJob(
            lease=f"verify-{plan}", seconds=LEASE, plan=plan, limits=self.pace, ends=False,
            line=partial(self.new_record, source=self._source, destination=self._destination),
            cut=lambda into: cut_rows(self._rows(database), into),
        )  # fmt: skip

    def _read_slots(self, facts: _Facts) -> Iterator[NamedObject | Outcome]:
        """Yield the slots of all rows, each with its journal record. The database is read on this thread only."""
        if self.share is None or self.share.number == 0:
            yield from _find_doubtful_rows(facts.rows)
        for rows in facts.rows:
            for window in rows.windows(self._options.key, WINDOW_ROWS):
                slots: list[Slot] = []
                for row in window:
                    try:
                        slots += self._wanted_slots(rows, row)
                    except BrokenValueError as error:
                        yield outcome_of_broken_row(RowRef(rows.column, row.pk), str(error))
                yield from _with_records(slots, facts.journals)
                if self.context.stop.is_set():
                    return

    def _wanted_slots(self, rows: FileColumn, row: Row) -> list[Slot]:
        key, slots = self._options.key, parse_slots(rows.column, row)
        wanted = (slot for slot in slots if key is None or slot.file["backend"] == key)
        known = (
            slot for slot in wanted if not slot.ref.in_metadata or slot.file["backend"] in self._application.backends
        )
        return [slot for slot in known if self._is_sampled(slot)]

    def _is_sampled(self, slot: Slot) -> bool:
        name = f"{slot.file['backend']}\0{slot.file['filename']}".encode("utf-8", "surrogatepass")
        share = int.from_bytes(hashlib.blake2b(name, digest_size=4).digest(), "big") / 2**32
        return share * 100 < self._options.sample


def _find_journals(journal: Journal, database: Database, sides: Mapping[str, ResolvedBackend]) -> list[Journal]:
    """Return the job's journal, and those beside the outboxes of cutovers: they have what the comparisons found."""
    outboxes = [side.backend.outbox for side in cutovers_among(sides) if side.backend.outbox is not None]
    found = [journal, *(Journal(outbox.database, outbox.tables.schema) for outbox in outboxes)]
    if journal.database is not database:
        found.append(Journal.find(database))
    return [each for each in found if each.exists]


def _find_doubtful_rows(columns: Sequence[FileColumn]) -> Iterator[Outcome]:
    """Yield an outcome for the rows of each table that share their key: any of their files may be another's."""
    for rows in {(each.column.schema, each.column.table): each for each in columns}.values():
        with suppress(ConfigurationError):  # keys that cannot be compared: they are only read here
            for found in find_doubtful_keys(rows):
                refs = tuple(RowRef(rows.column, key) for key in found.examples)
                reason = f"{found.count} rows {found.reason}: which file belongs to which is unknown"
                yield replace(outcome_of_broken_row(refs[0], reason), refs=refs)


def _with_records(slots: Sequence[Slot], journals: Sequence[Journal]) -> Iterator[NamedObject]:
    locations = [slot.location for slot in slots]
    records, compared = dict[Location, ObjectRecord](), dict[Location, ObjectRecord]()
    for journal in journals[:1]:
        records = journal.objects.at_destinations(locations)
    for journal in reversed(journals):
        compared.update(journal.comparisons.at(locations))
    for slot in slots:
        record = records.get(slot.location)
        verified = record if record is not None and record.state in VERIFIED_STATES else None
        yield NamedObject(slot, verified, compared.get(slot.location))
