"""The supported databases, each with all that is done differently there."""

from __future__ import annotations

import sqlalchemy

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.database.dialects.base import Dialect
from migrate_storage.database.dialects.mysql import MariaDB, MySQL
from migrate_storage.database.dialects.postgresql import PostgreSQL
from migrate_storage.database.dialects.sqlite import SQLite

__all__ = ("DIALECTS", "Dialect", "dialect_of")

DIALECTS: dict[str, Dialect] = {each.name: each for each in (SQLite(), PostgreSQL(), MySQL(), MariaDB())}


def dialect_of(dialect: sqlalchemy.Dialect) -> Dialect:
    """Our dialect for SQLAlchemy's, which must have connected to know MariaDB.

    Raises:
        ConfigurationError: this database is not supported.
    """
    name = "mariadb" if getattr(dialect, "is_mariadb", False) else dialect.name
    if name not in DIALECTS:
        raise ConfigurationError(f"databases of kind {name!r} are not supported: only {', '.join(DIALECTS)} are")
    return DIALECTS[name]
