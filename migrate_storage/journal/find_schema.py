"""Find the schema in which a database has a journal, so that it never gets a second one."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import select, text

from migrate_storage.core.errors import ConfigurationError, RefusedError
from migrate_storage.database.connection import Database
from migrate_storage.journal.schema import PREFIX, Tables

__all__ = ("FoundTable", "find_journals", "find_schema", "find_tables")


class FoundTable(NamedTuple):
    """A table of a database."""

    schema: str
    name: str
    #: Whether a statement finds it without the schema's name.
    visible: bool

    @property
    def qualifier(self) -> str | None:
        """The schema to name in statements; ``None`` where that is not needed."""
        return None if self.visible else self.schema


def find_tables(database: Database, column: str) -> list[FoundTable]:
    """Return all tables with a column, in every schema that the database lists to this user."""
    statement = text(database.dialect.tables_with_column)
    return database.transaction(
        lambda connection: [
            FoundTable(str(schema), str(name), bool(visible))
            for schema, name, visible in connection.execute(statement, {"c": column})
        ]
    )


def find_journals(database: Database) -> list[FoundTable]:
    """Return the table of runs in every schema that has one."""
    return [table for table in find_tables(database, "started") if table.name == f"{PREFIX}run"]


def find_schema(database: Database, named: str | None) -> str | None:
    """Return the schema of the database's journal.

    Leases are in the journal. With two journals, two runs could work on the same rows at the same time. Tables without
    the record of a run are no journal: an ``Outbox`` creates them too, in the schema that the application chose.

    Args:
        database: connected.
        named: the schema that a person named; ``None`` where nobody did.

    Returns:
        The schema of the tables; ``None`` means the connection's default, also where there is no journal. A
        new one goes where the application's engine puts tables without a schema.

    Raises:
        ConfigurationError: there are two journals, or there would be.
    """
    found = find_journals(database)
    if len(found) > 1 or any(named not in (None, table.schema) for table in found):
        used = [table for table in found if _has_runs(database, table, unreadable=named is None)]
        if len(used) > 1:
            raise ConfigurationError(
                f"{database} has two journals, in schema {used[0].schema!r} and in schema {used[1].schema!r}, and their runs "
                "do not exclude each other: drop the one that is no longer needed with 'migrate-storage journal drop "
                "--journal-schema NAME'"
            )
        if named is not None and used and used[0].schema != named:
            raise ConfigurationError(
                f"{database} has its journal in schema {used[0].schema!r}, so a second one in schema {named!r} is refused: "
                f"leave --journal-schema out, or name {used[0].schema!r}"
            )
        found = used or [table for table in found if table.visible] or found
    if named is not None:
        return named
    return found[0].qualifier if found else database.schema(None)


def _has_runs(database: Database, table: FoundTable, *, unreadable: bool) -> bool:
    """Return whether a table of runs has a record; ``unreadable`` is the answer where this user may not read it."""
    runs = Tables(table.schema).run
    try:
        return (
            database.transaction(lambda connection: connection.execute(select(runs.c.id).limit(1)).first()) is not None
        )
    except RefusedError:
        return unreadable
