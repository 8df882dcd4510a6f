"""The tables of SQLite, and of the databases that are attached."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, text

from migrate_storage.database.dialects.tables import Catalog, CatalogColumn, CatalogTable, name_table
from migrate_storage.database.dialects.value_kind import ValueKind

__all__ = ("read_sqlite_tables",)


def read_sqlite_tables(connection: Connection) -> Catalog:
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
            names, shown = name_table(schema, name, name.casefold() not in seen)
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
