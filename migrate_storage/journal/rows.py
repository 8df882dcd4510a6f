"""The records of rows, written in the transaction that updates the rows."""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, bindparam, func, select, update

from migrate_storage.core.model import Column
from migrate_storage.core.spill import SpilledSet, SpilledSort
from migrate_storage.database.connection import Database
from migrate_storage.database.primary_keys import dump_key, row_id
from migrate_storage.database.row_sets import insert_rows
from migrate_storage.journal.base import IN_LIST_IDS, Repository, id_batches
from migrate_storage.journal.records import RowRecord, dump_texts
from migrate_storage.journal.rekeyed import RekeyedRepository
from migrate_storage.journal.schema import Tables
from migrate_storage.journal.states import RowState

__all__ = ("RowRepository",)


class RowRepository(Repository):
    """The records of re-pointed rows, read as dictionaries of the table's columns; those in the range of a re-key have no ``id``.

    What is packed is always read first. A range that is unpacked meanwhile is then read twice, and never missed.
    """

    def __init__(self, database: Database, tables: Tables, rekeyed: RekeyedRepository) -> None:
        super().__init__(database, tables, tables.row)
        self._rekeyed = rekeyed

    def add(self, connection: Connection, records: Sequence[RowRecord]) -> None:
        """Insert records."""
        if records:
            now = self.database.now(connection)
            insert_rows(
                connection, self.database.dialect.sets, self.table, [_to_row(record, now) for record in records]
            )

    def add_missing(self, connection: Connection, records: Sequence[RowRecord]) -> None:
        """Insert the records that the same run has not written yet.

        A commit whose answer was lost is tried again, and must not write a record twice. A record of another run does
        not count. The row may have got its old value back between the two, and each run is reverted by its own records.
        """
        runs = self.runs_that_recorded(connection, records)
        self.add(connection, [record for record, known in zip(records, runs, strict=True) if record.run not in known])

    def runs_that_recorded(self, connection: Connection, records: Sequence[RowRecord]) -> list[set[str]]:
        """For each of these re-points the runs that recorded it."""
        self._rekeyed.unpack_objects(connection, [id_ for record in records for id_ in record.objects])
        states = {RowState.REPOINTED, *(record.state for record in records)}
        statement = select(self.c.run, self.c.row_id, self.c.old_value, self.c.new_value)
        statement = statement.where(self.c.state.in_(sorted(states)))
        found: dict[tuple[str, str, str], set[str]] = {}
        for row in self._select_where_in(connection, statement, self.c.row_id, [each.row_id for each in records]):
            found.setdefault((row.row_id, row.old_value, row.new_value), set()).add(row.run)
        return [found.get((each.row_id, each.old_value, each.new_value), set()) for each in records]

    def complete_intents(self, connection: Connection, records: Sequence[RowRecord]) -> None:
        """Set the states and the new values of records that still are intents of their run."""
        same = (self.c.row_id == bindparam("v_row"), self.c.run == bindparam("v_run"), self.c.state == RowState.INTENT)
        statement = update(self.table).where(*same).values(state=bindparam("v_state"), new_value=bindparam("v_value"))
        values = [
            {"v_row": each.row_id, "v_run": each.run, "v_state": each.state, "v_value": each.new_value}
            for each in records
        ]
        if values:
            connection.execute(statement, values)

    def mark_reverted(self, connection: Connection, ids: Sequence[int]) -> None:
        """Mark records as reverted now."""
        for batch in id_batches(ids):
            changes = {"state": RowState.REVERTED, "at": self.database.now(connection)}
            connection.execute(update(self.table).where(self.c.id.in_(batch)).values(changes))

    def set_state(self, id_: int, state: str, new_value: str | None = None) -> None:
        """Change the state of one record, and the new value if one is given."""
        changes = {"state": state} if new_value is None else {"state": state, "new_value": new_value}
        self._write(update(self.table).where(self.c.id == id_).values(changes))

    def in_state(
        self, state: str, *, run: str | None = None, since: float | None = None, size: int = 500
    ) -> Iterator[list[dict[str, Any]]]:
        """The records in one state, in batches. Those that are packed come first; ``since`` leaves them out."""
        if state == RowState.REPOINTED and since is None:
            yield from self._rekeyed.rows(*([run] if run is not None else []))
        statement = select(self.table).where(self.c.state == state)
        if run is not None:
            statement = statement.where(self.c.run == run)
        if since is not None:
            statement = statement.where(self.c.at >= since)
        yield from self._read_batches(statement, self.c.id, 0, size)

    def of_row(self, column: Column, pk: Sequence[Any]) -> list[dict[str, Any]]:
        """All records of one row, the oldest first."""
        packed = self._rekeyed.rows_of(column, dump_key(pk))
        statement = select(self.table).where(self.c.row_id == row_id(column, pk)).order_by(self.c.id)
        return sorted([*packed, *self._read(statement)], key=_time_of)

    def of_object(self, id_: str, *, run: str | None = None) -> list[dict[str, Any]]:
        """The records of the rows that were re-pointed to one object, by one run or any."""
        packed = [row for row in self._rekeyed.rows_of_object(id_) if run in (None, row["run"])]
        statement = select(self.table).where(self.c.state == RowState.REPOINTED, self.c.objects.like(f'%"{id_}"%'))
        if run is not None:
            statement = statement.where(self.c.run == run)
        return sorted([*packed, *self._read(statement.order_by(self.c.id))], key=_time_of)

    def repointed_by(self, runs: Sequence[str], *, size: int = 500) -> Iterator[list[dict[str, Any]]]:
        """For each row that these runs re-pointed its records that were not reverted, the oldest first."""
        with SpilledSort() as packed:
            for rows in self._rekeyed.rows(*runs):
                packed.add((row["row_id"], row) for row in rows)
            both = heapq.merge(packed, self._repointed_by(runs, size), key=itemgetter(0))
            for _, records in groupby(both, key=itemgetter(0)):
                yield sorted((record for _, record in records), key=_time_of)

    def _repointed_by(self, runs: Sequence[str], size: int) -> Iterator[tuple[str, dict[str, Any]]]:
        """The records that have rows of this table, by the row's digest."""
        repointed = (self.c.run.in_(runs), self.c.state == RowState.REPOINTED)
        for batch in self._read_batches(select(self.c.row_id).where(*repointed).distinct(), self.c.row_id, "", size):
            statement = select(self.table).where(self.c.row_id.in_([row["row_id"] for row in batch]), *repointed)
            # Not every database orders texts as Python does.
            records = sorted(self._read(statement.order_by(self.c.id)), key=itemgetter("row_id"))
            yield from ((record["row_id"], record) for record in records)

    def count_by_column(self, run: str) -> list[tuple[Column, str, int]]:
        """The number of records of a run for each column and state."""
        names = (self.c.table_schema, self.c.table_name, self.c.column_name, self.c.state)
        statement = select(*names, func.count().label("records")).where(self.c.run == run)
        packed = ((*name, RowState.REPOINTED, count) for name, count in self._rekeyed.count_rows(run).items())
        counts = Counter[tuple[str | None, str, str, str]]()
        for *name, state, count in (*packed, *(row.values() for row in self._read(statement.group_by(*names)))):
            counts[(*name, state)] += int(count)
        return [
            (Column(table=table, column=column, schema=schema, key=()), state, count)
            for (schema, table, column, state), count in sorted(counts.items(), key=str)
        ]

    def count_repointed(self, run: str) -> int:
        """How many columns of rows a run re-pointed."""
        statement = select(func.count(self.c.row_id.distinct()).label("repointed"))
        repointed = self._read(statement.where(self.c.run == run, self.c.state == RowState.REPOINTED))[0]["repointed"]
        return int(repointed) + sum(self._rekeyed.count_rows(run).values())

    def last_repointed(self, runs: Sequence[str]) -> float | None:
        """When one of these runs last re-pointed a row, in seconds since the epoch."""
        times: list[Any] = [self._rekeyed.last(runs)]
        for batch in id_batches(runs):
            statement = select(func.max(self.c.at).label("last"))
            rows = self._read(statement.where(self.c.run.in_(batch), self.c.state == RowState.REPOINTED))
            times.extend(row["last"] for row in rows)
        return max((float(time_) for time_ in times if time_ is not None), default=None)

    def released_objects(self) -> Iterator[list[str]]:
        """Ids of the objects that only reverted rows named, in batches for a statement."""
        with SpilledSet() as released:
            released.add(self._read_objects(RowState.REVERTED))
            for state in (RowState.REPOINTED, RowState.INTENT):
                released.discard(self._read_objects(state))
            yield from released.batches(IN_LIST_IDS)

    def _read_objects(self, state: str) -> Iterator[str]:
        return (id_ for batch in self.in_state(state) for row in batch for id_ in json.loads(row["objects"]))


def _time_of(record: Mapping[str, Any]) -> float:
    return float(record["at"])


def _to_row(record: RowRecord, now: float) -> dict[str, Any]:
    column = record.column
    return {
        "run": record.run, "state": record.state, "at": now,
        "table_schema": column.schema, "table_name": column.table, "column_name": column.column,
        "pk": record.dumped_pk, "row_id": record.row_id,
        "objects": dump_texts(record.objects), "old_value": record.old_value, "new_value": record.new_value,
    }  # fmt: skip
