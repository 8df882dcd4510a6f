"""The journal: what was done to which object and row, kept where the rows are, so that both commit together.

An object's line is written before its first byte (the intent) and settled in the transaction that re-points its rows.
A lease keeps two runs apart: a heartbeat in the database, never a pid or a host name.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from sqlalchemy import update

from migrate_storage.core.spill import DiskSet
from migrate_storage.journal.base import BATCH
from migrate_storage.journal.known_losses import Mark, Marks
from migrate_storage.journal.leases import Leases
from migrate_storage.journal.objects import Objects
from migrate_storage.journal.records import (
    SAME_PLACE,
    SAME_PLACE_LISTED,
    Entry,
    Range,
    RowEntry,
    Run,
    digest,
    new_run_id,
    object_id,
    object_name,
)
from migrate_storage.journal.rows import Rows
from migrate_storage.journal.runs import Runs
from migrate_storage.journal.shards import UNCUT, Ranges, range_lease

__all__ = (
    "SAME_PLACE",
    "SAME_PLACE_LISTED",
    "UNCUT",
    "Entry",
    "Journal",
    "Mark",
    "Range",
    "RowEntry",
    "Run",
    "digest",
    "new_run_id",
    "object_id",
    "object_name",
    "range_lease",
)


class Journal(Runs, Ranges, Objects, Rows, Leases, Marks):
    """The whole journal in one database: runs and their ranges, objects, rows, leases and marks.

    Args:
        database: where its tables are kept.
        schema: their database schema.
    """

    def release_objects(self) -> int:
        """After an undo: a copy that no row was left pointing at is a leftover. Safe to repeat; returns how many there are."""
        with DiskSet() as free:
            free.add(id_ for batch in self.rows_in("reverted") for line in batch for id_ in json.loads(line["objects"]))
            for state in ("swapped", "intent"):
                free.discard(
                    id_ for batch in self.rows_in(state) for line in batch for id_ in json.loads(line["objects"])
                )
            return sum(self._release(part) for part in free.parts(BATCH))

    def _release(self, ids: Sequence[str]) -> int:
        table = self.tables.object
        statement = update(table).where(
            table.c.id.in_(ids), table.c.state == "held", table.c.outcome.in_(("rewritten", "changed"))
        )
        statement = statement.values(state="leftover", updated=time.time())
        return self.database.transaction(lambda connection: int(connection.execute(statement).rowcount))
