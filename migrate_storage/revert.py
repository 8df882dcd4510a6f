"""Undo: rows are put back as the journal has them, wherever that still is right; everything else is listed and left."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from migrate_storage.application import Application
from migrate_storage.carry import Budget
from migrate_storage.connections import connected
from migrate_storage.database import Database
from migrate_storage.errors import ConfigurationError, RunError
from migrate_storage.events import Listener, RunFinished, RunStarted, silent
from migrate_storage.journal import Entry, Journal, Run, new_run_id
from migrate_storage.lease import hold
from migrate_storage.model import Column, Location, Outcome, OutcomeKind, RowRef, Way
from migrate_storage.options import MiB
from migrate_storage.report import LISTED, Report
from migrate_storage.retry import Retry, StoreFailure
from migrate_storage.rewrite import new_fields
from migrate_storage.rows import BrokenValueError, Rows, load_key, parse_slots, rewrite_value
from migrate_storage.stores.failure import FailureKind
from migrate_storage.stores.side import Side
from migrate_storage.tally import Tally
from migrate_storage.transfer import transfer
from migrate_storage.verify import DiffersError, UnverifiedError, Verified, unchanged, verify
from migrate_storage.workers import in_parallel

__all__ = ("Revert",)

_BATCH = 200


@dataclass(frozen=True, slots=True)
class _Line:
    """One row to put back: what it must hold now, and what it shall hold."""

    rows: Rows
    pk: tuple[Any, ...]
    lines: tuple[int, ...]
    now: str
    before: str
    objects: tuple[str, ...]

    @property
    def ref(self) -> RowRef:
        return RowRef(self.rows.column, self.pk)


@dataclass(frozen=True, slots=True)
class _Ready:
    """What a look at both sides says of one row: the value to put back, or why it is left."""

    line: _Line
    kind: OutcomeKind
    reason: str = ""
    value: str = ""
    copied_back: int = 0


class Revert:
    """Puts back the rows that runs re-pointed.

    Args:
        application: whose rows.
        run: id of one run, or the beginning of it; ``None`` means the latest run and every other one between the
            same two keys.
        dry_run: look, and say what would be; change nothing.
        concurrency: rows looked at at once.
        journal: URL of another database that holds the journal.
        journal_schema: database schema of the journal's tables.
        lease: see :class:`migrate_storage.options.RunOptions`.
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
        lease: float = 15.0,
        listener: Listener = silent,
    ) -> None:
        self._application, self._wanted, self._dry_run = application, run, dry_run
        self._concurrency, self._lease = concurrency, lease
        self._journal_url, self._journal_schema = journal, journal_schema
        self._tally = Tally(listener)
        self._stopping = threading.Event()
        self._retry = Retry(5, self._stopping)
        self._budget = Budget(64 * MiB)
        self._fatal: RunError | None = None
        self._moved = 0

    def stop(self) -> None:
        """End soon, between two batches of rows."""
        self._stopping.set()

    def run(self) -> Report:
        """Do it.

        Raises:
            ConfigurationError: no such run, its keys are not registered, or what it copied was purged: then nothing
                was touched.
            LeaseHeldError: a run is at work on this database.
        """
        with connected(self._application, self._journal_url, self._journal_schema) as (database, journal):
            first = journal.run(self._wanted)
            runs = [first.id] if self._wanted else self._between(journal, first)
            source, destination = self._side(first.source), self._side(first.destination)
            purged = sum(1 for name in runs for batch in journal.objects(name, state="purged") for _ in batch)
            if purged:
                raise ConfigurationError(
                    f"{purged} of its source objects were purged and cannot be named again; move everything back with: "
                    f"migrate-storage run --from {first.destination} --to {first.source}"
                )
            guard = (
                nullcontext() if self._dry_run else hold(journal, self._lease, stopping=self._stopping, lost=self._lost)
            )
            with guard:
                return self._job(database, journal, first, runs, source, destination)

    def _lost(self, error: RunError) -> None:
        self._fatal = error
        self._stopping.set()

    def _between(self, journal: Journal, first: Run) -> list[str]:
        return [
            run.id
            for run in journal.runs(limit=1000)
            if (run.kind, run.source, run.destination) == ("run", first.source, first.destination)
        ]

    def _side(self, key: str) -> Side:
        try:
            return Side(self._application.backends[key])
        except KeyError:
            raise ConfigurationError(
                f"the run went between keys of which {key!r} is not registered any more: register it to undo the run"
            ) from None

    def _job(
        self, database: Database, journal: Journal, first: Run, runs: Sequence[str], source: Side, destination: Side
    ) -> Report:
        began, name = time.time(), new_run_id()
        named: dict[str, Any] = {"source": first.destination, "destination": first.source, "way": Way.REKEY}
        reason = "undo: rows are put back as the journal has them"
        self._tally.tell(RunStarted(run=name, reason=reason, dry_run=self._dry_run, resumed=False, rows=None, **named))
        if not self._dry_run:
            journal.begin(Run(id=name, kind="revert", state="running", started=began, updated=began, **named))
        look = _Look(journal, source, destination, self._retry, self._budget, self._tally.moved, dry_run=self._dry_run)
        state, error = "finished", ""
        try:
            for batch in _batches(in_parallel(look, self._lines(database, journal, runs), self._concurrency), _BATCH):
                self._put_back(database, journal, [ready for _, ready in batch])
                if self._stopping.is_set():
                    state = "stopped"
                    break
        except RunError as failure:
            state, error = "failed", str(failure)
        if self._fatal is not None:
            state, error = "failed", str(self._fatal)
        counts = dict(self._tally.counts)
        report = Report(
            kind="revert", run=name, way_reason=reason, state="planned" if self._dry_run and state == "finished" else state, error=error,
            dry_run=self._dry_run, started=began, finished=time.time(), passes=1, counts=counts, rows_moved=self._moved,
            bytes_moved=self._tally.bytes, listed=self._tally.listed[:LISTED], evidence=self._tally.evidence,
            listed_total=sum(count for kind, count in counts.items() if not kind.done),
            next_command="migrate-storage revert" if self._dry_run or state != "finished" else "migrate-storage status", **named,
        )  # fmt: skip
        if not self._dry_run:
            journal.progress(name, state=state, report=json.dumps(report.to_dict()), finished=report.finished)
        self._tally.tell(RunFinished(run=name, state=report.state))
        return report

    def _lines(self, database: Database, journal: Journal, runs: Sequence[str]) -> Iterator[_Line]:
        """Each re-pointed row once, with the value before the first and after the last of its rewrites."""
        columns = {(column.schema, column.table, column.column): column for column in self._application.columns}
        tables: dict[Column, Rows] = {}
        for group in journal.swapped_rows(runs):
            lines = sorted(group, key=lambda line: int(line["id"]))
            latest = lines[-1]
            column = columns.get((latest["table_schema"], latest["table_name"], latest["column_name"]))
            if column is None:
                raise RunError(
                    f"the journal names {latest['table_name']}.{latest['column_name']}, which the application does not have any more"
                )
            if column not in tables:
                tables[column] = Rows(database, column)
            objects = dict.fromkeys(id_ for line in lines for id_ in json.loads(line["objects"]))
            yield _Line(
                tables[column],
                load_key(latest["pk"]),
                tuple(line["id"] for line in lines),
                latest["new_value"],
                lines[0]["old_value"],
                tuple(objects),
            )

    def _put_back(self, database: Database, journal: Journal, batch: Sequence[_Ready]) -> None:
        """Swap the rows that may be, mark their lines, and tell how each ended."""
        going = [ready for ready in batch if ready.kind is OutcomeKind.REWRITTEN]
        done = [True] * len(going)
        if going and not self._dry_run:

            def swap(connection: Connection) -> list[bool]:
                return [ready.line.rows.swap(connection, ready.line.pk, ready.line.now, ready.value) for ready in going]

            if journal.database is database:

                def together(connection: Connection) -> list[bool]:
                    swapped = swap(connection)
                    journal.reverted(
                        connection,
                        [number for ready, ok in zip(going, swapped, strict=True) if ok for number in ready.line.lines],
                    )
                    return swapped

                done = database.transaction(together)
            else:
                done = database.transaction(swap)
                numbers = [number for ready, ok in zip(going, done, strict=True) if ok for number in ready.line.lines]
                journal.database.transaction(lambda connection: journal.reverted(connection, numbers))
            journal.release_objects(
                {id_ for ready, ok in zip(going, done, strict=True) if ok for id_ in ready.line.objects}
            )
        swapped = dict(zip((id(ready) for ready in going), done, strict=True))
        for ready in batch:
            kind, reason = ready.kind, ready.reason
            if swapped.get(id(ready)) is False:
                kind, reason = OutcomeKind.CHANGED, "the row was changed meanwhile; that write stands"
            self._moved += kind is OutcomeKind.REWRITTEN
            self._tell(ready, kind, reason)

    def _tell(self, ready: _Ready, kind: OutcomeKind, reason: str) -> None:
        self._tally.ended(
            Outcome(
                kind=kind, source=_first(ready.line.now, ready.line), destination=_first(ready.line.before, ready.line), reason=reason,
                refs=(ready.line.ref,), evidence="" if kind is not OutcomeKind.REWRITTEN else "copied back" if ready.copied_back else "journal",
            )
        )  # fmt: skip


def _first(value: str, line: _Line) -> Location:
    """Where a row's first file is, for a list that a person reads."""
    from migrate_storage.rows import Row

    slots = parse_slots(line.rows.column, Row(line.pk, value))
    return Location(slots[0].file["backend"], slots[0].file["filename"]) if slots else Location("", "")


class _Look:
    """Looks at both sides of a row, and copies back what changed at the destination or is gone from the source."""

    def __init__(
        self,
        journal: Journal,
        source: Side,
        destination: Side,
        retry: Retry,
        budget: Budget,
        moved: Callable[[int], None],
        *,
        dry_run: bool,
    ) -> None:
        self._journal, self._source, self._destination = journal, source, destination
        self._retry, self._budget, self._moved, self._dry_run = retry, budget, moved, dry_run

    def __call__(self, line: _Line) -> _Ready:
        try:
            return self._look(line)
        except (StoreFailure, DiffersError, UnverifiedError, BrokenValueError) as error:
            return _Ready(line, OutcomeKind.FAILED, str(error))

    def _look(self, line: _Line) -> _Ready:
        entries = self._journal.find(line.objects)
        changes: dict[str, Verified] = {}
        for id_ in line.objects:
            entry = entries.get(id_)
            if entry is None:
                return _Ready(
                    line, OutcomeKind.FAILED, "the journal does not know its object any more (pruned): the row was left"
                )
            kind, reason, verified = self._object(entry)
            if kind is not OutcomeKind.REWRITTEN:
                return _Ready(line, kind, reason)
            if verified is not None:
                changes[entry.source_path] = verified
        return _Ready(line, OutcomeKind.REWRITTEN, value=self._value(line, changes), copied_back=len(changes))

    def _object(self, entry: Entry) -> tuple[OutcomeKind, str, Verified | None]:
        there = self._head(self._destination, entry.destination_path)
        here = self._head(self._source, entry.source_path)
        if entry.evidence == "same place":
            return OutcomeKind.REWRITTEN, "", None
        if there is None:
            return OutcomeKind.MISSING, f"{entry.destination} is gone: somebody deleted it, so the row was left", None
        ours = unchanged(entry.destination_evidence, there.evidence)
        theirs = here is not None and unchanged(entry.source_evidence, here.evidence)
        if ours and theirs:
            return OutcomeKind.REWRITTEN, "", None
        if here is not None and not theirs:
            return (
                OutcomeKind.CONFLICT,
                f"{entry.source} is not what was copied any more: decide by hand which one is right",
                None,
            )
        if self._dry_run:
            return OutcomeKind.REWRITTEN, "", None
        return OutcomeKind.REWRITTEN, "", self._copy_back(entry)

    def _copy_back(self, entry: Entry) -> Verified:
        from_store, from_path = self._destination.at(entry.destination_path)
        to_store, to_path = self._source.at(entry.source_path)

        def once() -> Verified:
            copied = transfer(
                from_store, from_path, to_store, to_path,
                content_type=None, create=False, moved=self._moved, hold=self._budget, checkpoint=lambda: None,
            )  # fmt: skip
            return verify(copied, from_store, from_path, to_store, to_path)

        return self._retry(once)

    def _value(self, line: _Line, changes: dict[str, Verified]) -> str:
        if not changes:
            return line.before
        from migrate_storage.rows import Row

        fields: dict[int | None, dict[str, Any]] = {}
        for slot in parse_slots(line.rows.column, Row(line.pk, line.before)):
            verified = changes.get(slot.file["filename"])
            if verified is not None:
                fields[slot.ref.index] = new_fields(verified, Location(slot.file["backend"], slot.file["filename"]))
        return rewrite_value(line.before, fields)

    def _head(self, side: Side, path: str) -> Any:
        store, key = side.at(path)
        try:
            return self._retry(lambda: store.head(key))
        except StoreFailure as error:
            if error.failure.kind is FailureKind.MISSING:
                return None
            raise


def _batches(stream: Iterator[Any], size: int) -> Iterator[list[Any]]:
    batch: list[Any] = []
    for each in stream:
        batch.append(each)
        if len(batch) >= size:
            yield batch
            batch = []
    if batch:
        yield batch
