"""The tables of all databases of a MySQL or MariaDB server."""

from __future__ import annotations

from itertools import groupby

from sqlalchemy import Connection, text

from migrate_storage.database.dialects.tables import Catalog, CatalogColumn, CatalogTable, first_keys, name_table
from migrate_storage.database.dialects.value_kind import ValueKind

__all__ = ("read_mysql_tables",)

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


def read_mysql_tables(connection: Connection) -> Catalog:
    """All databases of the server are read. It lists only tables on which the role has some right."""
    found = connection.execute(text(_MYSQL_KEYS)).all()
    keys = first_keys((((row[0], row[1]), row[2]), row[3], bool(row[4])) for row in found)
    tables = []
    columns = connection.execute(text(_MYSQL_COLUMNS)).all()
    for (schema, name, here), rows in groupby(columns, key=lambda row: (row[0], row[1], row[2])):
        names, shown = name_table(schema, name, bool(here))
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
