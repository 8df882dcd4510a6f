"""Find the tables in which Alembic keeps its version, and explain how to keep it from dropping ours."""

from __future__ import annotations

from sqlalchemy import inspect

from migrate_storage.core.model import Note, Severity
from migrate_storage.database.connection import Database
from migrate_storage.journal.find_schema import find_tables

__all__ = ("note_alembic",)

_VERSION_COLUMN = "version_num"
"""The only column of a version table of Alembic, whatever the table's name is. advanced-alchemy's are the same."""


def note_alembic(database: Database) -> list[Note]:
    """Return a note with the lines for ``env.py`` where Alembic migrates the database; else nothing.

    Args:
        database: that of the journal.
    """
    found = []
    for table in find_tables(database, _VERSION_COLUMN):
        columns = database.transaction(
            lambda connection, table=table: inspect(connection).get_columns(table.name, schema=table.qualifier)  # type: ignore[misc]
        )
        if len(columns) == 1:
            found.append(table.name)
    if not found:
        return []
    return [
        Note(
            severity=Severity.WARNING,
            code="database.alembic",
            subject=", ".join(found),
            message="Alembic migrates this database, and its autogenerate proposes to drop the journal's tables",
            todo="in env.py add `from migrate_storage.journal.alembic import include_object`, and "
            "`include_object=include_object,` to each context.configure(...): see docs/alembic.md",
        )
    ]
