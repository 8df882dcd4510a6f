"""The database goes away, refuses, or locks rows while a job runs: never half a batch, and the job finishes or can go on."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.engine.default import DefaultDialect

from migrate_storage.application.application import Application
from migrate_storage.core.errors import RunError
from migrate_storage.core.model import OutcomeKind
from migrate_storage.database import connection as database_connection
from migrate_storage.database.compare_and_swap import CompareAndSwap, SwapResult
from migrate_storage.engine import repoint_batches
from migrate_storage.jobs.revert.job import RevertJob
from migrate_storage.jobs.run.job import RunJob
from migrate_storage.jobs.run.options import RunOptions
from migrate_storage.reporting import Report
from tests.support.engine import registrations as places
from tests.support.engine.world import COLUMNS, World
from tests.support.evidence import Evidence
from tests.support.servers import start_mariadb, start_pgbouncer, start_postgres
from tests.support.services import ensure


def local(url: str, tmp_path: Path, rows: int = 60) -> World:
    """Rows there, files in two folders."""
    world = World(url, places.old_local(tmp_path / "old").build(), places.new_local(tmp_path / "new").build())
    world.fill(rows)
    return world


@contextlib.contextmanager
def meanwhile(work: Callable[[], Any], every: float) -> Iterator[list[Any]]:
    """Do ``work`` again and again on another thread; yields what it returned so far."""
    over, results = threading.Event(), []  # type: threading.Event, list[Any]

    def loop() -> None:
        while not over.wait(every):
            results.append(work())

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield results
    finally:
        over.set()
        thread.join()


def admin(url: str) -> psycopg.Connection[Any]:
    parsed = make_url(url)
    return psycopg.connect(host=parsed.host, port=parsed.port, user=parsed.username, dbname="postgres", autocommit=True)


def nothing_half(world: World) -> None:
    """Rows and their journal agree, row by row: both committed, or neither."""
    world.engine.dispose()  # the application's own connections may be gone
    lines = world.sql("SELECT pk FROM migrate_storage_row WHERE state = 'repointed'")
    values = zip(sorted(_keys(world)), world.raw(), strict=True)
    moved = [key for key, value in values if value["backend"] == "new"]
    assert sorted(int(key.strip("[]")) for (key,) in lines) == moved, "one line for each row that moved, and no other"


def _keys(world: World) -> list[int]:
    return [key for (key,) in world.sql("SELECT id FROM documents WHERE file IS NOT NULL")]


def ended(world: World, report: Report, rows: int) -> int:
    """Finished right, or stopped so that the same command goes on from there; returns how many runs that took."""
    runs = 1
    while report.exit_code == 3:
        assert "\n" not in report.error
        assert "run the same command again" in report.error
        nothing_half(world)
        assert world.check() == rows
        runs += 1
        assert runs < 5
        report = world.run(lease_ttl=1)
    assert (report.state, report.exit_code, report.rows_remaining) == ("completed", 0, 0), [
        each.reason for each in report.problems
    ] or report
    nothing_half(world)
    assert world.check(backend="new") == rows
    assert {entry.state for entry in world.journal.values()} == {"verified"}
    return runs


@pytest.mark.slow
@pytest.mark.parametrize("rows", [150, pytest.param(2000, marks=pytest.mark.soak)])
def test_postgresql_ends_all_connections_five_times_a_second(
    postgres_url: str, tmp_path: Path, rows: int, evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repoint_batches, "REPOINT_BATCH_ROWS", 10)
    world = local(postgres_url, tmp_path, rows)
    world.run(limit=1)
    name = make_url(postgres_url).database
    with admin(postgres_url) as connection:

        def terminate() -> int:
            query = "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = %s"
            return int(connection.execute(query, [name]).fetchone()[0])  # type: ignore[index]

        with meanwhile(terminate, 0.2) as ended_connections:
            report = world.run(batch_size=20, concurrency=4, lease_ttl=2)
    killed = sum(ended_connections)
    assert killed > 2
    runs = ended(world, report, rows)
    evidence.record(
        "pg_terminate_backend on every connection of the job each 200 ms",
        rows=rows,
        connections_ended=killed,
        runs=runs,
    )


@pytest.mark.slow
@pytest.mark.parametrize("rows", [300, pytest.param(2000, marks=pytest.mark.soak)])
def test_mariadb_restarts_in_the_middle(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    rows: int,
    evidence: Evidence,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(repoint_batches, "REPOINT_BATCH_ROWS", 10)
    directory = Path(tempfile.mkdtemp(prefix="ms-m-"))
    directory.chmod(0o755)
    restarts = 0
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(start_mariadb(directory))
        with server.database() as url:
            world = local(url, tmp_path, rows)
            crash = threading.Event()
            original, swaps = CompareAndSwap.swap, []  # type: Any, list[int]

            def counting(self: CompareAndSwap, *args: Any, **kwargs: Any) -> Any:
                swaps.append(1)
                if len(swaps) == rows // 3:
                    crash.set()
                    time.sleep(0.2)  # the transaction is open while its server dies
                return original(self, *args, **kwargs)

            monkeypatch.setattr(CompareAndSwap, "swap", counting)
            monkeypatch.setattr(CompareAndSwap, "swap_all", row_by_row)

            def restart() -> None:
                nonlocal restarts
                crash.wait(60)
                server.service.kill()
                stack.enter_context(start_mariadb(directory, server.service.port))
                restarts += 1

            thread = threading.Thread(target=restart)
            thread.start()
            report = world.run(batch_size=20, concurrency=4)
            thread.join()
            assert restarts == 1
            runs = ended(world, report, rows)
            world.close()
    evidence.record("MariaDB killed and started again in the middle of a batch", rows=rows, runs=runs)


def row_by_row(self: CompareAndSwap, connection: Any, swaps: Any) -> list[SwapResult]:
    """A batch that can be stopped between two of its rows."""
    return [self.swap(connection, *each) for each in swaps]


def test_the_answer_to_a_commit_is_lost(postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server has committed, and nobody hears of it: each transaction of a run is tried again without harm."""
    monkeypatch.setattr(repoint_batches, "REPOINT_BATCH_ROWS", 10)
    world = local(postgres_url, tmp_path)
    original, commits = DefaultDialect.do_commit, []  # type: Any, list[int]
    with admin(postgres_url) as connection:

        def lost(self: Any, dbapi_connection: Any) -> None:
            original(self, dbapi_connection)
            commits.append(1)
            # The first transactions find out whether the server can be reached at all, once.
            if len(commits) > 8 and len(commits) % 2:
                pid = dbapi_connection.driver_connection.info.backend_pid
                connection.execute("SELECT pg_terminate_backend(%s, 1000)", [pid])
                dbapi_connection.driver_connection.execute("SELECT 1")

        monkeypatch.setattr(DefaultDialect, "do_commit", lost)
        report = world.run(batch_size=20)
        monkeypatch.undo()
    assert len(commits) > 10
    ended(world, report, 60)


def _locked(world: World, wait: float) -> Callable[[], None]:
    """Another transaction that holds some of the rows, for longer than we wait for a lock."""

    def hold() -> None:
        with contextlib.suppress(sa.exc.OperationalError), world.engine.begin() as connection:
            connection.execute(sa.text("UPDATE documents SET title = 'held' WHERE id IN (3, 31)"))
            time.sleep(wait)

    return hold


@pytest.mark.parametrize("kind", ["postgres", "mariadb"])
def test_rows_that_the_application_holds_locked(
    request: pytest.FixtureRequest, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_connection, "LOCK_TIMEOUT_SECONDS", 1)
    world = local(request.getfixturevalue(f"{kind}_url"), tmp_path)
    with meanwhile(_locked(world, 1.5), 0.01) as held:
        report = world.run()
    assert held
    ended(world, report, 60)
    world.close()


WAITING = {
    "postgres": "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
    "mariadb": "SELECT count(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'",
}
"""How many transactions wait for a lock."""


@pytest.mark.parametrize("kind", ["postgres", "mariadb"])
def test_deadlocks(request: pytest.FixtureRequest, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another transaction takes the rows of the batch from the other end."""
    monkeypatch.setattr(repoint_batches, "REPOINT_INTERVAL_SECONDS", 60.0)
    world = local(request.getfixturevalue(f"{kind}_url"), tmp_path)
    original, other = CompareAndSwap.swap, []  # type: Any, list[threading.Thread]
    first = threading.Event()
    deadlocks = []

    def backwards() -> None:
        try:
            with world.engine.begin() as connection:
                connection.execute(sa.text("UPDATE documents SET title = 'b' WHERE id = 60"))
                first.set()
                connection.execute(sa.text("UPDATE documents SET title = 'a' WHERE id = 1"))
        except sa.exc.OperationalError as error:
            deadlocks.append(error)

    def swap(self: CompareAndSwap, connection: Any, pk: Any, *args: Any) -> Any:
        result = original(self, connection, pk, *args)
        if pk == (1,) and not other:
            other.append(threading.Thread(target=backwards))
            other[0].start()
            assert first.wait(60)
            # The other one waits for row 1 before this one goes for row 60.
            deadline = time.monotonic() + 60
            while not world.sql(WAITING[kind])[0][0]:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        return result

    monkeypatch.setattr(CompareAndSwap, "swap", swap)
    monkeypatch.setattr(CompareAndSwap, "swap_all", row_by_row)
    transient, seen = database_connection.is_transient, []  # type: Any, list[str]

    def noting(error: BaseException) -> bool:
        seen.append(str(getattr(error, "orig", error)))
        return bool(transient(error))

    monkeypatch.setattr(database_connection, "is_transient", noting)
    report = world.run()
    other[0].join()
    assert "deadlock" in " ".join([*seen, *map(str, deadlocks)]).lower(), "there was none: this test shows nothing"
    ended(world, report, 60)
    world.close()


def test_postgresql_becomes_read_only_for_a_while(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a failover: connections end, and for a second the server that answers takes no writes."""
    monkeypatch.setattr(repoint_batches, "REPOINT_BATCH_ROWS", 10)
    world = local(postgres_url, tmp_path, 100)
    name = make_url(postgres_url).database
    original, swaps = CompareAndSwap.swap, []  # type: Any, list[int]
    end = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'".encode()

    def fail_over() -> None:
        with admin(postgres_url) as connection:
            connection.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'.encode())
            connection.execute(end)
            failed_over.set()
            time.sleep(1)
            connection.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only'.encode())
            connection.execute(end)

    thread, failed_over = threading.Thread(target=fail_over), threading.Event()

    def swap(self: CompareAndSwap, *args: Any) -> Any:
        swaps.append(1)
        if len(swaps) == 33:
            thread.start()
            assert failed_over.wait(60)
        return original(self, *args)

    monkeypatch.setattr(CompareAndSwap, "swap", swap)
    monkeypatch.setattr(CompareAndSwap, "swap_all", row_by_row)
    report = world.run(batch_size=20)
    thread.join()
    ended(world, report, 100)


def test_sqlite_is_locked_by_another_process(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_connection, "LOCK_TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr(repoint_batches, "REPOINT_BATCH_ROWS", 10)
    world = local(sqlite_url, tmp_path)
    path = make_url(sqlite_url).database
    program = (
        "import sqlite3, sys, time\n"
        "for _ in range(4):\n"
        "    c = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)\n"
        "    c.execute('BEGIN EXCLUSIVE'); print('held', flush=True); time.sleep(0.7)\n"
        "    c.execute('COMMIT'); c.close(); time.sleep(0.05)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        report = world.run()
        assert other.stdout.read().count("held") == 3
    ended(world, report, 60)


def test_a_database_that_does_not_come_back_stops_the_run(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = local(sqlite_url, tmp_path)
    original = database_connection.Database._run
    gone = threading.Event()

    def run(self: Any, work: Any) -> Any:
        if gone.is_set():
            raise sa.exc.OperationalError("COMMIT", {}, sqlite3.OperationalError("database is locked"))
        return original(self, work)

    monkeypatch.setattr(database_connection.Database, "_run", run)
    swap_all = CompareAndSwap.swap_all

    def last(self: CompareAndSwap, *args: Any) -> list[SwapResult]:
        gone.set()
        raise sa.exc.OperationalError("UPDATE", {}, sqlite3.OperationalError("database is locked"))

    monkeypatch.setattr(CompareAndSwap, "swap_all", last)
    monkeypatch.setattr(database_connection, "random", SimpleNamespace(uniform=lambda *_: 0.0))
    report = world.run(lease_ttl=1)
    assert (report.state, report.exit_code) == ("failed", 3)
    assert "database is locked" in report.error
    gone.clear()
    monkeypatch.setattr(CompareAndSwap, "swap_all", swap_all)
    assert ended(world, world.run(lease_ttl=1), 60) == 1


def full_at(monkeypatch: pytest.MonkeyPatch, swap: int, fill: Callable[[Any], None]) -> None:
    """The database's disk is full from that swap on: in the middle of a batch of ten, however slow the machine is."""
    monkeypatch.setattr(repoint_batches, "REPOINT_BATCH_ROWS", 10)
    monkeypatch.setattr(repoint_batches, "REPOINT_INTERVAL_SECONDS", 60.0)
    original, swaps = CompareAndSwap.swap, []  # type: Any, list[int]

    def filling(self: CompareAndSwap, connection: Any, *args: Any) -> Any:
        swaps.append(1)
        if len(swaps) == swap:
            fill(connection)
        return original(self, connection, *args)

    monkeypatch.setattr(CompareAndSwap, "swap", filling)
    monkeypatch.setattr(CompareAndSwap, "swap_all", row_by_row)


def stopped_for_want_of_room(world: World, report: Report, rows: int) -> int:
    """No row is blamed, no batch is half there, and what was committed before stands; returns how many rows moved."""
    assert (report.state, report.exit_code) == ("failed", 3), report
    assert "make room there, then run the same command again" in report.error
    assert report.problem_count == 0, "no row is to blame"
    nothing_half(world)
    moved = [value["backend"] for value in world.raw()].count("new")
    assert 0 < moved < rows
    assert moved % 10 == 0, "whole batches"
    assert world.check() == rows
    return moved


def test_sqlite_has_no_page_left(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = local(sqlite_url, tmp_path)
    # As small as it can be made: the pages that it has already.
    full_at(monkeypatch, 25, lambda connection: connection.exec_driver_sql("PRAGMA max_page_count = 1"))
    report = world.run(batch_size=20, lease_ttl=1)
    monkeypatch.undo()
    stopped_for_want_of_room(world, report, 60)
    assert ended(world, report, 60) == 2


@contextlib.contextmanager
def small_disk(directory: Path, size: str) -> Iterator[Callable[[], None]]:
    """A disk of its own, which wants root; yields what fills it to its last byte."""
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "small", str(directory)], check=True)
    ballast = directory / "ballast"

    def fill() -> None:
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))

    try:
        yield fill
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


@pytest.mark.soak
def test_the_disk_of_sqlite_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evidence: Evidence) -> None:
    with small_disk(tmp_path / "disk", "4m") as fill:
        world = local(f"sqlite:///{tmp_path}/disk/app.db", tmp_path, 200)
        full_at(monkeypatch, 95, lambda _: fill())
        report = world.run(batch_size=20, lease_ttl=1)
        monkeypatch.undo()
        moved = stopped_for_want_of_room(world, report, 200)
        # Still full: it may have no room even to write down that it began.
        with contextlib.suppress(RunError):
            assert world.run(lease_ttl=1).exit_code == 3
        nothing_half(world)
        (tmp_path / "disk/ballast").unlink()
        assert ended(world, world.run(lease_ttl=1), 200) == 1
        world.close()
    evidence.record(
        "SQLite on a disk that ran full in the middle of a batch, then had room again", rows=200, moved=moved
    )


@pytest.mark.soak
def test_the_disk_of_postgresql_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evidence: Evidence) -> None:
    directory = Path(tempfile.mkdtemp(prefix="ms-p-"))
    directory.chmod(0o755)
    with start_postgres(directory / "server") as server, small_disk(directory / "disk", "64m") as fill:
        space = directory / "disk/space"
        space.mkdir()
        shutil.chown(space, "postgres")
        with server.database() as url:
            with admin(url) as connection:
                connection.execute(f"CREATE TABLESPACE small LOCATION '{space}'".encode())
                connection.execute(f'ALTER DATABASE "{make_url(url).database}" SET TABLESPACE small'.encode())
            world = local(url, tmp_path, 1000)
            full_at(monkeypatch, 95, lambda _: fill())
            report = world.run(batch_size=20, lease_ttl=1)
            monkeypatch.undo()
            moved = stopped_for_want_of_room(world, report, 1000)
            (directory / "disk/ballast").unlink()
            assert ended(world, world.run(lease_ttl=1), 1000) == 1
            world.close()
    evidence.record(
        "PostgreSQL with its tables on a disk that ran full in the middle of a batch, then had room again",
        rows=1000, moved=moved,
    )  # fmt: skip


@pytest.mark.parametrize("rows", [120, pytest.param(2000, marks=pytest.mark.soak)])
def test_through_pgbouncer_in_transaction_mode(
    postgres_url: str, tmp_path: Path, rows: int, evidence: Evidence
) -> None:
    """Each transaction on whatever server connection is free: nothing of a session may be relied on."""
    upstream = make_url(postgres_url)
    directory = Path(tempfile.mkdtemp(prefix="ms-b-"))
    directory.chmod(0o755)
    with start_pgbouncer(directory, ensure("postgres")) as server:
        through = server.url(str(upstream.database))
        local(postgres_url, tmp_path, rows).close()
        world = World(through, places.old_local(tmp_path / "old").build(), places.new_local(tmp_path / "new").build())
        straight = sa.create_engine(postgres_url)
        application = Application(
            engine=sa.create_engine(through), columns=COLUMNS, backends={"old": world.old, "new": world.new}
        )
        first = RunJob(application, RunOptions(source="old", destination="new", settle_time=0.1, limit=rows // 2)).run()
        assert (first.exit_code, first.rows_repointed) == (4, rows // 2)
        undone = RevertJob(application).run()
        assert (undone.exit_code, undone.rows_repointed) == (0, rows // 2)
        last = RunJob(application, RunOptions(source="old", destination="new", settle_time=0.1)).run()
        assert (last.exit_code, last.rows_repointed, last.rows_remaining) == (0, rows, 0)
        with straight.connect() as connection:
            moved = connection.execute(sa.text("SELECT count(*) FROM documents WHERE file ->> 'backend' = 'new'"))
            assert moved.scalar_one() == rows
        application.engine.dispose()
        straight.dispose()
        world.close()
    assert "closing because" in (directory / "log").read_text()
    evidence.record("half a job, its undo and the whole job through PgBouncer in transaction mode", rows=rows)


REFUSALS = {
    "sqlite": "CREATE TRIGGER no BEFORE UPDATE ON documents WHEN NEW.id = 7 BEGIN SELECT RAISE(ABORT, 'row 7 is frozen'); END",
    "mariadb": "CREATE TRIGGER no BEFORE UPDATE ON documents FOR EACH ROW IF NEW.id = 7 THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'row 7 is frozen'; END IF",
    "postgres": "CREATE TRIGGER no BEFORE UPDATE ON documents FOR EACH ROW WHEN (NEW.id = 7) EXECUTE FUNCTION refuse()",
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_a_row_that_the_database_refuses_is_listed_and_the_others_move(
    request: pytest.FixtureRequest, kind: str, tmp_path: Path
) -> None:
    world = local(request.getfixturevalue(f"{kind}_url"), tmp_path, 40)
    if kind == "postgres":
        world.sql(
            "CREATE FUNCTION refuse() RETURNS trigger AS $$ BEGIN RAISE 'row % is frozen', NEW.id; END $$ LANGUAGE plpgsql"
        )
    world.sql(REFUSALS[kind])
    report = world.run()
    assert (report.state, report.exit_code, report.rows_repointed, report.rows_remaining) == ("completed", 1, 39, 1), (
        report
    )
    [listed] = report.problems
    assert (listed.kind, [ref.pk for ref in listed.refs]) == (OutcomeKind.FAILED, [(7,)])
    assert "row 7 is frozen" in listed.reason
    assert world.check() == 40
    nothing_half(world)
    again = world.run()
    assert (again.exit_code, again.rows_repointed, again.problem_count) == (1, 0, 1)
    world.sql("DROP TRIGGER no" + (" ON documents" if kind == "postgres" else ""))
    last = world.run()
    assert (last.exit_code, last.rows_repointed) == (0, 1)
    assert world.check(backend="new") == 40
    world.close()
