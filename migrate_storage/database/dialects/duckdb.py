"""DuckDB: a file of one process, transactions that fail where two write one row, and no locks."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, TableClause, Text, cast, func, text, types, update
from sqlalchemy import column as sql_column
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import TypeEngine

from migrate_storage.core.errors import ConfigurationError, PreflightError
from migrate_storage.database.dialects.base import Dialect, TableCatalog, TableFacts, Trials, ValueKind
from migrate_storage.database.dialects.duckdb_tables import read_duckdb_tables
from migrate_storage.database.dialects.sets import RowSets
from migrate_storage.database.dialects.tables import Catalog

__all__ = ("DuckDB",)

_DRIVER = "duckdb_sqlalchemy"
_HERE = " WHERE database_name = COALESCE(:d, current_database()) AND schema_name = COALESCE(:s, current_schema())"
_UNIQUE_KEYS = f"""
SELECT constraint_column_names FROM duckdb_constraints(){_HERE} AND table_name = :t
    AND constraint_type IN ('PRIMARY KEY', 'UNIQUE')
"""
_NOT_NULL = f"SELECT column_name FROM duckdb_columns(){_HERE} AND table_name = :t AND NOT is_nullable"
_CREATED = f"SELECT sql FROM duckdb_tables(){_HERE} AND table_name = :t"
_CONSTRAINTS = f"""
SELECT constraint_type FROM duckdb_constraints(){_HERE} AND table_name = :t
    AND constraint_type IN ('PRIMARY KEY', 'UNIQUE', 'FOREIGN KEY') AND list_contains(constraint_column_names, :c)
"""
_INDEXES = f"SELECT index_name, sql FROM duckdb_indexes(){_HERE} AND table_name = :t"
_TYPE = f"SELECT data_type FROM duckdb_columns(){_HERE} AND table_name = :t AND column_name = :c"
_FIRST_VERSION_WITH_TRIGGERS = 2
_TRIGGERS = "SELECT trigger_name FROM duckdb_triggers() WHERE table_name = :t AND event_manipulation = 'UPDATE'"
_KIND = "SELECT type FROM duckdb_databases() WHERE database_name = current_database()"
_SETTINGS = {"default_order": "ASCENDING", "default_collation": ""}
"""Settings of the whole database that would change in which order, and with what, our statements compare."""
_QUOTE_IN_BYTES, _BACKSLASH_IN_BYTES = r"\x22", r"\x5C"
"""How a text of bytes spells two characters of JSON."""


def _names(schema: str | None, table: str) -> dict[str, Any]:
    """The parameters of a table. The driver names the schema of an attached database with a dot."""
    database, _, own = (schema or "").rpartition(".")
    return {"d": database or None, "s": own or None, "t": table}


class _DuckDBTrials(Trials):
    def check_settings(self, connection: Connection) -> None:
        if connection.dialect.driver != _DRIVER:
            raise ConfigurationError(
                f"the driver {connection.dialect.driver} is not supported: with the current SQLAlchemy it cannot describe tables; "
                "pip uninstall it, then pip install duckdb-sqlalchemy, which takes the same URLs"
            )
        kind = connection.exec_driver_sql(_KIND).scalar()
        if kind != "duckdb":
            raise ConfigurationError(
                f"the database in use is one of {kind} that DuckDB has attached: connect to it directly, with a URL of its own"
            )
        for name, usual in _SETTINGS.items():
            value = str(connection.exec_driver_sql(f"SELECT current_setting('{name}')").scalar_one())
            if value.upper() not in (usual, usual[:3]):
                raise ConfigurationError(
                    f"{name} of this DuckDB is {value!r}, and rows would be read in another order than they are compared in: "
                    f"leave that setting out, for it is one of the whole database"
                )

    def find_read_only(self, connection: Connection) -> str:
        statement = "SELECT readonly FROM duckdb_databases() WHERE database_name = current_database()"
        return "it is opened read-only" if connection.exec_driver_sql(statement).scalar() else ""

    def in_transaction(self, connection: Connection) -> bool:
        # Without a transaction each statement is one of its own.
        first, second = (connection.exec_driver_sql("SELECT txid_current()").scalar_one() for _ in range(2))
        return bool(first == second)

    def check_update(self, connection: Connection, table: TableClause, column: str) -> None:
        names = {**_names(table.schema, table.name), "c": column}
        type_ = str(connection.execute(text(_TYPE), names).scalar() or "")
        name = f"{table.name}.{column}"
        if type_ not in ("JSON", "VARCHAR"):
            raise PreflightError(
                f"{name} is of type {type_}, and DuckDB replaces the whole row where such a value is updated: what another "
                "thread writes to the row meanwhile would be lost; only columns of JSON and VARCHAR are re-pointed there"
            )
        indexed = [str(kind).lower() for kind in connection.execute(text(_CONSTRAINTS), names).scalars()]
        indexed += [
            f"index {index}" for index, sql in connection.execute(text(_INDEXES), names) if _mentions(str(sql), column)
        ]
        if indexed:
            raise PreflightError(
                f"{name} is in a {indexed[0]}, and DuckDB replaces the whole row where such a column is updated: what "
                "another thread writes to the row meanwhile would be lost; drop that first"
            )
        try:
            connection.execute(update(table).where(text("false")).values({column: table.c[column]}))
        except DBAPIError as error:
            if "generated column" not in str(error.orig):
                raise
            raise PreflightError(
                f"the database generates {name} from other columns, so that no UPDATE sets it: leave it out of --columns, "
                "and name the column from which it is generated"
            ) from error


def _mentions(sql: str, column: str) -> bool:
    """Whether the statement that made an index may name a column behind the table's name."""
    return column.casefold() in sql.casefold().partition(" on ")[2]


def _is_collated(column: str, created: str) -> bool:
    """Whether the statement that made a table may give a column a collation."""
    return re.search(rf'{re.escape(column)}"?\s+VARCHAR\s+COLLATE', created, re.IGNORECASE) is not None


class _DuckDBCatalog(TableCatalog):
    def read_tables(self, connection: Connection) -> Catalog:
        return read_duckdb_tables(connection)

    def facts(self, connection: Connection, table: TableClause) -> TableFacts:
        names = _names(table.schema, table.name)
        created = str(connection.execute(text(_CREATED), names).scalar() or "")
        not_null = set(connection.execute(text(_NOT_NULL), names).scalars())
        keys = (frozenset(columns) for columns in connection.execute(text(_UNIQUE_KEYS), names).scalars())
        # An index compares texts as they are, and the column compares them by its collation, which no catalog shows.
        unique = tuple(key for key in keys if key <= not_null and not any(_is_collated(each, created) for each in key))
        return TableFacts(
            unique_keys=unique, intercepts_updates=bool(self.list_update_triggers(connection, table.name))
        )

    def list_update_triggers(self, connection: Connection, table: str) -> list[str]:
        version = str(connection.exec_driver_sql("SELECT version()").scalar_one())
        if int(version.lstrip("v").partition(".")[0]) < _FIRST_VERSION_WITH_TRIGGERS:
            return []
        return list(connection.execute(text(_TRIGGERS), {"t": table}).scalars())

    def finds_keys_of(self, type_: TypeEngine[Any]) -> bool:
        # No driver has a date before year 1, and one of nanoseconds is cut.
        return super().finds_keys_of(type_) and not isinstance(type_, (types.Date, types.DateTime))

    def in_key_order(self, column: ColumnElement[Any], type_: TypeEngine[Any]) -> ColumnElement[Any]:
        # An ENUM is sorted by its number, and compared with a text by its text.
        return cast(column, Text()) if isinstance(type_, types.Enum) else column


class _DuckDBSets(RowSets):
    values = frozenset({"JSON", "STRING", "VARCHAR", "TEXT"})

    def are_read(self, connection: Connection) -> bool:
        return True

    def are_written(self, connection: Connection) -> bool:
        # An executemany takes a millisecond for each row, and does not count the rows that it changes.
        return True

    def given(self, columns: Mapping[str, TypeEngine[Any]]) -> FromClause:
        declared = json.dumps([{name: _type_in_json(type_) for name, type_ in columns.items()}])
        read = ", ".join(f"{_read_json(name, type_)} AS {name}" for name, type_ in columns.items())
        rows = f"SELECT unnest(from_json_strict(CAST(:rows AS JSON), '{declared}')) AS ms_row"
        statement = text(f"SELECT {read} FROM ({rows}) AS ms_rows".replace('": "', '":"'))
        return statement.columns(*(sql_column(name, type_) for name, type_ in columns.items())).subquery("ms_given")

    def key_type(self, type_: TypeEngine[Any], collation: tuple[str, str] | None) -> TypeEngine[Any] | None:
        if type(type_) in (types.INTEGER, types.BIGINT, types.SMALLINT):
            return types.BigInteger()
        if isinstance(type_, (types.Uuid, types.LargeBinary)):
            return type_
        return types.Text() if isinstance(type_, types.String) and not isinstance(type_, types.Enum) else None


def _type_in_json(type_: TypeEngine[Any]) -> str:
    if isinstance(type_, types.Boolean):
        return "BOOLEAN"
    if isinstance(type_, types.Double):
        return "DOUBLE"
    return "BIGINT" if isinstance(type_, types.Integer) else "VARCHAR"


def _read_json(name: str, type_: TypeEngine[Any]) -> str:
    if isinstance(type_, types.LargeBinary):
        return f"unhex(ms_row.{name}[3\\:])"
    return f"CAST(ms_row.{name} AS UUID)" if isinstance(type_, types.Uuid) else f"ms_row.{name}"


class DuckDB(Dialect):
    """DuckDB, by the driver ``duckdb-sqlalchemy``."""

    name = "duckdb"
    trials = _DuckDBTrials()
    catalog = _DuckDBCatalog()
    sets = _DuckDBSets()
    version = "SELECT version()"
    # When the transaction began: it has no other clock. Our transactions are short.
    clock = "SELECT epoch(get_current_timestamp())"
    tables_with_column = (
        "SELECT t.schema_name, t.table_name, t.schema_name = current_schema() FROM duckdb_tables() t JOIN duckdb_columns() c"
        " ON c.database_oid = t.database_oid AND c.table_oid = t.table_oid"
        " WHERE t.database_name = current_database() AND NOT t.internal AND c.column_name = :c ORDER BY 1, 2"
    )
    # What another transaction wrote first: the next attempt sees that.
    transient_messages = (
        "transactioncontext error: conflict",
        "transactioncontext error: failed to commit",
        "write-write conflict",
    )
    read_only_remedy = "leave access_mode=read_only out of the URL"
    full_messages = ("no space left on device", "disk quota exceeded")
    unreachable_remedies = {  # noqa: RUF012 - of a class that keeps no state
        "could not set lock on file": (
            "another process has the file open, and DuckDB lets one process at a time open a file that it writes: end that process "
            "first, or start the job from Python in it"
        ),
        "different configuration than existing connections": "open it in this process with one configuration only",
    }
    matches_patterns = False
    locks_rows = False
    parallel_writers = False
    one_process = True
    # It replaces a row whose indexed column is updated. Once it has replayed its log after a kill, such an UPDATE fails.
    indexes_journal = False
    create_sequence = "CREATE SEQUENCE IF NOT EXISTS {}"

    def text_of(self, column: ColumnElement[Any], type_: str = "") -> ColumnElement[str]:
        plain = type_ in ("", "JSON", "STRING", "VARCHAR", "TEXT")
        # In a collation that ignores case two texts are equal that are not.
        return cast(column if plain else func.to_json(column), Text()).collate("C")

    def searchable(self, column: ColumnElement[Any], kind: ValueKind) -> ColumnElement[Any]:
        if kind is ValueKind.BYTES:
            quoted = func.replace(cast(column, Text()), _QUOTE_IN_BYTES, '"')
            return func.replace(quoted, _BACKSLASH_IN_BYTES, "\\")
        if kind is ValueKind.COMPOSED:
            # Bytes within a list: as a text within the list has these characters.
            quoted = func.replace(cast(func.to_json(column), Text()), f"\\{_QUOTE_IN_BYTES}", '\\"')
            return func.replace(quoted, f"\\{_BACKSLASH_IN_BYTES}", "\\\\")
        return cast(column, Text())

    def upsert(self, table: TableClause, values: Mapping[str, Any], changes: Mapping[str, Any]) -> Any:
        from sqlalchemy.dialects.postgresql import insert

        return insert(table).values(values).on_conflict_do_update(index_elements=["id"], set_=changes)
