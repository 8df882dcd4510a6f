"""The final check of a run: a HEAD on every source object, because a row does not show that its object was replaced.

A process that loaded a row before it was re-pointed still saves to the old key.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace

from migrate_storage.core.model import ObjectMeta, OutcomeKind
from migrate_storage.core.proofs import SAME_OBJECT, SAME_OBJECT_LISTING
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.file_json import BrokenValueError, Row, parse_slots
from migrate_storage.database.primary_keys import load_key
from migrate_storage.engine.in_flight import Pointing
from migrate_storage.engine.verify import consistent_with, proven_unchanged
from migrate_storage.jobs.context import JobContext
from migrate_storage.jobs.run.session import RunSession
from migrate_storage.journal import Journal, ObjectRecord, ObjectState
from migrate_storage.stores.retry import StoreRequestError

__all__ = ("recheck_sources", "rows_repointed_to")

HEAD_BATCH_OBJECTS = 500
"""Journal records read at once, to be checked one by one with HEAD."""
LISTING_BATCH_OBJECTS = 20_000
"""Journal records read at once, to be checked by one listing."""


def recheck_sources(session: RunSession, context: JobContext, shard: int | None = None) -> None:
    """Check the source of everything that this run copied, and copy again what was replaced since.

    Args:
        session: what the run works with.
        context: the job's pace.
        shard: only what was copied in this shard of the run; ``None`` means all.
    """
    plan, listings, scheduler = session.preflight.route, session.preflight.sights, session.scheduler

    def has_changed(record: ObjectRecord) -> bool:
        try:
            now = context.retry.call(plan.source.resolve(record.source_path).head)
        except StoreRequestError:
            return False  # deleted since, or no answer: the copy stays
        return not consistent_with(record.source_evidence, now.evidence)

    listed = listings is not None and listings.source.trusted
    for batch in session.journal.objects.of_run(
        session.run, state=ObjectState.VERIFIED, outcomes=(OutcomeKind.REPOINTED, OutcomeKind.COPIED), shard=shard,
        without=(SAME_OBJECT, SAME_OBJECT_LISTING), size=LISTING_BATCH_OBJECTS if listed else HEAD_BATCH_OBJECTS,
    ):  # fmt: skip
        if listings is not None:
            seen = listings.source.fetch([record.source_path for record in batch])
            batch = [record for record in batch if not _is_unchanged(record, seen.get(record.source_path))]
        for record, changed in zip(batch, scheduler.check_each(has_changed, batch), strict=True):
            if changed:
                scheduler.recopy(replace(record, run=session.run))
        if context.stop.is_set():
            break
    scheduler.finish()


def _is_unchanged(record: ObjectRecord, seen: ObjectMeta | None) -> bool:
    return seen is not None and proven_unchanged(record.source_evidence, seen.evidence)


def rows_repointed_to(rows: Sequence[FileColumn], journal: Journal, record: ObjectRecord) -> list[Pointing]:
    """Return the rows that any run re-pointed to an object, with the values that they got.

    Args:
        rows: the columns of the run.
        journal: has the journal records of rows.
        record: the object's.
    """
    tables = {(each.column.schema, each.column.table, each.column.column): each for each in rows}
    latest = {row["row_id"]: row for row in journal.rows.of_object(record.id)}
    found: list[Pointing] = []
    for repointed in latest.values():
        table = tables.get((repointed["table_schema"], repointed["table_name"], repointed["column_name"]))
        if table is None:
            continue
        row = Row(load_key(repointed["pk"]), repointed["new_value"])
        with contextlib.suppress(BrokenValueError):
            slots = parse_slots(table.column, row)
            found.append(Pointing(table, row, tuple(slot for slot in slots if slot.location == record.destination)))
    return found
