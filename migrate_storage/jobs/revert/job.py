"""Put rows back to the key that they named before a run, wherever that still is right; list and leave all others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Connection

from migrate_storage.application.application import Application
from migrate_storage.core.errors import ConfigurationError, RefusedError, RunError, WrongUpdateError
from migrate_storage.core.events import Listener, silent
from migrate_storage.core.model import Column, Location, Outcome, OutcomeKind, RowRef, Strategy
from migrate_storage.core.parallel import parallel_map
from migrate_storage.core.text import MiB
from migrate_storage.database.connection import Database
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.file_json import BrokenValueError, Row, exchange_files, parse_slots, same_json
from migrate_storage.database.primary_keys import load_key
from migrate_storage.database.rights import check_rows
from migrate_storage.engine.recovery import recover_intents
from migrate_storage.engine.transfer import CopyResources
from migrate_storage.jobs.base import Job, JobDescription
from migrate_storage.jobs.connections import connected
from migrate_storage.jobs.context import JobPace
from migrate_storage.jobs.links.notes import note_rewritten_links
from migrate_storage.jobs.revert.final_check import DestinationRecheck, column_of, object_ids
from migrate_storage.jobs.revert.restore_row import RestoreDecision, RestoreTask, RowRestorer, value_before_runs
from migrate_storage.jobs.rights import check_rights
from migrate_storage.journal import Journal, ObjectState, RowState, RunRecord, new_run_id
from migrate_storage.reporting import Report
from migrate_storage.stores.memory_budget import MemoryBudget
from migrate_storage.stores.resolved_backend import ResolvedBackend

__all__ = ("RevertJob", "RevertOptions")

T = TypeVar("T")

RESTORE_BATCH_ROWS = 200
"""Rows put back in one transaction."""
ROW_CHANGED = "the row was changed since it was re-pointed; that write stays"


@dataclass(frozen=True, kw_only=True, slots=True)
class RevertOptions:
    """How a revert runs."""

    #: Report what would happen; change nothing.
    dry_run: bool = False
    #: Rows checked at once.
    concurrency: int = 32
    #: Seconds before the last check of the destination, see :class:`migrate_storage.jobs.run.options.RunOptions`.
    settle_time: float = 5.0
    #: Backend keys whose ETags are no digests, see :class:`migrate_storage.jobs.run.options.RunOptions`.
    opaque_etags: tuple[str, ...] = ()
    #: URL of another database that has the journal.
    journal: str | None = None
    #: Database schema of the journal's tables.
    journal_schema: str | None = None
    #: Seconds after which a process that died no longer blocks this one.
    lease_ttl: float = 15.0


@dataclass(frozen=True, kw_only=True)
class _Facts:
    database: Database
    journal: Journal
    #: The run that was asked for, or the latest one.
    first: RunRecord
    runs: Sequence[str]
    restorer: RowRestorer


class RevertJob(Job[_Facts]):
    """Puts back the rows that runs re-pointed.

    Args:
        application: whose rows.
        options: how.
        run: id of one run, or the beginning of it; ``None`` means the latest run and every other one between the
            same two keys.
        listener: called with each event.
    """

    kind = "revert"

    def __init__(
        self,
        application: Application,
        options: RevertOptions | None = None,
        *,
        run: str | None = None,
        listener: Listener = silent,
    ) -> None:
        super().__init__(listener, JobPace())
        self._application, self._options, self._wanted = application, options or RevertOptions(), run
        self._moved = 0

    def count_repointed_rows(self, facts: _Facts) -> int:
        """Return how many rows were put back so far."""
        del facts
        return self._moved

    def run(self) -> Report:
        """Do it.

        Raises:
            ConfigurationError: no such run, its keys are not registered, or what it copied was purged: then nothing
                was touched.
            PreflightError: a right on its tables or on the journal is missing, or the database takes no writes.
            LeaseHeldError: a run is at work on this database.
        """
        options = self._options
        with connected(self._application, options.journal, options.journal_schema) as (database, journal):
            first = journal.runs.migration_run(self._wanted)
            runs = [first.id] if self._wanted else [run.id for run in journal.runs.migration_runs(first)]
            resources = CopyResources(
                retry=self.context.retry, memory=MemoryBudget(64 * MiB).reserve, on_bytes=self.context.stats.add_bytes
            )  # fmt: skip
            source, destination = self._side(first.source), self._side(first.destination)
            restorer = RowRestorer(source, destination, resources, dry_run=options.dry_run)
            self._check_rights(database, journal, runs)
            with nullcontext() if options.dry_run else self.hold_lease(journal, options.lease_ttl):
                if not options.dry_run:
                    recover_intents(journal, database, self._application.columns)
                self._refuse_purged(journal, first, runs)
                facts = _Facts(database=database, journal=journal, first=first, runs=runs, restorer=restorer)
                return self.execute(facts, None if options.dry_run else journal)

    def _check_rights(self, database: Database, journal: Journal, runs: Sequence[str]) -> None:
        """Check the rights on the columns of these runs, before the first row."""
        recorded = {
            (column.schema, column.table, column.column)
            for run in runs
            for column, state, _ in journal.rows.count_by_column(run)
            if state == RowState.REPOINTED
        }
        columns = (each for each in self._application.columns if (each.schema, each.table, each.column) in recorded)
        rows = [FileColumn(database, each) for each in columns]
        if self._options.dry_run:
            check_rows(rows, update=False)
        else:
            check_rights(rows, journal)

    def _side(self, key: str) -> ResolvedBackend:
        try:
            return ResolvedBackend(self._application.backends[key], opaque_etags=key in self._options.opaque_etags)
        except KeyError:
            raise ConfigurationError(
                f"the run went between keys of which {key!r} is not registered any more: register it to undo the run; "
                "if the application registers it in its lifespan, add --lifespan"
            ) from None

    def _refuse_purged(self, journal: Journal, first: RunRecord, runs: Sequence[str]) -> None:
        """Raise where source objects were purged, or may have been by a killed purge: rows cannot name them again."""
        if not journal.objects.any_in(ObjectState.SOURCE_DELETING, ObjectState.SOURCE_DELETED):
            return
        purged = 0
        for groups in _batches(journal.rows.repointed_by(runs), RESTORE_BATCH_ROWS):
            found = journal.objects.find(object_ids(record for group in groups for record in group))
            gone = {
                id_
                for id_, record in found.items()
                if record.state in (ObjectState.SOURCE_DELETING, ObjectState.SOURCE_DELETED)
            }
            purged += sum(1 for group in groups if gone & set(object_ids(group)))
        if purged:
            raise ConfigurationError(
                f"the source objects of {purged} of its rows were purged and cannot be named again: nothing was touched; move everything "
                f"back with: migrate-storage run --from {first.destination} --to {first.source}"
            )

    def describe(self, facts: _Facts) -> JobDescription:
        """See :meth:`Job.describe`."""
        return JobDescription(
            run=new_run_id(), source=facts.first.destination, destination=facts.first.source, strategy=Strategy(facts.first.way),
            reason="undo: rows are put back as the journal has them", dry_run=self._options.dry_run,
            notes=tuple(note_rewritten_links(facts.journal, facts.first.source, facts.first.destination)),
        )  # fmt: skip

    def work(self, facts: _Facts) -> str:
        """Put the rows back, then check the destination once more for late writes."""
        options, stop, database = self._options, self.context.stop, facts.journal.database
        began = database.transaction(database.now)
        for _ in facts.journal.rekeyed.unpack_runs(facts.runs) if not options.dry_run else ():
            if stop.is_set():
                return "interrupted"
        self._restore_rows(facts)
        if self._moved and not options.dry_run and not stop.is_set():
            self.begin_pass()
            stop.wait(options.settle_time)
            recheck = DestinationRecheck(facts.restorer, facts.database, facts.journal, self._application.columns)
            for outcome in recheck.run(began, options.concurrency, stop):
                self.context.stats.add_outcome(outcome)
        if not options.dry_run:
            for ids in facts.journal.rows.released_objects():
                facts.journal.objects.release(ids)
        return "interrupted" if stop.is_set() else "completed"

    def next_command(self, report: Report) -> str:
        """See :meth:`Job.next_command`."""
        if report.state == "completed":
            return "migrate-storage verify"
        if report.state == "planned" and not report.counts.get(OutcomeKind.REVERTED):
            return ""
        return f"migrate-storage revert {self._wanted}" if self._wanted else "migrate-storage revert"

    def _restore_rows(self, facts: _Facts) -> None:
        def check(row: RestoreTask | RestoreDecision) -> RestoreDecision:
            return row if isinstance(row, RestoreDecision) else facts.restorer.restore(row)

        self.begin_pass()
        rows = self._read_rows(facts)
        for batch in _batches(parallel_map(check, rows, self._options.concurrency), RESTORE_BATCH_ROWS):
            self._put_back(facts, [decision for _, decision in batch])
            if self.context.stop.is_set():
                return

    def _read_rows(self, facts: _Facts) -> Iterator[RestoreTask | RestoreDecision]:
        """Yield each re-pointed row once: what is to be undone of it, or why that cannot be."""
        tables: dict[tuple[str | None, str, str], FileColumn] = {}
        columns = {(column.schema, column.table, column.column): column for column in self._application.columns}
        for groups in _batches(facts.journal.rows.repointed_by(facts.runs), RESTORE_BATCH_ROWS):
            known = facts.journal.objects.find(object_ids(record for group in groups for record in group))
            tasks: list[RestoreTask | RestoreDecision] = []
            for group in groups:
                name = column_of(group[-1])
                if name not in tables:
                    tables[name] = FileColumn(facts.database, _find_column(columns, name))
                tasks.append(_plan_restore(tables[name], group, known))
            yield from facts.database.transaction(
                lambda connection, batch=tasks: [_compare_with_row(connection, task) for task in batch]  # type: ignore[misc]
            )

    def _put_back(self, facts: _Facts, batch: Sequence[RestoreDecision]) -> None:
        """As :meth:`_put_back_together`; where the database refuses a row, list that row alone."""
        try:
            self._put_back_together(facts, batch)
        except RefusedError as error:
            if len(batch) > 1:
                for decision in batch:
                    self._put_back(facts, [decision])
            else:
                self._report(RestoreDecision(task=batch[0].task, kind=OutcomeKind.FAILED, reason=str(error)))

    def _put_back_together(self, facts: _Facts, batch: Sequence[RestoreDecision]) -> None:
        """Update the rows that may be put back, mark their journal records, and report how each ended."""
        if self._options.dry_run:
            for decision in batch:
                self._report(decision)
            return
        database, journal = facts.database, facts.journal
        going = [decision for decision in batch if decision.kind is OutcomeKind.REVERTED]
        already = [number for each in batch if each.kind is OutcomeKind.UNCHANGED for number in each.task.record_ids]
        records = [record for decision in going for record in decision.records]

        def swap(connection: Connection) -> list[bool]:
            return [
                each.task.rows.compare_and_swap.swap(connection, each.task.pk, each.task.now, each.value).done
                for each in going
            ]

        def mark(connection: Connection, done: Sequence[bool]) -> None:
            numbers = [number for each, ok in zip(going, done, strict=True) if ok for number in each.task.record_ids]
            journal.rows.mark_reverted(connection, [*numbers, *already])
            journal.objects.record_results(connection, records)

        if journal.database is database:

            def swap_and_mark(connection: Connection) -> list[bool]:
                swapped = swap(connection)
                mark(connection, swapped)
                return swapped

            done = database.transaction(swap_and_mark)
        else:
            # After a kill between the two the rows are back: the next revert reads them, and marks their records.
            done = database.transaction(swap)
            journal.database.transaction(lambda connection: mark(connection, done))
        lost = {id(decision) for decision, ok in zip(going, done, strict=True) if not ok}
        for decision in batch:
            if id(decision) in lost:
                self._report(RestoreDecision(task=decision.task, kind=OutcomeKind.MODIFIED, reason=ROW_CHANGED))
            else:
                self._moved += decision.kind is OutcomeKind.REVERTED
                self._report(decision)

    def _report(self, decision: RestoreDecision) -> None:
        task, problem = decision.task, decision.problem
        done = decision.kind is OutcomeKind.REVERTED
        now, before = (
            (_first_location(task, task.now), _first_location(task, task.before))
            if problem is None
            else (problem.destination, problem.source)
        )
        self.context.stats.add_outcome(
            Outcome(
                kind=decision.kind, source=now, destination=before,
                reason="" if done else decision.reason, refs=(RowRef(task.rows.column, task.pk),), verified_by=decision.evidence if done else "",
            )
        )  # fmt: skip


def _plan_restore(
    rows: FileColumn, group: Sequence[Mapping[str, Any]], known: Mapping[str, Any]
) -> RestoreTask | RestoreDecision:
    """Return what is to be undone of one row, from its journal records, the oldest first, and those of its objects."""
    pk, latest = load_key(group[-1]["pk"]), group[-1]["new_value"]
    # A dry run leaves the records of a re-key packed, which have no id.
    numbers = tuple(record["id"] for record in group if "id" in record)
    try:
        before, used = value_before_runs(group)
    except BrokenValueError as error:
        task = RestoreTask(rows=rows, pk=pk, record_ids=numbers, now=latest, before=latest, records={})
        return RestoreDecision(task=task, kind=OutcomeKind.FAILED, reason=str(error))
    records = {id_: known.get(id_) for id_ in object_ids(used)}
    return RestoreTask(rows=rows, pk=pk, record_ids=numbers, now=latest, before=before, records=records)


def _compare_with_row(connection: Connection, task: RestoreTask | RestoreDecision) -> RestoreTask | RestoreDecision:
    """Read the row before any request to a store: a later write stays, and a row that is back already is done."""
    if isinstance(task, RestoreDecision):
        return task
    try:
        now = task.rows.compare_and_swap.read(connection, task.pk)
    except WrongUpdateError as error:
        return RestoreDecision(task=task, kind=OutcomeKind.FAILED, reason=error.reason)
    if now is not None and same_json(now, task.now):
        return task
    if now is not None and _locations(task, now) == _locations(task, task.before):
        return RestoreDecision(task=task, kind=OutcomeKind.UNCHANGED, reason="it names the old key already")
    if now is not None and (narrowed := _narrow_restore(task, now)) is not None:
        return narrowed
    reason = "the row is gone, or has no file any more" if now is None else ROW_CHANGED
    return RestoreDecision(task=task, kind=OutcomeKind.MODIFIED, reason=reason)


def _narrow_restore(task: RestoreTask, now: str) -> RestoreTask | None:
    """Return the restore of the files that are as the run wrote them, in a row of which the application changed the rest.

    Returns:
        ``None`` where a file that the run wrote is not as it was.
    """
    written, before = (set(_locations(task, value) or ()) for value in (task.now, task.before))
    try:
        value = exchange_files(now, task.now, task.before)
    except BrokenValueError:
        return None
    if value is None or (written - before).intersection(_locations(task, value) or ()):
        return None
    left = set(_locations(task, now) or ())
    records = {id_: record for id_, record in task.records.items() if record is None or record.destination in left}
    return replace(task, now=now, before=value, records=records)


def _locations(task: RestoreTask, value: str) -> list[Location] | None:
    try:
        slots = parse_slots(task.rows.column, Row(task.pk, value))
    except BrokenValueError:
        return None
    return [slot.location for slot in slots]


def _first_location(task: RestoreTask, value: str) -> Location:
    """Return where a row's first file is, for a list that a person reads."""
    found = _locations(task, value)
    return found[0] if found else Location("", "")


def _find_column(columns: Mapping[tuple[str | None, str, str], Column], name: tuple[str | None, str, str]) -> Column:
    try:
        return columns[name]
    except KeyError:
        raise RunError(
            f"the journal names {name[1]}.{name[2]}, which the application does not have any more (or --columns leaves out)"
        ) from None


def _batches(stream: Iterable[T], size: int) -> Iterator[list[T]]:
    items = iter(stream)
    while batch := list(islice(items, size)):
        yield batch
