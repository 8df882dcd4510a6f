"""The tables of PostgreSQL, with partitions, foreign tables and materialized views."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, text

from migrate_storage.database.dialects.tables import Catalog, CatalogColumn, CatalogTable, first_keys, name_table
from migrate_storage.database.dialects.value_kind import ValueKind

__all__ = ("read_postgresql_tables",)

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


def read_postgresql_tables(connection: Connection) -> Catalog:
    """Partitions, foreign tables and materialized views are read like tables, arrays and composites as JSON."""
    tables: dict[int, CatalogTable] = {}
    kinds: dict[int, tuple[str, bool]] = {}
    for oid, rows in groupby(connection.execute(text(_POSTGRES_COLUMNS)).all(), key=lambda row: row[0]):
        described = list(rows)
        _, schema, name, kind, partition, visible = described[0][:6]
        names, shown = name_table(schema, name, visible)
        kinds[oid] = kind, partition
        columns = tuple(_describe_postgresql(row) for row in described if _has_text(row))
        tables[oid] = CatalogTable(
            schema=schema, table=name, names=names, shown=shown, columns=columns, only=kind == "r"
        )
    keys = first_keys(((row[0], row[1]), row[2], row[3]) for row in connection.execute(text(_POSTGRES_KEYS)).all())
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
