"""The last looks of a run: the source is the witness, not the row.

Replacing content under the same name leaves a row as it was, and a process that loaded a FileObject before its row
was re-pointed still saves to the old key. So every source is looked at once more at the end of the run.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from dataclasses import replace

from migrate_storage.core.model import ObjectMeta, OutcomeKind, Slot
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.file_json import BrokenValueError, Row, parse_slots
from migrate_storage.database.primary_keys import load_key
from migrate_storage.engine.in_flight import Pointing
from migrate_storage.engine.listing_evidence import SideListings
from migrate_storage.engine.plan import MigrationPlan
from migrate_storage.engine.scheduler import Scheduler
from migrate_storage.engine.verify import consistent_with, proven_unchanged
from migrate_storage.journal import SAME_PLACE, SAME_PLACE_LISTED, Journal, ObjectRecord
from migrate_storage.stores.retry import Retry, StoreRequestError

__all__ = (
    "recheck_sources",
    "rows_repointed_to",
)

_ASKED = 500
"""Objects that are read from the journal at once, to be looked at one by one."""
_LISTED = 20_000
"""The same, to be looked at by one listing."""


def recheck_sources(
    pipeline: Scheduler,
    route: MigrationPlan,
    sights: SideListings | None,
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

    def moved_on(entry: ObjectRecord) -> bool:
        source = route.source.resolve(entry.source_path)
        try:
            now = retry.call(source.head)
        except StoreRequestError:
            return False  # deleted since, or no answer: the copy stands
        return not consistent_with(entry.source_evidence, now.evidence)

    listed = sights is not None and sights.source.trusted
    outcomes = (OutcomeKind.REWRITTEN, OutcomeKind.COPIED)
    for batch in journal.objects.of_run(
        run,
        state="held",
        outcomes=outcomes,
        part=part,
        without=(SAME_PLACE, SAME_PLACE_LISTED),
        size=_LISTED if listed else _ASKED,
    ):
        if sights is not None:
            seen = sights.source.fetch([entry.source_path for entry in batch])
            batch = [entry for entry in batch if not _as_it_was(entry, seen.get(entry.source_path))]
        for entry, changed in zip(batch, pipeline.check_each(moved_on, batch), strict=True):
            if changed:
                pipeline.recopy(replace(entry, run=run))
        if stopping.is_set():
            break
    pipeline.finish()


def _as_it_was(entry: ObjectRecord, seen: ObjectMeta | None) -> bool:
    return seen is not None and proven_unchanged(entry.source_evidence, seen.evidence)


def rows_repointed_to(rows: Sequence[FileColumn], journal: Journal, entry: ObjectRecord) -> list[Pointing]:
    """The rows that were re-pointed to an object, by whichever run, with what they held then.

    Args:
        rows: the columns of the run.
        journal: knows which rows those are.
        entry: the object's line.
    """
    tables = {(each.column.schema, each.column.table, each.column.column): each for each in rows}
    latest = {line["row_id"]: line for line in journal.rows.of_object(entry.id)}
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


def _names(slot: Slot, entry: ObjectRecord) -> bool:
    return (slot.file["backend"], slot.file["filename"]) == (entry.destination_key, entry.destination_path)
