"""Search the columns with text of one table after the other: in windows by key, as long as the last ones allow.

The database filters, and each window is a short transaction. A table without a usable key is read by one cursor, of
which each fetch is short.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Connection, case, column, func, or_, select, table, text

from migrate_storage.core.errors import RefusedError, RunError, StoppedError
from migrate_storage.core.events import CensusAdvanced
from migrate_storage.database.catalog import CatalogTable
from migrate_storage.database.connection import Database, SlowStatementError
from migrate_storage.database.dialects.base import ValueKind
from migrate_storage.database.key_ranges import after_key, up_to_key

__all__ = ("TableSearch", "TextSearch")

_FIRST_WINDOW_ROWS = 1_000
_MAX_WINDOW_ROWS = 50_000
WINDOW_SECONDS = 0.25
"""How long a window may take, about: the next one is smaller or larger."""
_CURSOR_ROWS = (1_000, 100, 10, 1)
"""Rows of one fetch where a table has no key, and of fewer after a statement timeout."""
_BUFFERED_VALUES = 50
"""Rows with matching values that are in memory at once."""
_MAX_PAUSE_SECONDS = 2.0
"""The longest pause in a transaction; the server ends one that is idle for longer than a few seconds."""


@dataclass(frozen=True, slots=True)
class TextSearch:
    """What is searched in each value."""

    #: A condition that every value fulfils in which something is found, and few others.
    condition: Callable[[ColumnElement[Any], ValueKind], ColumnElement[bool]]
    #: Returns what is in a value; each is counted.
    find: Callable[[str | bytes], Iterable[str]]


class TableSearch:
    """Searches one table after the other.

    Args:
        database: connected.
        search: what is searched.
        wait: called with seconds, perhaps 0, between two windows: waits so long, and returns whether the search is to end.
        send: called with the progress after each window.
        tables: how many will be searched.
        rate: rows in a second; ``None`` sets no limit.
    """

    def __init__(
        self,
        database: Database,
        search: TextSearch,
        wait: Callable[[float], bool],
        send: Callable[[CensusAdvanced], None],
        *,
        tables: int,
        rate: float | None,
    ) -> None:
        self._database, self._what, self._wait, self._send, self._rate = database, search, wait, send, rate
        self._tables, self._done = tables, 0
        #: Rows that were searched so far.
        self.rows = 0

    def search_table(self, of: CatalogTable) -> Iterator[tuple[str, Mapping[str, int], str]]:
        """Yield the columns: the name, how often each thing was found, and why it could not be searched.

        Raises:
            RunError: the database cannot be reached any more.
            StoppedError: ``wait`` returned true.
        """
        readable = [each for each in of.columns if not each.unreadable]
        yield from ((each.name, {}, each.unreadable) for each in of.columns if each.unreadable)
        rows: Counter[tuple[str, str]] = Counter()
        problem = ""
        if readable:
            query = _Query(self._database, replace(of, columns=tuple(readable)), self._what)
            try:
                self._search_readable(query, rows)
            except SlowStatementError:
                problem = (
                    "the server cancels each statement on it, because it takes too long: raise its statement timeout"
                )
            except RunError as error:
                if isinstance(error, StoppedError):
                    raise
                self._database.transaction(lambda connection: connection.execute(text("SELECT 1")))
                problem = error.reason if isinstance(error, RefusedError) else str(error)
        self._done += 1
        self._report(of)
        for each in readable:
            yield each.name, {thing: count for (name, thing), count in rows.items() if name == each.name}, problem

    def _search_readable(self, query: _Query, rows: Counter[tuple[str, str]]) -> None:
        if query.key:
            self._search_windows(query, rows)
            return
        for number, size in enumerate(_CURSOR_ROWS, 1):
            searched = self.rows
            try:
                self._search_by_cursor(query, size, rows)
                return
            except SlowStatementError:
                rows.clear()
                self.rows = searched
                if number == len(_CURSOR_ROWS):
                    raise

    def _search_windows(self, query: _Query, rows: Counter[tuple[str, str]]) -> None:
        size, after = _FIRST_WINDOW_ROWS, None
        while True:
            size = max(1, min(size, self._rows_at_once(_MAX_WINDOW_ROWS)))
            began = time.monotonic()
            try:
                count, until, found = self._database.transaction(
                    partial(query.read_window, size=size, after=after), retry_slow=False
                )
            except SlowStatementError:
                if size == 1:
                    raise
                size //= 4
                continue
            took = time.monotonic() - began
            rows.update(found)
            self._advance(query.of, count, began)
            if until is None:
                return
            after = until
            size = size * 2 if took < WINDOW_SECONDS / 2 else size // 2 if took > WINDOW_SECONDS * 2 else size

    def _search_by_cursor(self, query: _Query, size: int, rows: Counter[tuple[str, str]]) -> None:
        size, searched = max(1, min(size, self._rows_at_once(size))), self.rows

        def read(connection: Connection) -> None:
            # An earlier attempt may have counted.
            rows.clear()
            self.rows = searched
            began = time.monotonic()
            for count, found in query.read_all(connection, size):
                rows.update(found)
                self._advance(query.of, count, began)
                began = time.monotonic()

        self._database.transaction(read, retry_slow=False)

    def _rows_at_once(self, most: int) -> int:
        return most if self._rate is None else min(most, int(self._rate * _MAX_PAUSE_SECONDS))

    def _advance(self, of: CatalogTable, count: int, began: float) -> None:
        """Count rows, report them, and pause as the rate demands.

        Raises:
            StoppedError: the search was asked to end.
        """
        self.rows += count
        self._report(of)
        pause = count / self._rate - (time.monotonic() - began) if self._rate else 0.0
        if self._wait(min(max(pause, 0.0), _MAX_PAUSE_SECONDS)):
            raise StoppedError("a stop was requested: the search is not whole")

    def _report(self, of: CatalogTable) -> None:
        name = ".".join(filter(None, of.shown))
        self._send(CensusAdvanced(table=name, rows=self.rows, tables=self._tables, done=self._done))


class _Query:
    """The statements on one table.

    Args:
        database: where it is.
        of: the table, with the columns that are searched.
        search: what is searched.
    """

    def __init__(self, database: Database, of: CatalogTable, search: TextSearch) -> None:
        dialect, self.of, self._find = database.dialect, of, search.find
        names = dict.fromkeys((*of.key, *(each.name for each in of.columns)))
        self._table = table(of.table, *(column(name) for name in names), schema=of.schema)
        self.key = [self._table.c[name] for name in of.key]
        columns = [(self._table.c[each.name], each.kind) for each in of.columns]
        self._conditions = [search.condition(each, kind) for each, kind in columns]
        self._values = [
            case((condition, dialect.found_value(each, kind))).label(f"value{number}")
            for number, (condition, (each, kind)) in enumerate(zip(self._conditions, columns, strict=True))
        ]

    def read_window(
        self, connection: Connection, size: int, after: Sequence[Any] | None
    ) -> tuple[int, tuple[Any, ...] | None, Counter[tuple[str, str]]]:
        """Search the next rows in the order of the key.

        Returns:
            How many there are, the last key if more follow, and what was found by column.
        """
        boundary = self._restrict(select(*self.key), after, None).order_by(*self.key).offset(size - 1).limit(1)
        last = connection.execute(boundary).first()
        until, count = None if last is None else tuple(last), size
        if until is None:
            count = int(connection.execute(self._restrict(select(func.count()), after, None)).scalar_one())
        matching = self._restrict(select(*self._values), after, until).where(or_(*self._conditions))
        # One value may be large, so few of them are in memory at once.
        streamed = connection.execution_options(stream_results=True, max_row_buffer=_BUFFERED_VALUES)
        found: Counter[tuple[str, str]] = Counter()
        with streamed.execute(matching) as result:
            for row in result:
                found.update(self._find_in(row))
        return count, until, found

    def read_all(self, connection: Connection, size: int) -> Iterator[tuple[int, Counter[tuple[str, str]]]]:
        """Search all rows by one cursor; yield after each fetch how many there were, and what was found by column."""
        # Each row is fetched, with NULL where nothing matches: so each fetch is short.
        statement = self._restrict(select(*self._values), None, None)
        streamed = connection.execution_options(stream_results=True, yield_per=size)
        with streamed.execute(statement) as result:
            for rows in result.partitions(size):
                found: Counter[tuple[str, str]] = Counter()
                for row in rows:
                    found.update(self._find_in(row))
                yield len(rows), found

    def _find_in(self, row: Sequence[Any]) -> Iterator[tuple[str, str]]:
        for each, value in zip(self.of.columns, row, strict=True):
            if value is not None:
                yield from ((each.name, thing) for thing in self._find(value))

    def _restrict(self, statement: Any, after: Sequence[Any] | None, until: Sequence[Any] | None) -> Any:
        statement = statement.select_from(self._table)
        if self.of.only:
            statement = statement.with_hint(self._table, "ONLY", "postgresql")
        if after is not None:
            statement = statement.where(after_key(self.key, after))
        if until is not None:
            statement = statement.where(up_to_key(self.key, until))
        return statement
