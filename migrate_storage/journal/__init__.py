"""The journal: records of objects and rows, committed together with the rows.

The intent to copy an object is recorded before the first byte. The result is recorded in the transaction that re-points
its rows. Leases in the database exclude two runs from each other; no process id and no host name is used.
"""

from __future__ import annotations

from sqlalchemy.exc import SQLAlchemyError

from migrate_storage.core.errors import ConfigurationError, PreflightError, RefusedError
from migrate_storage.database.connection import Database
from migrate_storage.journal.capabilities import CapabilityRepository
from migrate_storage.journal.comparisons import ComparisonRepository
from migrate_storage.journal.find_schema import find_schema
from migrate_storage.journal.known_losses import KnownLoss, KnownLossRepository
from migrate_storage.journal.leases import LeaseRepository
from migrate_storage.journal.links import LinkRecord, LinkRepository, digest_text
from migrate_storage.journal.objects import ObjectRepository
from migrate_storage.journal.records import (
    ObjectRecord,
    RowRecord,
    RunRecord,
    ShardRecord,
    digest,
    new_run_id,
    object_id,
    object_name,
)
from migrate_storage.journal.rekey_ranges import (
    HASH_DIGITS,
    ListedFacts,
    RekeyMember,
    RekeyRange,
    RekeyRule,
    new_range_id,
    pack_members,
)
from migrate_storage.journal.rekeyed import RekeyedRepository
from migrate_storage.journal.rows import RowRepository
from migrate_storage.journal.runs import RunRepository
from migrate_storage.journal.schema import PREFIX, Tables
from migrate_storage.journal.shards import NO_BOUNDS, ShardRepository, shard_lease
from migrate_storage.journal.states import LinkState, ObjectState, RowState

__all__ = (
    "HASH_DIGITS",
    "NO_BOUNDS",
    "Journal",
    "KnownLoss",
    "LinkRecord",
    "LinkState",
    "ListedFacts",
    "ObjectRecord",
    "ObjectState",
    "RekeyMember",
    "RekeyRange",
    "RekeyRule",
    "RowRecord",
    "RowState",
    "RunRecord",
    "ShardRecord",
    "digest",
    "digest_text",
    "new_range_id",
    "new_run_id",
    "object_id",
    "object_name",
    "pack_members",
    "shard_lease",
)


class Journal:
    """The whole journal in one database.

    Args:
        database: the database of its tables.
        schema: the database schema of its tables; ``None`` is the connection's default.

    Attributes:
        runs: the records of runs.
        shards: the records of a run's shards.
        objects: the records of objects.
        comparisons: what the comparisons of cutovers found.
        rows: the records of rows.
        rekeyed: the records of re-keyed ranges, in which those of rows and objects are packed.
        leases: the leases.
        links: the records of texts in which addresses were changed.
        known_losses: missing objects that a person acknowledged.
        capabilities: what probes showed of stores within the last hour.
    """

    def __init__(self, database: Database, schema: str | None = None) -> None:
        self.database, self._exists = database, False
        self.tables = tables = Tables(schema)
        self.runs = RunRepository(database, tables, tables.run)
        self.shards = ShardRepository(database, tables, tables.shard)
        self.rekeyed = RekeyedRepository(database, tables)
        self.objects = ObjectRepository(database, tables, self.rekeyed)
        self.comparisons = ComparisonRepository(database, tables, tables.object)
        self.rows = RowRepository(database, tables, self.rekeyed)
        self.leases = LeaseRepository(database, tables, tables.lease)
        self.links = LinkRepository(database, tables, tables.link)
        self.known_losses = KnownLossRepository(database, tables, tables.known_loss)
        self.capabilities = CapabilityRepository(database, tables, tables.capability)

    @classmethod
    def find(cls, database: Database, schema: str | None = None) -> Journal:
        """The journal of a database, in the schema in which it exists.

        Args:
            database: connected.
            schema: the schema that a person named.

        Raises:
            ConfigurationError: there are two journals, or there would be.
        """
        return cls(database, find_schema(database, schema))

    def prepare(self) -> None:
        """Create the tables if there are none, and try whether transactions there are rolled back.

        Raises:
            ConfigurationError: no right to create tables, or the tables have another version, or some of them are gone.
            PreflightError: a ROLLBACK undoes nothing.
        """
        try:
            self.database.transaction(self.tables.create)
        except ConfigurationError as error:
            if not isinstance(error.__cause__, SQLAlchemyError):
                raise
            # Another process may have created them at the same time. The second attempt finds them.
            self.database.transaction(self.tables.create)
        if not self.leases.try_rollback():
            raise PreflightError(
                f"transactions of {self.database} are none: a ROLLBACK did not undo an INSERT, so that a row and its "
                "journal record could not be committed together; leave AUTOCOMMIT out of the engine and its events"
            )

    @property
    def exists(self) -> bool:
        """Whether the tables exist; once they did, they are not asked for again.

        Raises:
            ConfigurationError: they have another version, or some of them are gone.
            PreflightError: this role may not read them.
        """
        try:
            self._exists = self._exists or self.database.transaction(self.tables.exist)
        except RefusedError as error:
            raise PreflightError(
                f"this role may not read the journal's tables ({PREFIX}*): {error.reason}; grant SELECT, INSERT and UPDATE "
                "on them, or keep the journal elsewhere with --journal URL"
            ) from error
        return self._exists
