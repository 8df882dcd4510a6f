"""The SELECT and UPDATE statements of a column: for one row, and for many at once.

It is SQLAlchemy Core on the bare columns of :mod:`migrate_storage.database.file_column`, and changes no other column.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    TableClause,
    Text,
    and_,
    bindparam,
    case,
    false,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.types import TypeEngine

from migrate_storage.database.dialects import Dialect
from migrate_storage.database.dialects.base import TableFacts, as_text, untyped
from migrate_storage.database.primary_keys import dump_key
from migrate_storage.database.row_sets import SET_ROWS, execute_many, fitting_batches

__all__ = ("RowStatements", "Swap", "key_equals")

READ_BACK_ROWS = 100
"""Rows that one statement reads where each key is a parameter of its own."""

Swap = tuple[tuple[Any, ...], str, str]
"""Key, old and new value of a row."""


class RowStatements:
    """Statements that read and update one column.

    Args:
        dialect: the database's.
        table: the table with all columns that are named below.
        key: the columns of its primary key.
        column: the column that is updated.
        type_: its type as the server calls it, in capitals.
        facts: what the database enforces and does by itself.
        key_types: the types of the key's columns.
    """

    def __init__(
        self,
        dialect: Dialect,
        table: TableClause,
        key: Sequence[ColumnElement[Any]],
        column: ColumnElement[Any],
        type_: str,
        facts: TableFacts,
        key_types: Sequence[TypeEngine[Any]],
    ) -> None:
        self._dialect, self._table, self._key, self._column, self._type = dialect, table, key, column, type_
        self._set_types = [
            dialect.sets.key_type(part_type, facts.collations.get(str(part.key)))
            if type_ in dialect.sets.values
            else None
            for part, part_type in zip(key, key_types, strict=True)
        ]
        self._others = {table.c[name]: table.c[name] for name in facts.set_on_update}

    def update(self, connection: Connection, pk: Sequence[Any], old: str, new: str) -> int:
        """Update a row if it still has its old value; return how many rows were changed."""
        return int(connection.execute(self._build_swap(pk, old, new)).rowcount)

    def update_many(self, connection: Connection, swaps: Sequence[Swap]) -> int:
        """Update rows that still have their old values, with few statements; return how many were changed."""
        dialect, as_set = self._dialect, self._takes_sets(connection)
        if not as_set and dialect.swap_rows == 1:
            return execute_many(connection, self._swap_one, [_name_parameters([swap]) for swap in swaps])
        sizes = [len(old) + len(new) for _, old, new in swaps]
        limits = (SET_ROWS, dialect.sets.characters) if as_set else (dialect.swap_rows, dialect.swap_characters)
        changed = 0
        for start, end in fitting_batches(sizes, *limits):
            batch = swaps[start:end]
            if len(batch) == 1:
                changed += self.update(connection, *batch[0])
            elif as_set:
                rows = [{**_name_parts(pk), "ms_old": old, "ms_new": new} for pk, old, new in batch]
                changed += connection.execute(self._swap_set, {"rows": dialect.sets.dump(rows)}).rowcount
            else:
                changed += execute_many(connection, self._swap_many, [_name_parameters(batch, dialect.swap_rows)])
        return changed

    def _takes_sets(self, connection: Connection) -> bool:
        return None not in self._set_types and self._dialect.sets.are_written(connection)

    def read_all(self, connection: Connection, pks: Sequence[Sequence[Any]]) -> list[list[str | None]]:
        """Return for each key the values of all rows that have it, with one statement for many keys."""
        found: dict[str, list[str | None]] = {}
        names = [dump_key(pk) for pk in pks]

        def add(rows: Iterable[Any]) -> None:
            for *pk, value in rows:
                found.setdefault(dump_key(pk), []).append(None if value is None else as_text(value))

        if len(pks) > 1 and self._takes_sets(connection):
            for start in range(0, len(pks), SET_ROWS):
                rows = self._dialect.sets.dump([_name_parts(pk) for pk in pks[start : start + SET_ROWS]])
                add(connection.execute(self._select_set, {"rows": rows}))
        elif len(pks) > 1:
            for start in range(0, len(pks), READ_BACK_ROWS):
                parameters = _name_keys(pks[start : start + READ_BACK_ROWS], READ_BACK_ROWS)
                add(connection.execute(self._select_many, parameters))
        # Keys that are equal to the database may be spelled in several ways, so a missing one is asked for by itself.
        return [found.get(name) or self._read_one(connection, pk) for name, pk in zip(names, pks, strict=True)]

    def _read_one(self, connection: Connection, pk: Sequence[Any]) -> list[str | None]:
        statement = select(self._dialect.text_of(self._column, self._type)).select_from(self._table)
        found = connection.execute(statement.where(*key_equals(self._key, pk))).scalars()
        return [None if value is None else as_text(value) for value in found]

    @cached_property
    def _select_set(self) -> Any:
        """One SELECT for the rows of a set."""
        _, same_key = self._given()
        return self._select_values.where(*same_key)

    @cached_property
    def _swap_set(self) -> Any:
        """One UPDATE for the rows of a set, with their old and new values."""
        given, same_key = self._given("ms_old", "ms_new")
        unchanged = self._dialect.is_value(self._column, self._type, given.c.ms_old)
        changes = self._changes(self._dialect.value_of(given.c.ms_new, self._type))
        # With IS TRUE no server joins by the value. For a hash of it PostgreSQL would read the values of all rows.
        return update(self._table).where(*same_key, unchanged.is_(true())).values(changes)

    def _given(self, *values: str) -> tuple[FromClause, list[ColumnElement[bool]]]:
        """The rows of a set, and conditions that a row has the key of one of them."""
        keys = {f"ms_key{n}": type_ for n, type_ in enumerate(self._set_types) if type_ is not None}
        given = self._dialect.sets.given({**keys, **dict.fromkeys(values, Text())})
        return given, [part == given.c[name] for part, name in zip(self._key, keys, strict=True)]

    @cached_property
    def _select_many(self) -> Any:
        """One SELECT for many rows, with a parameter for each key."""
        keys = [and_(*key_equals(self._key, [None] * len(self._key), f"swap_key{n}_")) for n in range(READ_BACK_ROWS)]
        return self._select_values.where(or_(*keys))

    @property
    def _select_values(self) -> Any:
        return select(*self._key, self._dialect.text_of(self._column, self._type)).select_from(self._table)

    def try_update(self, connection: Connection) -> None:
        """Let the server check the UPDATE of a row, without one.

        Raises:
            DBAPIError: it refuses.
        """
        nothing = (false(), *(part.is_(None) for part in self._key), self._column.is_(None))
        changes: dict[Any, Any] = {self._column: self._column, **self._others}
        self._dialect.trials.try_write(connection, update(self._table).where(*nothing).values(changes))

    def _build_swap(self, pk: Sequence[Any], old: str, new: str) -> Any:
        unchanged = (*key_equals(self._key, pk, "swap_key0_"), self._is_value("swap_old0", old))
        return update(self._table).where(*unchanged).values(self._changes(self._parameter("swap_new0", new)))

    @cached_property
    def _swap_one(self) -> Any:
        """The UPDATE of one row, for many of them."""
        return self._build_swap([None] * len(self._key), "", "")

    @cached_property
    def _swap_many(self) -> Any:
        """One statement for many rows, with a parameter for each key, old and new value."""
        pk, count = [None] * len(self._key), self._dialect.swap_rows
        rows = [and_(*key_equals(self._key, pk, f"swap_key{n}_")) for n in range(count)]
        new = case(*((row, self._parameter(f"swap_new{n}", "")) for n, row in enumerate(rows)))
        unchanged = or_(*(and_(row, self._is_value(f"swap_old{n}", "")) for n, row in enumerate(rows)))
        return update(self._table).where(unchanged).values(self._changes(new))

    def _changes(self, new: ColumnElement[Any]) -> dict[Any, Any]:
        return {self._column: new, **self._others}

    def _parameter(self, name: str, value: str) -> ColumnElement[Any]:
        return self._dialect.value_of(untyped(name, value), self._type)

    def _is_value(self, name: str, value: str) -> ColumnElement[bool]:
        return self._dialect.is_value(self._column, self._type, bindparam(name, value, type_=Text()))


def key_equals(key: Sequence[ColumnElement[Any]], pk: Sequence[Any], name: str = "key") -> list[ColumnElement[bool]]:
    """Conditions that a row's primary key is ``pk``, with numbered parameters."""
    return [part == untyped(f"{name}{i}", value) for i, (part, value) in enumerate(zip(key, pk, strict=True))]


def _name_parts(pk: Sequence[Any]) -> dict[str, Any]:
    return {f"ms_key{n}": part for n, part in enumerate(pk)}


def _name_parameters(swaps: Sequence[Swap], rows: int = 1) -> dict[str, Any]:
    """The parameters of a statement for so many rows.

    Those of missing rows match no row, for no key is NULL.
    """
    parameters = _name_keys([pk for pk, _, _ in swaps], rows)
    for n in range(rows):
        _, old, new = swaps[n] if n < len(swaps) else ((), "null", "null")
        parameters[f"swap_old{n}"], parameters[f"swap_new{n}"] = old, new
    return parameters


def _name_keys(pks: Sequence[Sequence[Any]], rows: int) -> dict[str, Any]:
    missing = (None,) * len(pks[0])
    return {f"swap_key{n}_{i}": part for n in range(rows) for i, part in enumerate(pks[n] if n < len(pks) else missing)}
