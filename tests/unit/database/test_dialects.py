"""What is sent to each database, as text, and which of its errors are worth another attempt."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from duckdb_sqlalchemy import Dialect as DuckDBDialect
from duckdb_sqlalchemy.datatypes import HugeInteger
from sqlalchemy.dialects import mysql, postgresql, sqlite

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.database.connection import is_full, is_transient
from migrate_storage.database.dialects import DIALECTS, dialect_of
from migrate_storage.database.dialects.base import TableFacts
from migrate_storage.database.row_statements import RowStatements

COMPILERS: dict[str, Any] = {
    "sqlite": sqlite.dialect(),
    "postgresql": postgresql.dialect(paramstyle="named"),
    "mysql": mysql.dialect(paramstyle="named"),
    "mariadb": mysql.dialect(paramstyle="named"),
    "duckdb": DuckDBDialect(paramstyle="named"),
}
TABLE = sa.table("files", sa.column("id"), sa.column("fi`le"))


@pytest.mark.parametrize(
    ("name", "type_", "condition", "value"),
    [
        ("sqlite", "JSON", 'CAST(files."fi`le" AS TEXT) = ?', "?"),
        ("postgresql", "JSONB", 'files."fi`le" = CAST(:swap_old0 AS JSONB)', "CAST(:swap_new0 AS JSONB)"),
        ("postgresql", "JSON", '(CAST(files."fi`le" AS TEXT) COLLATE "C") = :swap_old0', "CAST(:swap_new0 AS JSON)"),
        ("postgresql", "TEXT", '(CAST(files."fi`le" AS TEXT) COLLATE "C") = :swap_old0', ":swap_new0"),
        ("duckdb", "JSON", '(CAST(files."fi`le" AS TEXT) COLLATE "C") = :swap_old0', ":swap_new0"),
        ("duckdb", "JSON[]", '(CAST(to_json(files."fi`le") AS TEXT) COLLATE "C") = :swap_old0', ":swap_new0"),
        ("mysql", "JSON", "files.`fi``le` = CAST(:swap_old0 AS JSON)", ":swap_new0"),
        ("mysql", "LONGTEXT", "(CONVERT(`fi``le` USING utf8mb4) COLLATE utf8mb4_bin) = :swap_old0", ":swap_new0"),
        ("mariadb", "JSON", "(CONVERT(`fi``le` USING utf8mb4) COLLATE utf8mb4_bin) = :swap_old0", ":swap_new0"),
    ],
)
def test_a_swap_compares_as_the_column_is_stored(name: str, type_: str, condition: str, value: str) -> None:
    statements: list[Any] = []
    connection: Any = SimpleNamespace(
        execute=lambda statement, *_: statements.append(statement) or SimpleNamespace(rowcount=1)
    )
    facts = TableFacts(unique_keys=(frozenset({"id"}),), intercepts_updates=False)
    id_, file = TABLE.c.id, TABLE.c["fi`le"]
    rows = RowStatements(DIALECTS[name], TABLE, [id_], file, type_, facts, [sa.BigInteger()])
    assert rows.update(connection, (1,), "{}", "[]") == 1
    text = " ".join(str(statements[0].compile(dialect=COMPILERS[name])).split())
    changes, _, compared = text.replace("::VARCHAR", "").partition(" WHERE ")
    assert changes.endswith(f"={value}")
    assert compared.endswith(f" AND {condition}")


@pytest.mark.parametrize(
    ("name", "type_", "in_a_set"),
    [
        ("sqlite", sa.Integer(), False), ("mysql", sa.Integer(), False), ("postgresql", sa.BigInteger(), True),
        ("postgresql", sa.Uuid(), True), ("postgresql", sa.VARCHAR(9), True), ("postgresql", sa.TEXT(), True),
        ("postgresql", postgresql.BYTEA(), True), ("postgresql", sa.CHAR(9), False), ("postgresql", sa.Date(), False),
        ("postgresql", postgresql.CITEXT(), False), ("postgresql", postgresql.ENUM("a", name="e"), False),
        ("postgresql", postgresql.DOMAIN("d", sa.TEXT()), False), ("postgresql", sa.Numeric(), False),
        ("mariadb", mysql.BIGINT(), True), ("mariadb", mysql.BIGINT(unsigned=True), False), ("mariadb", sa.BINARY(16), True),
        ("mariadb", mysql.VARCHAR(9), True), ("mariadb", mysql.ENUM("a"), False), ("mariadb", mysql.SET("a"), False),
        ("mariadb", mysql.YEAR(), False), ("mariadb", sa.Date(), False),
        ("duckdb", sa.BIGINT(), True), ("duckdb", HugeInteger(), False), ("duckdb", sa.String(), True), ("duckdb", sa.LargeBinary(), True),
        ("duckdb", sa.Uuid(), True), ("duckdb", sa.Enum("a"), False), ("duckdb", sa.Date(), False), ("duckdb", sa.Numeric(), False),
    ],
)  # fmt: skip
def test_which_keys_go_in_sets(name: str, type_: Any, in_a_set: bool) -> None:
    """A key that would compare otherwise there, or that JSON cannot name exactly, is a parameter of its own."""
    assert (DIALECTS[name].sets.key_type(type_, ("latin1", "latin1_bin")) is not None) is in_a_set


@pytest.mark.parametrize("name", DIALECTS)
def test_each_dialect_is_whole(name: str) -> None:
    dialect = DIALECTS[name]
    assert dialect.name == name
    assert dialect.clock.startswith("SELECT ")
    assert name == "duckdb" or ":t" in dialect.catalog.update_triggers
    upsert = dialect.upsert(sa.table("t", sa.column("id")), {"id": 1}, {"id": 2})
    assert "CONFLICT" in str(upsert.compile(dialect=COMPILERS[name])) or name in ("mysql", "mariadb")


def test_a_mariadb_server_behind_a_mysql_url() -> None:
    assert dialect_of(mysql.dialect(is_mariadb=True)).name == "mariadb"


def test_another_database_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="Oracle Database is not supported: only PostgreSQL"):
        dialect_of(SimpleNamespace(name="oracle"))  # type: ignore[arg-type]


def failure(*args: Any, sqlstate: str | None = None, kind: Any = sa.exc.DBAPIError) -> BaseException:
    original = Exception(*args)
    original.sqlstate = sqlstate  # type: ignore[attr-defined]
    error: BaseException = kind("UPDATE", {}, original)
    return error


@pytest.mark.parametrize(
    ("error", "transient", "full"),
    [
        (failure("deadlock", sqlstate="40P01"), True, False),
        (failure("read-only transaction", sqlstate="25006"), True, False),
        (failure("syntax error at a connection", sqlstate="42601", kind=sa.exc.OperationalError), False, False),
        (failure("no space left", sqlstate="53100"), False, True),
        (failure(1205, "lock wait timeout", sqlstate="HY000"), True, False),
        (failure(1836, "read-only mode"), True, False),
        (failure(1064, "syntax"), False, False),
        (failure(1114, "the table is full"), False, True),
        (failure("database is locked"), True, False),
        (failure("TransactionContext Error: Conflict on update!"), True, False),
        (
            failure(
                'TransactionContext Error: Failed to commit: PRIMARY KEY or UNIQUE constraint violation: duplicate key "5"'
            ),
            True,
            False,
        ),
        (failure("TransactionContext Error: Catalog write-write conflict on create"), True, False),
        (failure('Constraint Error: Duplicate key "id: 5" violates primary key constraint'), False, False),
        (
            failure(
                "IO Error: Could not set lock on file: Conflicting lock is held in python (PID 7)",
                kind=sa.exc.OperationalError,
            ),
            False,
            False,
        ),
        (failure("IO Error: Could not write file: No space left on device"), False, True),
        (failure("database or disk is full"), False, True),
        (failure("disk I/O error"), False, True),
        (failure("server closed the connection", kind=sa.exc.OperationalError), True, False),
        (failure("server closed the connection"), False, False),
        (ConnectionResetError("reset"), True, False),
        (ValueError("locked"), False, False),
    ],
)
def test_which_errors_are_worth_another_attempt(error: BaseException, transient: bool, full: bool) -> None:
    assert (is_transient(error), is_full(error)) == (transient, full)
