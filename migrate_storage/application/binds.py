"""Which tables of an application are in which of its databases."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Sequence
from functools import partial

import sqlalchemy as sa

from migrate_storage.application.discovery import NamedDatabase
from migrate_storage.core.errors import MigrateStorageError
from migrate_storage.database.connection import Database
from migrate_storage.database.urls import is_missing_file

__all__ = ("divide_tables",)


def divide_tables(
    every: Sequence[sa.Table], chosen: NamedDatabase, databases: Sequence[NamedDatabase]
) -> dict[str, list[sa.Table]]:
    """Divide tables among the databases of an application.

    Session makers and configurations bind some of them. A database is asked whether it has the others: they may be in
    several. A table that is in none is taken to be in the chosen one, if nothing is bound to that. A database that
    does not answer may have every table.

    Args:
        every: the tables with files.
        chosen: the database that was selected.
        databases: all databases of the application.

    Returns:
        The tables by the name of the database, those of the chosen one first.
    """
    bound = {each.name: _find_bound(each, every, databases) for each in (chosen, *databases)}
    known = set[sa.Table]().union(*bound.values())
    free = [table for table in every if table not in known]
    if len(databases) == 1:
        return {chosen.name: list(every)}
    others = [each for each in databases if each.engine is not chosen.engine and chosen.name != each.name]
    there = {each.name: _ask(each, free) if free else free for each in (chosen, *others)}
    somewhere = {table for tables in there.values() for table in tables}
    if not bound[chosen.name]:
        there[chosen.name] = [table for table in free if table in there[chosen.name] or table not in somewhere]
    return {name: [*bound[name], *tables] for name, tables in there.items()}


def _find_bound(
    database: NamedDatabase, every: Iterable[sa.Table], databases: Sequence[NamedDatabase]
) -> Collection[sa.Table]:
    several = len({id(each.metadata) for each in databases if each.metadata is not None}) > 1
    return [
        table for table in every
        if table in database.tables or (several and database.metadata is not None and table.metadata is database.metadata)
    ]  # fmt: skip


def _ask(database: NamedDatabase, tables: Sequence[sa.Table]) -> list[sa.Table]:
    """Return those of the tables that a database has; all of them if it does not answer."""
    if is_missing_file(database.engine.url):
        return []
    with contextlib.suppress(MigrateStorageError), contextlib.closing(Database(database.engine, attempts=1)) as there:
        there.connect()
        return there.transaction(partial(_find_existing, database=there, tables=tables))
    return list(tables)


def _find_existing(connection: sa.Connection, database: Database, tables: Sequence[sa.Table]) -> list[sa.Table]:
    if database.dialect.trials.is_standby(connection):
        return []  # its primary has the same rows
    inspector = sa.inspect(connection)
    return [table for table in tables if inspector.has_table(table.name, schema=database.schema(table.schema))]
