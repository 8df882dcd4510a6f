"""The lines of rows: what was re-pointed and what was put back, in the transaction that does it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from migrate_storage.core.model import Column
from migrate_storage.database.primary_keys import dump_key, row_id, row_id_of
from migrate_storage.journal.base import Repository, parts
from migrate_storage.journal.records import RowRecord

__all__ = ("RowRepository",)


class RowRepository(Repository):
    """The lines of rewritten rows."""

    def write(self, connection: Connection, entries: Sequence[RowRecord]) -> None:
        """Add lines of rewritten rows, in the caller's transaction.

        What a line of the same run says already is not said twice: a commit whose answer was lost is tried again.
        Another run's line is no reason to be silent: the row may have come back word for word between the two, and
        each run is undone by its own lines.
        """
        said = self.runs_that_recorded(connection, entries)
        self.add(connection, [each for each, runs in zip(entries, said, strict=True) if each.run not in runs])

    def add(self, connection: Connection, entries: Sequence[RowRecord]) -> None:
        """Add lines that were found not to be there, see :meth:`said`, in the caller's transaction."""
        if entries:
            now = time.time()
            connection.execute(insert(self.tables.row), [_line(entry, now) for entry in entries])

    def runs_that_recorded(self, connection: Connection, entries: Sequence[RowRecord]) -> list[set[str]]:
        """For each of these rewrites the runs whose lines say it, in the caller's transaction."""
        table = self.tables.row
        states = {"swapped", *(entry.state for entry in entries)}
        ids = [row_id(entry.column, entry.pk) for entry in entries]
        found: dict[tuple[str, str, str], set[str]] = {}
        for part in parts(ids):
            statement = select(table.c.run, table.c.row_id, table.c.old_value, table.c.new_value)
            for line in connection.execute(statement.where(table.c.row_id.in_(part), table.c.state.in_(states))):
                found.setdefault((line.row_id, line.old_value, line.new_value), set()).add(line.run)
        return [
            found.get((id_, entry.old_value, entry.new_value), set()) for id_, entry in zip(ids, entries, strict=True)
        ]

    def settle(self, connection: Connection, entry: RowRecord) -> None:
        """Bring a row's line that still is an intent of its run up to date, in the caller's transaction."""
        table = self.tables.row
        statement = update(table).where(
            table.c.row_id == row_id(entry.column, entry.pk), table.c.run == entry.run, table.c.state == "intent"
        )
        connection.execute(statement.values(state=entry.state, new_value=entry.new_value))

    def set_state(self, line: int, state: str) -> None:
        """Change the state of one line of a row, by the line's own id."""
        table = self.tables.row
        statement = update(table).where(table.c.id == line).values(state=state)
        self.database.transaction(lambda connection: connection.execute(statement))

    def in_state(
        self, state: str, *, run: str | None = None, since: float | None = None, size: int = 500
    ) -> Iterator[list[dict[str, Any]]]:
        """Lines of rows in one state, in the order they were written, batch by batch; each has the table's columns."""
        table = self.tables.row
        last = 0
        while True:
            statement = select(table).where(table.c.state == state, table.c.id > last).order_by(table.c.id).limit(size)
            if run is not None:
                statement = statement.where(table.c.run == run)
            if since is not None:
                statement = statement.where(table.c.at >= since)
            batch = self._read(statement)
            if batch:
                yield batch
            if len(batch) < size:
                return
            last = batch[-1]["id"]

    def repointed(self, runs: Sequence[str], *, size: int = 500) -> Iterator[list[dict[str, Any]]]:
        """The lines of each row that these runs re-pointed, row by row: all of its lines that were not undone."""
        table = self.tables.row
        last = ""
        while True:
            wanted = select(table.c.row_id).where(
                table.c.run.in_(runs), table.c.state == "swapped", table.c.row_id > last
            )
            names = [line["row_id"] for line in self._read(wanted.distinct().order_by(table.c.row_id).limit(size))]
            if not names:
                return
            statement = select(table).where(
                table.c.row_id.in_(names), table.c.run.in_(runs), table.c.state == "swapped"
            )
            groups: dict[str, list[dict[str, Any]]] = {}
            for line in self._read(statement.order_by(table.c.row_id, table.c.id)):
                groups.setdefault(line["row_id"], []).append(line)
            yield from groups.values()
            last = names[-1]

    def reverted(self, connection: Connection, lines: Sequence[int]) -> None:
        """Mark lines of rows as undone just now, in the caller's transaction."""
        table = self.tables.row
        for part in parts(lines):
            connection.execute(update(table).where(table.c.id.in_(part)).values(state="reverted", at=time.time()))

    def count_by_column(self, run: str) -> list[tuple[Column, str, int]]:
        """How many lines of rows a run has for each column, by their state."""
        table = self.tables.row
        names = (table.c.table_schema, table.c.table_name, table.c.column_name, table.c.state)
        statement = select(*names, func.count().label("lines")).where(table.c.run == run)
        return [
            (
                Column(table=line["table_name"], column=line["column_name"], schema=line["table_schema"], key=()),
                str(line["state"]),
                int(line["lines"]),
            )
            for line in self._read(statement.group_by(*names).order_by(*names))
        ]

    def count_repointed(self, run: str) -> int:
        """How many columns of rows a run re-pointed."""
        table = self.tables.row
        statement = select(func.count(table.c.row_id.distinct()).label("moved"))
        return int(self._read(statement.where(table.c.run == run, table.c.state == "swapped"))[0]["moved"])

    def of_object(self, id_: str, *, run: str | None = None) -> list[dict[str, Any]]:
        """Lines of the rows that were re-pointed to one object, by one run or any."""
        table = self.tables.row
        statement = (
            select(table).where(table.c.state == "swapped", table.c.objects.like(f'%"{id_}"%')).order_by(table.c.id)
        )
        if run is not None:
            statement = statement.where(table.c.run == run)
        return self._read(statement)

    def history(self, row: str) -> list[dict[str, Any]]:
        """All lines of one row, oldest first."""
        table = self.tables.row
        return self._read(select(table).where(table.c.row_id == row).order_by(table.c.id))

    def last_repointed(self, runs: Sequence[str]) -> float | None:
        """When one of these runs last re-pointed a row, in seconds since the epoch."""
        table = self.tables.row
        found: list[Any] = []
        for part in parts(runs):
            statement = select(func.max(table.c.at).label("last")).where(
                table.c.run.in_(part), table.c.state == "swapped"
            )
            found.extend(line["last"] for line in self._read(statement))
        return max((float(each) for each in found if each is not None), default=None)


def _line(entry: RowRecord, now: float) -> dict[str, Any]:
    pk, of = dump_key(entry.pk), entry.column
    return {
        "run": entry.run,
        "table_schema": of.schema,
        "table_name": of.table,
        "column_name": of.column,
        "pk": pk,
        "row_id": row_id_of(of, pk),
        "objects": json.dumps(entry.objects),
        "old_value": entry.old_value,
        "new_value": entry.new_value,
        "state": entry.state,
        "at": now,
    }
