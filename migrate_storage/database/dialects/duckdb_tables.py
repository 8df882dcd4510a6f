"""The tables of DuckDB, and of the databases that are attached."""

from __future__ import annotations

import re
from itertools import groupby

from sqlalchemy import Connection

from migrate_storage.database.dialects.tables import Catalog, CatalogColumn, CatalogTable, name_table
from migrate_storage.database.dialects.value_kind import ValueKind

__all__ = ("read_duckdb_tables",)

_COLUMNS = """
SELECT t.database_name, t.schema_name, t.table_name,
    t.database_name = current_database() AND t.schema_name = current_schema(), c.column_name, c.data_type
FROM duckdb_tables() t JOIN duckdb_columns() c ON c.database_oid = t.database_oid AND c.table_oid = t.table_oid
WHERE NOT t.internal AND NOT t.temporary
ORDER BY t.database_name, t.schema_name, t.table_name, c.column_index
"""
_KEYS = """
SELECT database_name, schema_name, table_name, constraint_column_names
FROM duckdb_constraints() WHERE constraint_type = 'PRIMARY KEY'
"""
_TEXTLESS = frozenset(
    {"BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"}
    | {"UHUGEINT", "BIGNUM", "VARINT", "FLOAT", "DOUBLE", "DECIMAL", "UUID", "BIT", "DATE", "TIME", "TIME_NS"}
    | {"TIME WITH TIME ZONE", "TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS", "TIMESTAMP WITH TIME ZONE"}
    | {"INTERVAL"}
)
"""Types whose values have no text."""
_EXACT = _TEXTLESS - {"FLOAT", "DOUBLE", "INTERVAL", "BIT", "TIMESTAMP_NS", "TIME_NS"} | {"VARCHAR"}
"""Types of keys whose values are found again by what the driver returned."""
_PARENTHESES = re.compile(r"\(\d+(,\s*\d+)?\)$")
_UNQUOTABLE = 'the driver takes a "." or a quote in the name of its schema for the end of a database\'s name'


def read_duckdb_tables(connection: Connection) -> Catalog:
    """Attached databases are schemas with a dot, as the driver names them. Temporary tables end with their connection."""
    keys = {(database, schema, name): tuple(key) for database, schema, name, key in connection.exec_driver_sql(_KEYS)}
    here = str(connection.exec_driver_sql("SELECT current_database()").scalar_one())
    tables = []
    rows = connection.exec_driver_sql(_COLUMNS).all()
    for (database, schema, name, visible), described in groupby(rows, key=lambda row: tuple(row[:4])):
        types = {column: type_ for *_, column, type_ in described}
        reason = _UNQUOTABLE if set(".\"'") & {*database, *schema} and not visible else ""
        columns = tuple(
            CatalogColumn(name=column, kind=kind, unreadable=reason)
            for column, type_ in types.items()
            if (kind := _kind_of(type_)) is not None
        )
        key = keys.get((database, schema, name), ())
        owner = schema if database == here else f"{database}.{schema}"
        names, shown = name_table(owner, name, visible)
        tables.append(
            CatalogTable(
                schema=None if visible else owner, table=name, names=names, shown=shown, columns=columns,
                key=key if all(_PARENTHESES.sub("", types[part]) in _EXACT for part in key) else (),
            )
        )  # fmt: skip
    return Catalog(tables=tuple(tables))


def _kind_of(type_: str) -> ValueKind | None:
    """How the text in a type's values is found; ``None`` where they have none."""
    if type_ in ("VARCHAR", "JSON") or (type_.startswith("ENUM(") and type_.endswith(")")):
        return ValueKind.TEXT
    if type_ == "BLOB":
        return ValueKind.BYTES
    return None if _PARENTHESES.sub("", type_) in _TEXTLESS else ValueKind.COMPOSED
