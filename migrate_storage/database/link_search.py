"""Search every column with text that the role sees for public addresses of objects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import ColumnElement, or_

from migrate_storage.core.addresses import AddressBase, AddressFinder, AddressKind
from migrate_storage.core.events import CensusAdvanced
from migrate_storage.core.links import LinkColumn
from migrate_storage.database.catalog import CatalogColumn, CatalogTable, read_catalog
from migrate_storage.database.census import ROW_SECURITY, CensusScope, choose_tables, is_excused, is_known
from migrate_storage.database.connection import Database
from migrate_storage.database.dialects.base import Dialect, ValueKind
from migrate_storage.database.table_search import TableSearch, TextSearch

__all__ = ("FoundColumn", "LinkSearch", "may_have_address", "search_links")

_ROWS, _ADDRESSES = "rows", "addresses"
_REASON = "reason: "


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundColumn:
    """A column of one table, with what was found in it."""

    table: CatalogTable
    column: CatalogColumn
    found: LinkColumn


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkSearch:
    """What one search found."""

    columns: Sequence[FoundColumn]
    tables: int
    searched: int
    rows: int
    #: What the server may hide from the role; empty where it hides nothing.
    hidden: str


def search_links(
    database: Database,
    scope: CensusScope,
    bases: Sequence[AddressBase],
    finder: AddressFinder,
    *,
    wait: Callable[[float], bool],
    send: Callable[[CensusAdvanced], None],
) -> LinkSearch:
    """Search the database.

    Args:
        database: connected.
        scope: which tables; its keys are not used. The known columns are not searched: they name files.
        bases: what addresses begin with.
        finder: of these bases.
        wait: as for :func:`migrate_storage.database.census.take_census`.
        send: called with the progress after each window.

    Raises:
        ConfigurationError: a table of the scope does not exist.
        RunError: the database cannot be reached any more.
        StoppedError: ``wait`` returned true.
    """
    catalog = read_catalog(database, leave_out=scope.leave_out)
    tables = [_leave_out_known(each, scope, database) for each in choose_tables(catalog, scope.tables)]
    what = TextSearch(
        condition=lambda column, kind: may_have_address(database.dialect, column, kind, bases),
        find=lambda value: _count(finder, value),
    )
    search = TableSearch(database, what, wait, send, tables=len(tables), rate=scope.rate)
    columns: list[FoundColumn] = []
    for table in tables:
        by_name = {column.name: column for column in table.columns}
        for name, counts, unreadable in search.search_table(table):
            if counts or unreadable:
                found = replace(
                    _to_column(table, name, counts), unreadable=unreadable, excused=is_excused(table, name, scope)
                )
                columns.append(FoundColumn(table=table, column=by_name[name], found=found))
    return LinkSearch(
        columns=columns, tables=len(tables), rows=search.rows,
        searched=sum(not column.unreadable for table in tables for column in table.columns),
        hidden=ROW_SECURITY if database.visible_rows_only else catalog.hidden,
    )  # fmt: skip


def may_have_address(
    dialect: Dialect, column: ColumnElement[object], kind: ValueKind, bases: Iterable[AddressBase]
) -> ColumnElement[bool]:
    """A condition that every value fulfils that has an address, and few others: it has a host, or a folder's name."""
    searched = dialect.searchable(column, kind)
    parts = {base.host.partition(":")[0] or max(base.path.split("/"), key=len).lower() for base in bases}
    return or_(*(dialect.contains(searched, part, any_case=True) for part in sorted(parts)))


def _decode_value(value: str | bytes) -> str:
    """A value of a search as text."""
    return value if isinstance(value, str) else bytes(value).decode("utf-8", "surrogateescape")


def _leave_out_known(table: CatalogTable, scope: CensusScope, database: Database) -> CatalogTable:
    fold = database.dialect.catalog.fold_name
    return replace(table, columns=tuple(each for each in table.columns if not is_known(table, each.name, scope, fold)))


def _count(finder: AddressFinder, value: str | bytes) -> Iterator[str]:
    """What is counted of a value: the row once, and each address by its kind and reason."""
    for number, address in enumerate(finder.find(_decode_value(value))):
        if not number:
            yield _ROWS
        yield _ADDRESSES
        yield f"{_REASON}{address.reason}" if address.kind is AddressKind.UNCHANGED else address.kind.value


def _to_column(table: CatalogTable, name: str, counts: Mapping[str, int]) -> LinkColumn:
    counted = Counter(counts)
    reasons = sorted(each for each in counted if each.startswith(_REASON))
    return LinkColumn(
        schema=table.shown[0], table=table.shown[1], column=name, rows=counted[_ROWS], addresses=counted[_ADDRESSES],
        moved=counted[AddressKind.MOVED.value], unmoved=counted[AddressKind.UNMOVED.value],
        unchanged={each.removeprefix(_REASON): counted[each] for each in reasons},
    )  # fmt: skip
