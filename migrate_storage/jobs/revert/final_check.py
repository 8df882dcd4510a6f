"""The last check of a revert: a process that loaded its row before the row went back still saves to the destination."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection

from migrate_storage.core.errors import RefusedError, WrongUpdateError
from migrate_storage.core.model import Column, Outcome, OutcomeKind, RowRef
from migrate_storage.core.parallel import parallel_map
from migrate_storage.database.connection import Database
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.file_json import BrokenValueError, Row, parse_slots, rewrite_value
from migrate_storage.database.primary_keys import load_key
from migrate_storage.engine.repoint import file_fields_for
from migrate_storage.engine.verify import Verified
from migrate_storage.jobs.revert.restore_row import RowRestorer, updated_record
from migrate_storage.journal import Journal, ObjectRecord, RowState

__all__ = ("DestinationRecheck", "column_of", "object_ids")

MAX_ROW_UPDATES = 5
"""How often the update of a row is tried that is written by the application between reading and update."""


class DestinationRecheck:
    """Checks the copies of reverted rows once more with HEAD, and copies back those that were written meanwhile.

    Rows that name the source again get the size and the ETag of the new source object.

    Args:
        restorer: checks and copies objects.
        database: where the rows are.
        journal: has the rows that went back, and both objects as they were then.
        columns: all columns of the application.
    """

    def __init__(self, restorer: RowRestorer, database: Database, journal: Journal, columns: Sequence[Column]) -> None:
        self._restorer, self._database, self._journal = restorer, database, journal
        self._columns = {(column.schema, column.table, column.column): column for column in columns}

    def run(self, since: float, concurrency: int, stop: threading.Event) -> Iterator[Outcome]:
        """Check every row that went back.

        Args:
            since: when the revert began, by the clock of the journal's database.
            concurrency: objects checked at once.
            stop: ends it between two batches.

        Yields:
            The objects that could not be copied back.
        """
        for rows in self._journal.rows.in_state(RowState.REVERTED, since=since):
            records = self._journal.objects.find(object_ids(rows))
            for record, changed in parallel_map(self._restorer.destination_changed, records.values(), concurrency):
                if changed and (outcome := self._copy_back(record, rows)) is not None:
                    yield outcome
            if stop.is_set():
                return

    def _copy_back(self, record: ObjectRecord, rows: Sequence[Mapping[str, Any]]) -> Outcome | None:
        """Copy one object back again, and update the rows that name it; how it ended where that failed."""
        update = partial(self._update_row, record)
        naming = [
            (column, pk)
            for row in rows
            if record.id in json.loads(row["objects"])
            for column, pk in [(FileColumn(self._database, self._columns[column_of(row)]), load_key(row["pk"]))]
            if update(column, pk, None)
        ]
        if not naming:
            return None  # no row names it at the source any more, so this object is not ours to replace
        kind, reason, verified = self._restorer.restore_object(record, None)
        if verified is None:
            refs = tuple(RowRef(column.column, pk) for column, pk in naming)
            return Outcome(kind=kind, source=record.destination, destination=record.source, reason=reason, refs=refs)
        try:
            for column, pk in naming:
                update(column, pk, verified)
        except RefusedError as error:
            refs = tuple(RowRef(column.column, pk) for column, pk in naming)
            return Outcome(
                kind=OutcomeKind.FAILED, source=record.destination, destination=record.source, reason=error.reason, refs=refs
            )  # fmt: skip
        result = [updated_record(record, verified)]
        self._journal.database.transaction(partial(self._journal.objects.record_results, records=result))
        return None

    def _update_row(
        self, record: ObjectRecord, column: FileColumn, pk: tuple[Any, ...], verified: Verified | None
    ) -> bool:
        """Return whether a row names the source object; with a verification, write its size and ETag to the row."""

        def update(connection: Connection) -> bool | None:
            """As above; ``None`` where another write came between."""
            try:
                now = column.compare_and_swap.read(connection, pk)
                slots = parse_slots(column.column, Row(pk, now)) if now is not None else ()
            except (BrokenValueError, WrongUpdateError):
                return False
            naming = [slot for slot in slots if slot.location == record.source]
            if now is not None and verified is not None and naming:
                fields = {slot.ref.path: file_fields_for(verified, record.source) for slot in naming}
                done = column.compare_and_swap.swap(connection, pk, now, rewrite_value(now, fields)).done
                return True if done else None
            return bool(naming)

        for _ in range(MAX_ROW_UPDATES):
            if (names := self._database.transaction(update)) is not None:
                return names
        return True


def column_of(row: Mapping[str, Any]) -> tuple[str | None, str, str]:
    """Return schema, table and column of a row's journal record."""
    return row["table_schema"], row["table_name"], row["column_name"]


def object_ids(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the ids of the objects that rows' journal records name, each once."""
    return list(dict.fromkeys(id_ for row in rows for id_ in json.loads(row["objects"])))
