"""The census: every table that the role sees is searched for FileObjects that name a backend key.

The database filters, in windows by key. Each window is a short transaction, as long as the last ones allow. A table
without a usable key is read by one cursor, of which each fetch is short.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from sqlalchemy import Connection, case, column, func, or_, select, table, text

from migrate_storage.core.census import Census, CensusColumn
from migrate_storage.core.errors import ConfigurationError, RefusedError, RunError, StoppedError
from migrate_storage.core.events import CensusAdvanced
from migrate_storage.database.catalog import Catalog, CatalogTable, read_catalog
from migrate_storage.database.connection import Database, SlowStatementError
from migrate_storage.database.file_search import FileFinder, may_name
from migrate_storage.database.key_ranges import after_key, up_to_key

__all__ = ("CensusScope", "check_tables", "take_census")

_FIRST_WINDOW_ROWS = 1_000
_MAX_WINDOW_ROWS = 50_000
WINDOW_SECONDS = 0.25
"""How long a window may take, about: the next one is smaller or larger."""
_CURSOR_ROWS = (1_000, 100, 10, 1)
"""Rows of one fetch where a table has no key, and of fewer after a statement timeout."""
_BUFFERED_VALUES = 50
"""Rows with matching values that are in memory at once."""
_ROW_SECURITY = "rows by row level security"
_MAX_PAUSE_SECONDS = 2.0
"""The longest pause in a transaction; the server ends one that is idle for longer than a few seconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CensusScope:
    """What a census searches, and how fast."""

    #: The backend keys.
    keys: tuple[str, ...]
    #: Names of known columns: schema or ``None``, table, column.
    known: frozenset[tuple[str | None, str, str]]
    #: Names of tables that are not searched, in any schema: ours.
    leave_out: frozenset[str] = frozenset()
    #: Tables to search, ``table`` or ``schema.table``; empty means all.
    tables: tuple[str, ...] = ()
    #: Columns that do not count as unknown or unseen: ``table.column`` or ``schema.table.column``, ``*`` for any part.
    excused: tuple[str, ...] = ()
    #: Whether tables that the server hides from the role are excused.
    hidden_excused: bool = False
    #: Rows in a second; ``None`` sets no limit.
    rate: float | None = None


def take_census(
    database: Database, scope: CensusScope, *, wait: Callable[[float], bool], send: Callable[[CensusAdvanced], None]
) -> Census:
    """Search the database.

    Args:
        database: connected.
        scope: what is searched.
        wait: called with seconds, perhaps 0, between two windows: waits so long, and returns whether the census is to end.
        send: called with the progress after each window.

    Raises:
        ConfigurationError: a table of the scope does not exist.
        RunError: the database cannot be reached any more.
        StoppedError: ``wait`` returned true.
    """
    catalog = read_catalog(database, leave_out=scope.leave_out)
    tables = _choose_tables(catalog, scope.tables)
    started = database.transaction(database.now)
    search = _Search(database, scope, wait, send, tables=len(tables))
    found: dict[tuple[str | None, str, str], CensusColumn] = {}
    for each in tables:
        for name, rows, unreadable in search.search_table(each):
            of = (*each.shown, name)
            before = found.get(of)
            found[of] = CensusColumn(
                schema=of[0], table=of[1], column=of[2],
                rows=dict(Counter(rows) + Counter(before.rows if before else {})),
                known=_is_known(each, name, scope, database.dialect.catalog.fold_name),
                excused=any(fnmatchcase(spelled, each_) for spelled in _spellings(each, name) for each_ in scope.excused),
                unreadable=unreadable or (before.unreadable if before else ""),
            )  # fmt: skip
    return Census(
        started=started, finished=database.transaction(database.now), keys=scope.keys, tables=len(tables),
        searched=sum(not each_.unreadable for each in tables for each_ in each.columns), rows=search.rows,
        columns=tuple(found[name] for name in sorted(found, key=str) if found[name].rows or found[name].unreadable),
        narrowed=scope.tables, hidden=_ROW_SECURITY if database.visible_rows_only else catalog.hidden,
        hidden_excused=scope.hidden_excused and not database.visible_rows_only,
    )  # fmt: skip


def check_tables(database: Database, names: Sequence[str]) -> None:
    """Check that tables exist.

    Raises:
        ConfigurationError: one of them does not.
    """
    _choose_tables(read_catalog(database, leave_out=()), names)


def _choose_tables(catalog: Catalog, names: Sequence[str]) -> list[CatalogTable]:
    if not names:
        return [each for each in catalog.tables if each.columns]
    chosen, missing = [], set(names)
    for each in catalog.tables:
        spelled = {".".join(filter(None, name)) for name in each.names} & set(names)
        missing -= spelled
        if spelled and each.columns:
            chosen.append(each)
    if missing:
        raise ConfigurationError(
            f"--census {', '.join(sorted(missing))}: this role sees no such table; name it as table or schema.table, "
            "or give full or none"
        )
    return chosen


def _spellings(of: CatalogTable, name: str) -> set[str]:
    return {".".join(filter(None, (schema, table_, name))) for schema, table_ in of.names}


def _is_known(of: CatalogTable, name: str, scope: CensusScope, fold_name: Callable[[str], str]) -> bool:
    def fold(parts: Iterable[str | None]) -> tuple[str, ...]:
        return tuple(fold_name(part or "") for part in parts)

    known = {fold(each) for each in scope.known}
    return any(fold((*each, name)) in known for each in of.names)


class _Search:
    """Searches one table after the other."""

    def __init__(
        self,
        database: Database,
        scope: CensusScope,
        wait: Callable[[float], bool],
        send: Callable[[CensusAdvanced], None],
        *,
        tables: int,
    ) -> None:
        self._database, self._scope, self._wait, self._send = database, scope, wait, send
        self._finder = FileFinder(scope.keys)
        self._tables, self._done = tables, 0
        #: Rows that were searched so far.
        self.rows = 0

    def search_table(self, of: CatalogTable) -> Iterator[tuple[str, Mapping[str, int], str]]:
        """Yield the columns with a finding: the name, the rows by key, and why it could not be searched."""
        readable = [each for each in of.columns if not each.unreadable]
        yield from ((each.name, {}, each.unreadable) for each in of.columns if each.unreadable)
        rows: Counter[tuple[str, str]] = Counter()
        problem = ""
        if readable:
            query = _Query(self._database, replace(of, columns=tuple(readable)), self._scope.keys)
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
            yield each.name, {key: rows[each.name, key] for key in self._scope.keys if rows[each.name, key]}, problem

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
                    partial(query.read_window, find=self._find, size=size, after=after), retry_slow=False
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
            for count, found in query.read_all(connection, self._find, size):
                rows.update(found)
                self._advance(query.of, count, began)
                began = time.monotonic()

        self._database.transaction(read, retry_slow=False)

    def _rows_at_once(self, most: int) -> int:
        rate = self._scope.rate
        return most if rate is None else min(most, int(rate * _MAX_PAUSE_SECONDS))

    def _find(self, value: str | bytes) -> frozenset[str]:
        return self._finder.keys_in(value)

    def _advance(self, of: CatalogTable, count: int, began: float) -> None:
        """Count rows, report them, and pause as the rate demands.

        Raises:
            StoppedError: the census was asked to end.
        """
        self.rows += count
        self._report(of)
        pause = count / self._scope.rate - (time.monotonic() - began) if self._scope.rate else 0.0
        if self._wait(min(max(pause, 0.0), _MAX_PAUSE_SECONDS)):
            raise StoppedError("a stop was requested: the census is not whole")

    def _report(self, of: CatalogTable) -> None:
        name = ".".join(filter(None, of.shown))
        self._send(CensusAdvanced(table=name, rows=self.rows, tables=self._tables, done=self._done))


class _Query:
    """The statements on one table.

    Args:
        database: where it is.
        of: the table, with the columns that are searched.
        keys: the backend keys.
    """

    def __init__(self, database: Database, of: CatalogTable, keys: Collection[str]) -> None:
        dialect, self.of = database.dialect, of
        names = dict.fromkeys((*of.key, *(each.name for each in of.columns)))
        self._table = table(of.table, *(column(name) for name in names), schema=of.schema)
        self.key = [self._table.c[name] for name in of.key]
        columns = [(self._table.c[each.name], each.kind) for each in of.columns]
        self._conditions = [may_name(dialect, each, kind, keys) for each, kind in columns]
        self._values = [
            case((condition, dialect.found_value(each, kind))).label(f"value{number}")
            for number, (condition, (each, kind)) in enumerate(zip(self._conditions, columns, strict=True))
        ]

    def read_window(
        self,
        connection: Connection,
        find: Callable[[str | bytes], frozenset[str]],
        size: int,
        after: Sequence[Any] | None,
    ) -> tuple[int, tuple[Any, ...] | None, Counter[tuple[str, str]]]:
        """Search the next rows in the order of the key.

        Returns:
            How many there are, the last key if more follow, and the rows by column and key.
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
                found.update(self._find_in(row, find))
        return count, until, found

    def read_all(
        self, connection: Connection, find: Callable[[str | bytes], frozenset[str]], size: int
    ) -> Iterator[tuple[int, Counter[tuple[str, str]]]]:
        """Search all rows by one cursor; yield after each fetch how many there were, and the rows by column and key."""
        # Each row is fetched, with NULL where nothing matches: so each fetch is short.
        statement = self._restrict(select(*self._values), None, None)
        streamed = connection.execution_options(stream_results=True, yield_per=size)
        with streamed.execute(statement) as result:
            for rows in result.partitions(size):
                found: Counter[tuple[str, str]] = Counter()
                for row in rows:
                    found.update(self._find_in(row, find))
                yield len(rows), found

    def _find_in(self, row: Sequence[Any], find: Callable[[str | bytes], frozenset[str]]) -> Iterator[tuple[str, str]]:
        for each, value in zip(self.of.columns, row, strict=True):
            if value is not None:
                yield from ((each.name, key) for key in find(value))

    def _restrict(self, statement: Any, after: Sequence[Any] | None, until: Sequence[Any] | None) -> Any:
        statement = statement.select_from(self._table)
        if self.of.only:
            statement = statement.with_hint(self._table, "ONLY", "postgresql")
        if after is not None:
            statement = statement.where(after_key(self.key, after))
        if until is not None:
            statement = statement.where(up_to_key(self.key, until))
        return statement
