"""What a database is asked before it is worked on further: a real standby that falls behind, and servers that cannot tell."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.database.connection import Database
from migrate_storage.database.load_monitor import LoadMonitor
from tests.support import services
from tests.support.recipes import HOST, _postgres_binary, owner
from tests.support.servers import DatabaseServer, start_mariadb, start_postgres


@pytest.fixture
def database(sqlite_url: str) -> Iterator[Database]:
    with contextlib.closing(Database(sqlite_url)) as database:
        database.connect()
        yield database


@pytest.mark.parametrize(
    ("query", "answer"),
    [
        ("SELECT 1", "--throttle-query answers 1"),
        ("SELECT 0.5 > 0", "--throttle-query answers 1"),
        ("SELECT 2.5", "--throttle-query answers 2.5"),
        ("SELECT 0", ""),
        ("SELECT -3", ""),
        ("SELECT NULL", ""),
        ("SELECT 1 WHERE 1 = 0", ""),
    ],
)
def test_a_query_asks_for_a_pause_by_a_true_or_positive_value(database: Database, query: str, answer: str) -> None:
    pressure = LoadMonitor(database, query=query)
    pressure.check()
    assert pressure.ask() == answer


def test_a_query_of_a_server_with_booleans(postgres_url: str) -> None:
    with contextlib.closing(Database(postgres_url)) as database:
        database.connect()
        assert LoadMonitor(database, query="SELECT true").ask() == "--throttle-query answers True"
        assert LoadMonitor(database, query="SELECT 1 > 2").ask() == ""


def test_nothing_is_asked_that_was_not_wanted(database: Database) -> None:
    pressure = LoadMonitor(database)
    pressure.check()
    assert pressure.ask() == ""


@pytest.fixture
def base() -> Iterator[Path]:
    """A short path that the servers' own users reach."""
    with tempfile.TemporaryDirectory(prefix="ms-lag-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


@contextlib.contextmanager
def standby(primary: DatabaseServer, directory: Path) -> Iterator[services.Service]:
    """A streaming replica of a private PostgreSQL."""
    directory.mkdir()
    user = owner("postgres")
    if user:
        shutil.chown(directory, user)
    subprocess.run(
        [_postgres_binary("pg_basebackup"), "-h", HOST, "-p", str(primary.service.port), "-U", "tester"]
        + ["-D", str(directory / "data"), "-R", "-X", "stream", "-c", "fast"],
        check=True,
        capture_output=True,
        user=user,
        cwd=directory,
    )
    with services.launched("postgres", directory) as service:
        yield service


def test_a_standby_that_falls_behind(base: Path) -> None:
    with start_postgres(base / "p") as primary, standby(primary, base / "s") as replica:
        url = primary.url("postgres")
        replica_url = f"postgresql+psycopg://tester@{HOST}:{replica.port}/postgres"
        with contextlib.closing(Database(url)) as database, contextlib.closing(Database(replica_url)) as other:
            database.connect()
            pressures = [
                LoadMonitor(database, max_lag=1.0),
                LoadMonitor(database, max_lag=1.0, replicas=[other]),
            ]
            for pressure in pressures:
                pressure.check()
            _until(lambda: not any(pressure.ask() for pressure in pressures))
            with (
                psycopg.connect(host=HOST, port=replica.port, user="tester", dbname="postgres", autocommit=True) as one,
                psycopg.connect(
                    host=HOST, port=primary.service.port, user="tester", dbname="postgres", autocommit=True
                ) as two,
            ):
                one.execute("SELECT pg_wal_replay_pause()")
                two.execute("CREATE TABLE x (y int)")
                two.execute("INSERT INTO x SELECT generate_series(1, 1000)")
                _until(
                    lambda: all("s behind, --max-replica-lag allows 1 s" in pressure.ask() for pressure in pressures)
                )
                one.execute("SELECT pg_wal_replay_resume()")
                _until(lambda: not any(pressure.ask() for pressure in pressures))
                two.execute("CREATE ROLE small LOGIN")
            with (
                contextlib.closing(Database(url.replace("tester@", "small@"))) as unseeing,
                pytest.raises(ConfigurationError, match="GRANT pg_monitor"),
            ):
                LoadMonitor(unseeing, max_lag=1.0).check()


def test_a_mariadb_replica_that_has_stopped(base: Path) -> None:
    with (
        start_mariadb(base / "m") as server,
        server.database() as url,
        contextlib.closing(Database(url)) as database,
        contextlib.closing(Database(url)) as replica,
    ):
        database.connect()
        with pytest.raises(ConfigurationError, match="name them with --replicas URL"):
            LoadMonitor(database, max_lag=5).check()
        server._execute("CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT=1, MASTER_USER='r'")
        pressure = LoadMonitor(database, max_lag=5, replicas=[replica])
        pressure.check()
        assert pressure.ask() == f"replication to {replica} has stopped"


def _until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < until, "it did not come about within 120 seconds"
        time.sleep(0.1)
