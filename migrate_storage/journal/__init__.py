"""The journal: what was done to which object and row, kept where the rows are, so that both commit together.

An object's line is written before its first byte (the intent) and settled in the transaction that re-points its rows.
A lease keeps two runs apart: a heartbeat in the database, never a pid or a host name.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from sqlalchemy import update
from sqlalchemy.exc import SQLAlchemyError

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.spill import SpilledSet
from migrate_storage.database.connection import Database
from migrate_storage.journal.base import BATCH
from migrate_storage.journal.known_losses import KnownLoss, KnownLossRepository
from migrate_storage.journal.leases import LeaseRepository
from migrate_storage.journal.objects import ObjectRepository
from migrate_storage.journal.records import (
    SAME_PLACE,
    SAME_PLACE_LISTED,
    ObjectRecord,
    RowRecord,
    RunRecord,
    ShardRecord,
    digest,
    new_run_id,
    object_id,
    object_name,
)
from migrate_storage.journal.rows import RowRepository
from migrate_storage.journal.runs import RunRepository
from migrate_storage.journal.schema import Tables
from migrate_storage.journal.shards import UNCUT, ShardRepository, shard_lease

__all__ = (
    "SAME_PLACE",
    "SAME_PLACE_LISTED",
    "UNCUT",
    "Journal",
    "KnownLoss",
    "ObjectRecord",
    "RowRecord",
    "RunRecord",
    "ShardRecord",
    "digest",
    "new_run_id",
    "object_id",
    "object_name",
    "shard_lease",
)


class Journal:
    """The whole journal in one database.

    Args:
        database: where its tables are kept.
        schema: their database schema.

    Attributes:
        runs: the records of runs.
        shards: the records of a run's shards.
        objects: the records of objects.
        rows: the records of rows.
        leases: the leases.
        known_losses: missing objects that somebody acknowledged.
    """

    def __init__(self, database: Database, schema: str | None = None) -> None:
        self.database = database
        self.tables = Tables(schema)
        self.runs = RunRepository(database, self.tables)
        self.shards = ShardRepository(database, self.tables)
        self.objects = ObjectRepository(database, self.tables)
        self.rows = RowRepository(database, self.tables)
        self.leases = LeaseRepository(database, self.tables)
        self.known_losses = KnownLossRepository(database, self.tables)

    def prepare(self) -> None:
        """Create the tables where they are missing.

        Raises:
            ConfigurationError: no right to, or tables of another version.
        """
        try:
            self.database.transaction(self.tables.create)
        except ConfigurationError as error:
            if not isinstance(error.__cause__, SQLAlchemyError):
                raise
            # Two first runs that begin at once create them at once: what the other made is there the second time.
            self.database.transaction(self.tables.create)

    @property
    def exists(self) -> bool:
        """Whether anything was ever journaled here."""
        return self.database.transaction(self.tables.exist)

    def release_objects(self) -> int:
        """After an undo: a copy that no row was left pointing at is a leftover. Safe to repeat; returns how many there are."""
        with SpilledSet() as free:
            free.add(
                id_ for batch in self.rows.in_state("reverted") for line in batch for id_ in json.loads(line["objects"])
            )
            for state in ("swapped", "intent"):
                free.discard(
                    id_ for batch in self.rows.in_state(state) for line in batch for id_ in json.loads(line["objects"])
                )
            return sum(self._release(part) for part in free.batches(BATCH))

    def _release(self, ids: Sequence[str]) -> int:
        table = self.tables.object
        statement = update(table).where(
            table.c.id.in_(ids), table.c.state == "held", table.c.outcome.in_(("rewritten", "changed"))
        )
        statement = statement.values(state="leftover", updated=time.time())
        return self.database.transaction(lambda connection: int(connection.execute(statement).rowcount))
