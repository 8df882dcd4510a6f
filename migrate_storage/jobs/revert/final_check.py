"""The last check of a revert: a process that loaded its row before the row went back still saves to the destination."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection

from migrate_storage.core.model import Column, Outcome, RowRef
from migrate_storage.core.parallel import parallel_map
from migrate_storage.database.connection import Database
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.file_json import BrokenValueError, Row, parse_slots, rewrite_value
from migrate_storage.database.primary_keys import load_key
from migrate_storage.engine.repoint import file_fields_for
from migrate_storage.engine.verify import Verified
from migrate_storage.jobs.revert.restore_row import RowRestorer, settled
from migrate_storage.journal import Journal, ObjectRecord
from migrate_storage.stores.retry import StoreRequestError

__all__ = ("recheck_destinations",)


def recheck_destinations(
    putback: RowRestorer,
    database: Database,
    journal: Journal,
    columns: Sequence[Column],
    since: float,
    concurrency: int,
    stopping: threading.Event,
) -> Iterator[Outcome]:
    """The last looks of an undo: a process that loaded its row before it went back still saves to the destination.

    What it wrote is copied back too, and rows that name the source again hold its new size and tag.

    Args:
        putback: looks, and copies.
        database: where the rows are.
        journal: knows which rows went back, and how both sides were then.
        columns: all columns of the application.
        since: when the undo began, in seconds since the epoch.
        concurrency: objects looked at at once.
        stopping: ends it between two batches.

    Yields:
        What a person must look at.
    """
    known = {(column.schema, column.table, column.column): column for column in columns}

    def moved_on(entry: ObjectRecord) -> bool:
        try:
            return putback.changed(entry)
        except StoreRequestError:
            return False  # no answer: what went back stands

    for lines in journal.rows.in_state("reverted", since=since):
        entries = journal.objects.find(list({id_ for line in lines for id_ in json.loads(line["objects"])}))
        for entry, changed in parallel_map(moved_on, entries.values(), concurrency):
            if not changed:
                continue
            named = [
                (rows, pk)
                for line in lines
                if entry.id in json.loads(line["objects"])
                for rows, pk in [(FileColumn(database, known[_column_of(line)]), load_key(line["pk"]))]
                if database.transaction(partial(_refresh, rows=rows, pk=pk, entry=entry, verified=None))
            ]
            if not named:
                continue  # no row names it at the source any more: whatever was written there is not ours to move
            kind, reason, verified = putback.again(entry, None)
            if verified is None:
                refs = tuple(RowRef(rows.column, pk) for rows, pk in named)
                yield Outcome(kind=kind, source=entry.destination, destination=entry.source, reason=reason, refs=refs)
                continue
            for rows, pk in named:
                database.transaction(partial(_refresh, rows=rows, pk=pk, entry=entry, verified=verified))
            journal.database.transaction(partial(journal.objects.record_results, entries=[settled(entry, verified)]))
        if stopping.is_set():
            return


def _column_of(line: Mapping[str, Any]) -> tuple[str | None, str, str]:
    return line["table_schema"], line["table_name"], line["column_name"]


def _refresh(
    connection: Connection, *, rows: FileColumn, pk: tuple[Any, ...], entry: ObjectRecord, verified: Verified | None
) -> bool:
    """Whether a row names the source object; with a proof, tell it the object's size and tag."""
    now = rows.read(connection, pk)
    try:
        slots = parse_slots(rows.column, Row(pk, now)) if now is not None else ()
    except BrokenValueError:
        return False
    naming = [
        slot for slot in slots if (slot.file["backend"], slot.file["filename"]) == (entry.source_key, entry.source_path)
    ]
    if now is not None and verified is not None and naming:
        fields = {slot.ref.index: file_fields_for(verified, entry.source) for slot in naming}
        rows.swap(connection, pk, now, rewrite_value(now, fields))
    return bool(naming)
