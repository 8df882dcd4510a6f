"""The tables and columns of a database that can contain text, in all schemas that the role sees.

Nothing is read from the tables themselves.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from migrate_storage.database.connection import Database
from migrate_storage.database.dialects.tables import Catalog, CatalogColumn, CatalogTable

__all__ = ("Catalog", "CatalogColumn", "CatalogTable", "read_catalog")


def read_catalog(database: Database, *, leave_out: Collection[str]) -> Catalog:
    """Read the catalog of a database.

    Args:
        database: connected.
        leave_out: names of tables that are ours, in any schema.
    """
    catalog = database.transaction(database.dialect.catalog.read_tables)
    return replace(catalog, tables=tuple(table for table in catalog.tables if table.table not in leave_out))
