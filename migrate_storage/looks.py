"""The last looks of a run: the source is the witness, not the row.

Replacing content under the same name leaves a row as it was, and a process that loaded a FileObject before its row
was re-pointed still saves to the old key. So every source is looked at once more at the end of the run.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from migrate_storage.database import Database
from migrate_storage.flight import Pointing
from migrate_storage.journal import Entry, Journal
from migrate_storage.model import Column, OutcomeKind, Slot
from migrate_storage.pipeline import Pipeline
from migrate_storage.plan import Route
from migrate_storage.retry import Retry, StoreFailure
from migrate_storage.rows import BrokenValueError, Row, Rows, load_key, parse_slots
from migrate_storage.verify import unchanged

__all__ = ("last_looks", "rows_pointing", "settle_intents")


def last_looks(
    pipeline: Pipeline,
    route: Route,
    journal: Journal,
    run: str,
    retry: Retry,
    stopping: threading.Event,
) -> None:
    """Look at the source of everything that this run copied; what was replaced since is copied again.

    Args:
        pipeline: carries what changed.
        route: from where to where.
        journal: knows what was copied, and how the source was then.
        run: the run's id.
        retry: how a failed request is sent again.
        stopping: ends it between two batches.
    """

    def moved_on(entry: Entry) -> bool:
        if entry.evidence == "same place":
            return False
        store, path = route.source.at(entry.source_path)
        try:
            now = retry(lambda: store.head(path))
        except StoreFailure:
            return False  # deleted since, or no answer: the copy stands
        return not unchanged(entry.source_evidence, now.evidence)

    for batch in journal.objects(run, state="held", outcomes=(OutcomeKind.REWRITTEN, OutcomeKind.COPIED)):
        for entry, changed in zip(batch, pipeline.each(moved_on, batch), strict=True):
            if changed:
                pipeline.mend(replace(entry, run=run))
        if stopping.is_set():
            break
    pipeline.finish()


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
