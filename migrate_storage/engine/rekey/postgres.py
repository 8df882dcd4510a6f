"""Re-key in bulk: one PostgreSQL statement updates and records a range of rows.

No bytes are copied, and one listing replaces a HEAD for each object. Where both keys reach one bucket, and filenames change by
one prefix, the database does the rest by itself. Only simple rows are re-keyed here: one file in a row, a plain name, an object that
was listed, and no journal record of an earlier run. The passes that follow do all other rows, one by one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from migrate_storage.core.errors import RefusedError, RunError, WrongUpdateError
from migrate_storage.core.model import ObjectMeta
from migrate_storage.database.connection import SlowStatementError
from migrate_storage.database.file_column import MIN_WINDOW_ROWS, FileColumn
from migrate_storage.engine.rekey.listing import PrefixListing
from migrate_storage.journal import HASH_DIGITS, Journal, new_range_id, object_name
from migrate_storage.journal.schema import PREFIX

__all__ = ("PostgresRekey",)

REKEY_RANGE_ROWS = 10_000
"""Rows in one statement."""
_PLACEHOLDER = "\x00"
"""Marks where the database inserts the rest of a name. No name contains it."""
_PLACEHOLDER_JSON = json.dumps(_PLACEHOLDER)[1:-1]
_KEY_TYPES = (int, str, UUID)
"""Types of key columns that the database and :func:`dump_key` spell alike."""
_HASH_TYPE: sa.ColumnElement[Any] = sa.literal_column(f"bit({4 * HASH_DIGITS})::bigint")
_SETTINGS = "SELECT set_config('jit', 'off', true), set_config('work_mem', '64MB', true)"
"""For the statement of a range: it is too short to compile, and its rows are better not written to a temporary file."""


class PostgresRekey:
    """Re-points the simple rows of a run.

    Args:
        listing: lists the objects; has the plan and the path rule.
        journal: in the database of the rows.
        run: the run's id.
    """

    def __init__(self, listing: PrefixListing, journal: Journal, run: str) -> None:
        self._listing, self._journal, self._run = listing, journal, run
        self._rule = listing.rule
        #: The listed objects, while the job runs.
        self._listed = sa.Table(
            f"{PREFIX}listing", sa.MetaData(schema=journal.tables.schema),
            sa.Column("tail", sa.Text), sa.Column("id", sa.String(32)), sa.Column("hash", sa.BigInteger), sa.Column("size", sa.BigInteger), sa.Column("etag", sa.Text), sa.Column("modified", sa.Double),
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
        listed, rule = self._listed.c, self._rule
        values = {
            listed.tail: [tail for tail, _ in batch],
            listed.size: [meta.size for _, meta in batch],
            listed.etag: [meta.e_tag for _, meta in batch],
            listed.modified: [meta.last_modified for _, meta in batch],
            listed.version: [meta.version for _, meta in batch],
        }
        arrays = [sa.bindparam(column.name, array, type_=ARRAY(column.type)) for column, array in values.items()]
        sent = sa.func.unnest(*arrays).table_valued(*(column.name for column in values)).render_derived()
        place = replace(rule.place, key=rule.place.key + _PLACEHOLDER)
        id_ = _digest(object_name(place, rule.destination_key), sent.c.tail)
        ids = {listed.id: id_, listed.hash: sa.func.concat("x", sa.func.left(id_, HASH_DIGITS)).op("::")(_HASH_TYPE)}
        connection.execute(sa.insert(self._listed).from_select([*values, *ids], sa.select(*sent.c, *ids.values())))

    def _create_index(self, connection: sa.Connection) -> None:
        sa.Index(f"{self._listed.name}_tail", self._listed.c.tail, unique=True).create(connection)
        connection.exec_driver_sql(f"ANALYZE {connection.dialect.identifier_preparer.format_table(self._listed)}")

    # -- one range of rows

    def _repoint_range(self, connection: sa.Connection, rows: FileColumn, key: tuple[Any, ...]) -> tuple[int, int]:
        """Re-point one range; return the number of rows and of new objects.

        For a column ``file`` of a table ``documents`` with the key ``id``, and the rule ``a/`` to ``b/``, it is in short::

            WITH ms_named AS (      -- simple rows that name the source; locked rows are left to a pass
                SELECT id, file AS ms_value, substr(file ->> 'filename', 3) AS ms_tail FROM documents
                WHERE id BETWEEN ... AND file ->> 'backend' = 'old' AND left(file ->> 'filename', 2) = 'a/'
                FOR NO KEY UPDATE SKIP LOCKED),
            found AS (              -- those whose object was listed and has no other journal record
                SELECT id AS key0, seen.*, ms_value AS old, NOT EXISTS (a range of this run with the object) AS fresh
                FROM ms_named JOIN seen ON tail = ms_tail
                WHERE NOT EXISTS (a record of the object or of another object there, a range of another run)),
            moved AS (UPDATE documents SET file = file || jsonb_build_object('backend', 'new', ...) FROM found
                      WHERE documents.id = key0 AND file = old RETURNING found.*, ...),
            packed AS (INSERT INTO rekey SELECT ..., string_agg(...) FROM moved RETURNING row_count, object_count),
            indexed AS (INSERT INTO rekey_object SELECT DISTINCT hash, ... FROM moved)
            SELECT (SELECT count(*) FROM moved), row_count, object_count FROM packed

        What is recorded is what the UPDATE returns. A row that it does not change is left to the passes. The types of the parts of ``key``, which is that of some row, show how keys are written.
        """
        connection.exec_driver_sql(_SETTINGS)
        found = self._select_found(connection, self._select_named(rows), len(rows.key))
        keys = [found.c[f"key{place}"] for place in range(len(rows.key))]
        listed, name = self._listed.c, found.c.tail
        changes = sa.func.jsonb_build_object(
            "backend", sa.cast(self._rule.destination_key, sa.Text), "filename", sa.cast(self._rule.new, sa.Text).concat(name),
            "size", found.c.size, "etag", found.c.etag, "last_modified", found.c.modified, "version_id", found.c.version,
        )  # fmt: skip
        moved = (
            sa.update(rows.table)
            .where(*(column == key for column, key in zip(rows.key, keys, strict=True)), rows.raw == found.c.old)
            .values({rows.raw: rows.raw.op("||")(changes)})
            .returning(
                *keys, *(found.c[column.name] for column in listed), found.c.fresh, found.c.old, _dump_key(rows, key).label("pk")
            )
            .cte("moved")
        )  # fmt: skip
        packed, indexed = self._insert_range(connection, rows, moved)
        counts = [sa.select(sa.func.count()).select_from(each).scalar_subquery() for each in (moved, indexed)]
        recorded = [sa.func.coalesce(sa.func.sum(each), 0) for each in packed.c]
        changed, _, repointed, objects = map(int, connection.execute(sa.select(*counts, *recorded)).one())
        if changed != repointed:
            raise WrongUpdateError(f"an UPDATE changed {changed} rows, {repointed} were recorded; it was rolled back")
        return repointed, objects

    def _select_named(self, rows: FileColumn) -> sa.CTE:
        """Select rows whose one file has the source's key and the rule's prefix."""
        rule, filename = self._rule, rows.raw.op("->>")(sa.literal_column("'filename'"))
        named: sa.CTE = (
            rows.select(rows.raw.label("ms_value"), sa.func.substr(filename, len(rule.old) + 1).label("ms_tail"))
            .where(
                sa.func.jsonb_typeof(rows.raw) == "object",
                rows.raw.op("->>")(sa.literal_column("'backend'")) == sa.cast(rule.source_key, sa.Text),
                sa.func.jsonb_typeof(rows.raw.op("->")(sa.literal_column("'filename'"))) == "string",
                sa.func.left(filename, len(rule.old)) == rule.old,
            )
            # A transaction that has locked a row is about to write it.
            .with_for_update(key_share=True, skip_locked=True, of=rows.table)
            .cte("ms_named")
        )
        return named

    def _select_found(self, connection: sa.Connection, named: sa.CTE, key_length: int) -> sa.CTE:
        """Select those whose object was listed, with their old values."""
        listed, keys = self._listed, list(named.c)[:key_length]
        of_this_run = self._select_ranges(self._journal.tables.rekey.c.run == sa.cast(self._run, sa.Text))
        return (
            sa.select(
                *(column.label(f"key{place}") for place, column in enumerate(keys)),
                *listed.c,
                named.c.ms_value.label("old"),
                (~of_this_run.exists()).label("fresh"),
            )
            .select_from(named.join(listed, listed.c.tail == named.c.ms_tail))
            .where(*self._without_earlier(connection))
            .cte("found")
        )

    def _select_ranges(self, condition: sa.ColumnElement[bool]) -> Any:
        """Select the ranges that have a listed object and meet a condition.

        The condition is a subquery of its own, so that each object is found by its hash first: few are in a range.
        """
        index, ranges = self._journal.tables.rekey_object, self._journal.tables.rekey
        packed = sa.select(sa.and_(ranges.c.state == "packed", condition)).where(ranges.c.id == index.c.range_id)
        same = (index.c.hash == self._listed.c.hash, packed.correlate(index).scalar_subquery())
        return sa.select(sa.literal_column("1")).select_from(index).where(*same).correlate(self._listed)

    def _without_earlier(self, connection: sa.Connection) -> Iterator[sa.ColumnElement[bool]]:
        """Yield what leaves out the objects that an earlier run recorded: the passes judge them."""
        tables, listed, rule = self._journal.tables, self._listed.c, self._rule
        objects, ranges = tables.object, tables.rekey
        if connection.execute(sa.select(objects.c.id).limit(1)).first() is not None:
            named = json.dumps([rule.destination_key, rule.new + _PLACEHOLDER])
            for column, id_ in ((objects.c.id, listed.id), (objects.c.destination_id, _digest(named, listed.tail))):
                yield ~sa.exists().where(column == id_)
        others = ranges.c.run != sa.cast(self._run, sa.Text)
        if connection.execute(sa.select(ranges.c.id).where(others, ranges.c.state == "packed").limit(1)).first():
            yield ~self._select_ranges(others).exists()

    def _insert_range(self, connection: sa.Connection, rows: FileColumn, moved: sa.CTE) -> tuple[sa.CTE, sa.CTE]:
        """Insert the journal record of a range, and what it is found by."""
        tables, column, c, id_ = self._journal.tables, rows.column, moved.c, sa.cast(new_range_id(), sa.BigInteger)
        order = [c[f"key{place}"] for place in range(len(rows.key))]
        member = sa.func.concat(
            "[", sa.func.concat_ws(
                ",", c.pk, sa.func.concat('"', c.tail, '"'), c.size, _as_json(c.etag), c.modified, _as_json(c.version), _as_json(sa.cast(c.old, sa.Text)),
                sa.case((c.fresh, None), else_="0"),
            ), "]",
        )  # fmt: skip
        members = sa.func.concat("[", sa.func.string_agg(member, ","), "]")
        values = {
            "id": id_, "run": self._run, "table_schema": column.schema, "table_name": column.table, "column_name": column.column,
            "first_key": sa.select(c.pk).order_by(*order).limit(1).scalar_subquery(),
            "last_key": sa.select(c.pk).order_by(*(each.desc() for each in order)).limit(1).scalar_subquery(),
            "row_count": sa.func.count(), "object_count": sa.func.count(c.tail.distinct()).filter(c.fresh), "rule": self._rule.dump(),
            "members": sa.func.convert_to(members, "UTF8"), "state": "packed", "at": self._journal.database.now(connection),
        }  # fmt: skip
        written = sa.select(*_cast_values(tables.rekey, values)).select_from(moved).having(sa.func.count() > 0)
        packed = sa.insert(tables.rekey).from_select(list(values), written).returning(
            tables.rekey.c.row_count, tables.rekey.c.object_count
        )  # fmt: skip
        found_by = sa.select(c.hash, id_).distinct().order_by(c.hash)
        indexed = sa.insert(tables.rekey_object).from_select(["hash", "range_id"], found_by).returning(sa.literal(1))
        return packed.cte("packed"), indexed.cte("indexed")


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


def _as_json(value: sa.ColumnElement[Any]) -> sa.ColumnElement[str]:
    return sa.func.coalesce(sa.cast(sa.func.to_json(value), sa.Text), "null")


def _digest(name: str, part: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    """Compute in SQL the digest of a JSON text, as Python does, with ``part`` in place of its placeholder."""
    before, _, after = name.partition(_PLACEHOLDER_JSON)
    text = sa.cast(before, sa.Text).concat(part).concat(after)
    return sa.func.left(sa.func.encode(sa.func.sha256(sa.func.convert_to(text, "UTF8")), "hex"), 32)


def _cast_values(table: sa.Table, values: Mapping[str, Any]) -> list[sa.ColumnElement[Any]]:
    """Cast a record's values to its columns' types, which PostgreSQL does not guess."""
    return [sa.cast(value, table.c[name].type).label(name) for name, value in values.items()]
