"""Rows of one of our tables, written and found many at a time.

Where the server reads JSON as a table, all rows of a statement go as one parameter. That costs this process a tenth of
binding each value of each row. Elsewhere the driver's ``executemany`` and ``IN`` do the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any

import sqlalchemy
from sqlalchemy import Column, Connection, Executable, Select, Table, bindparam, insert, select, update

from migrate_storage.core.errors import RefusedError
from migrate_storage.database.dialects.sets import RowSets

__all__ = (
    "IN_LIST_VALUES",
    "SET_ROWS",
    "execute_many",
    "fitting_batches",
    "insert_rows",
    "select_where_in",
    "update_rows",
)

IN_LIST_VALUES = 400
"""Values in one IN list: below every database's limit on parameters."""
SET_ROWS = 5_000
"""Rows in one statement, and values that one statement searches for."""

_Values = Mapping[str, Any]


def insert_rows(connection: Connection, sets: RowSets, table: Table, rows: Sequence[_Values]) -> None:
    """Insert rows, in their order.

    Args:
        connection: in a transaction.
        sets: how the database takes rows as one parameter.
        table: one of our tables.
        rows: all with the same columns.

    Raises:
        RefusedError: the database inserted another number of rows.
    """
    for batch in _split_rows(connection, sets, table, rows):
        names = tuple(batch[0])
        if len(batch) == 1 or not sets.are_written(connection):
            execute_many(connection, _insert_one(table, names), batch, prefix="v_")
            continue
        given = sets.given({name: table.c[name].type for name in names})
        statement = insert(table).from_select(names, select(*(given.c[name] for name in names)))
        inserted = connection.execute(statement, {"rows": sets.dump(batch)}).rowcount
        if inserted not in (len(batch), -1):
            reason = f"an INSERT of {len(batch)} rows into {table.name} inserted {inserted}; it was rolled back"
            raise RefusedError(reason, reason)


def update_rows(connection: Connection, sets: RowSets, table: Table, key: str, rows: Sequence[_Values]) -> None:
    """Set columns of the rows with these keys, where there are such rows.

    Args:
        connection: in a transaction.
        sets: how the database takes rows as one parameter.
        table: one of our tables.
        key: its unique column; no two of the rows have the same one.
        rows: all with the same columns.
    """
    for batch in _split_rows(connection, sets, table, rows):
        names = tuple(batch[0])
        if len(batch) > 1 and sets.are_written(connection):
            given = sets.given({name: table.c[name].type for name in names})
            changes = {name: given.c[name] for name in names if name != key}
            statement = update(table).where(table.c[key] == given.c[key]).values(changes)
            if connection.execute(statement, {"rows": sets.dump(batch)}).rowcount == len(batch):
                continue
        execute_many(connection, _update_one(table, key, names), batch, prefix="v_")


def select_where_in(
    connection: Connection, sets: RowSets, statement: Select[Any], column: Column[Any], values: Iterable[str]
) -> Iterator[Any]:
    """Yield what a SELECT finds where a column of text has one of these values."""
    wanted, as_set = list(dict.fromkeys(values)), sets.are_read(connection)
    size = SET_ROWS if as_set else IN_LIST_VALUES
    for start in range(0, len(wanted), size):
        batch = wanted[start : start + size]
        if len(batch) == 1 or not as_set:
            yield from connection.execute(statement.where(column.in_(batch)))
            continue
        given = sets.given({"value": column.type})
        parameters = {"rows": sets.dump([{"value": value} for value in batch])}
        yield from connection.execute(statement.where(column == given.c.value), parameters)


def fitting_batches(sizes: Sequence[int], rows: int, characters: int) -> Iterator[tuple[int, int]]:
    """Split a list into batches that fit into one statement each; yield where each begins and ends.

    Args:
        sizes: the length of each item in characters.
        rows: the most items in a batch.
        characters: the most characters in a batch of several items.
    """
    start = length = 0
    for end, size in enumerate(sizes):
        if end > start and (end - start == rows or length + size > characters):
            yield start, end
            start, length = end, 0
        length += size
    if len(sizes) > start:
        yield start, len(sizes)


def execute_many(connection: Connection, statement: Executable, rows: Sequence[_Values], *, prefix: str = "") -> int:
    """Execute a statement for each row; return how many rows were changed by all together.

    Args:
        connection: in a transaction.
        statement: the same object at each call.
        rows: values by the names of the parameters, which the driver takes as they are.
        prefix: what the names of the parameters have before the names of the values.
    """
    text, names = _compile(statement, connection.dialect)
    if not names:
        named = [{f"{prefix}{name}": value for name, value in row.items()} for row in rows]
        return int(connection.execute(statement, named).rowcount)
    # SQLAlchemy itself takes longer for the parameters of a row than SQLite for its UPDATE.
    pick = itemgetter(*(name.removeprefix(prefix) for name in names))
    return int(connection.exec_driver_sql(text, list(map(pick, rows))).rowcount)


@lru_cache
def _compile(statement: Executable, dialect: sqlalchemy.Dialect) -> tuple[str, tuple[str, ...]]:
    """The text of a statement, and the names of its parameters in their order, where they have one."""
    compiled: Any = statement.compile(dialect=dialect)  # type: ignore[attr-defined]
    return str(compiled), tuple(compiled.positiontup or ())


@lru_cache
def _insert_one(table: Table, names: tuple[str, ...]) -> Executable:
    return insert(table).values({name: bindparam(f"v_{name}") for name in names})


@lru_cache
def _update_one(table: Table, key: str, names: tuple[str, ...]) -> Executable:
    changes: dict[str, Any] = {name: bindparam(f"v_{name}") for name in names if name != key}
    return update(table).where(table.c[key] == bindparam(f"v_{key}")).values(changes)


def _split_rows(
    connection: Connection, sets: RowSets, table: Table, rows: Sequence[_Values]
) -> Iterator[Sequence[_Values]]:
    """Split rows into batches that fit into one statement each."""
    if not rows or not sets.are_written(connection):
        yield from [rows] if rows else []
        return
    long = [name for name in rows[0] if getattr(table.c[name].type, "length", 0) is None]
    sizes = [sum(len(row[name] or "") for name in long) for row in rows]
    for start, end in fitting_batches(sizes, SET_ROWS, sets.characters):
        yield rows[start:end]
