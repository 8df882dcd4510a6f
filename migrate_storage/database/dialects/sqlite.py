"""SQLite: one writer at a time, errors without codes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Integer,
    LargeBinary,
    TableClause,
    Text,
    cast,
    func,
    literal,
)
from sqlalchemy.dialects import sqlite

from migrate_storage.database.dialects.base import Dialect, Trials, ValueKind

__all__ = ("AUTO_ID", "SQLite")

AUTO_ID = BigInteger().with_variant(Integer(), "sqlite")
"""The type of a number that the database gives each row: only an INTEGER is counted up by SQLite."""


class _SQLiteTrials(Trials):
    """What SQLite is asked before its rows are changed."""

    def in_transaction(self, connection: Connection) -> bool:
        driver: Any = connection.connection.driver_connection
        return bool(driver.in_transaction)


class SQLite(Dialect):
    """SQLite."""

    name = "sqlite"
    trials = _SQLiteTrials()
    version = "SELECT 'SQLite ' || sqlite_version()"
    clock = "SELECT (julianday('now') - 2440587.5) * 86400.0"
    update_triggers = (
        "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = :t AND lower(sql) LIKE '%update%'"
    )
    tables_with_column = (
        "SELECT 'main', m.name, 1 FROM sqlite_master m JOIN pragma_table_info(m.name) p"
        " WHERE m.type = 'table' AND p.name = :c ORDER BY 2"
    )
    transient_messages = ("locked", "busy")
    full_messages = ("disk is full", "disk i/o error")
    matches_patterns = False

    def prepare_connection(self, connection: Connection, lock_seconds: float) -> None:
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {lock_seconds * 1000}")
        connection.rollback()
        # Python's module begins transactions, unless it was told to leave that to others. Nobody else does it for us.
        driver: Any = connection.connection.dbapi_connection
        if driver.isolation_level is None:
            driver.isolation_level = ""

    def searchable(self, column: ColumnElement[Any], kind: ValueKind) -> ColumnElement[Any]:
        # As bytes, for the text of SQLite may be no valid UTF-8.
        return cast(column, LargeBinary())

    def contains(self, searched: ColumnElement[Any], part: str) -> ColumnElement[bool]:
        return func.instr(searched, cast(literal(part, Text()), LargeBinary())) > 0

    def upsert(self, table: TableClause, values: Mapping[str, Any], changes: Mapping[str, Any]) -> Any:
        return sqlite.insert(table).values(values).on_conflict_do_update(index_elements=["id"], set_=changes)
