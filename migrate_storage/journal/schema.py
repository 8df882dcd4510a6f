"""Our tables in a database, and the version of their schema.

They are in the application's own database unless ``--journal`` is given, so that a row and its journal record commit
together. A change of them is a step in :mod:`migrate_storage.journal.steps`.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Double,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    inspect,
    select,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.schema import CreateSchema, SchemaItem

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.database.connection import is_full, is_transient
from migrate_storage.database.dialects import dialect_of
from migrate_storage.database.dialects.mysql import LONG_BYTES, LONG_TEXT, TABLE_OPTIONS
from migrate_storage.database.dialects.sqlite import AUTO_ID
from migrate_storage.journal.rekey_ranges import RekeyRange, hash_of, list_objects, unpack_members
from migrate_storage.journal.states import ObjectState
from migrate_storage.journal.steps import current_version
from migrate_storage.journal.table_names import PREFIX, TableNames

__all__ = ("LAST_PHASE", "PREFIX", "Tables", "check_not_newer")

LAST_PHASE = "destination"
"""The phase of a finished cutover, as the table of phases has it."""
PRUNED_HASHES = 400
"""Objects of a re-keyed range that one statement deletes."""
_NEEDED_STATES = (
    ObjectState.UNREFERENCED,
    ObjectState.SOURCE_DELETING,
    ObjectState.COPY_DELETING,
    ObjectState.QUARANTINE_COPYING,
    ObjectState.QUARANTINE_DELETING,
    ObjectState.QUARANTINED,
    ObjectState.RESTORING,
)
"""States of objects that are not pruned."""


def _version_table(metadata: MetaData) -> Table:
    """The version of these tables, in one row."""
    return _table(
        metadata, "version",
        Column("version", Integer, primary_key=True),
        Column("created", Double, nullable=False),
    )  # fmt: skip


def _lease_table(metadata: MetaData) -> Table:
    """One row a lease of processes that exclude each other."""
    return _table(
        metadata, "lease",
        Column("name", String(64), primary_key=True),
        Column("owner", String(64), nullable=False),
        Column("expires", Double, nullable=False),
    )  # fmt: skip


def _run_table(metadata: MetaData) -> Table:
    """One row a run."""
    return _table(
        metadata, "run",
        Column("id", String(36), primary_key=True),
        Column("kind", String(16), nullable=False),
        Column("source", String(255), nullable=False),
        Column("destination", String(255), nullable=False),
        Column("way", String(16), nullable=False),
        Column("state", String(16), nullable=False),
        Column("started", Double, nullable=False),
        Column("updated", Double, nullable=False),
        Column("finished", Double),
        #: The report as JSON, updated during the run.
        Column("report", LONG_TEXT),
        #: What ``control`` requested, as JSON: ``paused``, ``stop``, ``concurrency``, ``bandwidth``.
        Column("control", LONG_TEXT),
        #: The progress as JSON, updated about once per second.
        Column("progress", LONG_TEXT),
        #: The rule by which it named its copies; ``NULL`` where they kept their filenames.
        Column("renaming", LONG_TEXT),
        _index("run_started", "started"),
    )  # fmt: skip


def _object_table(metadata: MetaData) -> Table:
    """One row an object, written before its first byte is."""
    return _table(
        metadata, "object",
        #: Digest of the source's place and the destination's key: one object has one row, however many rows name it.
        Column("id", String(32), primary_key=True),
        Column("run", String(36), nullable=False),
        #: The shard of the run that copied it last; ``NULL`` in a run of one process.
        Column("shard", Integer),
        Column("source_key", String(255), nullable=False),
        Column("source_path", LONG_TEXT, nullable=False),
        Column("destination_key", String(255), nullable=False),
        Column("destination_path", LONG_TEXT, nullable=False),
        #: Digest of the destination's key and path: two sources never share a destination.
        Column("destination_id", String(32), nullable=False),
        #: An :class:`.ObjectState`. Where it is ``compared``, the destination is the key of the cutover.
        Column("state", String(32), nullable=False),
        #: Whether we wrote the object at the destination; ``NULL`` when a killed run did not record it.
        Column("written_by_us", Boolean),
        Column("outcome", String(32)),
        Column("reason", LONG_TEXT),
        Column("evidence", String(64)),
        Column("size", BigInteger),
        Column("sha256", String(64)),
        Column("source_etag", String(255)),
        Column("source_modified", Double),
        Column("source_version", String(1024)),
        Column("destination_etag", String(255)),
        Column("destination_modified", Double),
        Column("destination_version", String(1024)),
        Column("seconds", Double),
        Column("updated", Double, nullable=False),
        _index("object_destination", "destination_id", unique=True),
        _index("object_run", "run", "state"),
    )  # fmt: skip


def _shard_table(metadata: MetaData) -> Table:
    """One row a shard of a run. The last one, whose number is the total, ends it."""
    return _table(
        metadata, "shard",
        Column("run", String(36), primary_key=True),
        Column("number", Integer, primary_key=True, autoincrement=False),
        Column("total", Integer, nullable=False),
        #: Digest of the job and its options: a process with the same plan joins the job.
        Column("plan", String(32), nullable=False),
        #: By column, as JSON, the key behind which it begins and the key with which it ends.
        Column("bounds", LONG_TEXT, nullable=False),
        #: ``open`` or ``done``.
        Column("state", String(16), nullable=False),
        #: What was done in it, as JSON, once it is done.
        Column("report", LONG_TEXT),
        #: The progress as JSON, updated about once per second.
        Column("progress", LONG_TEXT),
        _index("shard_plan", "plan"),
    )  # fmt: skip


def _row_table(metadata: MetaData) -> Table:
    """One row a re-pointed column of a row, with the values that a revert needs."""
    return _table(
        metadata, "row",
        Column("id", AUTO_ID, primary_key=True, autoincrement=True),
        Column("run", String(36), nullable=False),
        Column("table_schema", String(255)),
        Column("table_name", String(255), nullable=False),
        Column("column_name", String(255), nullable=False),
        #: The primary key as JSON with its types, see :func:`migrate_storage.database.primary_keys.dump_key`.
        Column("pk", LONG_TEXT, nullable=False),
        #: Digest of table, column and key.
        Column("row_id", String(32), nullable=False),
        #: JSON list of the ``object.id`` of each re-pointed slot.
        Column("objects", LONG_TEXT, nullable=False),
        Column("old_value", LONG_TEXT, nullable=False),
        Column("new_value", LONG_TEXT, nullable=False),
        #: A :class:`.RowState`.
        Column("state", String(16), nullable=False),
        Column("at", Double, nullable=False),
        _index("row_row", "row_id"),
        _index("row_run", "run", "state"),
    )  # fmt: skip


def _rekey_table(metadata: MetaData) -> Table:
    """One row a range of rows that a re-key re-pointed together, in place of a record for each of its rows and objects."""
    return _table(
        metadata, "rekey",
        Column("id", BigInteger, primary_key=True, autoincrement=False),
        Column("run", String(36), nullable=False),
        Column("table_schema", String(255)),
        Column("table_name", String(255), nullable=False),
        Column("column_name", String(255), nullable=False),
        #: The keys of its first and its last row.
        Column("first_key", LONG_TEXT, nullable=False),
        Column("last_key", LONG_TEXT, nullable=False),
        Column("row_count", Integer, nullable=False),
        Column("object_count", Integer, nullable=False),
        #: How filenames change, as JSON.
        Column("rule", LONG_TEXT, nullable=False),
        #: Each row's key and old value, and its object as it was listed: JSON, compressed or not.
        Column("members", LONG_BYTES, nullable=False),
        #: ``packed``, or ``unpacked`` when its rows and objects got records of their own.
        Column("state", String(16), nullable=False),
        Column("at", Double, nullable=False),
    )  # fmt: skip


def _rekey_object_table(metadata: MetaData) -> Table:
    """One row an object of a re-keyed range, by which the range is found."""
    return _table(
        metadata, "rekey_object",
        #: The first 60 bits of the object's id.
        Column("hash", BigInteger, primary_key=True, autoincrement=False),
        Column("range_id", BigInteger, primary_key=True, autoincrement=False),
    )  # fmt: skip


def _link_table(metadata: MetaData) -> Table:
    """One row a text in which public addresses were changed, with what a revert needs."""
    return _table(
        metadata, "link",
        Column("id", String(32), primary_key=True),
        Column("run", String(36), nullable=False),
        Column("table_schema", String(255)),
        Column("table_name", String(255), nullable=False),
        Column("column_name", String(255), nullable=False),
        #: The primary key as JSON with its types, see :func:`migrate_storage.database.primary_keys.dump_key`.
        Column("pk", LONG_TEXT, nullable=False),
        #: Digest of table, column and key.
        Column("row_id", String(32), nullable=False),
        #: Backend key and, as a JSON list, filenames of the objects that the new addresses name.
        Column("backend", String(255), nullable=False),
        Column("paths", LONG_TEXT, nullable=False),
        #: What turns the new text into the old one: JSON, compressed.
        Column("changes", LONG_BYTES, nullable=False),
        #: SHA-256 of both texts.
        Column("old_digest", String(64), nullable=False),
        Column("new_digest", String(64), nullable=False),
        #: A :class:`.LinkState`.
        Column("state", String(16), nullable=False),
        Column("at", Double, nullable=False),
        _index("link_run", "run", "state"),
        _index("link_row", "row_id"),
    )  # fmt: skip


def _known_loss_table(metadata: MetaData) -> Table:
    """One row a reference to a lost object that a person acknowledged."""
    return _table(
        metadata, "known_loss",
        #: Digest of the row's column, the backend's key and the filename.
        Column("id", String(32), primary_key=True),
        Column("table_schema", String(255)),
        Column("table_name", String(255), nullable=False),
        Column("column_name", String(255), nullable=False),
        #: The primary key as JSON with its types, see :func:`migrate_storage.database.primary_keys.dump_key`.
        Column("pk", LONG_TEXT, nullable=False),
        Column("backend", String(255), nullable=False),
        Column("path", LONG_TEXT, nullable=False),
        Column("reason", LONG_TEXT, nullable=False),
        #: Who acknowledged it.
        Column("marked_by", String(255), nullable=False),
        Column("at", Double, nullable=False),
    )  # fmt: skip


def _capability_table(metadata: MetaData) -> Table:
    """One row a store whose capabilities a probe has shown."""
    return _table(
        metadata, "capability",
        #: Digest of the store's configuration; no secret is an input of it.
        Column("id", String(64), primary_key=True),
        #: The capabilities as JSON.
        Column("found", LONG_TEXT, nullable=False),
        #: When the probe was; 0 where a request was answered otherwise since.
        Column("at", Double, nullable=False),
    )  # fmt: skip


def _outbox_table(metadata: MetaData) -> Table:
    """One row a key that a cutover wrote on both sides, open while they may differ."""
    return _table(
        metadata, "outbox",
        #: Digest of the backend's key and the path.
        Column("id", String(32), primary_key=True),
        Column("backend", String(255), nullable=False),
        Column("path", LONG_TEXT, nullable=False),
        #: A closed entry only records that we wrote the objects under this key.
        Column("open", Boolean, nullable=False),
        #: New whenever the entry is opened or its side changes. A process with another epoch has read an older entry.
        Column("epoch", String(32), nullable=False),
        #: 1 for the process that opened the entry, one more for each process that used it since.
        Column("sequence", BigInteger, nullable=False),
        #: The side to trust.
        Column("side", String(16), nullable=False),
        Column("tombstone", Boolean, nullable=False),
        #: Content type and metadata of the save, as JSON: not every store keeps them.
        Column("about", LONG_TEXT),
        Column("opened", Double, nullable=False),
        #: A process may be writing until then, and repair waits for it.
        Column("busy_until", Double, nullable=False),
        #: A client may upload to a signed URL until then, so the entry is not closed before.
        Column("expires", Double, nullable=False),
        Column("claimed_by", String(32)),
        Column("claimed_until", Double, nullable=False),
        #: Why the last repair failed.
        Column("failure", LONG_TEXT),
        _index("outbox_backend", "backend", "open", "id"),
    )  # fmt: skip


def _phase_table(metadata: MetaData) -> Table:
    """One row a cutover backend with a shared phase, in which its processes act."""
    return _table(
        metadata, "phase",
        Column("backend", String(255), primary_key=True),
        Column("phase", String(20), nullable=False),
        #: One more with each change.
        Column("generation", BigInteger, nullable=False),
        #: When it changed, by the database's clock, as all times of this table and of the processes.
        Column("changed", Double, nullable=False),
        #: The result of the last full comparison of both sides, as JSON.
        Column("compared", LONG_TEXT),
    )  # fmt: skip


def _process_table(metadata: MetaData) -> Table:
    """One row a process that may act in a shared phase."""
    return _table(
        metadata, "process",
        Column("id", String(32), primary_key=True),
        Column("backend", String(255), nullable=False),
        #: Host and process id, only shown to people.
        Column("name", String(255), nullable=False),
        #: The process may be acting in any phase from this one
        Column("lowest", String(20), nullable=False),
        #: to this one.
        Column("highest", String(20), nullable=False),
        Column("seen", Double, nullable=False),
        #: Until then no process may act in a phase that is more than one transition away.
        Column("expires", Double, nullable=False),
        #: Reads that the second side had to answer, and when the last of them was reported.
        Column("fallbacks", BigInteger, nullable=False),
        Column("fallback_at", Double, nullable=False),
        _index("process_backend", "backend", "expires"),
    )  # fmt: skip


def _table(metadata: MetaData, name: str, *items: SchemaItem) -> Table:
    return Table(PREFIX + name, metadata, *items, **TABLE_OPTIONS)


def _index(name: str, *columns: str, unique: bool = False) -> Index:
    made = Index(PREFIX + name, *columns, unique=unique)
    return made.ddl_if(callable_=lambda *_, dialect, **__: dialect_of(dialect).indexes_journal)


class Tables:
    """The tables as SQLAlchemy Core objects.

    Args:
        schema: the database schema of the tables; ``None`` is the connection's default.
    """

    def __init__(self, schema: str | None = None) -> None:
        self.schema = schema
        self.metadata = MetaData(schema=schema)
        self.version = _version_table(self.metadata)
        self.lease = _lease_table(self.metadata)
        self.run = _run_table(self.metadata)
        self.object = _object_table(self.metadata)
        self.shard = _shard_table(self.metadata)
        self.row = _row_table(self.metadata)
        self.rekey = _rekey_table(self.metadata)
        self.rekey_object = _rekey_object_table(self.metadata)
        self.link = _link_table(self.metadata)
        self.known_loss = _known_loss_table(self.metadata)
        self.capability = _capability_table(self.metadata)
        self.outbox = _outbox_table(self.metadata)
        self.phase = _phase_table(self.metadata)
        self.process = _process_table(self.metadata)

    def names(self, connection: Connection) -> TableNames:
        """The tables' names in a database."""
        return TableNames(connection.dialect.identifier_preparer, self.schema)

    def create(self, connection: Connection, *, again: bool = False) -> None:
        """Create the tables if there are none, and check their version.

        Args:
            connection: in a transaction.
            again: create those too that existed and are gone. They are empty then.

        Raises:
            ConfigurationError: no right to create tables, or the tables have another version, or some of them are gone.
        """
        try:
            if not again and self.exist(connection):
                return
            version = self.read_version(connection)
            _check_version(version)
            if self.schema is not None and self.schema not in inspect(connection).get_schema_names():
                connection.execute(CreateSchema(self.schema, if_not_exists=True))
            self.metadata.create_all(connection)
            if version is None:
                now = connection.exec_driver_sql(dialect_of(connection.dialect).clock).scalar_one()
                connection.execute(self.version.insert().values(version=current_version(), created=float(now)))
        except SQLAlchemyError as error:
            if is_transient(error) or is_full(error):
                raise
            reason = str(getattr(error, "orig", error)).splitlines()[0]
            raise ConfigurationError(
                f"cannot create the journal's tables ({PREFIX}*): {reason}; grant CREATE, or have 'migrate-storage "
                "journal sql' run by a role that may, or keep them elsewhere with --journal URL"
            ) from error

    def exist(self, connection: Connection) -> bool:
        """Whether the tables exist: not every database creates them at once.

        Raises:
            ConfigurationError: they have another version, or some of them are gone.
        """
        version = self.read_version(connection)
        _check_version(version)
        if version is None:
            return False
        existing = inspect(connection).get_table_names(schema=self.schema)
        gone = [table.fullname for table in self.metadata.sorted_tables if table.name not in existing]
        if gone:
            raise ConfigurationError(
                f"{', '.join(gone)} {'is' if len(gone) == 1 else 'are'} gone from the database, and with it what the "
                "journal knew: restore it from a backup, or have it made anew and empty with 'migrate-storage journal create' "
                "(a migration of Alembic may have dropped it, see docs/alembic.md)"
            )
        return True

    def read_version(self, connection: Connection) -> int | None:
        """The version of the tables; ``None`` where they were not all created, below 0 where a step to it is half done."""
        if not inspect(connection).has_table(self.version.name, schema=self.schema):
            return None
        return connection.execute(select(self.version.c.version)).scalar()

    def indexes(self, connection: Connection, table: Table) -> list[Index]:
        """The indexes of one of the tables in a database, by name; its primary key is none of them."""
        wanted = dialect_of(connection.dialect).indexes_journal
        return sorted(table.indexes, key=lambda index: str(index.name)) if wanted else []

    def drop(self, connection: Connection) -> None:
        """Drop all tables. Without the journal no run can be reverted."""
        self.metadata.drop_all(connection)

    def prune(self, connection: Connection, before: float, size: int = 400) -> int:
        """Delete some records of runs and outbox entries that ended before a moment.

        It is called until it returns 0. Reports are kept. So are the records of unreferenced copies, of objects that a purge is
        deleting, and of objects in quarantine. An open outbox entry is kept. A closed one is kept until the shared
        phase of its backend has been the last phase since ``before``: it records that we wrote the objects of both
        sides.

        Args:
            connection: in a transaction of its own, so that each is short.
            before: seconds since the epoch.
            size: records to delete at most.

        Returns:
            How many records were deleted.
        """
        old = select(self.run.c.id).where(self.run.c.finished < before)
        unfinished = select(self.phase.c.backend).where(
            (self.phase.c.phase != LAST_PHASE) | (self.phase.c.changed >= before)
        )
        closed = ~self.outbox.c.open & (self.outbox.c.opened < before) & self.outbox.c.backend.not_in(unfinished)
        for table, condition in (
            (self.row, self.row.c.run.in_(old)),
            (self.link, self.link.c.run.in_(old)),
            (self.object, self.object.c.run.in_(old) & self.object.c.state.not_in(_NEEDED_STATES)),
            (self.object, (self.object.c.state == ObjectState.COMPARED) & (self.object.c.updated < before)),
            (self.outbox, closed),
        ):
            ids = list(connection.execute(select(table.c.id).where(condition).limit(size)).scalars())
            if ids:
                # The condition is repeated, for an entry may have been opened meanwhile.
                deleted = int(connection.execute(table.delete().where(table.c.id.in_(ids), condition)).rowcount)
                if deleted:
                    return deleted
        pruned = connection.execute(select(self.rekey).where(self.rekey.c.run.in_(old)).limit(1)).mappings().first()
        if pruned is not None:
            return self._prune_range(connection, RekeyRange(**pruned))
        name = self.lease.c.name
        expired = (name.like("range-%") | name.like("cut-%")) & (self.lease.c.expires < before)
        return sum(
            int(connection.execute(statement).rowcount)
            for statement in (
                self.shard.delete().where(self.shard.c.run.in_(old)),
                self.lease.delete().where(expired),
                self.capability.delete().where(self.capability.c.at < before),
            )
        )

    def _prune_range(self, connection: Connection, of: RekeyRange) -> int:
        """Delete a re-keyed range; return how many rows it had."""
        index = self.rekey_object
        hashes = [hash_of(record.id) for record in list_objects(of, unpack_members(of.members), all_of_them=True)]
        for start in range(0, len(hashes), PRUNED_HASHES):
            batch = index.c.hash.in_(hashes[start : start + PRUNED_HASHES])
            connection.execute(index.delete().where(batch, index.c.range_id == of.id))
        connection.execute(self.rekey.delete().where(self.rekey.c.id == of.id))
        return of.row_count


def check_not_newer(version: int) -> None:
    """Refuse tables of a later version than this program's.

    Raises:
        ConfigurationError: they are.
    """
    if abs(version) > current_version():
        raise ConfigurationError(
            f"the journal's tables are of version {abs(version)}, and this program knows them up to version "
            f"{current_version()}: use the newer program that made them"
        )


def _check_version(version: int | None) -> None:
    """Refuse tables of another version than this program's."""
    if version is None or version == current_version():
        return
    check_not_newer(version)
    state = f"on their way to version {-version}" if version < 0 else f"of version {version}"
    raise ConfigurationError(
        f"the journal's tables are {state}, and this program needs version {current_version()}: run 'migrate-storage "
        "journal migrate' ('migrate-storage journal sql' prints what it does)"
    )
