"""Rows of StoredObject columns, read as text in windows of many rows.

This is SQLAlchemy Core on bare ``table()`` and ``column()``. The ORM's listener would delete the source object, and a
mapped Table would fire ``onupdate``. Keys and values pass untyped, and only the database orders and compares keys.
"""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
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

from migrate_storage.core.errors import ConfigurationError, PreflightError, RefusedError
from migrate_storage.core.model import Column
from migrate_storage.database.compare_and_swap import CompareAndSwap
from migrate_storage.database.connection import Database, SlowStatementError, describe_failure, hidden_rows_error
from migrate_storage.database.dialects.base import TableFacts, ValueKind, as_text
from migrate_storage.database.file_json import Row
from migrate_storage.database.file_search import may_name
from migrate_storage.database.key_ranges import after_key, up_to_key
from migrate_storage.database.primary_keys import spellings
from migrate_storage.database.row_statements import RowStatements, key_equals

__all__ = ("FileColumn",)

_MAX_WINDOW_GROWTH = 32
"""How far a window may grow while few of its rows match, as a multiple of the size that was asked for."""
MIN_WINDOW_ROWS = 50
"""Rows of the smallest window that is tried where the server cancels statements that take too long."""
WALK_WINDOW_ROWS = 2_000
"""Rows in the first window of a walk over all keys."""
WALK_WINDOW_SECONDS = 0.25
"""Windows of a walk grow while one takes less than this."""
MAX_WALK_WINDOW_ROWS = 1_000_000
"""Rows in the largest window of a walk."""
_T = TypeVar("_T")


class FileColumn:
    """The rows of one column.

    Args:
        database: the database of the table.
        of: the column.
        where: an SQL condition that restricts the rows, in the database's own SQL.

    Raises:
        ConfigurationError: there is no such table or column, or the condition is not SQL.
        PreflightError: row level security hides rows of the table from this role.
    """

    def __init__(self, database: Database, of: Column, *, where: str | None = None) -> None:
        self.database = database
        self.column = of
        #: What the database enforces of the table's rows, and what it does when they are updated.
        self.facts: TableFacts
        #: Whether row level security hides rows of the table from this role.
        self.hides_rows: bool
        #: Whether the database computes the column from others, so that no UPDATE sets it.
        self.generated: bool
        try:
            self.facts, declared, self.hides_rows, self.generated = database.transaction(self._describe)
        except RefusedError as error:
            raise PreflightError(
                f"this role may not read how table {of.table} is defined: {error.reason}; GRANT SELECT on the whole table"
            ) from error
        #: The column's type as the server calls it, in capitals.
        self.type = _name_type(declared[of.column])
        #: The types of the key's columns.
        self.key_types = [declared[name] for name in of.key]
        if self.hides_rows and not database.visible_rows_only:
            raise hidden_rows_error(f"the policies of table {of.table} apply to this role")
        names = dict.fromkeys((*of.key, of.column, *self.facts.set_on_update))
        self.table = table(of.table, *(column(name) for name in names), schema=of.schema)
        self.key = [self.table.c[name] for name in of.key]
        self._order = [
            database.dialect.catalog.in_key_order(part, type_)
            for part, type_ in zip(self.key, self.key_types, strict=True)
        ]
        #: The column in SQL, as it is stored.
        self.raw = self.table.c[of.column]
        self._text = database.dialect.read_text(self.raw, self.type)
        #: Its statements for one row, and for many at once.
        self.statements = RowStatements(
            database.dialect, self.table, self.key, self.raw, self.type, self.facts, self.key_types
        )
        self.compare_and_swap = CompareAndSwap(self.statements, self.facts, of.key)
        self._bounds: list[ColumnElement[bool]] = []
        self._where: list[ColumnElement[bool]] = []
        if where:
            # Not text(), which would take ':name' in it for a parameter.
            self._where.append(literal_column(f"({where})", types.Boolean()))
            self._try_condition()

    def _describe(self, connection: Connection) -> tuple[TableFacts, dict[str, types.TypeEngine[Any]], bool, bool]:
        """What the database enforces of the table, its columns' types, whether it hides rows or generates the column."""
        of, name = self.column, self.column.table
        fold = self.database.dialect.catalog.fold_name
        try:
            described = {
                fold(entry["name"]): entry for entry in inspect(connection).get_columns(name, schema=of.schema)
            }
        except NoSuchTableError as error:
            raise ConfigurationError(
                f"no such table {name} in {self.database}: check --database, or create the table"
            ) from error
        names = dict.fromkeys((*of.key, of.column))
        missing = [part for part in names if fold(part) not in described]
        if missing:
            raise ConfigurationError(
                f"table {name} has no column {', '.join(missing)} in {self.database}: has it been migrated?"
            )
        found = {part: described[fold(part)] for part in names}
        facts = self.database.dialect.catalog.facts(connection, table(name, schema=of.schema))
        facts = facts.respell({entry["name"]: part for part, entry in found.items()})
        hidden = self.database.dialect.hides_rows(connection, of.schema, name)
        types_ = {part: entry["type"] for part, entry in found.items()}
        return facts, types_, hidden, "computed" in found[of.column]

    @property
    def has_unique_key(self) -> bool:
        """Whether the database enforces that no two rows have the same key, and that no part of a key is NULL."""
        return self.facts.enforces(self.column.key)

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
        return statement.where(*self._bounds, *self._where)

    def between_keys(self, after: tuple[Any, ...] | None, until: tuple[Any, ...] | None) -> FileColumn:
        """The same rows from behind one key up to another; ``None`` sets no bound.

        Args:
            after: a key as the database gave it, itself excluded.
            until: another one, itself included.
        """
        low = [] if after is None else [after_key(self._order, after, "low")]
        high = [] if until is None else [up_to_key(self._order, until, "high")]
        narrowed = copy.copy(self)
        narrowed._bounds = [*self._bounds, *low, *high]  # noqa: SLF001 - of this very class
        return narrowed

    def unrestricted(self) -> FileColumn:
        """The same column in all rows of the table."""
        whole = copy.copy(self)
        whole._bounds, whole._where = [], []  # noqa: SLF001 - of this very class
        return whole

    def split_points(self, into: int) -> list[tuple[Any, ...]]:
        """Keys that divide the rows into ranges of about one size, read in one pass.

        Args:
            into: the number of ranges; there are fewer where there are fewer rows.
        """
        windows = list(self._walk(self._select_count(), _read_count))
        total, passed, start = sum(count for count, _ in windows), 0, None
        positions = iter(dict.fromkeys(total * number // into for number in range(1, into)))
        position = next(positions, None)
        keys: list[tuple[Any, ...]] = []
        for count, end in windows:
            window = self.between_keys(start, end)
            while position is not None and position <= passed + count:
                if position:
                    nth = window.select().order_by(*self._order).offset(position - passed - 1).limit(1)
                    key = self._read_first(nth)
                    keys.extend([] if key is None or key in keys[-1:] else [key])
                position = next(positions, None)
            passed, start = passed + count, end
        return keys

    def ranges(self, size: int) -> Iterator[FileColumn]:
        """The same rows in ranges of ``size`` rows, which include rows that are added."""
        return self.in_ranges(size, lambda _, part: part)

    def in_ranges(self, size: int, work: Callable[[Connection, FileColumn], _T]) -> Iterator[_T]:
        """Do something in a transaction with each range of ``size`` rows, which include rows that are added.

        Args:
            size: rows in a range, and fewer where the server cancels a statement that takes too long.
            work: called with the connection and the range.

        Yields:
            What it returned.
        """
        after: tuple[Any, ...] | None = None

        def do(connection: Connection, span: int) -> tuple[_T, tuple[Any, ...] | None]:
            statement = self._select_nth(span)
            if after is not None:
                statement = statement.where(after_key(self._order, after, "low"))
            found = connection.execute(statement).first()
            until = None if found is None else tuple(found)
            return work(connection, self.between_keys(after, until)), until

        while True:
            (done, after), size = self._read_fitting(do, size)
            yield done
            if after is None:
                return

    def _select_nth(self, number: int) -> Any:
        """A SELECT of the key of the nth row, whether it meets the condition or not: few rows may."""
        keys = self._with_whole_key(select(*self.key).select_from(self.table).where(*self._bounds))
        return keys.order_by(*self._order).offset(number - 1).limit(1)

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

        Yields:
            Lists of rows; the first one has up to ``size`` rows of which a part of the key is NULL, if there are any.
        """
        if after is None and not self.has_unique_key:
            statement = self._select_without_key(backend).limit(size)
            if rows := self.database.transaction(partial(_read_rows, statement=statement)):
                yield rows
        span, longest = size, size * _MAX_WINDOW_GROWTH
        while True:
            read = partial(self._read_window, backend=backend, after=after)
            (rows, after), fitting = self._read_fitting(read, span)
            if rows:
                yield rows
            if after is None:
                return
            longest = fitting if fitting < span else longest
            span = min(size if len(rows) * 4 > fitting else fitting * 2, longest)

    def _read_fitting(self, read: Callable[..., _T], span: int) -> tuple[_T, int]:
        """Read a window of ``span`` rows, or a smaller one if the server cancels that because it takes too long.

        Returns:
            What was read, and the rows of the window.
        """
        while True:
            smaller = span // 4
            try:
                retry = smaller < MIN_WINDOW_ROWS
                return self.database.transaction(partial(read, span=span), retry_slow=retry), span
            except SlowStatementError:
                span = smaller

    def _walk(
        self, statement: Any, fetch: Callable[[Connection, Any], _T]
    ) -> Iterator[tuple[_T, tuple[Any, ...] | None]]:
        """Run a statement for one window of keys after the other, each as long as it takes a moment.

        Args:
            statement: a SELECT from the table.
            fetch: reads the result.

        Yields:
            What was read, and the last key of the window; ``None`` at the end.
        """
        span, longest = WALK_WINDOW_ROWS, MAX_WALK_WINDOW_ROWS
        after: tuple[Any, ...] | None = None

        def read(connection: Connection, span: int) -> tuple[_T, tuple[Any, ...] | None]:
            within, until = self._bound_window(connection, statement, span, after)
            return fetch(connection, within), until

        while True:
            began = time.monotonic()
            (found, after), fitting = self._read_fitting(read, span)
            yield found, after
            if after is None:
                return
            longest = fitting if fitting < span else longest
            quick = time.monotonic() - began < WALK_WINDOW_SECONDS
            span = min(fitting * 2 if quick else max(fitting // 2, MIN_WINDOW_ROWS), longest)

    def _bound_window(
        self, connection: Connection, statement: Any, span: int, after: tuple[Any, ...] | None
    ) -> tuple[Any, tuple[Any, ...] | None]:
        """Restrict a SELECT to the next ``span`` rows; return it with the last key of them if more follow."""
        keys = self._select_nth(span)
        if after is not None:
            keys, statement = keys.where(after_key(self._order, after)), statement.where(after_key(self._order, after))
        until = connection.execute(keys).first()
        if until is None:
            return statement, None
        return statement.where(up_to_key(self._order, tuple(until))), tuple(until)

    def _read_window(
        self, connection: Connection, backend: str | None, span: int, after: tuple[Any, ...] | None
    ) -> tuple[list[Row], tuple[Any, ...] | None]:
        """The matching rows of the next ``span`` rows, and the last key if more follow."""
        matching = self._select_matching(backend, self._text.label("value"))
        within, until = self._bound_window(connection, matching, span, after)
        return _read_rows(connection, within), until

    def _select_matching(self, backend: str | None, *more: ColumnElement[Any]) -> Any:
        """A SELECT of the keys of the rows that may name ``backend``, in key order."""
        matching = self.select(*more).where(self.raw.is_not(None))
        return self._filter_by_backend(backend, self._with_whole_key(matching).order_by(*self._order))

    def _with_whole_key(self, statement: Any) -> Any:
        """Leave out the rows of which a part of the key is NULL: no comparison finds them."""
        return statement if self.has_unique_key else statement.where(*(part.is_not(None) for part in self.key))

    def _select_without_key(self, backend: str | None) -> Any:
        missing = self.select(self._text.label("value")).where(or_(*(part.is_(None) for part in self.key)))
        return self._filter_by_backend(backend, missing.where(self.raw.is_not(None)))

    def _filter_by_backend(self, backend: str | None, statement: Any) -> Any:
        if backend is None:
            return statement
        kind = ValueKind.COMPOSED if self.type.endswith("[]") else ValueKind.TEXT
        given = {} if self.column.nested else {"field": ""}
        return statement.where(may_name(self.database.dialect, self.raw, kind, [backend], **given))

    def sample_windows(self, backend: str, parts: int, *, of: int, size: int) -> Iterator[list[Row]]:
        """Windows at even distances among the rows that may name ``backend``.

        Args:
            backend: the backend key, as in :meth:`windows`.
            parts: how many windows.
            of: about how many such rows there are.
            size: rows in a window.
        """
        skipped = max(0, of // parts - size)
        rest = self
        for _ in range(parts):
            rows = rest.sample(size, backend)
            if rows:
                yield rows
            if len(rows) < size:
                return
            rest = self.between_keys(rows[-1].pk, None)
            if skipped:
                after = rest._find_nth_matching(backend, skipped)  # noqa: SLF001 - of this very class
                if after is None:
                    return
                rest = self.between_keys(after, None)

    def _find_nth_matching(self, backend: str, number: int) -> tuple[Any, ...] | None:
        """The key of the nth row that may name ``backend``."""
        start = None
        for count, end in self._walk(self._select_count(backend), _read_count):
            if number <= count:
                matching = self._select_matching(backend).offset(number - 1).limit(1)
                within: list[ColumnElement[Any]] = [] if start is None else [after_key(self._order, start)]
                return self._read_first(matching.where(*within))
            number, start = number - count, end
        return None

    def sample(self, size: int, backend: str | None = None) -> list[Row]:
        """The first rows that may name ``backend``; ``None`` means all rows whose value is not NULL."""
        statement = self._select_matching(backend, self._text.label("value")).limit(size)
        found: list[Row] = []
        for rows, _ in self._walk(statement, _read_rows):
            found.extend(rows)
            if len(found) >= size:
                break
        return found[:size]

    def estimate(self, backend: str) -> int:
        """How many rows may name ``backend``, counted by text: enough for progress."""
        return sum(count for count, _ in self._walk(self._select_count(backend), _read_count))

    def _select_count(self, backend: str | None = None) -> Any:
        """A SELECT of the number of rows, or of those that may name ``backend``."""
        count = self._restrict(select(func.count()).select_from(self.table))
        return count if backend is None else self._filter_by_backend(backend, count.where(self.raw.is_not(None)))

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


def _name_type(type_: types.TypeEngine[Any]) -> str:
    item = getattr(type_, "item_type", None)
    return f"{type(type_ if item is None else item).__name__.upper()}{'' if item is None else '[]'}"


def _read_rows(connection: Connection, statement: Any) -> list[Row]:
    return [Row(tuple(entry[:-1]), as_text(entry[-1])) for entry in connection.execute(statement)]


def _read_count(connection: Connection, statement: Any) -> int:
    return int(connection.execute(statement).scalar_one())
