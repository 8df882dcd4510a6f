"""What no model has and what a run left out is said, and nothing that rows name is deleted."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.events import CensusAdvanced
from migrate_storage.database.connection import Database
from migrate_storage.engine.scheduler import Scheduler
from migrate_storage.jobs.census import latest_census, search
from migrate_storage.jobs.census_options import CensusOptions
from migrate_storage.jobs.orphans.job import OrphansJob, OrphansOptions
from migrate_storage.jobs.readiness import ready_to_unregister
from migrate_storage.jobs.run import job, passes
from migrate_storage.jobs.run.job import RunJob
from migrate_storage.jobs.run.options import RunOptions
from migrate_storage.jobs.sync.job import SyncJob
from migrate_storage.jobs.sync.options import SyncOptions
from migrate_storage.journal import Journal
from migrate_storage.reporting import Report, render
from tests.support.engine.world import Document, World
from tests.support.jobs.purge import purge


@pytest.fixture
def filled(world: World) -> World:
    """Five documents, and two rows of a table that no model has, which name two of the same objects."""
    world.fill(5)
    world.sql("CREATE TABLE invoice (id INTEGER PRIMARY KEY, pdf TEXT)")
    add(world, 1, "docs/0/d0.bin")
    add(world, 2, "docs/1/d1.bin")
    return world


def add(world: World, number: int, name: str, key: str = "old") -> None:
    value = json.dumps({"sent": [{"file": {"backend": key, "filename": name}}]})
    world.sql("INSERT INTO invoice VALUES (:id, :value)", id=number, value=value)


@pytest.fixture
def journal(world: World) -> Iterator[Journal]:
    database = Database(world.url)
    yield Journal(database)
    database.close()


def first(report: Any) -> str:
    return render(report).splitlines()[0]


def left(world: World) -> set[str]:
    return {path.name for path in Path(world.old.prefix).rglob("*") if path.is_file()}


def test_a_run_names_the_column_that_it_did_not_know_and_ends_with_exit_1(filled: World, journal: Journal) -> None:
    report = filled.run()
    assert (report.exit_code, report.rows_remaining, report.rows_repointed) == (1, 0, 5)
    assert first(report) == (
        "Finished: no row of the columns that are known names 'old' any more. 2 rows in columns that no model has "
        "name 'old': invoice.pdf (2)."
    )
    assert "invoice.pdf: 2 rows name it (in no model: move it with --columns)" in render(report)
    assert any(isinstance(event, CensusAdvanced) for event in filled.events), "the progress is reported"
    assert latest_census(journal, "old") == report.census
    assert latest_census(journal, "new") is None
    assert [run.id for run in journal.runs.latest()] == [report.run], "a census is no run"


def test_an_excused_column_stays_in_the_report(filled: World) -> None:
    report = filled.run(excused=("invoice.pdf",))
    assert report.exit_code == 0
    assert first(report) == "Finished: no row names 'old' any more (excused: invoice.pdf (2))."
    assert "invoice.pdf: 2 rows name it (excused)" in render(report)


@pytest.mark.parametrize(
    ("census", "said"),
    [
        (("none",), "nothing else was searched: --census full"),
        (("documents",), "only documents was searched: --census full"),
    ],
)
def test_a_run_without_a_whole_census_speaks_of_its_columns(filled: World, census: tuple[str, ...], said: str) -> None:
    report = filled.run(census=census)
    assert first(report) == f"Finished: no row of the columns that are known names 'old' any more ({said})."
    assert report.exit_code == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"where": "id <= 2"}, "no row that --where chose names 'old' any more; 3 other rows still do."),
        ({"include": ("d1.bin",)}, "no row that --include chose names 'old' any more; 4 other rows still do."),
        ({"exclude": ("d1.bin",), "where": "id > 1"}, "no row that --where and --exclude chose names 'old' any more; 2 other rows still do."),
        ({"where": "1 = 0"}, "no row that --where chose names 'old' any more; 5 other rows still do."),
        ({"where": "id <= 2", "census": ("none",)}, "no row that --where chose names 'old' any more; all other rows were not counted."),
        ({"where": "1 = 1"}, "no row names 'old' any more."),
    ],
)  # fmt: skip
def test_a_narrowed_run_says_of_what_it_speaks(world: World, options: dict[str, Any], said: str) -> None:
    world.fill(5)
    world.columns = world.columns[:1]
    report = world.run(**options)
    assert first(report).endswith(said)
    assert report.exit_code == 0


def test_a_run_of_some_columns_says_so(world: World) -> None:
    world.fill(3, 3)
    some = replace(world.application, columns=world.columns[:1], all_columns=world.columns)
    report = RunJob(some, RunOptions(source="old", destination="new", settle_time=0.0)).run()
    assert first(report) == "Finished: no row that --columns chose names 'old' any more; 2 other rows still do."


def test_a_row_that_is_written_after_the_rows_were_counted_is_no_row_that_nobody_names(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from migrate_storage.jobs.run.row_counts import RowCounts

    world.fill(2)
    # The count is made before the row is written, and the census after.
    monkeypatch.setattr(RowCounts, "left", lambda self: 0)
    report = world.run(copy_only=True)
    assert report.rows_remaining == 2


def searches(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> list[bool]:
    """Return a list that gets for each census of a run whether it was the early one; ``changes`` are its arguments."""
    early: list[bool] = []

    def listen(*args: Any, until: float | None = None) -> Any:
        early.append(until is not None)
        return search(*args, until=changes.get("until", until) if until is not None else None)

    monkeypatch.setattr(job, "search", listen)
    return early


def run_without_waiting(world: World) -> Report:
    """Run with a wait of an hour for late writes, which is over as soon as the run does nothing but wait."""
    migration = world.migration(settle_time=3600.0)
    migration.context.stop.wait = lambda timeout=None: migration.context.stop.is_set()  # type: ignore[method-assign]
    return migration.run()


def test_the_census_is_taken_while_the_run_waits_for_late_writes(
    filled: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    early = searches(monkeypatch)
    report = run_without_waiting(filled)
    assert early == [True]
    assert report.census is not None
    assert [str(column) for column in report.census.unknown("old")] == ["invoice.pdf"]


def test_a_census_that_takes_longer_than_the_wait_is_taken_at_the_end(
    filled: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    early = searches(monkeypatch, until=0.0)
    report = run_without_waiting(filled)
    assert early == [True, False]
    assert report.census is not None
    assert report.census.tables == 5


def test_a_row_that_is_seen_only_after_the_wait_is_moved_and_the_census_taken_again(
    filled: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    early = searches(monkeypatch)
    recheck_sources, late = passes.recheck_sources, filled.file("late")

    def write_then_recheck(*given: Any) -> None:
        if not filled.sql("SELECT id FROM documents WHERE id = 99"):
            filled.add(Document(id=99, title="late", file=late))
            add(filled, 3, "docs/2/d2.bin")
        recheck_sources(*given)

    monkeypatch.setattr(passes, "recheck_sources", write_then_recheck)
    report = run_without_waiting(filled)
    assert early == [True, False]
    assert (report.rows_remaining, report.rows_repointed) == (0, 6)
    assert report.census is not None
    assert [sum(column.rows.values()) for column in report.census.unknown("old")] == [3]
    assert filled.check(backend="new") == 6


def test_passes_that_find_nothing_are_a_part_of_the_wait(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.fill(3)

    def mark_written(self: Scheduler) -> None:
        self.last_written = time.monotonic() - 3600.0  # as after a long pass

    monkeypatch.setattr(Scheduler, "mark_written", mark_written)
    assert world.run(settle_time=3600.0).exit_code == 0


def test_a_plan_shows_the_last_census_and_takes_one_when_asked(filled: World, journal: Journal) -> None:
    plan = filled.run(dry_run=True)
    assert plan.census is None
    assert "none yet: 'migrate-storage run' takes one at its end" in render(plan)
    asked = filled.run(dry_run=True, census=("full",))
    assert asked.census is not None
    assert asked.census.unknown("old")
    assert (asked.exit_code, journal.exists) == (0, False)
    run = filled.run()
    assert filled.run(dry_run=True).census == run.census
    assert " ago" in render(filled.run(dry_run=True))


def test_a_purge_refuses_while_a_column_that_no_model_has_names_the_key(filled: World) -> None:
    filled.run()
    for options in ({}, {"yes": False}, {"excused": ("invoice.id",)}):
        with pytest.raises(
            ConfigurationError, match=r"no model has name 'old': invoice\.pdf \(2 rows\).*nothing was deleted"
        ):
            purge(filled, **options)
    with pytest.raises(ConfigurationError, match="not every table was searched.*--census full"):
        purge(filled, census=("none",))
    with pytest.raises(ConfigurationError, match="not every table was searched.*--census full"):
        purge(filled, census=("documents",))
    assert len(left(filled)) == 5
    assert purge(filled, excused=("invoice.*",)).exit_code == 0
    assert left(filled) == set()


def test_a_purge_asks_for_every_key_under_which_the_objects_may_be_named(filled: World) -> None:
    from tests.support.engine import registrations as places

    filled.sql("DELETE FROM invoice")
    assert filled.run().exit_code == 0
    alias = places.old_local(Path(filled.old.prefix)).build()
    alias.key = "alias"
    application = filled.application
    application = replace(application, backends={**application.backends, "alias": alias})
    add(filled, 1, "docs/0/d0.bin", "alias")
    with pytest.raises(ConfigurationError, match=r"invoice\.pdf \(1 row\)"):
        purge(filled, application=application)
    filled.sql("DELETE FROM invoice")
    add(filled, 1, "docs/0/d0.bin", "new")
    assert purge(filled, application=application).exit_code == 0, "the copies are elsewhere"


def test_orphans_are_not_moved_while_a_column_that_no_model_has_names_the_key(filled: World) -> None:
    filled.run()
    given = {"quarantine": ".quarantine", "min_age": 0.0, "yes": True, "keys": ("old",), "lease_ttl": 1.0}
    with pytest.raises(ConfigurationError, match=r"invoice\.pdf \(2 rows\).*nothing was moved"):
        OrphansJob(filled.application, OrphansOptions(**given)).run()
    assert len(left(filled)) == 5
    assert OrphansJob(filled.application, OrphansOptions(**given, excused=("invoice.pdf",))).run().state == "completed"


def test_a_sync_deletes_nothing_while_a_column_that_no_model_has_names_the_key(filled: World, tmp_path: Path) -> None:
    from migrate_storage import ObstoreBackend

    (tmp_path / "empty").mkdir()
    empty = ObstoreBackend("empty", f"file://{tmp_path}/empty")
    options = SyncOptions(delete=True, max_delete="100%", min_age=0.0)
    with pytest.raises(ConfigurationError, match=r"invoice\.pdf \(2 rows\).*nothing was deleted"):
        SyncJob(empty, filled.old, options, application=filled.application).run()
    assert len(left(filled)) == 5


def test_a_key_stays_registered_while_a_column_that_no_model_has_names_it(filled: World) -> None:
    filled.run()

    def failing(**options: Any) -> dict[str, str]:
        _, checks = ready_to_unregister(filled.application, "old", soak=0.0, census=CensusOptions(**options))
        return {check.name: check.message for check in checks if not check.ready}

    assert "invoice.pdf (2 rows)" in failing()["census"]
    assert failing(excused=("invoice.pdf",)) == {}
    assert "census" in failing(census=("none",))


def test_on_each_database_a_run_counts_what_it_left_and_did_not_know_and_a_purge_refuses(all_worlds: World) -> None:
    all_worlds.fill(5)
    all_worlds.columns = all_worlds.columns[:1]
    all_worlds.sql("CREATE TABLE invoice (id INTEGER PRIMARY KEY, pdf TEXT)")
    add(all_worlds, 1, "docs/0/d0.bin")
    report = all_worlds.run(where="id < 3", include=("d*.bin",), visible_tables_only=True)
    assert (report.exit_code, report.rows_repointed) == (1, 2)
    assert "that --where and --include chose" in first(report)
    assert "3 other rows still do" in first(report)
    assert "1 row in columns that no model has names 'old': invoice.pdf (1)" in first(report)
    for options in ({}, {"excused": ("invoice.id",)}):
        with pytest.raises(ConfigurationError, match=r"invoice\.pdf \(1 row\).*nothing was deleted"):
            purge(all_worlds, **options)
    assert len(left(all_worlds)) == 5


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_a_table_that_a_role_may_not_read_counts_as_unseen(worlds: World) -> None:
    worlds.fill(2)
    role = f"r_{worlds.engine.url.database}"
    for statement in (
        "CREATE SCHEMA secret", "CREATE TABLE secret.files (id INTEGER PRIMARY KEY, file TEXT)",
        f"CREATE ROLE {role} LOGIN", f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}",
        f"GRANT CREATE, USAGE ON SCHEMA public TO {role}",
    ):  # fmt: skip
        worlds.sql(statement)
    try:
        worlds.other_engine = sa.create_engine(worlds.engine.url.set(username=role))
        report = worlds.run()
        assert (report.exit_code, first(report)) == (1, "Finished: no row that this role can see names 'old' any more.")
        assert "secret.files.file: not searched, or not to its end: this role may not use its schema" in render(report)
        with pytest.raises(ConfigurationError, match=r"1 column cannot be searched for 'old': secret\.files\.file"):
            purge(worlds)
        assert purge(worlds, excused=("secret.*",)).exit_code == 0
    finally:
        worlds.other_engine = None
        worlds.sql(f"DROP OWNED BY {role} CASCADE")
        worlds.sql(f"DROP ROLE {role}")


@pytest.mark.parametrize("database_url", ["mariadb"], indirect=True)
def test_mariadb_hides_tables_and_a_purge_wants_that_excused(worlds: World) -> None:
    worlds.fill(2)
    report = worlds.run()
    assert (report.exit_code, first(report)) == (0, "Finished: no row that this role can see names 'old' any more.")
    with pytest.raises(ConfigurationError, match="hides from this role.*--visible-tables-only"):
        purge(worlds, visible_tables_only=False)
    assert purge(worlds, visible_tables_only=True).exit_code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [({"census_rate": 0}, "--census-rate must be more than 0"), ({"census": ("full", "x")}, "give one of them")],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    for kind in (CensusOptions, OrphansOptions, SyncOptions):
        with pytest.raises(ConfigurationError, match=message):
            kind(**options)


def test_a_table_that_does_not_exist_is_refused(world: World) -> None:
    world.fill(1)
    with pytest.raises(ConfigurationError, match="--census nowhere: this role sees no such table"):
        world.run(census=("nowhere",))
    assert not world.journal
