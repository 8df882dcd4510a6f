"""Rows of StoredObject columns, read as text in windows of many rows.

This is SQLAlchemy Core on bare ``table()`` and ``column()``. The ORM's listener would delete the source object, and a
mapped Table would fire ``onupdate``. Keys and values pass untyped, and only the database orders and compares keys.
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
    column,
    func,
    inspect,
    literal_column,
    or_,
    select,
    table,
    types,
)
from sqlalchemy.exc import NoSuchTableError, SQLAlchemyError

from migrate_storage.core.errors import ConfigurationError, RefusedError
from migrate_storage.core.model import Column
from migrate_storage.database.compare_and_swap import CompareAndSwap, key_equals
from migrate_storage.database.connection import Database, describe_failure
from migrate_storage.database.dialects.base import as_text
from migrate_storage.database.file_json import Row
from migrate_storage.database.key_ranges import after_key, up_to_key
from migrate_storage.database.primary_keys import spellings

__all__ = ("FileColumn",)

_MAX_WINDOW_GROWTH = 32
"""How far a window may grow while few of its rows match, as a multiple of the size that was asked for."""


class FileColumn:
    """The rows of one column.

    Args:
        database: the database of the table.
        of: the column.
        where: an SQL condition that restricts the rows, in the database's own SQL.

    Raises:
        ConfigurationError: there is no such table or column, or the condition is not SQL.
    """

    def __init__(self, database: Database, of: Column, *, where: str | None = None) -> None:
        self.database = database
        self.column = of
        #: The column's type as the server calls it, in capitals.
        self.type, set_on_update = database.transaction(self._describe)
        names = dict.fromkeys((*of.key, of.column, *set_on_update))
        self.table = table(of.table, *(column(name) for name in names), schema=of.schema)
        self.key = [self.table.c[name] for name in of.key]
        #: The column in SQL, as it is stored.
        self.raw = self.table.c[of.column]
        self._text = database.dialect.text_of(self.raw, self.type)
        self.compare_and_swap = CompareAndSwap(
            database.dialect, self.table, self.key, self.raw, self.type, set_on_update
        )
        self._condition: ColumnElement[bool] | None = None
        if where:
            # Not text(), which would take ':name' in it for a parameter.
            self._condition = literal_column(f"({where})", types.Boolean())
            self._try_condition()

    def _describe(self, connection: Connection) -> tuple[str, tuple[str, ...]]:
        """The column's type, and the columns that the server sets on UPDATE."""
        of, name = self.column, self.column.table
        try:
            columns = {entry["name"]: entry for entry in inspect(connection).get_columns(name, schema=of.schema)}
        except NoSuchTableError as error:
            raise ConfigurationError(
                f"no such table {name} in {self.database}: check --database, or create the table"
            ) from error
        missing = [part for part in (*of.key, of.column) if part not in columns]
        if missing:
            raise ConfigurationError(
                f"table {name} has no column {', '.join(missing)} in {self.database}: has it been migrated?"
            )
        set_on_update = self.database.dialect.columns_set_on_update(connection, of.schema, name)
        type_ = columns[of.column]["type"]
        item = getattr(type_, "item_type", None)
        name = type(item if item is not None else type_).__name__.upper()
        return name if item is None else f"{name}[]", set_on_update

    def _try_condition(self) -> None:
        try:
            self.database.transaction(lambda connection: connection.execute(self.select().limit(0)))
        except (SQLAlchemyError, RefusedError) as error:
            raise ConfigurationError(
                f"--where is not a condition on {self.column.table}: "
                f"{getattr(error, 'reason', None) or describe_failure(error)}"
            ) from error

    def select(self, *more: ColumnElement[Any]) -> Any:
        """A statement that selects the keys of the rows, and more columns of the table."""
        return self._restrict(select(*self.key, *more).select_from(self.table))

    def _restrict(self, statement: Any) -> Any:
        return statement if self._condition is None else statement.where(self._condition)

    def between_keys(self, after: tuple[Any, ...] | None, until: tuple[Any, ...] | None) -> FileColumn:
        """The same rows from behind one key up to another; ``None`` sets no bound.

        Args:
            after: a key as the database gave it, itself excluded.
            until: another one, itself included.
        """
        conditions = [] if self._condition is None else [self._condition]
        if after is not None:
            conditions.append(after_key(self.key, after, "low"))
        if until is not None:
            conditions.append(up_to_key(self.key, until, "high"))
        narrowed = copy.copy(self)
        narrowed._condition = and_(*conditions) if conditions else None  # noqa: SLF001 - of this very class
        return narrowed

    def split_points(self, into: int) -> list[tuple[Any, ...]]:
        """Keys that divide the rows into ranges of about one size, read in one pass.

        Args:
            into: the number of ranges; there are fewer where there are fewer rows.
        """
        count = self._restrict(select(func.count()).select_from(self.table))
        total = int(self.database.transaction(lambda connection: connection.execute(count).scalar_one()))
        keys: list[tuple[Any, ...]] = []
        passed = 0
        for number in range(1, into):
            position = total * number // into
            if position <= passed:
                continue
            key = self._read_nth_key(position - passed, keys[-1] if keys else None)
            if key is None:
                break
            keys.append(key)
            passed = position
        return keys

    def ranges(self, size: int) -> Iterator[FileColumn]:
        """The same rows in ranges of ``size`` rows, which include rows that are added."""
        after: tuple[Any, ...] | None = None
        while True:
            until = self._read_nth_key(size, after)
            yield self.between_keys(after, until)
            if until is None:
                return
            after = until

    def _read_nth_key(self, number: int, after: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
        statement = self._select_nth(number)
        if after is not None:
            statement = statement.where(after_key(self.key, after, "low"))
        return self._read_first(statement)

    def _select_nth(self, number: int) -> Any:
        return self.select().order_by(*self.key).offset(number - 1).limit(1)

    def _read_first(self, statement: Any) -> tuple[Any, ...] | None:
        found = self.database.transaction(lambda connection: connection.execute(statement).first())
        return None if found is None else tuple(found)

    def windows(self, backend: str | None, size: int, *, after: tuple[Any, ...] | None = None) -> Iterator[list[Row]]:
        """The rows that may name ``backend`` in key order, a transaction a window.

        Args:
            backend: the backend key. The database filters by text, :func:`parse_slots` decides. ``None`` means all rows
                whose value is not NULL.
            size: rows in a window.
            after: the key behind which the first window starts.
        """
        span = size
        while True:
            read = partial(self._read_window, backend=backend, span=span, after=after)
            rows, after = self.database.transaction(read)
            if rows:
                yield rows
            if after is None:
                return
            span = size if len(rows) * 4 > span else min(span * 2, size * _MAX_WINDOW_GROWTH)

    def _read_window(
        self, connection: Connection, backend: str | None, span: int, after: tuple[Any, ...] | None
    ) -> tuple[list[Row], tuple[Any, ...] | None]:
        """The matching rows of the next ``span`` rows, and the last key if more follow."""
        keys, matching = self._select_nth(span), self._select_matching(backend, self._text.label("value"))
        if after is not None:
            keys, matching = keys.where(after_key(self.key, after)), matching.where(after_key(self.key, after))
        until = connection.execute(keys).first()
        if until is not None:
            matching = matching.where(up_to_key(self.key, tuple(until)))
        return _read_rows(connection, matching), None if until is None else tuple(until)

    def _select_matching(self, backend: str | None, *more: ColumnElement[Any]) -> Any:
        """A SELECT of the keys of the rows that may name ``backend``, in key order."""
        return self._filter_by_backend(backend, self.select(*more).where(self.raw.is_not(None)).order_by(*self.key))

    def _filter_by_backend(self, backend: str | None, statement: Any) -> Any:
        if backend is None:
            return statement
        normalized = self.type in self.database.dialect.normalized_json
        patterns = _like_patterns(backend, nested=self.column.nested, normalized=normalized)
        likes = [self._text.like(bindparam(f"pattern{n}", text), escape="!") for n, text in enumerate(patterns)]
        return statement.where(or_(*likes)) if likes else statement

    def sample_windows(self, backend: str, parts: int, *, of: int, size: int) -> Iterator[list[Row]]:
        """Windows at even distances among the rows that may name ``backend``.

        Args:
            backend: the backend key, as in :meth:`windows`.
            parts: how many windows.
            of: about how many such rows there are.
            size: rows in a window.
        """
        skipped = max(0, of // parts - size)
        after: tuple[Any, ...] | None = None

        def statement(*more: ColumnElement[Any]) -> Any:
            matching = self._select_matching(backend, *more)
            return matching if after is None else matching.where(after_key(self.key, after))

        for _ in range(parts):
            window = statement(self._text.label("value")).limit(size)
            rows = self.database.transaction(partial(_read_rows, statement=window))
            if rows:
                yield rows
            if len(rows) < size:
                return
            after = rows[-1].pk
            if skipped:
                after = self._read_first(statement().offset(skipped - 1).limit(1))
                if after is None:
                    return

    def sample(self, size: int) -> list[Row]:
        """The first rows whose value is not NULL."""
        statement = self._select_matching(None, self._text.label("value")).limit(size)
        return self.database.transaction(partial(_read_rows, statement=statement))

    def estimate(self, backend: str) -> int:
        """How many rows may name ``backend``, counted by text: enough for progress."""
        count = select(func.count()).select_from(self.table).where(self.raw.is_not(None))
        statement = self._filter_by_backend(backend, self._restrict(count))
        return int(self.database.transaction(lambda connection: connection.execute(statement).scalar_one()))

    def find(self, typed: Sequence[str]) -> tuple[tuple[Any, ...], str | None] | None:
        """The key of one row as the database has it, and its value; ``None`` if missing.

        Args:
            typed: the key's parts as a person types them: numbers, texts, UUIDs with or without dashes, bytes in hex.
        """
        for key in itertools.product(*(spellings(part) for part in typed)):
            statement = select(*self.key, self._text).select_from(self.table).where(*key_equals(self.key, key))
            try:
                found = self._read_first(statement)
            except (SQLAlchemyError, RefusedError):
                continue  # not of the column's type
            if found is not None:
                return found[:-1], None if found[-1] is None else as_text(found[-1])
        return None


def _read_rows(connection: Connection, statement: Any) -> list[Row]:
    return [Row(tuple(entry[:-1]), as_text(entry[-1])) for entry in connection.execute(statement)]


def _like_patterns(backend: str, *, nested: bool, normalized: bool) -> list[str]:
    """LIKE patterns of which every JSON text meets one that has the key as a string; none where that is any text.

    Args:
        backend: the key.
        nested: whether that JSON may be in a string of the JSON.
        normalized: whether the server prints JSON in one spelling.
    """
    if not backend.isprintable() or '"' in backend or "\\" in backend:
        return []
    patterns = [_escape_like(backend if nested else f'"{backend}"')]
    if nested or not normalized:
        # JSON may spell each character by its number, and a slash with a backslash before it.
        patterns.append(_escape_like("\\u00" if backend.isascii() else "\\u"))
        patterns.extend(["%\\/%"] if "/" in backend else [])
    return patterns


def _escape_like(text: str) -> str:
    """The pattern of texts that contain a text, with ``!`` as the escape character."""
    escaped = text.replace("!", "!!").replace("%", "!%").replace("_", "!_")
    return f"%{escaped}%"
