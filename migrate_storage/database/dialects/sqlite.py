"""SQLite: one writer at a time, errors without codes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    FromClause,
    Integer,
    LargeBinary,
    TableClause,
    Text,
    cast,
    column,
    func,
    literal,
    text,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.types import TypeEngine

from migrate_storage.database.dialects.base import Dialect, TableCatalog, TableFacts, Trials, ValueKind
from migrate_storage.database.dialects.sets import RowSets
from migrate_storage.database.dialects.sqlite_tables import read_sqlite_tables
from migrate_storage.database.dialects.tables import Catalog

__all__ = ("AUTO_ID", "SQLite")

AUTO_ID = BigInteger().with_variant(Integer(), "sqlite")
"""The type of a number that the database gives each row: only an INTEGER is counted up by SQLite."""

_UPDATE_TRIGGERS = (
    "SELECT name FROM {} WHERE type = 'trigger' AND tbl_name = :t COLLATE NOCASE AND lower(sql) LIKE '%update%'"
)


class _SQLiteTrials(Trials):
    """What SQLite is asked before its rows are changed."""

    def in_transaction(self, connection: Connection) -> bool:
        driver: Any = connection.connection.driver_connection
        return bool(driver.in_transaction)


class _SQLiteCatalog(TableCatalog):
    update_triggers = _UPDATE_TRIGGERS.format("sqlite_master")

    def read_tables(self, connection: Connection) -> Catalog:
        return read_sqlite_tables(connection)

    def facts(self, connection: Connection, table: TableClause) -> TableFacts:
        keys = tuple(self._unique_keys(connection, table))
        # A trigger is in the schema of its table, or in this connection only.
        owner = connection.dialect.identifier_preparer.quote_identifier(table.schema or "main")
        triggers = " UNION ALL ".join(
            _UPDATE_TRIGGERS.format(of) for of in (f"{owner}.sqlite_master", "sqlite_temp_master")
        )
        found = connection.execute(text(triggers), {"t": table.name}).first()
        return TableFacts(unique_keys=keys, intercepts_updates=found is not None)

    def is_text(self, column: ColumnElement[Any]) -> ColumnElement[bool]:
        return func.typeof(column) == "text"

    def finds_keys_of(self, type_: TypeEngine[Any]) -> bool:
        return True  # values have one of five types, whatever the column's is

    def _unique_keys(self, connection: Connection, table: TableClause) -> Iterator[frozenset[str]]:
        quote = connection.dialect.identifier_preparer.quote_identifier
        prefix = f"{quote(table.schema)}." if table.schema else ""

        def pragma(name: str, of: str) -> list[Any]:
            return list(connection.exec_driver_sql(f"PRAGMA {prefix}{name}({quote(of)})").mappings())

        statement = text(f"SELECT sql FROM {prefix}sqlite_master WHERE type = 'table' AND name = :t COLLATE NOCASE")
        created = str(connection.execute(statement, {"t": table.name}).scalar() or "").lower()
        columns = pragma("table_xinfo", table.name)
        indexes = pragma("index_list", table.name)
        primary = [entry for entry in columns if entry["pk"]]
        if created.startswith("create table") and len(primary) == 1 and all(each["origin"] != "pk" for each in indexes):
            yield frozenset({primary[0]["name"]})  # another name of the rowid
        if "collate" in created:
            return  # an index may compare texts otherwise than the column does, which no PRAGMA shows
        not_null = {entry["name"] for entry in columns if entry["notnull"]}
        for index in indexes:
            parts = {entry["name"] for entry in pragma("index_xinfo", index["name"]) if entry["key"]}
            if index["unique"] and not index["partial"] and parts <= not_null:
                yield frozenset(parts)


class _SQLiteSets(RowSets):
    def are_read(self, connection: Connection) -> bool:
        # Its executemany costs as little as a set, and its JSON cuts a text at a NUL: no set is written.
        return bool((connection.dialect.server_version_info or (0,)) >= (3, 38))

    def given(self, columns: Mapping[str, TypeEngine[Any]]) -> FromClause:
        found = ", ".join(f"value->>'{name}' AS {name}" for name in columns)
        statement = text(f"SELECT {found} FROM json_each(:rows)")
        return statement.columns(*(column(name, type_) for name, type_ in columns.items())).subquery("ms_given")


class SQLite(Dialect):
    """SQLite."""

    name = "sqlite"
    trials = _SQLiteTrials()
    catalog = _SQLiteCatalog()
    sets = _SQLiteSets()
    version = "SELECT 'SQLite ' || sqlite_version()"
    clock = "SELECT (julianday('now') - 2440587.5) * 86400.0"
    tables_with_column = (
        "SELECT 'main', m.name, 1 FROM sqlite_master m JOIN pragma_table_info(m.name) p"
        " WHERE m.type = 'table' AND p.name = :c ORDER BY 2"
    )
    transient_messages = ("locked", "busy")
    read_only_codes = frozenset({"attempt to write a readonly database"})
    read_only_remedy = "let this user write the file and its folder, and leave PRAGMA query_only out"
    full_messages = ("disk is full", "disk i/o error")
    matches_patterns = False
    locks_rows = False
    parallel_writers = False

    def prepare_connection(self, connection: Connection, lock_seconds: float) -> None:
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {lock_seconds * 1000}")
        connection.rollback()
        # How results are read is ours, whatever the application sets on connect.
        opened: Any = connection.connection.driver_connection
        opened.text_factory, opened.row_factory = str, None
        # Python's module begins transactions, unless it is configured to leave that to others. Nothing else does it for us.
        driver: Any = connection.connection.dbapi_connection
        if driver.isolation_level is None:
            driver.isolation_level = ""

    def read_text(self, column: ColumnElement[Any], type_: str) -> ColumnElement[Any]:
        # As bytes, for the text of SQLite may be no valid UTF-8. One such row must not end a job.
        return cast(self.text_of(column, type_), LargeBinary())

    def searchable(self, column: ColumnElement[Any], kind: ValueKind) -> ColumnElement[Any]:
        # As bytes, for the text of SQLite may be no valid UTF-8.
        return cast(column, LargeBinary())

    def contains(self, searched: ColumnElement[Any], part: str, *, any_case: bool = False) -> ColumnElement[bool]:
        within = cast(func.lower(cast(searched, Text())), LargeBinary()) if any_case else searched
        return func.instr(within, cast(literal(part, Text()), LargeBinary())) > 0

    def upsert(self, table: TableClause, values: Mapping[str, Any], changes: Mapping[str, Any]) -> Any:
        return sqlite.insert(table).values(values).on_conflict_do_update(index_elements=["id"], set_=changes)
