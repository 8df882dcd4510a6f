"""Undo: rows are put back as the journal has them, wherever that still is right; everything else is listed and left."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, TypeVar

from sqlalchemy import Connection

from migrate_storage.application.application import Application
from migrate_storage.core.errors import ConfigurationError, RefusedError, RunError, StoppedError
from migrate_storage.core.events import Listener, PassStarted, RunFinished, RunStarted, silent
from migrate_storage.core.model import Column, Location, Outcome, OutcomeKind, Way
from migrate_storage.core.parallel import parallel_map
from migrate_storage.core.text import MiB
from migrate_storage.database.connection import Database
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.file_json import BrokenValueError, Row, parse_slots, same_json
from migrate_storage.database.primary_keys import load_key
from migrate_storage.engine.memory_budget import MemoryBudget
from migrate_storage.engine.recovery import recover_intents
from migrate_storage.jobs.base import BatchJob
from migrate_storage.jobs.connections import connected
from migrate_storage.jobs.revert.final_check import recheck_destinations
from migrate_storage.jobs.revert.restore_row import RestoreDecision, RestoreTask, RowRestorer, value_before_runs
from migrate_storage.journal import Journal, RunRecord, new_run_id
from migrate_storage.reporting import LISTED, Report
from migrate_storage.stores.resolved_backend import ResolvedBackend

__all__ = ("Revert",)

T = TypeVar("T")

_BATCH = 200
"""Rows put back in one transaction."""


class Revert(BatchJob):
    """Puts back the rows that runs re-pointed.

    Args:
        application: whose rows.
        run: id of one run, or the beginning of it; ``None`` means the latest run and every other one between the
            same two keys.
        dry_run: look, and say what would be; change nothing.
        concurrency: rows looked at at once.
        journal: URL of another database that holds the journal.
        journal_schema: database schema of the journal's tables.
        settle: seconds before the last look at the destination, see :class:`migrate_storage.jobs.run.options.RunOptions`.
        lease: see there.
        listener: called with each event.
    """

    def __init__(
        self,
        application: Application,
        *,
        run: str | None = None,
        dry_run: bool = False,
        concurrency: int = 32,
        journal: str | None = None,
        journal_schema: str | None = None,
        settle: float = 5.0,
        lease: float = 15.0,
        listener: Listener = silent,
    ) -> None:
        super().__init__(listener)
        self._application, self._wanted, self._dry_run = application, run, dry_run
        self._concurrency, self._settle, self._lease = concurrency, settle, lease
        self._journal_url, self._journal_schema = journal, journal_schema
        self._moved = 0

    def run(self) -> Report:
        """Do it.

        Raises:
            ConfigurationError: no such run, its keys are not registered, or what it copied was purged: then nothing
                was touched.
            LeaseHeldError: a run is at work on this database.
        """
        with connected(self._application, self._journal_url, self._journal_schema) as (database, journal):
            first = journal.runs.migration_run(self._wanted)
            runs = [first.id] if self._wanted else [run.id for run in journal.runs.migration_runs(first)]
            source, destination = self._side(first.source), self._side(first.destination)
            with nullcontext() if self._dry_run else self._hold(journal, self._lease):
                if not self._dry_run:
                    recover_intents(journal, database, self._application.columns)
                self._refuse_purged(journal, first, runs)
                return self._job(database, journal, first, runs, source, destination)

    def _side(self, key: str) -> ResolvedBackend:
        try:
            return ResolvedBackend(self._application.backends[key])
        except KeyError:
            raise ConfigurationError(
                f"the run went between keys of which {key!r} is not registered any more: register it to undo the run"
            ) from None

    def _refuse_purged(self, journal: Journal, first: RunRecord, runs: Sequence[str]) -> None:
        """What was purged, or may have been by a purge that was killed, cannot be named again: said before anything is touched."""
        if not journal.objects.any_in("purging", "purged"):
            return
        purged = 0
        for groups in _batches(journal.rows.repointed(runs), _BATCH):
            found = journal.objects.find(_objects(line for group in groups for line in group))
            gone = {id_ for id_, entry in found.items() if entry.state in ("purging", "purged")}
            purged += sum(1 for group in groups if gone & set(_objects(group)))
        if purged:
            raise ConfigurationError(
                f"the source objects of {purged} of its rows were purged and cannot be named again: nothing was touched; move everything "
                f"back with: migrate-storage run --from {first.destination} --to {first.source}"
            )

    def _job(
        self,
        database: Database,
        journal: Journal,
        first: RunRecord,
        runs: Sequence[str],
        source: ResolvedBackend,
        destination: ResolvedBackend,
    ) -> Report:
        began, name = time.time(), new_run_id()
        named: dict[str, Any] = {"source": first.destination, "destination": first.source, "way": Way(first.way)}
        reason = "undo: rows are put back as the journal has them"
        self._tally.tell(RunStarted(run=name, reason=reason, dry_run=self._dry_run, resumed=False, rows=None, **named))
        if not self._dry_run:
            journal.runs.begin(
                RunRecord(id=name, kind="revert", state="running", started=began, updated=began, **named)
            )
        state, error = "finished", ""
        try:
            self._undo(database, journal, runs, source, destination, began)
            if self._stopping.is_set():
                state = "stopped"
            if not self._dry_run:
                journal.release_objects()
        except (StoppedError, KeyboardInterrupt):
            state = "stopped"
        except RunError as failure:
            state, error = "failed", str(failure)
        state, error = self._final_state(state, error)
        counts = dict(self._tally.counts)
        again = f"migrate-storage revert {self._wanted}" if self._wanted else "migrate-storage revert"
        report = Report(
            kind="revert", run=name, way_reason=reason, error=error, dry_run=self._dry_run,
            state="planned" if self._dry_run and state == "finished" else state,
            started=began, finished=time.time(), passes=2 if self._moved else 1, counts=counts, rows_moved=self._moved,
            bytes_moved=self._tally.bytes, listed=self._tally.listed[:LISTED], evidence=self._tally.evidence,
            next_command=again if self._dry_run or state != "finished" else "migrate-storage verify", **named,
        )  # fmt: skip
        if not self._dry_run and self._fatal is None:
            journal.runs.update(name, state=state, report=json.dumps(report.to_dict()), finished=report.finished)
        self._tally.tell(RunFinished(run=name, state=report.state))
        return report

    def _undo(
        self,
        database: Database,
        journal: Journal,
        runs: Sequence[str],
        source: ResolvedBackend,
        destination: ResolvedBackend,
        began: float,
    ) -> None:
        putback = RowRestorer(
            source, destination, retry=self._retry, budget=MemoryBudget(64 * MiB), moved=self._tally.moved, dry_run=self._dry_run
        )  # fmt: skip

        def look(row: RestoreTask | RestoreDecision) -> RestoreDecision:
            return row if isinstance(row, RestoreDecision) else putback.restore(row)

        self._tally.tell(PassStarted(number=1))
        rows = self._rows(database, journal, runs)
        for batch in _batches(parallel_map(look, rows, self._concurrency), _BATCH):
            self._put_back(database, journal, [ready for _, ready in batch])
            if self._stopping.is_set():
                return
        if self._moved and not self._dry_run:
            self._tally.tell(PassStarted(number=2))
            self._stopping.wait(self._settle)
            columns = self._application.columns
            for outcome in recheck_destinations(
                putback, database, journal, columns, began, self._concurrency, self._stopping
            ):
                self._tally.ended(outcome)

    def _rows(
        self, database: Database, journal: Journal, runs: Sequence[str]
    ) -> Iterator[RestoreTask | RestoreDecision]:
        """Each re-pointed row once: what is to be undone of it, or why that cannot be."""
        tables: dict[tuple[str | None, str, str], FileColumn] = {}
        columns = {(column.schema, column.table, column.column): column for column in self._application.columns}
        for groups in _batches(journal.rows.repointed(runs), _BATCH):
            entries = journal.objects.find(_objects(line for group in groups for line in group))
            undoes: list[RestoreTask | RestoreDecision] = []
            for group in groups:
                name = _name(group[-1])
                if name not in tables:
                    tables[name] = FileColumn(database, _column(columns, name))
                rows, pk = tables[name], load_key(group[-1]["pk"])
                numbers = tuple(line["id"] for line in group)
                latest = group[-1]["new_value"]
                try:
                    before, used = value_before_runs(group)
                except BrokenValueError as error:
                    left = RestoreTask(rows=rows, pk=pk, lines=numbers, now=latest, before=latest, entries={})
                    undoes.append(RestoreDecision(undo=left, kind=OutcomeKind.FAILED, reason=str(error)))
                    continue
                known = {id_: entries.get(id_) for id_ in _objects(used)}
                undoes.append(RestoreTask(rows=rows, pk=pk, lines=numbers, now=latest, before=before, entries=known))
            yield from database.transaction(lambda connection, batch=undoes: [_read(connection, row) for row in batch])  # type: ignore[misc]

    def _put_back(self, database: Database, journal: Journal, batch: Sequence[RestoreDecision]) -> None:
        """As :meth:`_put_back_together`; where the database refuses a row, it alone is listed."""
        try:
            self._put_back_together(database, journal, batch)
        except RefusedError as error:
            if len(batch) > 1:
                for ready in batch:
                    self._put_back(database, journal, [ready])
            else:
                self._tell(RestoreDecision(undo=batch[0].undo, kind=OutcomeKind.FAILED, reason=str(error)))

    def _put_back_together(self, database: Database, journal: Journal, batch: Sequence[RestoreDecision]) -> None:
        """Swap the rows that may be, mark their lines, and tell how each ended."""
        if self._dry_run:
            for ready in batch:
                self._tell(ready)
            return
        going = [ready for ready in batch if ready.kind is OutcomeKind.REWRITTEN]
        already = [number for ready in batch if ready.kind is OutcomeKind.SKIPPED for number in ready.undo.lines]
        entries = [entry for ready in going for entry in ready.entries]

        def swap(connection: Connection) -> list[bool]:
            return [ready.undo.rows.swap(connection, ready.undo.pk, ready.undo.now, ready.value) for ready in going]

        def mark(connection: Connection, done: Sequence[bool]) -> None:
            numbers = [number for ready, ok in zip(going, done, strict=True) if ok for number in ready.undo.lines]
            journal.rows.reverted(connection, [*numbers, *already])
            journal.objects.record_results(connection, entries)

        if journal.database is database:

            def together(connection: Connection) -> list[bool]:
                swapped = swap(connection)
                mark(connection, swapped)
                return swapped

            done = database.transaction(together)
        else:
            # Killed in between, the rows are back: the next revert reads them, and marks their lines.
            done = database.transaction(swap)
            journal.database.transaction(lambda connection: mark(connection, done))
        lost = {id(ready) for ready, ok in zip(going, done, strict=True) if not ok}
        for ready in batch:
            if id(ready) in lost:
                self._tell(RestoreDecision(undo=ready.undo, kind=OutcomeKind.CHANGED, reason=_CHANGED))
            else:
                self._moved += ready.kind is OutcomeKind.REWRITTEN
                self._tell(ready)

    def _tell(self, ready: RestoreDecision) -> None:
        undo = ready.undo
        done = ready.kind is OutcomeKind.REWRITTEN
        self._tally.ended(
            Outcome(
                kind=ready.kind, source=_first(undo, undo.now), destination=_first(undo, undo.before),
                reason="" if done else ready.reason, refs=(undo.ref,), evidence=ready.evidence if done else "",
            )
        )  # fmt: skip


_CHANGED = "the row was changed since it was re-pointed; that write stands"


def _read(connection: Connection, row: RestoreTask | RestoreDecision) -> RestoreTask | RestoreDecision:
    """What the row itself says, before anything is asked of a store: theirs stands, and what is back already is done."""
    if isinstance(row, RestoreDecision):
        return row
    now = row.rows.read(connection, row.pk)
    if now is not None and same_json(now, row.now):
        return row
    if now is not None and _locations(row, now) == _locations(row, row.before):
        return RestoreDecision(undo=row, kind=OutcomeKind.SKIPPED, reason="it names the old key already")
    reason = "the row is gone, or holds no file any more" if now is None else _CHANGED
    return RestoreDecision(undo=row, kind=OutcomeKind.CHANGED, reason=reason)


def _locations(row: RestoreTask, value: str) -> list[Location] | None:
    try:
        slots = parse_slots(row.rows.column, Row(row.pk, value))
    except BrokenValueError:
        return None
    return [Location(slot.file["backend"], slot.file["filename"]) for slot in slots]


def _first(row: RestoreTask, value: str) -> Location:
    """Where a row's first file is, for a list that a person reads."""
    found = _locations(row, value)
    return found[0] if found else Location("", "")


def _name(line: Mapping[str, Any]) -> tuple[str | None, str, str]:
    return line["table_schema"], line["table_name"], line["column_name"]


def _column(columns: dict[tuple[str | None, str, str], Column], name: tuple[str | None, str, str]) -> Column:
    try:
        return columns[name]
    except KeyError:
        raise RunError(
            f"the journal names {name[1]}.{name[2]}, which the application does not have any more (or --columns leaves out)"
        ) from None


def _objects(lines: Iterable[Any]) -> list[str]:
    return list(dict.fromkeys(id_ for line in lines for id_ in json.loads(line["objects"])))


def _batches(stream: Iterable[T], size: int) -> Iterator[list[T]]:
    batch: list[T] = []
    for each in stream:
        batch.append(each)
        if len(batch) >= size:
            yield batch
            batch = []
    if batch:
        yield batch
