"""Access to the journal's tables in short transactions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import Column, ColumnElement, Connection, Executable, Select, Table
from sqlalchemy.exc import IntegrityError

from migrate_storage.core.errors import RefusedError
from migrate_storage.database.connection import Database
from migrate_storage.database.row_sets import select_where_in
from migrate_storage.journal.schema import Tables

__all__ = ("IN_LIST_IDS", "Repository", "id_batches")

T = TypeVar("T")

IN_LIST_IDS = 400
"""Ids in one IN list: below every database's limit on parameters."""


class Repository:
    """Reads and writes the records of one table, in a short transaction each call.

    Methods with a ``connection`` run in the transaction of the caller.

    Args:
        database: the database of the tables.
        tables: the journal's tables.
        table: the table of the records.
    """

    def __init__(self, database: Database, tables: Tables, table: Table) -> None:
        self.database, self.tables, self.table = database, tables, table
        #: Its columns.
        self.c = table.c

    def _read(self, statement: Select[Any]) -> list[dict[str, Any]]:
        return self.database.transaction(
            lambda connection: [dict(row) for row in connection.execute(statement).mappings()]
        )

    def _read_batches(
        self, statement: Select[Any], key: ColumnElement[Any], start: str | int, size: int
    ) -> Iterator[list[dict[str, Any]]]:
        """The rows in the order of a unique column from above ``start``, at most ``size`` in a list and a transaction."""
        last = start
        while True:
            batch = self._read(statement.where(key > last).order_by(key).limit(size))
            if batch:
                yield batch
            if len(batch) < size:
                return
            last = batch[-1][str(key.key)]

    def _write(self, statement: Executable) -> int:
        """Run one statement; return how many rows it changed."""
        return self.database.transaction(lambda connection: int(connection.execute(statement).rowcount))

    def _write_at(self, statement: Callable[[float], Executable]) -> int:
        """As :meth:`_write`, with a statement that is given the database's time."""
        return self.database.transaction(
            lambda connection: int(connection.execute(statement(self.database.now(connection))).rowcount)
        )

    def _select_where_in(
        self, connection: Connection, statement: Select[Any], column: Column[Any], values: Iterable[str]
    ) -> Iterator[Any]:
        """Yield what a SELECT finds where a column has one of these values."""
        return select_where_in(connection, self.database.dialect.sets, statement, column, values)

    def _retry_on_conflict(self, work: Callable[[Connection], T]) -> T:
        """Run a transaction, once more if another process inserted the same record first."""
        try:
            return self.database.transaction(work)
        except RefusedError as error:
            if not isinstance(error.__cause__, IntegrityError):
                raise
            return self.database.transaction(work)


def id_batches(ids: Sequence[T]) -> Iterator[Sequence[T]]:
    """Ids in lists that fit into one statement each."""
    for start in range(0, len(ids), IN_LIST_IDS):
        yield ids[start : start + IN_LIST_IDS]
