"""Where MariaDB and MySQL differ, as far as a MariaDB server shows it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import sqlalchemy as sa

from migrate_storage.database.census import CensusScope, take_census
from migrate_storage.database.connection import Database, error_code, is_timeout, is_transient
from migrate_storage.database.dialects import DIALECTS

FILE = '{"backend": "old", "filename": "f"}'


@pytest.fixture
def database(mariadb_url: str) -> Iterator[Database]:
    with closing(Database(mariadb_url, attempts=1)) as database:
        database.connect()
        yield database


def test_mariadb_ends_an_idle_transaction(database: Database) -> None:
    """The process of it was stopped: its locks do not outlast the limit. The server's answer is worth another attempt."""
    read = "SELECT @@SESSION.idle_transaction_timeout"
    assert database.transaction(lambda connection: connection.exec_driver_sql(read).scalar_one()) == 10
    database.transaction(lambda connection: connection.exec_driver_sql("CREATE TABLE mysql_family (id INTEGER)"))
    raised: list[sa.exc.DBAPIError] = []

    def idle(connection: sa.Connection) -> None:
        connection.exec_driver_sql("SET SESSION idle_transaction_timeout = 1")
        connection.exec_driver_sql("SELECT COUNT(*) FROM mysql_family")
        watched = connection.exec_driver_sql("SELECT CONNECTION_ID()").scalar_one()
        with sa.create_engine(database.url).connect() as other:
            listed = sa.text("SELECT COUNT(*) FROM information_schema.processlist WHERE id = :id")
            for _ in itertools.count():
                if not other.execute(listed, {"id": watched}).scalar():
                    break
                other.rollback()
        try:
            connection.exec_driver_sql("SELECT 1")
        except sa.exc.DBAPIError as error:
            raised.append(error)
            raise

    with pytest.raises(Exception, match="failed 1 times"):
        database.transaction(idle)
    assert is_transient(raised[0])


@pytest.mark.parametrize(
    ("code", "transient", "timeout"),
    [
        (1020, True, False),  # MariaDB: a row changed since the snapshot
        (1927, True, False),  # MariaDB: the connection was killed, also by its timeout
        (1969, True, True),  # MariaDB: max_statement_time
        (3024, False, True),  # MySQL: max_execution_time
        (1836, True, False),  # MySQL: the server is in read-only mode
        (1290, True, False),  # both: --read-only
        (1062, False, False),  # both: a duplicate
    ],
)
def test_both_numbers_of_each_error_are_known(code: int, transient: bool, timeout: bool) -> None:
    error = sa.exc.OperationalError("UPDATE", {}, Exception(code, "as the server words it"))
    assert (error_code(error), is_transient(error), is_timeout(error)) == (code, transient, timeout)


def test_the_census_reads_a_versioned_table(database: Database) -> None:
    """Its rows of now; what they were is not searched."""

    def make(connection: sa.Connection) -> None:
        connection.exec_driver_sql("CREATE TABLE kept (id INTEGER PRIMARY KEY, file TEXT) WITH SYSTEM VERSIONING")
        connection.execute(sa.text("INSERT INTO kept VALUES (1, :file), (2, :file)"), {"file": FILE})

    database.transaction(make)
    database.transaction(lambda connection: connection.exec_driver_sql("UPDATE kept SET file = 'x' WHERE id = 1"))
    found = take_census(database, CensusScope(keys=("old",), known=frozenset()), wait=lambda _: False, send=lambda _: None)  # fmt: skip
    assert {str(each.table): dict(each.rows) for each in found.columns} == {"kept": {"old": 1}}


@pytest.mark.parametrize(("name", "as_one_parameter"), [("mariadb", True), ("mysql", False)])
def test_how_many_rows_are_sent(database: Database, name: str, as_one_parameter: bool) -> None:
    sets: Any = DIALECTS[name].sets
    assert database.transaction(sets.are_written) is as_one_parameter
    assert DIALECTS[name].swap_rows == 100
