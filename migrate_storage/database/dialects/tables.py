"""The tables and columns of a database that can contain text, as its catalog lists them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from migrate_storage.database.dialects.value_kind import ValueKind

__all__ = ("Catalog", "CatalogColumn", "CatalogTable", "first_keys", "name_table")

_Name = tuple[str | None, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class CatalogColumn:
    """A column that can contain text."""

    name: str
    kind: ValueKind
    #: Why the role cannot read it; empty where it can.
    unreadable: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class CatalogTable:
    """A table with rows of its own."""

    schema: str | None
    table: str
    columns: tuple[CatalogColumn, ...]
    #: The names by which models may know it: with and without schema, and those of the tables that it is a part of.
    names: frozenset[_Name]
    #: The name in reports. A partition has that of its whole table.
    shown: _Name
    #: Columns that are unique, not NULL and in an index; empty where there is no such index.
    key: tuple[str, ...] = ()
    #: Whether tables that inherit from it have rows of their own, which are read by their own names.
    only: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Catalog:
    """What the role sees."""

    tables: tuple[CatalogTable, ...]
    #: Which tables the server may hide from this role; empty where it shows all.
    hidden: str = ""


def name_table(schema: str | None, table: str, visible: bool) -> tuple[frozenset[_Name], _Name]:
    """The names of a table, and the one in reports. A visible one needs no schema."""
    names: set[_Name] = {(schema, table)}
    if visible:
        names.add((None, table))
    return frozenset(names), (None if visible else schema, table)


def first_keys(columns: Iterable[tuple[tuple[Any, Any], str, bool]]) -> dict[Any, tuple[str, ...]]:
    """The first usable index of each table.

    Args:
        columns: table and index, column, and whether it is usable; in order of indexes and positions.
    """
    keys: dict[Any, tuple[str, ...]] = {}
    for (table, _), entries in groupby(columns, key=lambda entry: entry[0]):
        parts = list(entries)
        if all(usable for _, _, usable in parts):
            keys.setdefault(table, tuple(name for _, name, _ in parts))
    return keys
