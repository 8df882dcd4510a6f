"""The records of re-keyed ranges, and the records of rows and objects that are packed in them.

A range is written in the transaction that re-points its rows. It is only read as long as nothing changes in it. Whatever is to
change the record of one of its objects or rows first gives all of them records of their own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, fields
from functools import partial
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Select, func, insert, select, text, update

from migrate_storage.core.model import Column, Location
from migrate_storage.database.connection import Database
from migrate_storage.database.row_sets import insert_rows
from migrate_storage.journal.base import Repository
from migrate_storage.journal.records import ObjectRecord, digest
from migrate_storage.journal.rekey_ranges import (
    RekeyMember,
    RekeyRange,
    RekeyRule,
    hash_of,
    list_objects,
    list_rows,
    unpack_members,
)
from migrate_storage.journal.schema import Tables

__all__ = ("RekeyedRepository",)

_COLUMNS = tuple(column.name for column in fields(RekeyRange))
_KEPT_RANGES = 4
"""Ranges whose members a repository keeps in memory."""
_PACKED = "packed"
STATEMENT_HASHES = 2_000
"""Hashes in one statement: numbers in its text, for so many parameters take longer than all else."""


class RekeyedRepository(Repository):
    """The records of re-keyed ranges.

    Args:
        database: the database of the tables.
        tables: the journal's tables.
    """

    def __init__(self, database: Database, tables: Tables) -> None:
        super().__init__(database, tables, tables.rekey)
        self._index = tables.rekey_object
        self._kept: dict[int, dict[str, ObjectRecord]] = {}

    def add(self, connection: Connection, of: RekeyRange, ids: Iterable[str]) -> None:
        """Insert a range.

        Args:
            connection: in the transaction that re-points its rows.
            of: the range; its time is set here.
            ids: the ids of all its objects.
        """
        connection.execute(insert(self.table), {**asdict(of), "at": self.database.now(connection)})
        hashes = sorted({hash_of(id_) for id_ in ids})
        for start in range(0, len(hashes), STATEMENT_HASHES):
            values = ", ".join(f"({each}, {of.id})" for each in hashes[start : start + STATEMENT_HASHES])
            table = connection.dialect.identifier_preparer.format_table(self._index)
            connection.exec_driver_sql(f"INSERT INTO {table} (hash, range_id) VALUES {values}")

    def find_runs(self, connection: Connection, ids: Sequence[str]) -> dict[str, set[str]]:
        """For those of some objects that a range has, the runs of these ranges, by id."""
        runs: dict[int, set[str]] = {}
        for hash_, run in self._select_by_hash(connection, ids, self._index.c.hash, self.c.run):
            runs.setdefault(hash_, set()).add(run)
        return {id_: found for id_ in ids if (found := runs.get(hash_of(id_)))}

    def gives_other_places(self, rule: RekeyRule) -> bool:
        """Whether a range has objects under the destination's key that a rule would expect at other places.

        The key may have been registered for another place then.
        """
        rules = self.database.transaction(self._read_rules)
        return any(
            each.destination_key == rule.destination_key and each.destination_root != rule.destination_root
            for each in rules
        )

    # -- objects

    def find(self, connection: Connection, ids: Sequence[str]) -> dict[str, ObjectRecord]:
        """The packed records of these objects, by id, where there are any."""
        found: dict[str, ObjectRecord] = {}
        for number in self._find_ranges(connection, ids):
            objects = self._read_objects(connection, number)
            found.update((id_, objects[id_]) for id_ in ids if id_ in objects)
        return found

    def at_destinations(self, connection: Connection, locations: Sequence[Location]) -> dict[Location, ObjectRecord]:
        """The packed records of the copies at these locations, where there are any."""
        records = self.find(connection, self._find_owners(connection, locations))
        wanted = set(locations)
        return {each.destination: each for each in records.values() if each.destination in wanted}

    def objects(self, run: str | None = None) -> Iterator[list[ObjectRecord]]:
        """The packed records of objects, of one run or all, a range at a time."""
        for of in self._ranges(*([self.c.run == run] if run is not None else [])):
            yield list(list_objects(of, unpack_members(of.members)))

    def count_objects(self, run: str) -> int:
        """How many objects of a run are packed."""
        return self._sum(self.c.object_count, run)

    # -- rows

    def rows(self, *runs: str) -> Iterator[list[dict[str, Any]]]:
        """The packed records of rows, of some runs or all, a range at a time."""
        for of in self._ranges(*([self.c.run.in_(runs)] if runs else [])):
            yield list(list_rows(of, unpack_members(of.members)))

    def rows_of(self, column: Column, dumped: str) -> list[dict[str, Any]]:
        """The packed records of one row, whose key :func:`.dump_key` wrote."""
        pk, c = json.loads(dumped), self.c
        of = (c.table_schema == column.schema, c.table_name == column.table, c.column_name == column.column)
        return list(self._rows_where(lambda _, member: member.pk == pk, *of))

    def _rows_where(
        self, wanted: Callable[[RekeyRule, RekeyMember], bool], *conditions: Any
    ) -> Iterator[dict[str, Any]]:
        """The packed records of those rows that are wanted, in ranges that meet conditions."""
        for of in self._ranges(*conditions):
            rule = RekeyRule.load(of.rule)
            yield from list_rows(of, (each for each in unpack_members(of.members) if wanted(rule, each)))

    def rows_of_object(self, id_: str) -> list[dict[str, Any]]:
        """The packed records of the rows that were re-pointed to one object."""
        numbers = self.database.transaction(lambda connection: self._find_ranges(connection, [id_]))
        if not numbers:
            return []
        return list(self._rows_where(lambda rule, member: rule.id_of(member.tail) == id_, self.c.id.in_(numbers)))

    def count_rows(self, run: str) -> dict[tuple[str | None, str, str], int]:
        """How many rows of a run are packed, by schema, table and column."""
        names = (self.c.table_schema, self.c.table_name, self.c.column_name)
        statement = select(*names, func.sum(self.c.row_count).label("records")).group_by(*names)
        rows = self._read(statement.where(self.c.run == run, self.c.state == _PACKED))
        return {(row["table_schema"], row["table_name"], row["column_name"]): int(row["records"]) for row in rows}

    def last(self, runs: Sequence[str]) -> float | None:
        """When one of these runs last wrote a range that is packed, in seconds since the epoch."""
        statement = select(func.max(self.c.at).label("last")).where(self.c.state == _PACKED, self.c.run.in_(runs))
        found: float | None = self._read(statement)[0]["last"]
        return found

    # -- records of their own

    def any(self, connection: Connection) -> bool:
        """Whether anything is packed."""
        statement = select(self.c.id).where(self.c.state == _PACKED).limit(1)
        return connection.execute(statement).first() is not None

    def unpack_objects(self, connection: Connection, ids: Sequence[str], destinations: Sequence[Location] = ()) -> None:
        """Give all rows and objects of the ranges that have one of these objects records of their own.

        Args:
            connection: in the transaction that is to change a record.
            ids: ids of the objects.
            destinations: of which no object that is packed may be the owner unseen.
        """
        if not self.any(connection):
            return
        owners = self._find_owners(connection, destinations)
        for number in self._find_ranges(connection, [*ids, *owners]):
            self._unpack(connection, number)

    def unpack_runs(self, runs: Sequence[str]) -> Iterator[None]:
        """Give all rows and objects that these runs re-keyed records of their own, one range for each ``next``."""
        statement = select(self.c.id).where(self.c.run.in_(runs), self.c.state == _PACKED)
        for row in self._read(statement.order_by(self.c.id)):
            self.database.transaction(partial(self._unpack, number=row["id"]))
            yield

    def _unpack(self, connection: Connection, number: int) -> None:
        packed = (self.c.id == number, self.c.state == _PACKED)
        if connection.execute(update(self.table).where(*packed).values(state="unpacked")).rowcount != 1:
            return  # another process unpacked it
        of, sets = self._read_range(connection, number), self.database.dialect.sets
        members = unpack_members(of.members)
        objects = {record.id: record for record in list_objects(of, members)}
        if objects:
            values = [
                {**asdict(each), "destination_id": digest(each.destination_key, each.destination_path)}
                for each in objects.values()
            ]
            insert_rows(connection, sets, self.tables.object, sorted(values, key=itemgetter("id")))
        insert_rows(connection, sets, self.tables.row, list(list_rows(of, members)))

    def _find_owners(self, connection: Connection, destinations: Sequence[Location]) -> list[str]:
        """Ids of the objects that a range may have at these destinations."""
        if not destinations or not self.any(connection):
            return []
        rules = self._read_rules(connection)
        tails = ((rule, rule.find_tail(each)) for each in destinations for rule in rules)
        return list(dict.fromkeys(rule.id_of(tail) for rule, tail in tails if tail is not None))

    def _read_rules(self, connection: Connection) -> list[RekeyRule]:
        statement = select(self.c.rule).where(self.c.state == _PACKED).distinct()
        return [RekeyRule.load(text) for text in connection.execute(statement).scalars()]

    def _find_ranges(self, connection: Connection, ids: Sequence[str]) -> list[int]:
        """The numbers of the ranges that may have one of these objects: two objects may have one hash."""
        return sorted({number for (number,) in self._select_by_hash(connection, ids, self.c.id)})

    def _select_by_hash(self, connection: Connection, ids: Sequence[str], *columns: Any) -> Iterator[tuple[Any, ...]]:
        """Yield columns of the ranges that may have one of these objects, once for each hash."""
        statement = select(*columns).join_from(self._index, self.table, self.c.id == self._index.c.range_id)
        for start in range(0, len(ids), STATEMENT_HASHES) if ids and self.any(connection) else ():
            hashes = ", ".join(str(hash_of(id_)) for id_ in ids[start : start + STATEMENT_HASHES])
            within = statement.where(text(f"hash IN ({hashes})"), self.c.state == _PACKED)
            # Another text each time, which is not worth keeping.
            yield from map(tuple, connection.execute(within, execution_options={"compiled_cache": None}))

    def _read_objects(self, connection: Connection, number: int) -> dict[str, ObjectRecord]:
        """The records of a range's objects, by id. What a range has never changes."""
        objects = self._kept.get(number)
        if objects is None:
            of = self._read_range(connection, number)
            objects = {each.id: each for each in list_objects(of, unpack_members(of.members))}
            self._kept = dict([*self._kept.items(), (number, objects)][-_KEPT_RANGES:])
        return objects

    def _read_range(self, connection: Connection, number: int) -> RekeyRange:
        return RekeyRange(**connection.execute(self._select().where(self.c.id == number)).mappings().one())

    def _ranges(self, *conditions: Any) -> Iterator[RekeyRange]:
        statement = self._select().where(self.c.state == _PACKED, *conditions)
        for batch in self._read_batches(statement, self.c.id, -1, 1):
            yield from (RekeyRange(**row) for row in batch)

    def _select(self) -> Select[Any]:
        return select(*(self.c[name] for name in _COLUMNS))

    def _sum(self, column: Any, run: str) -> int:
        statement = select(func.coalesce(func.sum(column), 0).label("sum"))
        return int(self._read(statement.where(self.c.run == run, self.c.state == _PACKED))[0]["sum"])
