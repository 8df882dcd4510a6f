"""The census: every table that the role sees is searched for FileObjects that name a backend key.

The database filters, and :mod:`migrate_storage.database.table_search` reads the tables.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from migrate_storage.core.census import Census, CensusColumn
from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.events import CensusAdvanced
from migrate_storage.database.catalog import Catalog, CatalogTable, read_catalog
from migrate_storage.database.connection import Database
from migrate_storage.database.file_search import FileFinder, may_name
from migrate_storage.database.table_search import TableSearch, TextSearch

__all__ = ("ROW_SECURITY", "CensusScope", "check_tables", "choose_tables", "is_excused", "is_known", "take_census")

ROW_SECURITY = "rows by row level security"
"""What :attr:`Census.hidden` is where policies hide rows."""


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
    tables = choose_tables(catalog, scope.tables)
    started = database.transaction(database.now)
    finder = FileFinder(scope.keys)
    searched = TextSearch(
        condition=lambda column, kind: may_name(database.dialect, column, kind, scope.keys), find=finder.keys_in
    )
    search = TableSearch(database, searched, wait, send, tables=len(tables), rate=scope.rate)
    found: dict[tuple[str | None, str, str], CensusColumn] = {}
    for each in tables:
        for name, rows, unreadable in search.search_table(each):
            of = (*each.shown, name)
            before = found.get(of)
            found[of] = CensusColumn(
                schema=of[0], table=of[1], column=of[2],
                rows=dict(Counter(rows) + Counter(before.rows if before else {})),
                known=is_known(each, name, scope, database.dialect.catalog.fold_name), excused=is_excused(each, name, scope),
                unreadable=unreadable or (before.unreadable if before else ""),
            )  # fmt: skip
    return Census(
        started=started, finished=database.transaction(database.now), keys=scope.keys, tables=len(tables),
        searched=sum(not each_.unreadable for each in tables for each_ in each.columns), rows=search.rows,
        columns=tuple(found[name] for name in sorted(found, key=str) if found[name].rows or found[name].unreadable),
        narrowed=scope.tables, hidden=ROW_SECURITY if database.visible_rows_only else catalog.hidden,
        hidden_excused=scope.hidden_excused and not database.visible_rows_only,
    )  # fmt: skip


def check_tables(database: Database, names: Sequence[str]) -> None:
    """Check that tables exist.

    Raises:
        ConfigurationError: one of them does not.
    """
    choose_tables(read_catalog(database, leave_out=()), names)


def choose_tables(catalog: Catalog, names: Sequence[str]) -> list[CatalogTable]:
    """The tables of a catalog that have columns with text, all or those with some names.

    Raises:
        ConfigurationError: there is none of a name.
    """
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


def is_excused(of: CatalogTable, name: str, scope: CensusScope) -> bool:
    """Whether a column is among those that do not count."""
    spellings = {".".join(filter(None, (schema, table, name))) for schema, table in of.names}
    return any(fnmatchcase(spelled, pattern) for spelled in spellings for pattern in scope.excused)


def is_known(of: CatalogTable, name: str, scope: CensusScope, fold_name: Callable[[str], str]) -> bool:
    """Whether a column is among the known ones."""

    def fold(parts: Iterable[str | None]) -> tuple[str, ...]:
        return tuple(fold_name(part or "") for part in parts)

    known = {fold(each) for each in scope.known}
    return any(fold((*each, name)) in known for each in of.names)
