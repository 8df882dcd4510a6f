"""The last looks of a run: the source is the witness, not the row.

Replacing content under the same name leaves a row as it was, and a process that loaded a FileObject before its row
was re-pointed still saves to the old key. So every source is looked at once more at the end of the run.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from sqlalchemy import Connection

from migrate_storage.database import Database
from migrate_storage.flight import Pointing
from migrate_storage.journal import SAME_PLACE, SAME_PLACE_LISTED, Entry, Journal
from migrate_storage.keys import load_key
from migrate_storage.model import Column, ObjectMeta, Outcome, OutcomeKind, RowRef, Slot
from migrate_storage.pipeline import Pipeline
from migrate_storage.plan import Route
from migrate_storage.putback import PutBack, settled
from migrate_storage.retry import Retry, StoreFailure
from migrate_storage.rewrite import new_fields
from migrate_storage.rows import Rows
from migrate_storage.sightings import Sights
from migrate_storage.values import BrokenValueError, Row, parse_slots, rewrite_value
from migrate_storage.verify import Verified, certainly_unchanged, unchanged
from migrate_storage.workers import in_parallel

__all__ = ("last_looks", "looks_back", "rows_pointing", "settle_intents")


_ASKED = 500
"""Objects that are read from the journal at once, to be looked at one by one."""
_LISTED = 20_000
"""The same, to be looked at by one listing."""


def last_looks(
    pipeline: Pipeline,
    route: Route,
    sights: Sights | None,
    journal: Journal,
    run: str,
    retry: Retry,
    stopping: threading.Event,
    part: int | None = None,
) -> None:
    """Look at the source of everything that this run copied; what was replaced since is copied again.

    Args:
        pipeline: carries what changed.
        route: from where to where.
        sights: what listings may tell in place of looks; ``None`` looks at each.
        journal: knows what was copied, and how the source was then.
        run: the run's id.
        retry: how a failed request is sent again.
        stopping: ends it between two batches.
        part: only what was copied in this range of the run.
    """

    def moved_on(entry: Entry) -> bool:
        store, path = route.source.at(entry.source_path)
        try:
            now = retry(lambda: store.head(path))
        except StoreFailure:
            return False  # deleted since, or no answer: the copy stands
        return not unchanged(entry.source_evidence, now.evidence)

    listed = sights is not None and sights.source.trusted
    outcomes = (OutcomeKind.REWRITTEN, OutcomeKind.COPIED)
    for batch in journal.objects(
        run,
        state="held",
        outcomes=outcomes,
        part=part,
        without=(SAME_PLACE, SAME_PLACE_LISTED),
        size=_LISTED if listed else _ASKED,
    ):
        if sights is not None:
            seen = sights.source([entry.source_path for entry in batch])
            batch = [entry for entry in batch if not _as_it_was(entry, seen.get(entry.source_path))]
        for entry, changed in zip(batch, pipeline.each(moved_on, batch), strict=True):
            if changed:
                pipeline.mend(replace(entry, run=run))
        if stopping.is_set():
            break
    pipeline.finish()


def _as_it_was(entry: Entry, seen: ObjectMeta | None) -> bool:
    return seen is not None and certainly_unchanged(entry.source_evidence, seen.evidence)


def rows_pointing(rows: Sequence[Rows], journal: Journal, entry: Entry) -> list[Pointing]:
    """The rows that were re-pointed to an object, by whichever run, with what they held then.

    Args:
        rows: the columns of the run.
        journal: knows which rows those are.
        entry: the object's line.
    """
    tables = {(each.column.schema, each.column.table, each.column.column): each for each in rows}
    latest = {line["row_id"]: line for line in journal.rows_of(entry.id)}
    found: list[Pointing] = []
    for line in latest.values():
        table = tables.get((line["table_schema"], line["table_name"], line["column_name"]))
        if table is None:
            continue
        row = Row(load_key(line["pk"]), line["new_value"])
        with contextlib.suppress(BrokenValueError):
            slots = tuple(slot for slot in parse_slots(table.column, row) if _names(slot, entry))
            found.append(Pointing(table, row, slots))
    return found


def _names(slot: Slot, entry: Entry) -> bool:
    return (slot.file["backend"], slot.file["filename"]) == (entry.destination_key, entry.destination_path)


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


def settle_intents(journal: Journal, database: Database, columns: Sequence[Column]) -> None:
    """Say of each row whose swap was journaled in another database and not settled what became of it: the row knows."""
    tables: dict[tuple[str | None, str, str], Rows] = {}
    known = {(column.schema, column.table, column.column): column for column in columns}
    for batch in journal.rows_in("intent"):
        for line in batch:
            name = (line["table_schema"], line["table_name"], line["column_name"])
            if name not in known:
                continue
            if name not in tables:
                tables[name] = Rows(database, known[name])
            holds = partial(tables[name].holds, pk=load_key(line["pk"]), value=line["new_value"])
            journal.mark_row(line["id"], "swapped" if database.transaction(holds) else "kept")
