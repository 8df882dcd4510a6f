"""Columns of text that no model has: whether their values can be changed, and the statements that do it."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection, inspect
from sqlalchemy.exc import NoSuchTableError

from migrate_storage.core.errors import ConfigurationError, PreflightError, RefusedError
from migrate_storage.core.model import Column
from migrate_storage.database.connection import Database
from migrate_storage.database.dialects.base import ValueKind
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.rights import check_rows
from migrate_storage.database.row_identity import find_doubtful_keys

__all__ = ("open_text_column",)

_NO_TEXT = {
    ValueKind.BYTES: "its values are bytes",
    ValueKind.COMPOSED: "its values are arrays, records or maps",
}
_ENUMERATIONS = ("ENUM", "SET")


def open_text_column(database: Database, of: Column, kind: ValueKind, *, update: bool) -> FileColumn | str:
    """Open a column whose values are to be changed.

    Args:
        database: connected.
        of: the column; its key is not used.
        kind: how the text of its values is found.
        update: whether the right to UPDATE it is tried too.

    Returns:
        The column with its primary key, or the reason why its values cannot be changed.
    """
    if reason := _NO_TEXT.get(kind):
        return reason

    def read_key(connection: Connection) -> tuple[str, ...]:
        found = inspect(connection).get_pk_constraint(of.table, schema=of.schema)
        return tuple(found.get("constrained_columns") or ())

    try:
        key = database.transaction(read_key)
        if not key:
            return "its table has no primary key"
        if of.column in key:
            return "it is a part of the primary key"
        rows = FileColumn(database, replace(of, key=key))
        if rows.generated:
            return "the database generates it from other columns"
        if rows.type in _ENUMERATIONS:
            return "its values are words of a list"
        for doubtful in find_doubtful_keys(rows):
            return f"its table has {doubtful.count} rows {doubtful.reason}"
        check_rows([rows], update=update)
    except RefusedError as error:
        return error.reason
    except NoSuchTableError:
        return "there is no such table any more"
    except (ConfigurationError, PreflightError) as error:
        return str(error)
    return rows
