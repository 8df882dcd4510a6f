"""The tables and columns of a database that can contain text, in all schemas that the role sees.

Each database has one function here that reads its catalog. Nothing is read from the tables themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, text

from migrate_storage.database.connection import Database
from migrate_storage.database.dialects.base import ValueKind

__all__ = ("Catalog", "CatalogColumn", "CatalogTable", "read_catalog")

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


def read_catalog(database: Database, *, leave_out: Collection[str]) -> Catalog:
    """Read the catalog of a database.

    Args:
        database: connected.
        leave_out: names of tables that are ours, in any schema.
    """
    catalog = database.transaction(_READERS[database.dialect.name])
    return replace(catalog, tables=tuple(table for table in catalog.tables if table.table not in leave_out))


def _names(schema: str | None, table: str, visible: bool) -> tuple[frozenset[_Name], _Name]:
    """The names of a table, and the one in reports. A visible one needs no schema."""
    names: set[_Name] = {(schema, table)}
    if visible:
        names.add((None, table))
    return frozenset(names), (None if visible else schema, table)


def _first_keys(columns: Iterable[tuple[tuple[Any, Any], str, bool]]) -> dict[Any, tuple[str, ...]]:
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


# -- SQLite


def _read_sqlite(connection: Connection) -> Catalog:
    """Any column of SQLite can contain text, whatever its type is. Attached databases are schemas."""
    tables: list[CatalogTable] = []
    seen: set[str] = set()
    for _, schema, _ in connection.exec_driver_sql("PRAGMA database_list").all():
        if schema == "temp":
            continue
        owner = connection.dialect.identifier_preparer.quote_identifier(schema)
        listed = f"SELECT name FROM {owner}.sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite!_%' ESCAPE '!'"
        for name in connection.execute(text(listed)).scalars().all():
            # The first database that has a table answers to its bare name.
            names, shown = _names(schema, name, name.casefold() not in seen)
            seen.add(name.casefold())
            tables.append(
                CatalogTable(
                    schema=schema, table=name, names=names, shown=shown, **_describe_sqlite(connection, owner, name)
                )
            )
    return Catalog(tables=tuple(tables))


def _describe_sqlite(connection: Connection, owner: str, name: str) -> dict[str, Any]:
    quoted = connection.dialect.identifier_preparer.quote_identifier(name)
    try:
        described = connection.exec_driver_sql(f"PRAGMA {owner}.table_xinfo({quoted})").all()
    except Exception as error:  # noqa: BLE001 - a virtual table whose module is not loaded here
        return {"columns": (CatalogColumn(name="*", kind=ValueKind.ANY, unreadable=str(error).splitlines()[0]),)}
    columns = tuple(CatalogColumn(name=row[1], kind=ValueKind.ANY) for row in described)
    own = {row[1].casefold() for row in described}
    for rowid in ("rowid", "_rowid_", "oid"):
        if rowid not in own:
            try:
                connection.exec_driver_sql(f"SELECT {rowid} FROM {owner}.{quoted} LIMIT 0")
            except Exception:  # noqa: BLE001 - a table WITHOUT ROWID, whose primary key is never NULL
                break
            return {"columns": columns, "key": (rowid,)}
    primary = sorted((row[5], row[1]) for row in described if row[5])
    return {"columns": columns, "key": tuple(column for _, column in primary)}


# -- PostgreSQL

_POSTGRES_COLUMNS = """
SELECT c.oid, n.nspname, c.relname, c.relkind::text, c.relispartition, pg_table_is_visible(c.oid),
    a.attname, t.typname, COALESCE(e.typcategory, t.typcategory)::text, COALESCE(e.typname, t.typname),
    (t.typcategory = 'A' OR t.typtype = 'c' OR t.typname = 'hstore'),
    has_schema_privilege(n.oid, 'USAGE'), has_column_privilege(c.oid, a.attnum, 'SELECT')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
CROSS JOIN LATERAL (
    WITH RECURSIVE base AS (
        SELECT y.typname, y.typtype, y.typcategory, y.typelem, y.typbasetype FROM pg_type y WHERE y.oid = a.atttypid
        UNION ALL
        SELECT y.typname, y.typtype, y.typcategory, y.typelem, y.typbasetype FROM pg_type y
        JOIN base ON base.typtype = 'd' AND y.oid = base.typbasetype
    ) SELECT * FROM base WHERE typtype <> 'd'
) t LEFT JOIN pg_type e ON t.typcategory = 'A' AND e.oid = t.typelem
WHERE c.relkind IN ('r', 'p', 'm', 'f') AND (c.relkind <> 'm' OR c.relispopulated) AND a.attnum > 0
    AND NOT a.attisdropped AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg!_%' ESCAPE '!'
ORDER BY n.nspname, c.relname, c.oid, a.attnum
"""
_POSTGRES_KEYS = """
SELECT i.indrelid, i.indexrelid, a.attname, a.attnotnull AND has_column_privilege(i.indrelid, a.attnum, 'SELECT')
    AND t.typname IN ('int2', 'int4', 'int8', 'numeric', 'oid', 'text', 'varchar', 'bpchar', 'uuid', 'bytea')
FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k (attnum, position)
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum JOIN pg_type t ON t.oid = a.atttypid
WHERE i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
    AND k.position <= i.indnkeyatts
ORDER BY i.indrelid, i.indisprimary DESC, i.indexrelid, k.position
"""
_POSTGRES_PARENTS = """
WITH RECURSIVE up AS (
    SELECT inhrelid AS child, inhparent AS parent FROM pg_inherits
    UNION SELECT up.child, i.inhparent FROM up JOIN pg_inherits i ON i.inhrelid = up.parent
) SELECT child, parent FROM up
"""
_POSTGRES_TEXTLESS = frozenset("BDGINTVP")
"""Categories of types whose values have no text: booleans, dates, geometry, addresses, numbers, bits."""
_POSTGRES_TEXTLESS_TYPES = frozenset({"uuid", "tsvector", "tsquery", "pg_lsn", "txid_snapshot", "pg_snapshot", "tid"})


def _read_postgresql(connection: Connection) -> Catalog:
    """Partitions, foreign tables and materialized views are read like tables, arrays and composites as JSON."""
    tables: dict[int, CatalogTable] = {}
    kinds: dict[int, tuple[str, bool]] = {}
    for oid, rows in groupby(connection.execute(text(_POSTGRES_COLUMNS)).all(), key=lambda row: row[0]):
        described = list(rows)
        _, schema, name, kind, partition, visible = described[0][:6]
        names, shown = _names(schema, name, visible)
        kinds[oid] = kind, partition
        columns = tuple(_describe_postgresql(row) for row in described if _has_text(row))
        tables[oid] = CatalogTable(
            schema=schema, table=name, names=names, shown=shown, columns=columns, only=kind == "r"
        )
    keys = _first_keys(((row[0], row[1]), row[2], row[3]) for row in connection.execute(text(_POSTGRES_KEYS)).all())
    tables = {oid: replace(each, key=keys.get(oid, ())) for oid, each in tables.items()}
    for child, parent in connection.execute(text(_POSTGRES_PARENTS)).all():
        if child in tables and parent in tables:
            above = tables[parent]
            shown = above.shown if kinds[child][1] and not kinds[parent][1] else tables[child].shown
            tables[child] = replace(tables[child], names=tables[child].names | above.names, shown=shown)
    return Catalog(tables=tuple(_choose_partitions(tables, kinds)))


def _has_text(row: Sequence[Any]) -> bool:
    category, type_ = row[8], row[9]
    return category not in _POSTGRES_TEXTLESS and type_ not in _POSTGRES_TEXTLESS_TYPES


def _describe_postgresql(row: Sequence[Any]) -> CatalogColumn:
    name, type_, composed, schema_usable, selectable = row[6], row[7], row[10], row[11], row[12]
    kind = ValueKind.BYTES if type_ == "bytea" else ValueKind.COMPOSED if composed else ValueKind.TEXT
    reason = (
        ""
        if schema_usable and selectable
        else f"this role may not {'SELECT it' if schema_usable else 'use its schema'}"
    )
    return CatalogColumn(name=name, kind=kind, unreadable=reason)


def _choose_partitions(
    tables: Mapping[int, CatalogTable], kinds: Mapping[int, tuple[str, bool]]
) -> Iterator[CatalogTable]:
    """Each partition by itself; the whole table instead where the role may read only that."""
    closed = {
        table.shown
        for oid, table in tables.items()
        if kinds[oid][1] and any(column.unreadable for column in table.columns)
    }
    whole = {
        table.shown
        for oid, table in tables.items()
        if kinds[oid] == ("p", False) and table.shown in closed and not any(each.unreadable for each in table.columns)
    }
    for oid, table in tables.items():
        if (kinds[oid] == ("p", False)) if table.shown in whole else kinds[oid][0] != "p":
            yield table


# -- MariaDB and MySQL

_MYSQL_COLUMNS = """
SELECT t.table_schema, t.table_name, t.table_schema = DATABASE(), c.column_name, c.data_type, c.privileges
FROM information_schema.tables t JOIN information_schema.columns c
    ON c.table_schema = t.table_schema AND c.table_name = t.table_name
WHERE t.table_type IN ('BASE TABLE', 'SYSTEM VERSIONED')
    AND t.table_schema NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys')
ORDER BY t.table_schema, t.table_name, c.ordinal_position
"""
_MYSQL_KEYS = """
SELECT s.table_schema, s.table_name, s.index_name, s.column_name,
    s.nullable <> 'YES' AND s.sub_part IS NULL AND s.index_type = 'BTREE' AND c.privileges LIKE '%select%'
    AND c.data_type IN ('tinyint', 'smallint', 'mediumint', 'int', 'bigint', 'decimal', 'char', 'varchar', 'binary',
        'varbinary', 'uuid', 'date', 'datetime', 'timestamp')
FROM information_schema.statistics s LEFT JOIN information_schema.columns c
    ON c.table_schema = s.table_schema AND c.table_name = s.table_name AND c.column_name = s.column_name
WHERE s.non_unique = 0 AND s.table_schema NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys')
ORDER BY s.table_schema, s.table_name, s.index_name <> 'PRIMARY', s.index_name, s.seq_in_index
"""
_MYSQL_KINDS = {
    **dict.fromkeys(
        ("char", "varchar", "tinytext", "text", "mediumtext", "longtext", "json", "enum", "set"), ValueKind.TEXT
    ),
    **dict.fromkeys(("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"), ValueKind.BYTES),
}


def _read_mysql(connection: Connection) -> Catalog:
    """All databases of the server are read. It lists only tables on which the role has some right."""
    found = connection.execute(text(_MYSQL_KEYS)).all()
    keys = _first_keys((((row[0], row[1]), row[2]), row[3], bool(row[4])) for row in found)
    tables = []
    columns = connection.execute(text(_MYSQL_COLUMNS)).all()
    for (schema, name, here), rows in groupby(columns, key=lambda row: (row[0], row[1], row[2])):
        names, shown = _names(schema, name, bool(here))
        described = tuple(
            CatalogColumn(
                name=column, kind=_MYSQL_KINDS[type_],
                unreadable="" if "select" in privileges.split(",") else "this role may not SELECT it",
            )
            for _, _, _, column, type_, privileges in rows
            if type_ in _MYSQL_KINDS
        )  # fmt: skip
        tables.append(
            CatalogTable(
                schema=schema, table=name, names=names, shown=shown, columns=described, key=keys.get((schema, name), ())
            )
        )
    return Catalog(tables=tuple(tables), hidden="" if _sees_all(connection) else "tables on which it has no right")


def _sees_all(connection: Connection) -> bool:
    """Whether the role may SELECT from every table, so that the server shows it every table."""
    [(user, role)] = connection.exec_driver_sql("SELECT CURRENT_USER(), CURRENT_ROLE()").all()
    name, _, host = user.rpartition("@")
    grantees = [f"'{name}'@'{host}'", f"'{role}'@''", f"'{role}'@'%'", str(role).replace("`", "'")]
    statement = text(
        "SELECT COUNT(*) FROM information_schema.user_privileges WHERE privilege_type = 'SELECT' "
        "AND grantee IN (:user, :role, :role_anywhere, :role_quoted)"
    )
    given = dict(zip(("user", "role", "role_anywhere", "role_quoted"), grantees, strict=True))
    return bool(connection.execute(statement, given).scalar())


_READERS: dict[str, Callable[[Connection], Catalog]] = {
    "sqlite": _read_sqlite,
    "postgresql": _read_postgresql,
    "mysql": _read_mysql,
    "mariadb": _read_mysql,
}
