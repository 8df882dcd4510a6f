"""Our tables in a database: one module, one schema version.

They stand in the application's own database unless told otherwise, so that a rewritten row and its entry commit
together. Alembic's autogenerate proposes to drop tables that it does not know: pass :func:`include_object` to
``context.configure``.
"""

from __future__ import annotations

import time

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
from sqlalchemy.schema import CreateIndex, CreateTable

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.database.connection import is_transient
from migrate_storage.database.dialects.mysql import LONG_TEXT, TABLE_OPTIONS
from migrate_storage.database.dialects.sqlite import AUTO_ID

__all__ = ("PREFIX", "SCHEMA_VERSION", "Tables", "include_object")

PREFIX = "migrate_storage_"
SCHEMA_VERSION = 1
LAST_PHASE = "destination"
"""The phase of a cutover that is over, as its table says it."""


class Tables:
    """The tables as SQLAlchemy Core objects.

    Args:
        schema: the database schema to keep them in; ``None`` is the connection's default.
    """

    def __init__(self, schema: str | None = None) -> None:
        self.schema = schema
        self.metadata = metadata = MetaData(schema=schema)

        self.version = Table(
            f"{PREFIX}version",
            metadata,
            Column("version", Integer, primary_key=True),
            Column("created", Double, nullable=False),
            **TABLE_OPTIONS,
        )
        #: One line a lease: run, revert and purge exclude each other by it, and so do those who would do one range.
        self.lease = Table(
            f"{PREFIX}lease",
            metadata,
            Column("name", String(64), primary_key=True),
            Column("owner", String(64), nullable=False),
            Column("expires", Double, nullable=False),
            **TABLE_OPTIONS,
        )
        #: One line a run.
        self.run = Table(
            f"{PREFIX}run",
            metadata,
            Column("id", String(36), primary_key=True),
            Column("kind", String(16), nullable=False),
            Column("source", String(255), nullable=False),
            Column("destination", String(255), nullable=False),
            Column("way", String(16), nullable=False),
            Column("state", String(16), nullable=False),
            Column("started", Double, nullable=False),
            Column("updated", Double, nullable=False),
            Column("finished", Double),
            #: The report as JSON, kept up to date while the run goes on.
            Column("report", LONG_TEXT),
            #: What ``control`` wants of it, as JSON: ``paused``, ``stop``, ``concurrency``, ``bandwidth``.
            Column("wanted", LONG_TEXT),
            #: What it does now, as JSON, about once a second.
            Column("doing", LONG_TEXT),
            Index(f"{PREFIX}run_started", "started"),
            **TABLE_OPTIONS,
        )
        #: One line an object: from the intent before the first byte is written to the end of its story.
        self.object = Table(
            f"{PREFIX}object",
            metadata,
            #: Digest of the source's place and the destination's key: one object has one line however many rows name it.
            Column("id", String(32), primary_key=True),
            Column("run", String(36), nullable=False),
            #: The range of the run in which it was carried last; ``NULL`` in a run that is one process's.
            Column("part", Integer),
            Column("source_key", String(255), nullable=False),
            Column("source_path", LONG_TEXT, nullable=False),
            Column("destination_key", String(255), nullable=False),
            Column("destination_path", LONG_TEXT, nullable=False),
            #: Digest of the destination's key and path: two sources never share a destination.
            Column("destination_id", String(32), nullable=False),
            #: ``intent``, ``held`` (verified at the destination), ``leftover`` (copied in vain), ``listed``; ``purging`` and
            #: ``purged`` (the source object), ``removing`` and ``removed`` (a leftover); ``moving``, ``deleting``, ``quarantined``,
            #: ``restoring`` and ``restored`` (an object that no row named).
            Column("state", String(16), nullable=False),
            #: Whether we wrote what stands at the destination; ``NULL`` when a killed run left that open.
            Column("ours", Boolean),
            Column("outcome", String(16)),
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
            Index(f"{PREFIX}object_destination", "destination_id", unique=True),
            Index(f"{PREFIX}object_run", "run", "state"),
            **TABLE_OPTIONS,
        )
        #: One line a range of a job that several processes share; the last one, whose number is their total, is its end.
        self.range = Table(
            f"{PREFIX}range",
            metadata,
            Column("run", String(36), primary_key=True),
            Column("number", Integer, primary_key=True, autoincrement=False),
            Column("total", Integer, nullable=False),
            #: Digest of what is done how: who asks for the same joins in.
            Column("plan", String(32), nullable=False),
            #: By column, as JSON, the key behind which it begins and the key with which it ends.
            Column("bounds", LONG_TEXT, nullable=False),
            #: ``open`` or ``done``.
            Column("state", String(16), nullable=False),
            #: What was done in it, as JSON, once it is done.
            Column("report", LONG_TEXT),
            #: What is done in it now, as JSON, about once a second.
            Column("doing", LONG_TEXT),
            Index(f"{PREFIX}range_plan", "plan"),
            **TABLE_OPTIONS,
        )
        #: One line a rewritten column of a row, with the value before and after: what an undo needs.
        self.row = Table(
            f"{PREFIX}row",
            metadata,
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
            #: ``intent`` (journal in another database, not yet settled), ``swapped``, ``kept`` (their write stood), ``reverted``.
            Column("state", String(16), nullable=False),
            Column("at", Double, nullable=False),
            Index(f"{PREFIX}row_row", "row_id"),
            Index(f"{PREFIX}row_run", "run", "state"),
            **TABLE_OPTIONS,
        )
        #: One line a row and filename whose object is lost, and known to be.
        self.mark = Table(
            f"{PREFIX}mark",
            metadata,
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
            #: Who marked it.
            Column("marked_by", String(255), nullable=False),
            Column("at", Double, nullable=False),
            **TABLE_OPTIONS,
        )
        #: One line a key that a cutover wrote on both sides; open while they may differ.
        self.outbox = Table(
            f"{PREFIX}outbox",
            metadata,
            #: Digest of the backend's key and the path.
            Column("id", String(32), primary_key=True),
            Column("backend", String(255), nullable=False),
            Column("path", LONG_TEXT, nullable=False),
            #: Closed, it only says that what stands under this key is ours.
            Column("open", Boolean, nullable=False),
            #: New whenever the line is opened and whenever its side changes: whoever holds another saw a line that is gone.
            Column("epoch", String(32), nullable=False),
            #: 1 for whoever made it, and one more for everybody who touched it since.
            Column("sequence", BigInteger, nullable=False),
            #: The side to trust.
            Column("side", String(16), nullable=False),
            Column("tombstone", Boolean, nullable=False),
            #: Content type and metadata of the save, as JSON: what not every store keeps.
            Column("about", LONG_TEXT),
            Column("opened", Double, nullable=False),
            #: A writer is at work, probably: until then repair lets it be.
            Column("busy_until", Double, nullable=False),
            #: Until then somebody may upload to a signed URL: never closed before.
            Column("expires", Double, nullable=False),
            Column("claimed_by", String(32)),
            Column("claimed_until", Double, nullable=False),
            #: Why the last repair failed.
            Column("failure", LONG_TEXT),
            Index(f"{PREFIX}outbox_backend", "backend", "open", "id"),
            **TABLE_OPTIONS,
        )
        #: One line a cutover backend whose phase is shared: the phase that processes are to act in.
        self.phase = Table(
            f"{PREFIX}phase",
            metadata,
            Column("backend", String(255), primary_key=True),
            Column("phase", String(20), nullable=False),
            #: One more with each change.
            Column("generation", BigInteger, nullable=False),
            #: When it changed, by the database's clock, as all times of these two tables.
            Column("changed", Double, nullable=False),
            #: What the last full comparison of both sides found, as JSON.
            Column("compared", LONG_TEXT),
            **TABLE_OPTIONS,
        )
        #: One line a process that acts in a shared phase, for as long as it may.
        self.process = Table(
            f"{PREFIX}process",
            metadata,
            Column("id", String(32), primary_key=True),
            Column("backend", String(255), nullable=False),
            #: What a person would call it: host and process id. Never relied on.
            Column("name", String(255), nullable=False),
            #: It may be acting in any phase from this one
            Column("lowest", String(20), nullable=False),
            #: to this one.
            Column("highest", String(20), nullable=False),
            Column("seen", Double, nullable=False),
            #: Until then nobody may act in a phase that is more than a step away.
            Column("expires", Double, nullable=False),
            #: Reads that the second side had to answer, and when the last of them was told.
            Column("fallbacks", BigInteger, nullable=False),
            Column("fallback_at", Double, nullable=False),
            Index(f"{PREFIX}process_backend", "backend", "expires"),
            **TABLE_OPTIONS,
        )

    def create(self, connection: Connection) -> None:
        """Create what is missing, and check the schema version.

        Raises:
            ConfigurationError: no right to create tables, or tables of another version stand there.
        """
        try:
            existing = inspect(connection).get_table_names(schema=self.schema)
            if self.version.name in existing:
                found = connection.execute(select(self.version.c.version)).scalars().first()
                if found == SCHEMA_VERSION:
                    self.metadata.create_all(connection)
                    return
                if found is not None:
                    raise ConfigurationError(
                        f"the journal's tables are of version {found}, this program writes version {SCHEMA_VERSION}: finish with the version that made them, or 'migrate-storage tables drop'"
                    )
            self.metadata.create_all(connection)
            connection.execute(self.version.insert().values(version=SCHEMA_VERSION, created=time.time()))
        except SQLAlchemyError as error:
            if is_transient(error):
                raise
            reason = str(getattr(error, "orig", error)).splitlines()[0]
            raise ConfigurationError(
                f"cannot create the journal's tables ({PREFIX}*): {reason}; grant CREATE, or have 'migrate-storage tables sql' run by someone who may, or keep them elsewhere with --journal URL"
            ) from error

    def exist(self, connection: Connection) -> bool:
        """Whether the tables are there, all of them: not every database creates them at once."""
        existing = inspect(connection).get_table_names(schema=self.schema)
        return all(table.name in existing for table in self.metadata.tables.values())

    def drop(self, connection: Connection) -> None:
        """Drop all of them: the journal is gone, and with it every way back."""
        self.metadata.drop_all(connection)

    def prune(self, connection: Connection, before: float, size: int = 400) -> int:
        """Forget some objects and rows of runs that finished before a moment, and keys that a cutover settled before it.

        To be called until it finds none. Reports stay, and so do the lines of leftovers, of what a purge has in hand, and
        of what is in quarantine. An open entry of a cutover always stays, and so does a closed one while the shared phase
        of its backend is not its last, or was not for all that time: it tells that what both sides hold was written by us.

        Args:
            connection: in a transaction of its own: each is short.
            before: seconds since the epoch.
            size: lines at most.

        Returns:
            How many lines went.
        """
        kept = ("leftover", "purging", "removing", "moving", "deleting", "quarantined", "restoring")
        old = select(self.run.c.id).where(self.run.c.finished < before)
        on = select(self.phase.c.backend).where((self.phase.c.phase != LAST_PHASE) | (self.phase.c.changed >= before))
        settled = ~self.outbox.c.open & (self.outbox.c.opened < before) & self.outbox.c.backend.not_in(on)
        for table, condition in (
            (self.row, self.row.c.run.in_(old)),
            (self.object, self.object.c.run.in_(old) & self.object.c.state.not_in(kept)),
            (self.outbox, settled),
        ):
            ids = list(connection.execute(select(table.c.id).where(condition).limit(size)).scalars())
            if ids:
                # Once more with the condition: one may have been opened meanwhile.
                gone = int(connection.execute(table.delete().where(table.c.id.in_(ids), condition)).rowcount)
                if gone:
                    return gone
        passing = self.lease.c.name.like("range-%") | self.lease.c.name.like("cut-%")
        over = passing & (self.lease.c.expires < before)
        return sum(
            int(connection.execute(statement).rowcount)
            for statement in (self.range.delete().where(self.range.c.run.in_(old)), self.lease.delete().where(over))
        )

    def sql(self, connection: Connection) -> str:
        """The statements that :meth:`create` would run, for someone who has the rights."""
        statements = []
        for table in self.metadata.sorted_tables:
            statements.append(str(CreateTable(table).compile(connection)).strip())
            statements.extend(
                str(CreateIndex(index).compile(connection)).strip()
                for index in sorted(table.indexes, key=lambda index: str(index.name))
            )
        statements.append(f"INSERT INTO {self.version.fullname} (version, created) VALUES ({SCHEMA_VERSION}, 0)")
        return "".join(statement + ";\n" for statement in statements)


def include_object(object_: object, name: str | None, type_: str, reflected: bool, compare_to: object) -> bool:  # noqa: ARG001
    """For Alembic's ``context.configure(include_object=…)``: leave our tables alone."""
    if type_ == "table":
        return not (name or "").startswith(PREFIX)
    table = getattr(object_, "table", None)
    return not (table is not None and str(table.name).startswith(PREFIX))
