"""The supported databases, each with all that is done differently there."""

from __future__ import annotations

import re

import sqlalchemy

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.database.dialects.base import Dialect
from migrate_storage.database.dialects.duckdb import DuckDB
from migrate_storage.database.dialects.mysql import MariaDB, MySQL
from migrate_storage.database.dialects.postgresql import PostgreSQL
from migrate_storage.database.dialects.sqlite import SQLite

__all__ = ("DIALECTS", "Dialect", "dialect_of", "refuse_kind", "refuse_product")

DIALECTS: dict[str, Dialect] = {each.name: each for each in (SQLite(), PostgreSQL(), MySQL(), MariaDB(), DuckDB())}


SUPPORTED = "PostgreSQL, MySQL, MariaDB, SQLite and DuckDB"

_KINDS = {
    "cockroachdb": "CockroachDB",
    "db2": "Db2",
    "mssql": "SQL Server",
    "oracle": "Oracle Database",
    "redshift": "Amazon Redshift",
    "spanner": "Spanner",
    "yugabytedb": "YugabyteDB",
}
"""Other databases by SQLAlchemy's name of them."""
_PRODUCTS = {
    # The protocol of PostgreSQL.
    "cockroachdb": "CockroachDB",
    "redshift": "Amazon Redshift",
    r"yugabyte|-yb-": "YugabyteDB",
    r"greenplum": "Greenplum",
    "materialize": "Materialize",
    "risingwave": "RisingWave",
    "questdb": "QuestDB",
    "cratedb": "CrateDB",
    "opengauss|gaussdb": "openGauss",
    "spanner": "Spanner",
    "duckdb": "DuckDB",
    # The protocol of MySQL.
    "tidb": "TiDB",
    "vitess|planetscale": "Vitess",
    "singlestore|memsql": "SingleStore",
    "oceanbase": "OceanBase",
    "starrocks": "StarRocks",
    "doris": "Apache Doris",
    "dolt": "Dolt",
    "clickhouse": "ClickHouse",
}
"""Servers that speak another one's protocol, by words in their version. Their transactions or locks differ from it."""


def refuse_kind(url: sqlalchemy.URL) -> None:
    """Refuse a URL of a database that is not supported, whether its driver is installed or not.

    Raises:
        ConfigurationError: with the database's name.
    """
    kind = url.get_backend_name().partition("+")[0]
    if kind == "postgres":
        raise ConfigurationError(
            f"{url.render_as_string()}: write postgresql:// instead of postgres://, for SQLAlchemy"
        )
    if kind == "duckdb" and re.match(r"(md|motherduck):", url.database or ""):
        raise ConfigurationError(f"MotherDuck is not supported ({url.render_as_string()}): only {SUPPORTED} are")
    if kind not in DIALECTS:
        name = _KINDS.get(kind, f"a database of kind {kind!r}")
        raise ConfigurationError(f"{name} is not supported ({url.render_as_string()}): only {SUPPORTED} are")


def refuse_product(version: str, database: object) -> None:
    """Refuse a server that speaks the protocol of a supported database and is another one.

    Args:
        version: what it says about itself, or an error with that.
        database: its name for the message.

    Raises:
        ConfigurationError: with the product's name.
    """
    for words, name in _PRODUCTS.items():
        if re.search(words, version, re.IGNORECASE):
            raise ConfigurationError(f"{name} is not supported ({database}): only {SUPPORTED} are")


def dialect_of(dialect: sqlalchemy.Dialect) -> Dialect:
    """Our dialect for SQLAlchemy's, which must have connected to know MariaDB.

    Raises:
        ConfigurationError: this database is not supported.
    """
    name = "mariadb" if getattr(dialect, "is_mariadb", False) else dialect.name
    if name not in DIALECTS:
        named = _KINDS.get(name, f"a database of kind {name!r}")
        raise ConfigurationError(f"{named} is not supported: only {SUPPORTED} are")
    return DIALECTS[name]
