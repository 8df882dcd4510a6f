"""Tables of unusual shapes: attached, partitioned, foreign, materialized and generated ones, and policies that an UPDATE meets."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from advanced_alchemy.types import FileObject, StoredObject
from sqlalchemy.engine import make_url
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from migrate_storage.application.application import from_database, running_application
from migrate_storage.core.errors import ConfigurationError, PreflightError
from migrate_storage.core.model import Column
from migrate_storage.database import connection
from migrate_storage.jobs.revert.job import RevertJob, RevertOptions
from migrate_storage.jobs.run.job import RunJob
from migrate_storage.jobs.run.options import RunOptions
from migrate_storage.reporting import Report
from migrate_storage.reporting.text import headline
from tests.support.engine import registrations as places
from tests.support.engine.world import World
from tests.support.jobs.purge import purge

FILE = Column(table="doc", column="file", key=("id",), backend="old", multiple=False)


def revert(world: World) -> Report:
    return RevertJob(world.application, RevertOptions(lease_ttl=1.0, settle_time=0.0)).run()


def listed(report: Report) -> dict[str, str]:
    return {str(ref): outcome.reason for outcome in report.problems for ref in outcome.refs}


def fill(world: World, table: str, rows: range = range(1, 5), column: str = "file") -> None:
    """Rows of a table with ``id`` and a column of JSON."""
    cast = "CAST(:v AS JSONB)" if world.engine.dialect.name == "postgresql" else ":v"
    for number in rows:
        value = json.dumps(world.file(f"{table}/{number}").to_dict())
        world.sql(f"INSERT INTO {table} (id, {column}) VALUES (:id, {cast})", id=number, v=value)


def backends(world: World, table: str = "doc", column: str = "file") -> list[str]:
    """The backend of each row, whose file opens with its bytes."""
    found = []
    for (value,) in world.sql(f"SELECT {column} FROM {table} WHERE {column} IS NOT NULL ORDER BY id"):
        file = json.loads(value) if isinstance(value, str) else value
        side = {"old": world.old, "new": world.new}[file["backend"]]
        assert side.get_content(file["filename"]) == world.contents[file["filename"]]
        found.append(file["backend"])
    return found


# -- SQLite


class Attached:
    """A world whose engine attaches a second database on connect."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world, path = world, folder / "archive.db"

        def attach(opened: Any, record: object) -> None:
            opened.execute(f"ATTACH DATABASE '{path}' AS archive")

        world.other_engine = sa.create_engine(world.url)
        for engine in (world.engine, world.other_engine):
            sa.event.listen(engine, "connect", attach)
        world.engine.dispose()
        world.sql("CREATE TABLE archive.doc (id INTEGER PRIMARY KEY, file JSON)")
        fill(world, "archive.doc")
        world.columns = (Column(table="doc", column="file", schema="archive", key=("id",), backend="old"),)


@pytest.fixture
def attached(world: World, tmp_path: Path) -> World:
    return Attached(world, tmp_path).world


def test_an_attached_database_is_a_schema(attached: World) -> None:
    attached.sql("CREATE TABLE archive.log (id INTEGER PRIMARY KEY, file TEXT)")
    fill(attached, "archive.log", range(1, 2))
    report = attached.run()
    assert (report.exit_code, report.rows_remaining, report.rows_repointed) == (1, 0, 4)
    assert "log.file (1)" in headline(report)
    assert backends(attached, "archive.doc") == ["new"] * 4
    with pytest.raises(ConfigurationError, match=r"log\.file \(1 row\).*nothing was deleted"):
        purge(attached)
    assert revert(attached).rows_repointed == 4
    assert backends(attached, "archive.doc") == ["old"] * 4


def test_a_trigger_of_an_attached_database_is_seen(attached: World) -> None:
    attached.sql(
        "CREATE TRIGGER archive.keep AFTER UPDATE ON doc BEGIN UPDATE doc SET file = OLD.file WHERE id = NEW.id AND id > 2; END"
    )
    report = attached.run()
    assert (report.exit_code, report.rows_remaining) == (1, 2)
    assert backends(attached, "archive.doc") == ["new", "new", "old", "old"]
    assert {name: "trigger" in reason for name, reason in listed(report).items()} == {
        "archive.doc.file[3]": True, "archive.doc.file[4]": True,
    }  # fmt: skip


def test_a_model_that_does_not_say_which_database_is_refused(attached: World) -> None:
    attached.columns = (FILE,)
    with pytest.raises(ConfigurationError, match="no such table doc in"):
        attached.run()
    assert backends(attached, "archive.doc") == ["old"] * 4


# -- PostgreSQL


@pytest.fixture
def postgres(postgres_url: str, tmp_path: Path) -> Iterator[World]:
    world = World(postgres_url, places.old_local(tmp_path / "old").build(), places.new_local(tmp_path / "new").build())
    world.columns = (FILE,)
    yield world
    world.close()


@pytest.mark.parametrize("declared", ["the whole", "a partition"])
def test_partitions(postgres: World, declared: str) -> None:
    for table in ("doc", "log"):
        postgres.sql(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, file JSONB) PARTITION BY RANGE (id)")
        postgres.sql(f"CREATE TABLE {table}_low PARTITION OF {table} FOR VALUES FROM (0) TO (3)")
        postgres.sql(f"CREATE TABLE {table}_rest PARTITION OF {table} DEFAULT")
        fill(postgres, table)
    if declared == "a partition":
        postgres.columns = (Column(table="doc_low", column="file", key=("id",), backend="old"),)
    report = postgres.run()
    assert report.exit_code == 1
    assert report.census is not None
    rest = {} if declared == "the whole" else {"doc.file": 2}
    found = {str(each): each.rows["old"] for each in report.census.unknown("old")}
    assert found == {"log.file": 4, **rest}
    assert backends(postgres) == (["new"] * 4 if not rest else ["new", "new", "old", "old"])
    assert revert(postgres).rows_repointed == (2 if rest else 4)
    assert backends(postgres) == ["old"] * 4


def test_a_partition_whose_key_is_in_the_file_is_moved_with_its_row(postgres: World) -> None:
    postgres.sql("CREATE TABLE doc (id INTEGER NOT NULL, file JSONB) PARTITION BY LIST ((file ->> 'backend'))")
    for name in ("old", "new"):
        postgres.sql(f"CREATE TABLE doc_{name} PARTITION OF doc FOR VALUES IN ('{name}')")
    fill(postgres, "doc")
    report = postgres.run()
    assert (report.exit_code, report.rows_remaining) == (0, 0)
    assert backends(postgres) == ["new"] * 4
    assert postgres.sql("SELECT count(*) FROM doc_old") == [(0,)]


def loopback(world: World) -> None:
    """The same server as a foreign one."""
    port, name = world.engine.url.port, world.engine.url.database
    world.sql("CREATE EXTENSION postgres_fdw")
    world.sql(
        f"CREATE SERVER here FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '{port}', dbname '{name}')"
    )
    world.sql(f"CREATE USER MAPPING FOR CURRENT_USER SERVER here OPTIONS (user '{world.engine.url.username}')")
    world.sql("CREATE SCHEMA behind")
    world.sql("CREATE TABLE behind.doc (id INTEGER PRIMARY KEY, file JSONB)")
    world.sql(
        "CREATE FOREIGN TABLE doc (id INTEGER, file JSONB) SERVER here OPTIONS (schema_name 'behind', table_name 'doc')"
    )


def test_a_foreign_table_of_a_server_is_moved(postgres: World) -> None:
    loopback(postgres)
    fill(postgres, "doc")
    report = postgres.run(excused=("behind.doc.file",))
    assert (report.exit_code, report.rows_remaining, report.rows_repointed) == (0, 0, 4)
    assert backends(postgres, "behind.doc") == ["new"] * 4
    assert revert(postgres).rows_repointed == 4


def test_a_foreign_table_that_cannot_be_reached_is_unseen(postgres: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MAX_RETRY_SECONDS", 0.0)
    loopback(postgres)
    postgres.sql("ALTER SERVER here OPTIONS (SET port '1')")
    postgres.columns = World.columns[:1]
    postgres.fill(1)
    report = postgres.run()
    assert report.exit_code == 1
    assert report.census is not None
    [unseen] = report.census.unseen
    assert str(unseen) == "doc.file"
    assert "could not connect" in unseen.unreadable
    with pytest.raises(ConfigurationError, match=r"1 column cannot be searched for 'old': doc\.file"):
        purge(postgres)
    assert purge(postgres, excused=("doc.file",)).exit_code == 0


def test_a_foreign_table_of_a_file_is_searched_and_not_written(postgres: World, tmp_path: Path) -> None:
    data = Path(f"/tmp/foreign-{os.getpid()}.csv")
    data.write_text(f"1\t{json.dumps({'backend': 'old', 'filename': 'a'})}\n")
    try:
        postgres.sql("CREATE EXTENSION file_fdw")
        postgres.sql("CREATE SERVER files FOREIGN DATA WRAPPER file_fdw")
        postgres.sql(f"CREATE FOREIGN TABLE doc (id INTEGER, file JSONB) SERVER files OPTIONS (filename '{data}')")
        with pytest.raises(PreflightError, match=r"may not UPDATE doc\.file.*cannot update foreign table"):
            postgres.run()
        postgres.columns = World.columns[:1]
        postgres.fill(1)
        report = postgres.run()
        assert report.census is not None
        assert {str(each): (each.rows, each.unreadable) for each in report.census.columns} == {
            "doc.file": ({"old": 1}, "")
        }
    finally:
        data.unlink()


def test_a_materialized_view_names_what_it_named_until_it_is_refreshed(postgres: World) -> None:
    postgres.sql("CREATE TABLE doc (id INTEGER PRIMARY KEY, file JSONB)")
    fill(postgres, "doc")
    postgres.sql("CREATE MATERIALIZED VIEW shown AS SELECT id, file FROM doc WITH DATA")
    postgres.sql("CREATE MATERIALIZED VIEW empty AS SELECT id, file FROM doc WITH NO DATA")
    report = postgres.run()
    assert (report.exit_code, report.rows_repointed, "shown.file (4)" in headline(report)) == (1, 4, True)
    with pytest.raises(ConfigurationError, match=r"shown\.file \(4 rows\)"):
        purge(postgres)
    postgres.sql("REFRESH MATERIALIZED VIEW shown")
    assert postgres.run().exit_code == 0
    assert purge(postgres).exit_code == 0
    assert backends(postgres) == ["new"] * 4


def test_a_policy_that_refuses_the_new_row_is_listed(postgres: World) -> None:
    postgres.sql("CREATE TABLE doc (id INTEGER PRIMARY KEY, file JSONB)")
    fill(postgres, "doc")
    role = f"policed_{os.getpid()}"
    for statement in (
        f"CREATE ROLE {role} LOGIN", f"GRANT ALL ON doc TO {role}", f"GRANT ALL ON SCHEMA public TO {role}",
        "ALTER TABLE doc ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY visible ON doc USING (file ->> 'backend' = 'old' OR id = 1) WITH CHECK (id < 3)",
    ):  # fmt: skip
        postgres.sql(statement)
    try:
        postgres.other_engine = sa.create_engine(make_url(postgres.url).set(username=role))
        with pytest.raises(PreflightError, match="hidden by row level security"):
            postgres.run()
        seeing = replace(postgres.application, visible_rows_only=True)
        report = RunJob(seeing, RunOptions(source="old", destination="new", settle_time=0.0)).run()
        assert report.exit_code == 1
        assert backends(postgres) == ["new", "old", "old", "old"]
        assert {name: "row-level security" in reason for name, reason in listed(report).items()} == {
            f"doc.file[{number}]": True for number in (2, 3, 4)
        }
    finally:
        postgres.other_engine = None
        postgres.sql(f"DROP OWNED BY {role}")
        postgres.sql(f"DROP ROLE {role}")


# -- all databases


def test_the_schema_to_which_the_engine_translates_is_migrated(worlds: World) -> None:
    class Base(DeclarativeBase):
        pass

    class Doc(Base):
        __tablename__ = "doc"
        __table_args__ = ({"schema": "tenant"},)
        id: Mapped[int] = mapped_column(primary_key=True)
        file: Mapped[FileObject] = mapped_column(StoredObject(backend="old"))

    kind, database = worlds.engine.dialect.name, worlds.engine.url.database
    name = {"sqlite": "main", "postgresql": "tenant_a", "mysql": database}[kind]
    if kind == "postgresql":
        worlds.sql("CREATE SCHEMA tenant_a")
    worlds.other_engine = sa.create_engine(worlds.url, execution_options={"schema_translate_map": {"tenant": name}})
    Base.metadata.create_all(worlds.other_engine)
    fill(worlds, f"{name}.doc")
    worlds.columns = running_application(worlds.other_engine, Base.metadata).columns
    report = worlds.run()
    assert (report.exit_code, report.rows_repointed) == (0, 4)
    assert backends(worlds, f"{name}.doc") == ["new"] * 4
    assert purge(worlds).exit_code == 0
    assert backends(worlds, f"{name}.doc") == ["new"] * 4


# -- generated columns

GENERATED = {
    "sqlite": "copy TEXT GENERATED ALWAYS AS (file) VIRTUAL",
    "postgresql": "copy JSONB GENERATED ALWAYS AS (file) STORED",
    "mysql": "copy LONGTEXT GENERATED ALWAYS AS (file) STORED",
}


def test_a_generated_column_follows_its_row(worlds: World) -> None:
    kind = "JSONB" if worlds.engine.dialect.name == "postgresql" else "JSON"
    worlds.sql(f"CREATE TABLE doc (id INTEGER PRIMARY KEY, file {kind}, {GENERATED[worlds.engine.dialect.name]})")
    fill(worlds, "doc")
    worlds.columns = from_database(worlds.url, ["doc.copy"], {}).columns
    with pytest.raises(PreflightError, match=r"generates doc\.copy from other columns"):
        worlds.run()
    worlds.columns = (FILE,)
    report = worlds.run()
    assert (report.exit_code, report.rows_repointed) == (0, 4)
    assert backends(worlds) == backends(worlds, column="copy") == ["new"] * 4
    assert revert(worlds).rows_repointed == 4
    assert backends(worlds, column="copy") == ["old"] * 4
