"""Re-key in bulk: one PostgreSQL statement updates and records a range of rows.

No bytes are copied, and one listing replaces a HEAD for each object. Where both keys reach one bucket, and filenames change by
one prefix, the database does the rest by itself. Only simple rows are re-keyed here: one file in a row, a plain name, an object that
was listed, and no journal record of an earlier run. The passes that follow do all other rows, one by one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from migrate_storage.core.errors import RefusedError, RunError, WrongUpdateError
from migrate_storage.core.model import ObjectMeta, OutcomeKind
from migrate_storage.database.connection import SlowStatementError
from migrate_storage.database.file_column import MIN_WINDOW_ROWS, FileColumn
from migrate_storage.database.primary_keys import row_head
from migrate_storage.engine.rekey.listing import PrefixListing
from migrate_storage.journal import SAME_PLACE_LISTED, Journal, object_name
from migrate_storage.journal.schema import PREFIX

__all__ = ("PostgresRekey",)

REKEY_RANGE_ROWS = 20_000
"""Rows in one statement."""
_PLACEHOLDER = "\x00"
"""Marks where the database inserts the rest of a name. No name contains it."""
_PLACEHOLDER_JSON = json.dumps(_PLACEHOLDER)[1:-1]
_KEY_TYPES = (int, str, UUID)
"""Types of key columns that the database and :func:`dump_key` spell alike."""


class PostgresRekey:
    """Re-points the simple rows of a run.

    Args:
        listing: lists the objects; has the plan and the path rule.
        journal: in the database of the rows.
        run: the run's id.
    """

    def __init__(self, listing: PrefixListing, journal: Journal, run: str) -> None:
        self._listing, self._journal, self._run = listing, journal, run
        self._plan, self._rule = listing.plan, listing.rule
        #: The listed objects, while the job runs.
        self._listed = sa.Table(
            f"{PREFIX}seen", sa.MetaData(schema=journal.tables.schema),
            sa.Column("tail", sa.Text), sa.Column("id", sa.String(32)), sa.Column("destination_id", sa.String(32)),
            sa.Column("size", sa.BigInteger), sa.Column("etag", sa.Text), sa.Column("modified", sa.Double),
            sa.Column("version", sa.Text), prefixes=["UNLOGGED"],
        )  # fmt: skip

    def run(self, columns: Sequence[FileColumn], on_repointed: Callable[[int, int], None]) -> None:
        """Re-point the simple rows of all columns.

        Args:
            columns: the columns.
            on_repointed: called with the number of objects and of rows of each range or batch.

        Raises:
            RunError: the database fails.
        """
        fitting = [(rows, key) for rows in columns if rows.type == "JSONB" and (key := _sample_key(rows)) is not None]
        if not fitting:
            return
        with self._listed_table() as accepted:
            for rows, key in fitting if accepted else ():
                self._repoint_ranges(rows, key, REKEY_RANGE_ROWS, on_repointed)

    def _repoint_ranges(
        self, rows: FileColumn, key: tuple[Any, ...], size: int, on_repointed: Callable[[int, int], None]
    ) -> None:
        """Re-point rows in ranges of a size, and in smaller ones where the server cancels the statement of a range."""
        for part in rows.ranges(size):
            if not self._listing.may_continue():
                return
            work = partial(self._repoint_range, rows=part, key=key)
            try:
                repointed, objects = self._journal.database.transaction(work, retry_slow=False)
            except RefusedError:
                continue  # the passes report the row that the database refuses
            except SlowStatementError:
                if size // 4 >= MIN_WINDOW_ROWS:
                    self._repoint_ranges(part, key, size // 4, on_repointed)
                continue
            if repointed:
                on_repointed(objects, repointed)

    # -- the listing as a table

    @contextmanager
    def _listed_table(self) -> Iterator[bool]:
        """Create a table of listed objects; yield whether the listing is accepted."""
        database, table = self._journal.database, self._listed
        try:
            database.transaction(lambda connection: table.drop(connection, checkfirst=True))
            database.transaction(lambda connection: table.create(connection))
        except RefusedError:
            yield False  # no right to create tables: the passes do all rows
            return
        try:
            yield self._fill_table()
        finally:
            with suppress(RunError):
                database.transaction(lambda connection: table.drop(connection, checkfirst=True))

    def _fill_table(self) -> bool:
        database = self._journal.database

        def insert_batch(batch: Sequence[tuple[str, ObjectMeta]]) -> None:
            database.transaction(partial(self._insert_listed, batch=batch))

        try:
            if not self._listing.fetch(insert_batch):
                return False
            database.transaction(self._create_index)
        except RefusedError:
            # The unique index refuses an object that is there twice: the answer to a commit was lost, and it was repeated.
            return False
        return True

    def _insert_listed(self, connection: sa.Connection, batch: Sequence[tuple[str, ObjectMeta]]) -> None:
        """Insert a batch with one array for each column; the database computes the ids."""
        listed, source, destination = self._listed.c, self._plan.source, self._plan.destination
        values = {
            listed.tail: [tail for tail, _ in batch],
            listed.size: [meta.size for _, meta in batch],
            listed.etag: [meta.e_tag for _, meta in batch],
            listed.modified: [meta.last_modified for _, meta in batch],
            listed.version: [meta.version for _, meta in batch],
        }
        arrays = [sa.bindparam(column.name, array, type_=ARRAY(column.type)) for column, array in values.items()]
        sent = sa.func.unnest(*arrays).table_valued(*(column.name for column in values)).render_derived()
        place = source.place(self._rule.old + _PLACEHOLDER)
        ids = {
            listed.id: _digest(object_name(place, destination.key), sent.c.tail),
            listed.destination_id: _digest(json.dumps([destination.key, self._rule.new + _PLACEHOLDER]), sent.c.tail),
        }
        connection.execute(sa.insert(self._listed).from_select([*values, *ids], sa.select(*sent.c, *ids.values())))

    def _create_index(self, connection: sa.Connection) -> None:
        sa.Index(f"{self._listed.name}_tail", self._listed.c.tail, unique=True).create(connection)
        connection.exec_driver_sql(f"ANALYZE {connection.dialect.identifier_preparer.format_table(self._listed)}")

    # -- one range of rows

    def _repoint_range(self, connection: sa.Connection, rows: FileColumn, key: tuple[Any, ...]) -> tuple[int, int]:
        """Re-point one range; return the number of rows and of new object records.

        For a column ``file`` of a table ``documents`` with the key ``id``, and the rule ``a/`` to ``b/``, it is in short::

            WITH ms_named AS (      -- simple rows that name the source; locked rows are left to a pass
                SELECT id, file AS ms_value, substr(file ->> 'filename', 3) AS ms_tail FROM documents
                WHERE id BETWEEN ... AND file ->> 'backend' = 'old' AND left(file ->> 'filename', 2) = 'a/'
                FOR NO KEY UPDATE SKIP LOCKED),
            found AS (              -- those whose object was listed and has no other journal record
                SELECT id AS key0, seen.*, ms_value AS old, objects.id IS NULL AS fresh,
                       ms_value || jsonb_build_object('backend', 'new', 'filename', 'b/' || tail, 'size', ...) AS new
                FROM ms_named JOIN seen ON tail = ms_tail LEFT JOIN objects ON objects.id = seen.id
                WHERE (objects.id IS NULL OR objects.run = 'this run' AND ...) AND NOT EXISTS (another object's record)),
            moved AS (UPDATE documents SET file = found.new FROM found WHERE documents.id = key0 AND file = old
                      RETURNING found.*, ...),
            added AS (INSERT INTO objects SELECT DISTINCT ... FROM moved WHERE fresh RETURNING id),
            added_rows AS (INSERT INTO rows SELECT ... FROM moved RETURNING id)
            SELECT (SELECT count(*) FROM found), (SELECT count(*) FROM moved), ...

        Where the three counts differ, the range is rolled back and left to the passes. The types of the parts of ``key``, which is that of some row, show how keys are written.
        """
        objects, row_records = self._journal.tables.object, self._journal.tables.row
        found = self._select_found(rows, self._select_named(rows))
        keys = [found.c[f"key{place}"] for place in range(len(rows.key))]
        moved = (
            sa.update(rows.table)
            .where(*(column == key for column, key in zip(rows.key, keys, strict=True)), rows.raw == found.c.old)
            .values({rows.raw: found.c.new})
            .returning(*found.c, _dump_key(rows, key).label("pk"))
            .cte("moved")
        )
        now = sa.literal(self._journal.database.now(connection), sa.Double)
        object_values, row_values = self._object_values(moved, now), self._row_values(rows, moved, now)
        fresh = sa.select(*_cast_values(objects, object_values)).where(moved.c.fresh).distinct()
        added = sa.insert(objects).from_select(list(object_values), fresh).returning(objects.c.id).cte("added")
        added_rows = (
            sa.insert(row_records)
            .from_select(list(row_values), sa.select(*_cast_values(row_records, row_values)))
            .returning(row_records.c.id)
            .cte("added_rows")
        )
        parts = (found, moved, added_rows, added)
        counts = [sa.select(sa.func.count()).select_from(each).scalar_subquery() for each in parts]
        wanted, changed, repointed, recorded = connection.execute(sa.select(*counts)).one()
        if not wanted == changed == repointed:
            raise WrongUpdateError(f"an UPDATE of {wanted} rows changed {changed}; it was rolled back")
        return int(repointed), int(recorded)

    def _select_named(self, rows: FileColumn) -> sa.CTE:
        """Select rows whose one file has the source's key and the rule's prefix."""
        rule, filename = self._rule, rows.raw.op("->>")(sa.literal_column("'filename'"))
        named: sa.CTE = (
            rows.select(rows.raw.label("ms_value"), sa.func.substr(filename, len(rule.old) + 1).label("ms_tail"))
            .where(
                sa.func.jsonb_typeof(rows.raw) == "object",
                rows.raw.op("->>")(sa.literal_column("'backend'")) == sa.cast(self._plan.source.key, sa.Text),
                sa.func.jsonb_typeof(rows.raw.op("->")(sa.literal_column("'filename'"))) == "string",
                sa.func.left(filename, len(rule.old)) == rule.old,
            )
            # A transaction that has locked a row is about to write it.
            .with_for_update(key_share=True, skip_locked=True, of=rows.table)
            .cte("ms_named")
        )
        return named

    def _select_found(self, rows: FileColumn, named: sa.CTE) -> sa.CTE:
        """Select those whose object was listed, with their old and new values."""
        listed, objects = self._listed, self._journal.tables.object
        other = objects.alias()
        changes = sa.func.jsonb_build_object(
            "backend", sa.cast(self._plan.destination.key, sa.Text),
            "filename", sa.cast(self._rule.new, sa.Text).concat(listed.c.tail), "size", listed.c.size,
            "etag", listed.c.etag, "last_modified", listed.c.modified, "version_id", listed.c.version,
        )  # fmt: skip
        recorded_by_this_run = sa.and_(
            objects.c.run == sa.cast(self._run, sa.Text),
            objects.c.state == "held",
            objects.c.destination_id == listed.c.destination_id,
        )
        return (
            sa.select(
                *(named.c[column.name].label(f"key{place}") for place, column in enumerate(rows.key)),
                *listed.c,
                named.c.ms_value.label("old"),
                named.c.ms_value.op("||")(changes).label("new"),
                objects.c.id.is_(None).label("fresh"),
            )
            .select_from(
                named.join(listed, listed.c.tail == named.c.ms_tail).outerjoin(objects, objects.c.id == listed.c.id)
            )
            .where(
                # The passes judge what an earlier run recorded.
                sa.or_(objects.c.id.is_(None), recorded_by_this_run),
                ~sa.exists().where(other.c.destination_id == listed.c.destination_id, other.c.id != listed.c.id),
            )
            .cte("found")
        )

    def _object_values(self, moved: sa.CTE, now: sa.ColumnElement[Any]) -> dict[str, Any]:
        """Return the values of an object's journal record."""
        source, destination, rule, c = self._plan.source, self._plan.destination, self._rule, moved.c
        return {
            "id": c.id, "run": sa.cast(self._run, sa.Text), "source_key": sa.cast(source.key, sa.Text),
            "source_path": sa.cast(rule.old, sa.Text).concat(c.tail),
            "destination_key": sa.cast(destination.key, sa.Text), "destination_id": c.destination_id,
            "destination_path": sa.cast(rule.new, sa.Text).concat(c.tail),
            "state": "held", "ours": sa.false(), "outcome": OutcomeKind.REWRITTEN.value, "evidence": SAME_PLACE_LISTED,
            "size": c.size, "updated": now,
            "source_etag": c.etag, "source_modified": c.modified, "source_version": c.version,
            "destination_etag": c.etag, "destination_modified": c.modified, "destination_version": c.version,
        }  # fmt: skip

    def _row_values(self, rows: FileColumn, moved: sa.CTE, now: sa.ColumnElement[Any]) -> dict[str, Any]:
        """Return the values of a row's journal record."""
        column, c = rows.column, moved.c
        return {
            "run": sa.cast(self._run, sa.Text), "table_schema": column.schema, "table_name": column.table,
            "column_name": column.column, "pk": c.pk,
            "row_id": _digest(f"{row_head(column)}{_PLACEHOLDER_JSON}]", sa.cast(sa.func.to_json(c.pk), sa.Text)),
            "objects": sa.func.concat('["', c.id, '"]'), "state": "swapped", "at": now,
            "old_value": sa.cast(c.old, sa.Text), "new_value": sa.cast(c.new, sa.Text),
        }  # fmt: skip


def _sample_key(rows: FileColumn) -> tuple[Any, ...] | None:
    """Return the key of some row; ``None`` where SQL spells such keys differently."""
    for row in rows.sample(1):
        if all(isinstance(part, _KEY_TYPES) and not isinstance(part, bool) for part in row.pk):
            return row.pk
    return None


def _dump_key(rows: FileColumn, key: tuple[Any, ...]) -> sa.ColumnElement[str]:
    """Spell a row's key in SQL as :func:`.primary_keys.dump_key` does."""
    parts: list[sa.ColumnElement[Any]] = []
    for column, part in zip(rows.key, key, strict=True):
        written = sa.cast(sa.func.to_json(column), sa.Text)
        parts.append(sa.func.concat('{"uuid":', written, "}") if isinstance(part, UUID) else written)
    return sa.func.concat("[", sa.func.concat_ws(",", *parts), "]")


def _digest(name: str, part: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    """Compute in SQL the digest of a JSON text, as Python does, with ``part`` in place of its placeholder."""
    before, _, after = name.partition(_PLACEHOLDER_JSON)
    text = sa.cast(before, sa.Text).concat(part).concat(after)
    return sa.func.left(sa.func.encode(sa.func.sha256(sa.func.convert_to(text, "UTF8")), "hex"), 32)


def _cast_values(table: sa.Table, values: Mapping[str, Any]) -> list[sa.ColumnElement[Any]]:
    """Cast a record's values to its columns' types, which PostgreSQL does not guess."""
    return [sa.cast(value, table.c[name].type).label(name) for name, value in values.items()]
