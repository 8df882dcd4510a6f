"""What DuckDB does otherwise than the other databases, tried on DuckDB itself, and what follows for a job."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from migrate_storage.core.errors import ConfigurationError, PreflightError, RefusedError
from migrate_storage.core.model import Column, OutcomeKind
from migrate_storage.database.compare_and_swap import SWAPPED, WRITTEN_BY_ANOTHER
from migrate_storage.database.connection import Database
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.rights import check_rows
from migrate_storage.jobs.run.job import RunJob
from migrate_storage.jobs.run.options import RunOptions
from migrate_storage.journal.schema import Tables
from migrate_storage.journal.statements import write_sql
from tests.support.engine import registrations as places
from tests.support.engine.world import World

FILES = Column(table="files", column="file", key=("id",), backend="old", multiple=False)
OLD, NEW = json.dumps({"backend": "old", "filename": "f"}), json.dumps({"backend": "new", "filename": "f"})


@pytest.fixture
def database(duckdb_url: str) -> Iterator[Database]:
    """Three rows with files. The column ``tag`` is in an index, so that an UPDATE of it replaces the row."""
    with contextlib.closing(Database(duckdb_url)) as database:
        database.connect()
        execute(database, "CREATE TABLE files (id INTEGER PRIMARY KEY, tag VARCHAR UNIQUE, note VARCHAR, file JSON)")
        for number in range(3):
            execute(database, f"INSERT INTO files VALUES ({number}, 't{number}', 'n', '{OLD}')")
        yield database


def execute(database: Database, *statements: str) -> None:
    for statement in statements:
        database.transaction(lambda connection, statement=statement: connection.exec_driver_sql(statement))


def read(database: Database) -> list[tuple[Any, ...]]:
    statement = "SELECT id, tag, note, CAST(file AS VARCHAR) FROM files ORDER BY id"
    return [tuple(row) for row in database.transaction(lambda connection: connection.exec_driver_sql(statement).all())]


@contextlib.contextmanager
def application(database: Database) -> Iterator[sa.Connection]:
    """A transaction of the application, in the same process."""
    engine = sa.create_engine(database.url)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


# -- transactions


def test_of_two_writes_of_a_row_the_later_one_fails_and_is_tried_again(database: Database) -> None:
    """The row that the second attempt reads is the application's."""
    rows, attempts = FileColumn(database, FILES), []
    theirs = json.dumps({"backend": "theirs", "filename": "f"})

    def swap(connection: sa.Connection) -> Any:
        attempts.append(rows.statements.read_all(connection, [(1,)]))
        if len(attempts) == 1:
            with application(database) as other:
                other.exec_driver_sql(f"UPDATE files SET file = '{theirs}' WHERE id = 1")
                other.commit()
        return rows.compare_and_swap.swap_all(connection, [((0,), OLD, NEW), ((1,), OLD, NEW), ((2,), OLD, NEW)])

    assert database.transaction(swap) == [SWAPPED, WRITTEN_BY_ANOTHER, SWAPPED]
    assert attempts == [[[OLD]], [[theirs]]]
    assert [row[3] for row in read(database)] == [NEW, theirs, NEW]


@pytest.mark.parametrize("commits_last", ["application", "job"])
def test_a_row_that_the_application_replaces_meanwhile_keeps_what_the_application_wrote(
    database: Database, commits_last: str
) -> None:
    """DuckDB reports no conflict where one transaction replaces a row and another one updates it. The update is lost.

    It is ours, never the application's: the row names the old key still, and the next pass finds it.
    """
    rows = FileColumn(database, FILES)
    with application(database) as other:

        def swap(connection: sa.Connection) -> Any:
            other.exec_driver_sql("UPDATE files SET tag = 'theirs' WHERE id = 1")
            result = rows.compare_and_swap.swap(connection, (1,), OLD, NEW)
            if commits_last == "job":
                other.commit()
            return result

        assert database.transaction(swap) == SWAPPED, "DuckDB says that it was updated"
        other.commit()
    assert read(database)[1] == (1, "theirs", "n", OLD)
    assert database.transaction(lambda connection: rows.compare_and_swap.swap(connection, (1,), OLD, NEW)) == SWAPPED
    assert read(database)[1] == (1, "theirs", "n", NEW)


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ("file JSON[]", "is of type JSON.., and DuckDB replaces the whole row"),
        ("file STRUCT(backend VARCHAR, filename VARCHAR)", "is of type STRUCT"),
        ("file VARCHAR UNIQUE", "is in a unique, and DuckDB replaces the whole row"),
        ("file VARCHAR, UNIQUE (id, file)", "is in a unique"),
        ("source VARCHAR, file VARCHAR GENERATED ALWAYS AS (source || ' ') VIRTUAL", "the database generates odd.file"),
    ],
)
def test_a_column_whose_update_would_replace_the_row_is_refused(database: Database, columns: str, reason: str) -> None:
    """There the update that is lost would be the application's."""
    execute(database, f"CREATE TABLE odd (id INTEGER PRIMARY KEY, {columns})")
    rows = [FileColumn(database, Column(table="odd", column="file", key=("id",)))]
    check_rows(rows, update=False)
    with pytest.raises(PreflightError, match=reason):
        check_rows(rows, update=True)


def test_a_column_in_an_index_is_refused(database: Database) -> None:
    rows = [FileColumn(database, FILES)]
    check_rows(rows, update=True)
    execute(database, "CREATE INDEX by_file ON files (note, file)")
    with pytest.raises(PreflightError, match=r"files.file is in a index by_file, and DuckDB replaces the whole row"):
        check_rows(rows, update=True)


def test_an_update_that_replaces_a_row_loses_a_write_of_another_transaction(database: Database) -> None:
    """Why those columns are refused: DuckDB itself, without a line of ours."""
    execute(database, "ALTER TABLE files DROP file", "ALTER TABLE files ADD file JSON[]")
    with application(database) as one, application(database) as other:
        one.exec_driver_sql("UPDATE files SET file = ['{}'] WHERE id = 0")
        other.exec_driver_sql("UPDATE files SET note = 'lost' WHERE id = 0")
        other.commit()
        one.commit()
    assert read(database)[0][2] == "n"


def test_there_are_no_savepoints_and_no_locks(database: Database) -> None:
    for statement in ("SAVEPOINT one", "SELECT * FROM files FOR UPDATE"):
        with pytest.raises(RefusedError, match=r"Parser"):
            execute(database, statement)


# -- one process


def test_a_second_process_is_refused_in_one_line(tmp_path: Path, duckdb_url: str) -> None:
    with contextlib.closing(Database(duckdb_url)) as database:
        database.connect()
        command = [sys.executable, "-m", "migrate_storage", "runs", "--database", duckdb_url, "--columns", "files.file"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode != 0
    assert "another process has the file open, and DuckDB lets one process at a time" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_file_is_free_when_a_job_ends(duckdb_url: str) -> None:
    with contextlib.closing(Database(duckdb_url)) as database:
        database.connect()
    program = f"import duckdb; duckdb.connect({sa.make_url(duckdb_url).database!r})"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("shared", [{"part": "0/2"}, {}])
def test_several_processes_are_refused_before_a_row_is_read(
    tmp_path: Path, duckdb_url: str, shared: dict[str, str]
) -> None:
    from migrate_storage.jobs.distributed.shards import ShardRef

    world = World(duckdb_url, places.old_local(tmp_path / "old").build(), places.new_local(tmp_path / "new").build())
    world.fill(3)
    job = RunJob(world.application, RunOptions(source="old", destination="new"))
    job.part = ShardRef.read(shared["part"]) if shared else None
    with pytest.raises(
        ConfigurationError, match="opened by one process at a time.*leave --workers, --dask and --shard"
    ):
        job.run() if shared else job.begin(2)
    assert world.run().counts == {OutcomeKind.REPOINTED: 3}
    world.close()


# -- what would falsify


@pytest.mark.parametrize("setting", ["default_order = 'DESC'", "default_collation = 'NOCASE'"])
def test_a_setting_that_changes_how_rows_compare_is_refused(database: Database, setting: str) -> None:
    execute(database, f"SET GLOBAL {setting}")
    name = setting.partition(" ")[0]
    with pytest.raises(ConfigurationError, match=f"{name} of this DuckDB is '(DESC|NOCASE)"):
        database.connect()


def test_a_file_that_is_opened_read_only_is_refused(tmp_path: Path, duckdb_url: str) -> None:
    world = World(duckdb_url, places.old_local(tmp_path / "old").build(), places.new_local(tmp_path / "new").build())
    world.fill(3)
    world.close()
    world.other_engine = sa.create_engine(f"{duckdb_url}?access_mode=read_only")
    with pytest.raises(
        PreflightError, match="takes no writes: it is opened read-only; leave access_mode=read_only out"
    ):
        world.run()
    world.other_engine.dispose()


def test_a_driver_without_transactions_of_ours_is_overruled(tmp_path: Path, duckdb_url: str) -> None:
    """An engine with AUTOCOMMIT would commit each statement. Ours says so, and begins transactions all the same."""
    world = World(duckdb_url, places.old_local(tmp_path / "old").build(), places.new_local(tmp_path / "new").build())
    world.fill(3)
    world.other_engine = sa.create_engine(duckdb_url, isolation_level="AUTOCOMMIT")
    assert world.run().counts == {OutcomeKind.REPOINTED: 3}
    with contextlib.closing(Database(world.other_engine)) as database:
        trials = database.dialect.trials
        assert database.transaction(trials.in_transaction)
        with world.other_engine.connect() as bare:
            assert not trials.in_transaction(bare)
    world.other_engine.dispose()
    world.close()


def test_triggers_are_asked_of_the_versions_that_have_them(database: Database) -> None:
    """Version 2 lists them by a function. Here macros with its name and with that of the version answer."""
    assert not FileColumn(database, FILES).facts.intercepts_updates
    execute(
        database,
        "CREATE MACRO version() AS 'v2.0.1'",
        "CREATE MACRO duckdb_triggers() AS TABLE SELECT 'log' AS trigger_name, 'files' AS table_name, 'UPDATE' AS event_manipulation",
    )
    assert FileColumn(database, FILES).facts.intercepts_updates
    catalog = database.dialect.catalog
    assert database.transaction(lambda connection: catalog.list_update_triggers(connection, "files")) == ["log"]


def test_a_key_that_ignores_case_is_no_key(database: Database) -> None:
    """Its index holds ``a`` and ``A`` apart, and ``=`` does not: one UPDATE would change both rows."""
    execute(database, "CREATE TABLE odd (id VARCHAR COLLATE NOCASE PRIMARY KEY, file JSON)")
    execute(database, f"INSERT INTO odd VALUES ('a', '{OLD}'), ('A', '{OLD}')")
    assert not FileColumn(database, Column(table="odd", column="file", key=("id",))).has_unique_key


def test_a_text_that_ignores_case_is_compared_exactly(database: Database) -> None:
    execute(database, "CREATE TABLE odd (id INTEGER PRIMARY KEY, file VARCHAR COLLATE NOCASE)")
    execute(database, f"INSERT INTO odd VALUES (1, '{OLD}')")
    rows = FileColumn(database, Column(table="odd", column="file", key=("id",)))
    swaps = [((1,), OLD.replace("old", "OLD"), NEW)]
    assert not database.transaction(lambda connection: rows.compare_and_swap.swap_each(connection, swaps))


# -- the journal


def test_the_statements_of_the_journal_make_the_same_tables(duckdb_url: str) -> None:
    """The sequence that numbers its rows is made before the table that needs it."""
    with contextlib.closing(Database(duckdb_url)) as database:
        database.connect()
        statements = database.transaction(lambda connection: write_sql(connection, Tables())).split(";\n")
        execute(database, *filter(str.strip, statements))
        assert database.transaction(Tables().exist)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("duckdb:///md:sales", "MotherDuck is not supported"),
        ("duckdb+duckdb_engine:///x.db", "SQLAlchemy knows no database called"),
    ],
)
def test_what_was_not_tried_is_refused(url: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Database(url)


def test_a_driver_that_cannot_describe_tables_is_refused(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database._sync_engine.dialect, "driver", "duckdb_engine")
    with pytest.raises(ConfigurationError, match="pip install duckdb-sqlalchemy, which takes the same URLs"):
        database.connect()
