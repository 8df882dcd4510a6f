"""Re-key in bulk: in PostgreSQL one statement re-points a whole range of rows, and journals each of them.

No byte moves, and one listing tells what a look at each object would: where both keys reach one bucket, and the path rule is
"these letters in front go, those come", the database does the rest by itself. It takes only what is as simple as that: one file
in a row, a plain name, an object that was listed, no line of an earlier run. Whatever else there is the passes deal with, one by one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Double,
    Index,
    MetaData,
    String,
    Table,
    Text,
    and_,
    bindparam,
    cast,
    exists,
    false,
    func,
    insert,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY

from migrate_storage.core.errors import RefusedError, RunError
from migrate_storage.core.model import ObjectMeta, OutcomeKind
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.primary_keys import row_head
from migrate_storage.engine.rekey.listing import PrefixListing
from migrate_storage.journal import SAME_PLACE_LISTED, Journal, object_name
from migrate_storage.journal.schema import PREFIX

__all__ = ("PostgresRekey",)

_SPAN = 20_000
"""Rows in one statement."""
_ANY = "\x00"
"""Stands for what the database puts in: no name holds it."""
_ANY_AS_JSON = json.dumps(_ANY)[1:-1]
_KEYS = (int, str, UUID)
"""Types of a key's parts that the database writes down as we do."""


class PostgresRekey:
    """Re-points what it can of a run's rows.

    Args:
        roll: what stands where both keys lead, and the path rule between them.
        journal: in the database of the rows.
        run: the run's id.
    """

    def __init__(self, roll: PrefixListing, journal: Journal, run: str) -> None:
        self._roll, self._journal, self._run = roll, journal, run
        self._route, self._rule = roll.route, roll.rule
        self._seen = Table(
            f"{PREFIX}seen",
            MetaData(schema=journal.tables.schema),
            Column("tail", Text),
            Column("id", String(32)),
            Column("destination_id", String(32)),
            Column("size", BigInteger),
            Column("etag", Text),
            Column("modified", Double),
            Column("version", Text),
            prefixes=["UNLOGGED"],
        )

    def run(
        self, rows: Sequence[FileColumn], most: int, *, turn: Callable[[], bool], told: Callable[[int, int], None]
    ) -> None:
        """Do it.

        Args:
            rows: the columns.
            most: how many rows name the source, about: there is no use in a listing that is much longer.
            turn: called between the steps; whether to go on.
            told: called with the objects and rows of each range.

        Raises:
            RunError: the database fails.
        """
        fitting = [(each, key) for each in rows if each.type == "JSONB" and (key := _key_of(each)) is not None]
        if not fitting:
            return
        with self._staged(most, turn) as believed:
            for part, key in ((part, key) for each, key in fitting for part in each.ranges(_SPAN)) if believed else ():
                if not turn():
                    return
                try:
                    moved, objects = self._journal.database.transaction(partial(self._repoint, rows=part, key=key))
                except RefusedError:
                    continue  # a row that the database refuses is told by itself, in the passes
                if moved:
                    told(objects, moved)

    @contextmanager
    def _staged(self, most: int, turn: Callable[[], bool]) -> Iterator[bool]:
        """The listing as a table of the database while the block runs; whether it is evidence."""
        database, table = self._journal.database, self._seen
        try:
            database.transaction(lambda connection: table.drop(connection, checkfirst=True))
            database.transaction(lambda connection: table.create(connection))
        except RefusedError:
            yield False  # no right to: then it is done row by row
            return
        try:
            yield self._stage(most, turn)
        finally:
            with suppress(RunError):
                database.transaction(lambda connection: table.drop(connection, checkfirst=True))

    def _stage(self, most: int, turn: Callable[[], bool]) -> bool:
        database = self._journal.database

        def take(batch: Sequence[tuple[str, ObjectMeta]]) -> None:
            database.transaction(partial(self._send, found=batch))

        try:
            if not self._roll.fetch(most, turn=turn, take=take):
                return False
            database.transaction(self._index)
        except RefusedError:
            # An object that is there twice: one batch whose commit was not answered, and which was sent again.
            return False
        return True

    def _send(self, connection: Connection, found: Sequence[tuple[str, ObjectMeta]]) -> None:
        seen, (here, there) = self._seen.c, (self._route.source, self._route.destination)
        told = {
            seen.tail: [tail for tail, _ in found],
            seen.size: [meta.size for _, meta in found],
            seen.etag: [meta.e_tag for _, meta in found],
            seen.modified: [meta.last_modified for _, meta in found],
            seen.version: [meta.version for _, meta in found],
        }
        arrays = [bindparam(column.name, values, type_=ARRAY(column.type)) for column, values in told.items()]
        metas_sent = func.unnest(*arrays).table_valued(*(column.name for column in told)).render_derived()
        place = here.place(self._rule.old + _ANY)
        names = {
            seen.id: _digest(object_name(place, there.key), metas_sent.c.tail),
            seen.destination_id: _digest(json.dumps([there.key, self._rule.new + _ANY]), metas_sent.c.tail),
        }
        connection.execute(insert(self._seen).from_select([*told, *names], select(*metas_sent.c, *names.values())))

    def _index(self, connection: Connection) -> None:
        Index(f"{self._seen.name}_tail", self._seen.c.tail, unique=True).create(connection)
        connection.exec_driver_sql(f"ANALYZE {connection.dialect.identifier_preparer.format_table(self._seen)}")

    def _repoint(self, connection: Connection, rows: FileColumn, key: tuple[Any, ...]) -> tuple[int, int]:
        """Re-point one range; how many rows were, and how many objects came into the journal with them.

        Args:
            connection: in a transaction.
            rows: the range.
            key: of some row of the column.
        """
        rule, seen, run = self._rule, self._seen, cast(self._run, Text)
        here, there = (cast(side.key, Text) for side in (self._route.source, self._route.destination))
        objects, lines = self._journal.tables.object, self._journal.tables.row
        filename = rows.raw.op("->>")(literal_column("'filename'"))
        tail = func.substr(filename, len(rule.old) + 1)
        # Who has a row locked is about to write it: it waits for a pass.
        named = (
            rows.select(rows.raw.label("ms_value"), tail.label("ms_tail"))
            .where(
                func.jsonb_typeof(rows.raw) == "object",
                rows.raw.op("->>")(literal_column("'backend'")) == here,
                func.jsonb_typeof(rows.raw.op("->")(literal_column("'filename'"))) == "string",
                func.left(filename, len(rule.old)) == rule.old,
            )
            .with_for_update(key_share=True, skip_locked=True, of=rows.table)
            .cte("ms_named")
        )
        other = objects.alias()
        changes = func.jsonb_build_object(
            "backend", there, "filename", cast(rule.new, Text).concat(seen.c.tail), "size", seen.c.size, "etag", seen.c.etag,
            "last_modified", seen.c.modified, "version_id", seen.c.version,
        )  # fmt: skip
        found = (
            select(
                *(named.c[column.name].label(f"key{place}") for place, column in enumerate(rows.key)),
                *seen.c,
                named.c.ms_value.label("old"),
                named.c.ms_value.op("||")(changes).label("new"),
                objects.c.id.is_(None).label("fresh"),
            )
            .select_from(named.join(seen, seen.c.tail == named.c.ms_tail).outerjoin(objects, objects.c.id == seen.c.id))
            .where(
                # What an earlier run wrote down of it wants to be weighed.
                or_(
                    objects.c.id.is_(None),
                    and_(
                        objects.c.run == run,
                        objects.c.state == "held",
                        objects.c.destination_id == seen.c.destination_id,
                    ),
                ),
                ~exists().where(other.c.destination_id == seen.c.destination_id, other.c.id != seen.c.id),
            )
            .cte("found")
        )
        keys = [found.c[f"key{place}"] for place in range(len(rows.key))]
        moved = (
            update(rows.table)
            .where(*(column == key for column, key in zip(rows.key, keys, strict=True)))
            .values({rows.raw: found.c.new})
            .returning(*found.c, _dumped(rows, key).label("pk"))
            .cte("moved")
        )
        now, of, c = cast(time.time(), Double), rows.column, moved.c
        object_line = {
            "id": c.id, "run": run, "source_key": here, "source_path": cast(rule.old, Text).concat(c.tail), "destination_key": there,
            "destination_path": cast(rule.new, Text).concat(c.tail), "destination_id": c.destination_id, "state": "held", "ours": false(),
            "outcome": OutcomeKind.REWRITTEN.value, "evidence": SAME_PLACE_LISTED, "size": c.size, "source_etag": c.etag, "source_modified": c.modified,
            "source_version": c.version, "destination_etag": c.etag, "destination_modified": c.modified,
            "destination_version": c.version, "updated": now,
        }  # fmt: skip
        row_line = {
            "run": run, "table_schema": of.schema, "table_name": of.table, "column_name": of.column, "pk": c.pk,
            "row_id": _digest(f"{row_head(of)}{_ANY_AS_JSON}]", cast(func.to_json(c.pk), Text)),
            "objects": func.concat('["', c.id, '"]'), "old_value": cast(c.old, Text), "new_value": cast(c.new, Text), "state": "swapped",
            "at": now,
        }  # fmt: skip
        fresh = select(*_typed(objects, object_line)).where(c.fresh).distinct()
        added = insert(objects).from_select(list(object_line), fresh).returning(objects.c.id).cte("added")
        told = (
            insert(lines)
            .from_select(list(row_line), select(*_typed(lines, row_line)))
            .returning(lines.c.id)
            .cte("told")
        )
        counts = [select(func.count()).select_from(each).scalar_subquery() for each in (told, added)]
        swapped, journaled = connection.execute(select(*counts)).one()
        return int(swapped), int(journaled)


def _key_of(rows: FileColumn) -> tuple[Any, ...] | None:
    """The key of some row, where the database writes such keys down as we do."""
    for row in rows.sample(1):
        if all(isinstance(part, _KEYS) and not isinstance(part, bool) for part in row.pk):
            return row.pk
    return None


def _dumped(rows: FileColumn, key: tuple[Any, ...]) -> ColumnElement[str]:
    """A row's key as :func:`migrate_storage.database.primary_keys.dump_key` has it."""
    parts: list[ColumnElement[Any]] = []
    for column, part in zip(rows.key, key, strict=True):
        written = cast(func.to_json(column), Text)
        parts.append(func.concat('{"uuid":', written, "}") if isinstance(part, UUID) else written)
    return func.concat("[", func.concat_ws(",", *parts), "]")


def _digest(name: str, part: ColumnElement[str]) -> ColumnElement[str]:
    """As :func:`migrate_storage.database.primary_keys.digest_of`, by the database, of a JSON text in which ``part`` stands for ``_ANY``."""
    before, _, after = name.partition(_ANY_AS_JSON)
    named = cast(before, Text).concat(part).concat(after)
    return func.left(func.encode(func.sha256(func.convert_to(named, "UTF8")), "hex"), 32)


def _typed(table: Table, line: Mapping[str, Any]) -> list[ColumnElement[Any]]:
    """What a line holds, each in its column's type: an unknown one the database does not guess."""
    return [cast(value, table.c[name].type).label(name) for name, value in line.items()]
