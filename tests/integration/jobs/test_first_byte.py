"""What a database does not allow is found before the first byte is copied: rights, read-only servers, hidden rows, transactions."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from migrate_storage.core.errors import ConfigurationError, PreflightError, RunError
from migrate_storage.database.connection import Database
from migrate_storage.jobs.purge.job import PurgeJob
from migrate_storage.jobs.purge.rules import PurgeOptions
from migrate_storage.jobs.readiness import ready_to_unregister
from migrate_storage.jobs.revert.job import RevertJob, RevertOptions
from migrate_storage.jobs.run.job import RunJob
from migrate_storage.jobs.run.options import RunOptions
from migrate_storage.jobs.run.preflight import check
from migrate_storage.journal import Journal
from migrate_storage.journal.schema import Tables
from migrate_storage.reporting.text import headline
from tests.support.engine import registrations as places
from tests.support.engine.other_process import ROOT
from tests.support.engine.world import COLUMNS, World

DOCUMENTS = COLUMNS[:1]


def local(url: str, tmp_path: Path, rows: int = 3) -> World:
    world = World(url, places.old_local(tmp_path / "old").build(), places.new_local(tmp_path / "new").build())
    world.columns = DOCUMENTS
    world.fill(rows)
    return world


@pytest.fixture
def postgres(postgres_url: str, tmp_path: Path) -> Iterator[World]:
    """Rows in PostgreSQL, and a role that may only SELECT them."""
    world, role = local(postgres_url, tmp_path), f"reader_{os.getpid()}"
    world.sql(f"CREATE ROLE {role} LOGIN")
    world.sql(f"GRANT SELECT ON documents TO {role}")
    world.sql(f"GRANT ALL ON SCHEMA public TO {role}")
    for table in ("albums", "notes", "pages"):
        world.sql(f"GRANT SELECT ON {table} TO {role}")
    yield world
    world.engine.dispose()
    world.sql(f"DROP OWNED BY {role}")
    world.sql(f"DROP ROLE {role}")
    world.close()


def as_reader(world: World, **options: Any) -> World:
    world.other_engine = sa.create_engine(make_url(world.url).set(username=f"reader_{os.getpid()}"), **options)
    return world


def refused(world: World, words: str, **options: Any) -> None:
    """Both the check and the run refuse, with one line, and nothing is copied."""
    asked = {"source": "old", "destination": "new", **options}
    with pytest.raises(PreflightError, match=words) as error:
        check(world.application, RunOptions(**asked))
    assert "\n" not in str(error.value)
    with pytest.raises(PreflightError, match=words):
        world.run(**options)
    assert not [path for path in Path(world.new.fs.prefix or "/nowhere").rglob("*") if path.is_file()]


def test_a_role_that_may_not_update(postgres: World, tmp_path: Path) -> None:
    journal = f"sqlite:///{tmp_path}/journal.db"
    refused(as_reader(postgres), "may not UPDATE documents.file.*permission denied.*GRANT UPDATE", journal=journal)
    postgres.sql(f"GRANT UPDATE (title) ON documents TO reader_{os.getpid()}")
    refused(postgres, "may not UPDATE documents.file", journal=journal)
    postgres.sql(f"GRANT UPDATE (file) ON documents TO reader_{os.getpid()}")
    assert postgres.run(journal=journal).exit_code == 0


def test_a_role_that_may_not_select(postgres: World) -> None:
    postgres.sql(f"REVOKE SELECT ON documents FROM reader_{os.getpid()}")
    postgres.sql(f"GRANT SELECT (id) ON documents TO reader_{os.getpid()}")
    refused(as_reader(postgres), "may not SELECT documents.file")


def test_a_role_that_may_not_write_or_create_the_journal(postgres: World) -> None:
    postgres.sql(f"GRANT UPDATE ON documents TO reader_{os.getpid()}")
    postgres.sql(f"REVOKE ALL ON SCHEMA public FROM reader_{os.getpid()}")
    postgres.sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    refused(as_reader(postgres), "cannot create the journal's tables .*permission denied for schema public")
    with postgres.engine.begin() as connection:
        Tables().create(connection)
        for table in Tables().metadata.sorted_tables:
            connection.exec_driver_sql(f"GRANT SELECT, UPDATE ON {table.name} TO reader_{os.getpid()}")
    refused(postgres, "may not write migrate_storage_lease of the journal")


def test_mariadb_counts_grants_on_columns(mariadb_url: str, tmp_path: Path) -> None:
    world, name = local(mariadb_url, tmp_path), f"reader_{os.getpid()}"
    host = world.sql("SELECT SUBSTRING_INDEX(CURRENT_USER(), '@', -1)")[0][0]
    world.sql(f"CREATE USER '{name}'@'%'")
    try:
        world.other_engine = sa.create_engine(make_url(mariadb_url).set(username=name, password=None))
        journal = f"sqlite:///{tmp_path}/journal.db"
        world.sql(f"GRANT SELECT (id, file) ON documents TO '{name}'@'%'")
        refused(
            world, "may not read how table documents is defined: .*; GRANT SELECT on the whole table", journal=journal
        )
        world.sql(f"GRANT SELECT ON documents TO '{name}'@'%'")
        refused(world, "may not UPDATE documents.file", journal=journal)
        world.sql(f"GRANT UPDATE (file) ON documents TO '{name}'@'%'")
        refused(world, r"may not read the journal's tables \(migrate_storage_\*\): .*SELECT command denied")
        assert world.run(journal=journal).exit_code == 0
    finally:
        world.sql(f"DROP USER '{name}'@'%'")
        world.close()
    assert host


def test_a_read_only_role_is_refused_at_once(postgres: World) -> None:
    postgres.sql(f"GRANT UPDATE ON documents TO reader_{os.getpid()}")
    postgres.sql(f"ALTER ROLE reader_{os.getpid()} SET default_transaction_read_only = on")
    refused(as_reader(postgres), "takes no writes: default_transaction_read_only is on")


def test_an_engine_that_is_read_only(postgres: World) -> None:
    postgres.sql(f"GRANT UPDATE ON documents TO reader_{os.getpid()}")
    refused(as_reader(postgres, execution_options={"postgresql_readonly": True}), "takes no writes")


def test_mariadb_in_a_read_only_session(mariadb_url: str, tmp_path: Path) -> None:
    world = local(mariadb_url, tmp_path)
    world.other_engine = sa.create_engine(mariadb_url)

    @sa.event.listens_for(world.other_engine, "connect")
    def connect(connection: Any, _: Any) -> None:
        connection.cursor().execute("SET SESSION TRANSACTION READ ONLY")

    refused(world, "takes no writes")
    world.close()


def test_sqlite_without_write_permission(sqlite_url: str, tmp_path: Path) -> None:
    world = local(sqlite_url, tmp_path)
    path = make_url(sqlite_url).database
    world.other_engine = sa.create_engine(f"sqlite:///file:{path}?mode=ro&uri=true")
    words = "takes no writes: attempt to write a readonly database; let this user write the file"
    refused(world, words, journal=f"sqlite:///{tmp_path}/journal.db")
    world.other_engine = sa.create_engine(sqlite_url)
    sa.event.listen(world.other_engine, "connect", lambda opened, _: opened.execute("PRAGMA query_only = ON"))
    refused(world, words, journal=f"sqlite:///{tmp_path}/journal.db")
    world.close()


def test_a_database_without_room_for_the_journal_is_named_as_such(sqlite_url: str, tmp_path: Path) -> None:
    world = local(sqlite_url, tmp_path)
    world.other_engine = sa.create_engine(sqlite_url)
    sa.event.listen(world.other_engine, "connect", lambda opened, _: opened.execute("PRAGMA max_page_count = 1"))
    with pytest.raises(RunError, match="cannot write to its disk: .*make room there"):
        world.run()
    assert not list((tmp_path / "new").iterdir())
    world.close()


FACTORIES: dict[str, Any] = {
    "bytes": lambda opened: setattr(opened, "text_factory", bytes),
    "dict": lambda opened: setattr(
        opened, "row_factory", lambda cursor, row: {each[0]: value for each, value in zip(cursor.description, row, strict=True)}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FACTORIES)
@pytest.mark.parametrize("driver", ["sqlite", "sqlite+aiosqlite"])
def test_sqlite_returns_text_and_tuples_whatever_the_application_wants(
    sqlite_url: str, tmp_path: Path, name: str, driver: str
) -> None:
    world = local(sqlite_url, tmp_path)
    url = sqlite_url.replace("sqlite", driver, 1)
    world.other_engine = sa.create_engine(url) if driver == "sqlite" else create_async_engine(url)
    engine = world.other_engine if isinstance(world.other_engine, sa.Engine) else world.other_engine.sync_engine
    opened = "driver_connection" if driver != "sqlite" else ""
    sa.event.listen(engine, "connect", lambda each, _: FACTORIES[name](getattr(each, opened) if opened else each))
    assert world.run().exit_code == 0
    assert [file["backend"] for file in world.raw()] == ["new"] * 3
    world.close()


POLICY = "CREATE POLICY odd ON documents USING (id % 2 = 1)"


def test_hidden_rows_are_refused_and_not_skipped(postgres: World) -> None:
    postgres.sql(f"GRANT ALL ON documents TO reader_{os.getpid()}")
    postgres.sql("ALTER TABLE documents ENABLE ROW LEVEL SECURITY")
    postgres.sql(POLICY)
    refused(as_reader(postgres), "rows are hidden by row level security.*documents.*BYPASSRLS")
    with pytest.raises(PreflightError, match="BYPASSRLS"):
        ready_to_unregister(postgres.application, "old", soak=0.0)
    postgres.sql(f"ALTER ROLE reader_{os.getpid()} BYPASSRLS")
    assert postgres.run().exit_code == 0


def test_visible_rows_only_says_so_and_then_nothing_is_purged(postgres: World) -> None:
    postgres.sql(f"GRANT ALL ON documents TO reader_{os.getpid()}")
    postgres.sql("ALTER TABLE documents ENABLE ROW LEVEL SECURITY")
    postgres.sql(POLICY)
    visible = replace(as_reader(postgres).application, visible_rows_only=True)
    options = RunOptions(source="old", destination="new", settle_time=0.0, lease_ttl=1.0)
    report = RunJob(visible, options).run()
    assert (report.exit_code, report.rows_repointed, report.hidden_rows) == (0, 2, ("documents",))
    assert "no row that this role can see names 'old' any more (row level security hides rows of documents)" in headline(report)  # fmt: skip
    with pytest.raises(ConfigurationError, match="--visible-rows-only"):
        PurgeJob(visible, PurgeOptions(older_than=0.0)).run()
    postgres.other_engine = None
    with pytest.raises(ConfigurationError, match="hides rows of documents.*run it again"):
        PurgeJob(postgres.application, PurgeOptions(older_than=0.0)).run()
    assert postgres.run().exit_code == 0
    assert PurgeJob(postgres.application, PurgeOptions(older_than=0.0)).run().exit_code == 0


def test_rows_hidden_behind_a_view_are_refused(postgres: World) -> None:
    postgres.sql(f"GRANT ALL ON documents TO reader_{os.getpid()}")
    postgres.sql("ALTER TABLE documents ENABLE ROW LEVEL SECURITY")
    postgres.sql(POLICY)
    postgres.sql("CREATE VIEW papers AS SELECT * FROM documents")
    postgres.sql(f"ALTER VIEW papers OWNER TO reader_{os.getpid()}")
    postgres.columns = (sa_column("papers"),)
    with pytest.raises(PreflightError, match="hidden by row level security"):
        as_reader(postgres).run()


def sa_column(table: str) -> Any:
    return replace(DOCUMENTS[0], table=table)


def test_rows_of_the_owner_under_forced_row_level_security(postgres: World) -> None:
    postgres.sql(f"ALTER TABLE documents OWNER TO reader_{os.getpid()}")
    postgres.sql("ALTER TABLE documents ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    refused(as_reader(postgres), "hidden by row level security")


def test_tables_without_transactions_are_named(mariadb_url: str, tmp_path: Path) -> None:
    world = local(mariadb_url, tmp_path)
    world.sql("CREATE VIEW papers AS SELECT * FROM documents")
    world.sql("ALTER TABLE documents ENGINE = MyISAM")
    refused(world, "table documents is kept by MyISAM")
    world.columns = (sa_column("papers"),)
    refused(world, "table documents is kept by MyISAM")
    world.columns = DOCUMENTS
    world.sql("ALTER TABLE documents ENGINE = InnoDB")
    with world.engine.begin() as connection:
        Tables().create(connection)
    world.sql("ALTER TABLE migrate_storage_lease ENGINE = Aria")
    refused(world, "migrate_storage_lease is kept by Aria")
    world.close()


def recipe(url: str) -> sa.Engine:
    """SQLAlchemy's recipe for pysqlite: the driver begins no transaction."""
    engine = sa.create_engine(url)

    @sa.event.listens_for(engine, "connect")
    def connect(connection: Any, _: Any) -> None:
        connection.isolation_level = None

    return engine


def recipe_with_begin(url: str) -> sa.Engine:
    engine = recipe(url)

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine


def creator(url: str) -> sa.Engine:
    path = make_url(url).database
    return sa.create_engine(
        "sqlite://", creator=lambda: sqlite3.connect(str(path), isolation_level=None, check_same_thread=False),
        poolclass=sa.pool.QueuePool,
    )  # fmt: skip


ENGINES: dict[str, Any] = {
    "recipe": recipe,
    "recipe with begin": recipe_with_begin,
    "creator": creator,
    "isolation level": lambda url: sa.create_engine(url, isolation_level="AUTOCOMMIT"),
    "execution option": lambda url: sa.create_engine(url, execution_options={"isolation_level": "AUTOCOMMIT"}),
    "later execution option": lambda url: sa.create_engine(url).execution_options(isolation_level="AUTOCOMMIT"),
}


@pytest.mark.parametrize("make", ENGINES.values(), ids=ENGINES)
@pytest.mark.parametrize("kind", ["sqlite", "postgres", "mariadb"])
def test_a_transaction_is_one_whatever_the_application_does(
    request: pytest.FixtureRequest, kind: str, make: Any
) -> None:
    url = request.getfixturevalue(f"{kind}_url")
    if kind != "sqlite" and make in (recipe, recipe_with_begin, creator):
        url, make = url, ENGINES["isolation level"]
    database = Database(make(url))
    database.connect()
    journal = Journal(database)
    journal.prepare()
    assert journal.leases.try_rollback()
    database.close()


def test_a_transaction_that_commits_by_itself_is_refused(mariadb_url: str, tmp_path: Path) -> None:
    world = local(mariadb_url, tmp_path)
    world.other_engine = sa.create_engine(mariadb_url)

    @sa.event.listens_for(world.other_engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("SET SESSION autocommit = 1")

    refused(world, "transactions of .* are none")
    world.close()


SETTINGS = (
    "sql_select_limit = 3", "max_join_size = 1", "sql_safe_updates = 1", "completion_type = 1",
    *(f"sql_mode = '{mode}'" for mode in ("NO_BACKSLASH_ESCAPES", "EMPTY_STRING_IS_NULL", "ANSI_QUOTES,HIGH_NOT_PRECEDENCE", "ORACLE", "ANSI")),
)  # fmt: skip
"""What the option ``--safe-updates`` sets in the client of MariaDB, and applications on connect."""


@pytest.mark.parametrize("setting", SETTINGS)
def test_no_setting_of_the_application_decides_what_mariadb_reads_and_writes(
    mariadb_url: str, tmp_path: Path, setting: str
) -> None:
    world = local(mariadb_url, tmp_path, rows=7)
    world.other_engine = sa.create_engine(mariadb_url)

    @sa.event.listens_for(world.other_engine, "connect")
    def connect(connection: Any, _: Any) -> None:
        connection.cursor().execute(f"SET SESSION {setting}")

    report = world.run()
    assert (report.exit_code, report.rows_repointed, report.rows_remaining) == (0, 7, 0)
    assert [file["backend"] for file in world.raw()] == ["new"] * 7
    report = RevertJob(world.application, RevertOptions(lease_ttl=1.0, settle_time=0.0)).run()
    assert (report.exit_code, report.rows_repointed) == (0, 7)
    assert [file["backend"] for file in world.raw()] == ["old"] * 7
    world.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgres", "mariadb"])
def test_a_listener_may_end_the_transaction_that_it_began(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    world = local(request.getfixturevalue(f"{kind}_url"), tmp_path)
    world.other_engine = sa.create_engine(world.url)

    @sa.event.listens_for(world.other_engine, "engine_connect")
    def connect(connection: sa.Connection) -> None:
        connection.exec_driver_sql("SELECT 1")
        connection.commit()

    assert world.run().exit_code == 0
    assert [file["backend"] for file in world.raw()] == ["new"] * 3
    world.close()


KILLED = """
import os, sys
import sqlalchemy as sa
from migrate_storage.journal.rows import RowRepository
from tests.integration.jobs import test_first_byte as engines
from tests.support.engine import registrations as places
from tests.support.engine.world import World
from pathlib import Path
url, folder, name = sys.argv[1:]
RowRepository.add = lambda *a, **k: os.kill(os.getpid(), 9)
world = World(url, places.old_local(Path(folder) / "old").build(), places.new_local(Path(folder) / "new").build())
world.columns, world.other_engine = engines.DOCUMENTS, engines.ENGINES[name](url)
world.run(lease_ttl=1)
"""


@pytest.mark.parametrize("name", ["recipe", "isolation level"])
def test_killed_between_a_row_and_its_journal_record_neither_is_there(
    sqlite_url: str, tmp_path: Path, name: str
) -> None:
    world = local(sqlite_url, tmp_path, rows=5)
    killed = subprocess.run([sys.executable, "-c", KILLED, sqlite_url, str(tmp_path), name], cwd=ROOT, check=False)
    assert killed.returncode == -9
    assert [value["backend"] for value in world.raw()] == ["old"] * 5
    assert world.sql("SELECT count(*) FROM migrate_storage_row") == [(0,)]
    world.close()


def test_a_revert_by_a_role_that_may_not_update_is_refused_before_its_first_row(postgres: World) -> None:
    assert postgres.run().exit_code == 0
    for table in Tables().metadata.sorted_tables:
        postgres.sql(f"GRANT ALL ON {table.name} TO reader_{os.getpid()}")
    as_reader(postgres)
    options = RevertOptions(lease_ttl=1.0, settle_time=0.0)
    for wanted in ("GRANT UPDATE on the column", "may not write migrate_storage_row of the journal"):
        with pytest.raises(PreflightError, match=wanted):
            RevertJob(postgres.application, options).run()
        assert [file["backend"] for file in postgres.raw()] == ["new"] * 3
        postgres.sql(f"GRANT UPDATE (file) ON documents TO reader_{os.getpid()}")
        postgres.sql(f"REVOKE INSERT ON migrate_storage_row FROM reader_{os.getpid()}")
    assert RevertJob(postgres.application, RevertOptions(dry_run=True)).run().rows_repointed == 0
    postgres.sql(f"GRANT ALL ON migrate_storage_row, migrate_storage_row_id_seq TO reader_{os.getpid()}")
    assert RevertJob(postgres.application, options).run().rows_repointed == 3
