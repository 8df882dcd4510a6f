"""The last check of a revert: a process that loaded its row before the row went back still saves to the destination."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection

from migrate_storage.core.model import Column, Outcome, RowRef
from migrate_storage.core.parallel import in_parallel
from migrate_storage.database.connection import Database
from migrate_storage.database.file_column import Rows
from migrate_storage.database.file_json import BrokenValueError, Row, parse_slots, rewrite_value
from migrate_storage.database.primary_keys import load_key
from migrate_storage.engine.repoint import new_fields
from migrate_storage.engine.verify import Verified
from migrate_storage.jobs.revert.restore_row import PutBack, settled
from migrate_storage.journal import Entry, Journal
from migrate_storage.stores.retry import StoreFailure

__all__ = ("looks_back",)


def looks_back(
    putback: PutBack,
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

    def moved_on(entry: Entry) -> bool:
        try:
            return putback.changed(entry)
        except StoreFailure:
            return False  # no answer: what went back stands

    for lines in journal.rows_in("reverted", since=since):
        entries = journal.find(list({id_ for line in lines for id_ in json.loads(line["objects"])}))
        for entry, changed in in_parallel(moved_on, entries.values(), concurrency):
            if not changed:
                continue
            named = [
                (rows, pk)
                for line in lines
                if entry.id in json.loads(line["objects"])
                for rows, pk in [(Rows(database, known[_column_of(line)]), load_key(line["pk"]))]
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
            journal.database.transaction(partial(journal.settle, entries=[settled(entry, verified)]))
        if stopping.is_set():
            return


def _column_of(line: Mapping[str, Any]) -> tuple[str | None, str, str]:
    return line["table_schema"], line["table_name"], line["column_name"]


def _refresh(
    connection: Connection, *, rows: Rows, pk: tuple[Any, ...], entry: Entry, verified: Verified | None
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
        fields = {slot.ref.index: new_fields(verified, entry.source) for slot in naming}
        rows.swap(connection, pk, now, rewrite_value(now, fields))
    return bool(naming)
