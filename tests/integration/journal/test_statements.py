"""What `journal sql` prints is enough for a role that may create nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from migrate_storage.cutover.decisions import Phase, Side
from migrate_storage.cutover.outbox import Outbox
from migrate_storage.cutover.phase.source import SharedPhase
from migrate_storage.cutover.phase.table import PhaseTable
from migrate_storage.database.connection import Database
from migrate_storage.journal.schema import Tables
from migrate_storage.journal.statements import write_sql
from tests.support.engine import registrations as places
from tests.support.engine.world import World


@pytest.fixture
def roles(postgres_url: str) -> Iterator[tuple[str, str]]:
    """URLs of a role that runs the jobs and of one that runs the application; both may only connect."""
    url = sa.make_url(postgres_url)
    names = (f"jobs_{url.database}", f"app_{url.database}")
    with sa.create_engine(url).begin() as connection:
        for name in names:
            connection.exec_driver_sql(f"CREATE ROLE {name} LOGIN")
    first, second = (url.set(username=name).render_as_string(hide_password=False) for name in names)
    yield first, second
    with sa.create_engine(url).begin() as connection:
        for name in names:
            connection.exec_driver_sql(f"DROP OWNED BY {name}")
            connection.exec_driver_sql(f"DROP ROLE {name}")


def execute(url: str, text: str) -> None:
    with sa.create_engine(url).begin() as connection:
        for statement in text.split(";\n")[:-1]:
            connection.exec_driver_sql(statement)


@pytest.mark.parametrize("schema", ["migrate_storage", None], ids=["own schema", "default schema"])
def test_the_grants_are_enough(roles: tuple[str, str], postgres_url: str, tmp_path: Path, schema: str | None) -> None:
    jobs, application = roles
    tables = Tables(schema)
    with contextlib.closing(Database(jobs)) as database:
        database.connect()
        name = sa.make_url(application).username
        text = database.transaction(lambda connection: write_sql(connection, tables, name))
    execute(postgres_url, text)
    # The application acts in a cutover, and may write nothing else of ours.
    with contextlib.closing(Database(application)) as database:
        outbox = Outbox(database, "files", schema)
        outbox.prepare()
        entry = outbox.open_entry("a.txt", Side.SOURCE)
        assert outbox.close_entry("a.txt", entry)
        phase = SharedPhase(outbox)
        with phase.acquire(writing=True) or phase.renew(writing=True):
            pass
        phase.close()
        shared = PhaseTable(database, "files", outbox.tables)
        assert shared.transaction(lambda connection: shared.set_phase(connection, Phase.DUAL_WRITE)) == []
        place = f"{schema}." if schema else ""
        with sa.create_engine(application).connect() as connection:
            for table in ("run", "object", "row", "version"):
                with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
                    connection.exec_driver_sql(f"DELETE FROM {place}migrate_storage_{table}")
                connection.rollback()
    # The role of the command does a whole run.
    world = World(postgres_url, places.old_local(tmp_path / "old").build(), places.new_local(tmp_path / "new").build())
    world.fill(3)
    for table in {column.table for column in world.columns}:
        world.sql(f"GRANT SELECT, UPDATE ON {table} TO {sa.make_url(jobs).username}")
    world.other_engine = sa.create_engine(jobs)
    report = world.run()
    assert (report.exit_code, report.rows_remaining) == (0, 0), report
    world.other_engine.dispose()
    world.close()


def test_no_grant_where_rights_are_of_a_database(mariadb_url: str, sqlite_url: str) -> None:
    for url in (mariadb_url, sqlite_url):
        with contextlib.closing(Database(url)) as database:
            database.connect()
            tables = Tables()
            text = database.transaction(lambda connection, tables=tables: write_sql(connection, tables))  # type: ignore[misc]
            assert "GRANT" not in text
            execute(url, text)
            assert database.transaction(tables.exist)
