"""Rows of StoredObject columns, read raw, window by window; :mod:`migrate_storage.database.compare_and_swap` rewrites them.

SQLAlchemy Core on bare ``table()`` and ``column()``: the ORM's listener would delete the source object, and a mapped
Table would fire ``onupdate``. Keys and values pass through untyped, whatever reflection would call them; order and
comparison of keys happen in the database only.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    bindparam,
    cast,
    column,
    func,
    inspect,
    literal_column,
    or_,
    select,
    table,
    text,
    types,
)
from sqlalchemy.exc import NoSuchTableError, SQLAlchemyError

from migrate_storage.core.errors import ConfigurationError, RefusedError
from migrate_storage.core.model import Column
from migrate_storage.database.compare_and_swap import CompareAndSwap, as_text, untyped
from migrate_storage.database.connection import Database, describe_failure
from migrate_storage.database.file_json import Row
from migrate_storage.database.primary_keys import spellings

__all__ = ("FileColumn",)

_BEHIND = ("after", "low")
"""Names of keys behind which rows are looked for; all others are those up to which."""
_GROWTH = 32
"""How far a window may grow, in multiples of the asked size, while windows come back empty."""


class FileColumn(CompareAndSwap):
    """The rows of one column.

    Args:
        database: where they are.
        of: the column.
        where: an SQL condition that narrows the rows, in the database's own dialect.

    Raises:
        ConfigurationError: no such table or column, or the condition is not SQL.
    """

    def __init__(self, database: Database, of: Column, *, where: str | None = None) -> None:
        self.database = database
        self.column = of
        self._where = where
        self.type, self._columns_set_to_self = database.transaction(self._describe)
        names = dict.fromkeys((*of.key, of.column, *self._columns_set_to_self))
        self.table = table(of.table, *(column(name) for name in names), schema=of.schema)
        self.key = [self.table.c[name] for name in of.key]
        self.raw = self.table.c[of.column]
        if database.dialect in ("mysql", "mariadb"):
            self._text = literal_column(f"CONVERT({self._quoted(of.column)} USING utf8mb4)", types.Text())
        else:
            self._text = cast(self.raw, types.Text())
        # Literally: text() would take ':name' in it for a parameter.
        condition: ColumnElement[bool] = literal_column(f"({where})", types.Boolean())
        self._condition = condition if where else None
        if where:
            self._try_condition()

    def _quoted(self, name: str) -> str:
        return "`" + name.replace("`", "``") + "`"

    def _describe(self, connection: Connection) -> tuple[str, tuple[str, ...]]:
        """The column's type as the server calls it, and the columns that must be set to themselves."""
        try:
            columns = {
                entry["name"]: entry
                for entry in inspect(connection).get_columns(self.column.table, schema=self.column.schema)
            }
        except NoSuchTableError as error:
            raise ConfigurationError(
                f"no such table {self.column.table} in {self.database}: check --database, or create the table"
            ) from error
        missing = [name for name in (*self.column.key, self.column.column) if name not in columns]
        if missing:
            raise ConfigurationError(
                f"table {self.column.table} has no column {', '.join(missing)} in {self.database}: has it been migrated?"
            )
        kept: tuple[str, ...] = ()
        if self.database.dialect in ("mysql", "mariadb"):
            found = connection.execute(
                text(
                    "SELECT column_name FROM information_schema.columns WHERE table_schema = COALESCE(:s, DATABASE()) AND table_name = :t AND extra LIKE '%on update%'"
                ),
                {"s": self.column.schema, "t": self.column.table},
            ).scalars()
            kept = tuple(found)
        return type(columns[self.column.column]["type"]).__name__.upper(), kept

    def _try_condition(self) -> None:
        try:
            self.database.transaction(lambda connection: connection.execute(self.select().limit(0)))
        except (SQLAlchemyError, RefusedError) as error:
            raise ConfigurationError(
                f"--where is not a condition on {self.column.table}: {getattr(error, 'reason', None) or describe_failure(error)}"
            ) from error

    def select(self, *more: ColumnElement[Any]) -> Any:
        """A statement that selects the keys of the rows, and more columns of the table."""
        statement = select(*self.key, *more).select_from(self.table)
        return statement if self._condition is None else statement.where(self._condition)

    def _after(self, key: Sequence[Any], name: str, *, inclusive: bool) -> ColumnElement[Any]:
        """``key <= columns`` turned to what every database can use an index for."""
        clauses: list[ColumnElement[bool]] = []
        for depth, part in enumerate(self.key):
            equal = [self.key[i] == untyped(f"{name}{i}", key[i]) for i in range(depth)]
            last = depth == len(self.key) - 1
            bound = untyped(f"{name}{depth}", key[depth])
            if name in _BEHIND:
                comparison = part > bound
            else:
                comparison = part <= bound if last and inclusive else part < bound
            clauses.append(and_(*equal, comparison))
        exact = or_(*clauses)
        if len(self.key) == 1:
            return exact
        first = untyped(f"{name}0", key[0])
        return and_(self.key[0] >= first if name in _BEHIND else self.key[0] <= first, exact)

    def between_keys(self, after: tuple[Any, ...] | None, until: tuple[Any, ...] | None) -> FileColumn:
        """The same rows, of which only those behind one key and up to another; ``None`` sets no bound.

        Args:
            after: a key as the database gave it.
            until: another one, which is still among them.
        """
        bounds = [self._after(after, "low", inclusive=False)] if after is not None else []
        bounds += [self._after(until, "high", inclusive=True)] if until is not None else []
        narrowed = copy.copy(self)
        conditions = [*([self._condition] if self._condition is not None else []), *bounds]
        narrowed._condition = and_(*conditions) if conditions else None  # noqa: SLF001 - of this very class
        return narrowed

    def split_points(self, into: int) -> list[tuple[Any, ...]]:
        """Keys at which the rows fall into so many ranges of about one size; fewer where there are not so many rows.

        It reads the keys once, in their order.
        """
        count = select(func.count()).select_from(self.table)
        if self._condition is not None:
            count = count.where(self._condition)
        held = int(self.database.transaction(lambda connection: connection.execute(count).scalar_one()))
        keys: list[tuple[Any, ...]] = []
        gone = 0
        for number in range(1, into):
            wanted = held * number // into
            if wanted <= gone:
                continue
            statement = self._nth(wanted - gone)
            if keys:
                statement = statement.where(self._after(keys[-1], "low", inclusive=False))
            found = self.database.transaction(partial(_first, statement))
            if found is None:
                break
            keys.append(tuple(found))
            gone = wanted
        return keys

    def ranges(self, size: int) -> Iterator[FileColumn]:
        """The same rows in ranges of ``size`` by their keys, one after the other; rows that come meanwhile are in one of them."""
        after: tuple[Any, ...] | None = None
        while True:
            statement = self._nth(size)
            if after is not None:
                statement = statement.where(self._after(after, "low", inclusive=False))
            found = self.database.transaction(partial(_first, statement))
            until = None if found is None else tuple(found)
            yield self.between_keys(after, until)
            if until is None:
                return
            after = until

    def _nth(self, number: int) -> Any:
        return self.select().order_by(*self.key).offset(number - 1).limit(1)

    def windows(self, backend: str | None, size: int, *, after: tuple[Any, ...] | None = None) -> Iterator[list[Row]]:
        """The rows that may name ``backend``, window by window in key order, each read in one short transaction.

        Args:
            backend: the backend key looked for (the database narrows by text, :func:`parse_slots` decides); ``None``
                means all rows that hold anything.
            size: rows in a window.
            after: the key to start behind.
        """
        span = size
        while True:
            rows, after, last = self._next(backend, span, after)
            if rows:
                yield rows
            if last:
                return
            span = size if len(rows) * 4 > span else min(span * 2, size * _GROWTH)

    def _next(
        self, backend: str | None, span: int, after: tuple[Any, ...] | None
    ) -> tuple[list[Row], tuple[Any, ...] | None, bool]:
        return self.database.transaction(lambda connection: self._window(connection, backend, span, after))

    def _window(
        self, connection: Connection, backend: str | None, span: int, after: tuple[Any, ...] | None
    ) -> tuple[list[Row], tuple[Any, ...] | None, bool]:
        keys = self._nth(span)
        found = self.select(self._text.label("value")).where(self.raw.is_not(None)).order_by(*self.key)
        pattern = _pattern(backend)
        if pattern is not None:
            found = found.where(self._text.like(bindparam("pattern", pattern), escape="!"))
        if after is not None:
            keys = keys.where(self._after(after, "after", inclusive=False))
            found = found.where(self._after(after, "after", inclusive=False))
        bound = connection.execute(keys).first()
        if bound is not None:
            found = found.where(self._after(tuple(bound), "until", inclusive=True))
        width = len(self.key)
        rows = [Row(tuple(entry[:width]), as_text(entry[width])) for entry in connection.execute(found)]
        return rows, None if bound is None else tuple(bound), bound is None

    def sample_windows(self, backend: str, parts: int, *, of: int, size: int) -> Iterator[list[Row]]:
        """Windows that lie evenly among the rows that may name ``backend``, each read in one short transaction.

        Args:
            backend: the backend key looked for, as in :meth:`windows`.
            parts: how many windows.
            of: how many such rows there are, about.
            size: rows in a window.
        """
        pattern = _pattern(backend)
        jump = max(0, of // parts - size)
        after: tuple[Any, ...] | None = None

        def statement(*more: ColumnElement[Any]) -> Any:
            found = self.select(*more).where(self.raw.is_not(None)).order_by(*self.key)
            if pattern is not None:
                found = found.where(self._text.like(bindparam("pattern", pattern), escape="!"))
            return found if after is None else found.where(self._after(after, "after", inclusive=False))

        def read(connection: Connection) -> list[Row]:
            found = connection.execute(statement(self._text.label("value")).limit(size))
            return [Row(tuple(entry[:-1]), as_text(entry[-1])) for entry in found]

        for _ in range(parts):
            rows = self.database.transaction(read)
            if rows:
                yield rows
            if len(rows) < size:
                return
            after = rows[-1].pk
            if jump:
                beyond = self.database.transaction(partial(_first, statement().offset(jump - 1).limit(1)))
                if beyond is None:
                    return
                after = tuple(beyond)

    def sample(self, size: int) -> list[Row]:
        """The first rows that hold anything."""

        def read(connection: Connection) -> list[Row]:
            found = self.select(self._text.label("value")).where(self.raw.is_not(None)).order_by(*self.key).limit(size)
            return [Row(tuple(entry[:-1]), as_text(entry[-1])) for entry in connection.execute(found)]

        return self.database.transaction(read)

    def estimate(self, backend: str) -> int:
        """How many rows may name ``backend``, as the database counts them by text: for progress, not for proof."""
        pattern = _pattern(backend)
        statement = select(func.count()).select_from(self.table).where(self.raw.is_not(None))
        if self._condition is not None:
            statement = statement.where(self._condition)
        if pattern is not None:
            statement = statement.where(self._text.like(bindparam("pattern", pattern), escape="!"))
        return int(self.database.transaction(lambda connection: connection.execute(statement).scalar_one()))

    def find(self, typed: Sequence[str]) -> tuple[tuple[Any, ...], str | None] | None:
        """One row by its key as a person types it, with the key as the database has it; ``None`` when there is none.

        Args:
            typed: the key's parts as text: numbers, strings, UUIDs with or without dashes, bytes in hex.
        """
        for key in itertools.product(*(spellings(part) for part in typed)):
            statement = select(*self.key, self._text).select_from(self.table).where(*self._is(key))
            try:
                found = self.database.transaction(partial(_first, statement))
            except (SQLAlchemyError, RefusedError):
                continue  # not of the column's type
            if found is not None:
                return tuple(found[:-1]), None if found[-1] is None else as_text(found[-1])
        return None


def _first(statement: Any, connection: Connection) -> Any:
    return connection.execute(statement).first()


def _pattern(backend: str | None) -> str | None:
    """A LIKE pattern for the key as JSON text; ``None`` where JSON writers spell the key differently."""
    if backend is None or not all(" " <= char <= "~" and char not in "\"\\/<>&'" for char in backend):
        return None
    escaped = backend.replace("!", "!!").replace("%", "!%").replace("_", "!_")
    return f'%"{escaped}"%'
