"""Machines whose clocks are hours off: every time in the journal is of the database's clock, and compared with it only."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from migrate_storage.cli import cli
from migrate_storage.core.events import ObjectFinished
from migrate_storage.core.model import OutcomeKind
from migrate_storage.cutover.decisions import Side
from migrate_storage.cutover.outbox import Outbox
from migrate_storage.database.connection import Database
from migrate_storage.engine.known_losses import known_loss_of
from migrate_storage.jobs.census import latest_census
from migrate_storage.jobs.census_options import CensusOptions
from migrate_storage.jobs.readiness import ready_to_unregister
from migrate_storage.jobs.revert.job import RevertJob, RevertOptions
from migrate_storage.journal import Journal
from tests.support.engine.world import World
from tests.support.jobs.purge import purge

HOUR = 3600.0
OnMachine = Callable[[float], AbstractContextManager[None]]
TIMES = {"run": ("started", "updated", "finished"), "object": ("updated",), "row": ("at",)}


@pytest.fixture
def on_machine() -> OnMachine:
    """Make the clock of this process some hours wrong for a while."""
    right = time.time

    @contextlib.contextmanager
    def turn(hours: float) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(time, "time", lambda: right() + hours * HOUR)
            yield

    return turn


@contextlib.contextmanager
def opened(world: World) -> Iterator[Journal]:
    with contextlib.closing(Database(world.url)) as database:
        yield Journal(database)


def ages(world: World) -> list[float]:
    """How old each time in the journal is, by the database's clock."""
    with opened(world) as journal:
        now = journal.database.transaction(journal.database.now)
    return [
        now - float(value)
        for table, columns in TIMES.items()
        for row in world.sql(f"SELECT {', '.join(columns)} FROM migrate_storage_{table}")
        for value in row
    ]


@pytest.mark.parametrize("hours", [-3, 5])
def test_what_a_run_on_such_a_machine_moved_is_not_purged_too_early_or_kept_for_ever(
    worlds: World, on_machine: OnMachine, hours: float
) -> None:
    worlds.fill(2, 1)
    with on_machine(hours):
        assert worlds.run().exit_code == 0
    assert all(-1 < age < 300 for age in ages(worlds)), "each of them is of the database's clock"
    assert purge(worlds, older_than=HOUR).counts == {OutcomeKind.KEPT: 2}
    worlds.sql(f"UPDATE migrate_storage_object SET updated = updated - {1.1 * HOUR}")
    assert purge(worlds, older_than=HOUR).counts == {OutcomeKind.DELETED: 2}


def test_the_databases_clock_knows_no_time_zone(database_url: str) -> None:
    """A server whose sessions have local time tells the same seconds."""
    with contextlib.closing(Database(database_url.replace("postgresql://", "postgresql+psycopg://"))) as database:
        zones = {"mysql": "SET time_zone = '-07:30'", "postgresql": "SET TIME ZONE 'Asia/Kathmandu'"}

        def read(connection: sa.Connection) -> float:
            if zone := zones.get(connection.dialect.name):
                connection.exec_driver_sql(zone)
            return database.now(connection)

        assert database.transaction(read) == pytest.approx(time.time(), abs=30)
        assert database.time() == pytest.approx(time.time(), abs=30)


@pytest.mark.parametrize("hours", [-30, 4])
def test_a_purge_on_such_a_machine(world: World, on_machine: OnMachine, hours: float) -> None:
    world.fill(3)
    assert world.run().exit_code == 0
    world.sql(f"UPDATE migrate_storage_object SET updated = updated - {1.1 * HOUR} WHERE source_path LIKE '%d1%'")
    with on_machine(hours):
        assert purge(world, older_than=HOUR).counts == {OutcomeKind.DELETED: 1, OutcomeKind.KEPT: 2}


@pytest.mark.parametrize("hours", [-200, 200])
def test_the_soak_and_the_census_on_such_a_machine(world: World, on_machine: OnMachine, hours: float) -> None:
    world.fill(2)
    assert world.run().exit_code == 0
    with on_machine(hours), opened(world) as journal:
        census = CensusOptions(visible_tables_only=True)
        _, checks = ready_to_unregister(world.application, "old", soak=HOUR, census=census)
        assert [check.name for check in checks if not check.ready] == ["soak"]
        assert ready_to_unregister(world.application, "old", soak=0.0, census=census)[1][-1].ready
        latest = latest_census(journal, "old")
        assert latest is not None
        assert latest.age < 300


@pytest.mark.parametrize("hours", [-6, 6])
def test_the_latest_run_is_the_one_that_began_last(world: World, on_machine: OnMachine, hours: float) -> None:
    world.fill(1)
    with on_machine(-hours):
        first = world.run()
    with on_machine(hours):
        second = world.run()
    with opened(world) as journal:
        assert [run.id for run in journal.runs.latest()] == [second.run, first.run]
    assert 0 <= first.started <= first.finished <= second.started <= second.finished < time.time() + 1


@pytest.mark.parametrize("hours", [-6, 6])
def test_a_revert_on_such_a_machine_checks_the_rows_that_went_back(
    world: World, on_machine: OnMachine, hours: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that loaded a row before it went back saves to the copy; the last check copies that back."""
    world.fill(2)
    assert world.run().exit_code == 0
    late = Path(world.new.fs.prefix, "docs/1/d1.bin")
    job = RevertJob(world.application, RevertOptions(settle_time=0.0))
    begin_pass = job.begin_pass

    def save_late() -> int:
        number = begin_pass()
        if number == 2:
            late.write_bytes(b"saved late")
        return number

    monkeypatch.setattr(job, "begin_pass", save_late)
    with on_machine(hours):
        assert job.run().exit_code == 0
    assert Path(world.old.prefix, "docs/1/d1.bin").read_bytes() == b"saved late"


@pytest.mark.parametrize("hours", [-3, 3])
def test_runs_are_forgotten_by_their_true_age_and_seen_alive(world: World, on_machine: OnMachine, hours: float) -> None:
    world.fill(1)
    with on_machine(-hours):
        world.run()
    with on_machine(hours):
        prune = ["journal", "prune", "--journal", world.url, "--older-than", "1h"]
        assert "Deleted 0" in CliRunner().invoke(cli, prune, catch_exceptions=False).output
        world.sql("UPDATE migrate_storage_run SET finished = NULL, report = NULL, state = 'running' WHERE kind = 'run'")
        shown = CliRunner().invoke(cli, ["status", "--journal", world.url], catch_exceptions=False).output
        assert "last sign of life" in shown
        assert " h " not in shown.partition("ago")[0]
        told = CliRunner().invoke(cli, ["control", "pause", "--journal", world.url], catch_exceptions=False).output
        assert "no heartbeat" not in told
        world.sql(f"UPDATE migrate_storage_run SET finished = updated - {2 * HOUR}")
        assert "Deleted 0" not in CliRunner().invoke(cli, prune, catch_exceptions=False).output


@pytest.mark.parametrize("hours", [-3, 3])
def test_a_writer_on_such_a_machine_keeps_the_repair_of_another_away(
    database_url: str, on_machine: OnMachine, hours: float
) -> None:
    url = database_url.replace("postgresql://", "postgresql+psycopg://")
    with contextlib.closing(Database(url)) as database, contextlib.closing(Database(url)) as elsewhere:
        Outbox(database, "files").prepare()
        with on_machine(hours):
            writer = Outbox(database, "files")
            writer.open_entry("written", Side.SOURCE)
            writer.open_entry("signed", Side.SOURCE, expires=writer.clock() + 600)
        repair = Outbox(elsewhere, "files")
        assert repair.claim_entry("written", "me", 30) is None, "a write may be running"
        signed = repair.find_entry("signed")
        assert signed is not None
        assert not repair.close_claimed("signed", signed), "its URL is valid"
        counts = repair.count_by_kind()
        assert counts.count("upload", Side.SOURCE) == counts.count("writer", Side.SOURCE) == 1
        assert 500 < counts.last_upload <= 601
        with elsewhere._sync_engine.begin() as connection:  # noqa: SLF001 - ten minutes pass
            connection.execute(sa.text("UPDATE migrate_storage_outbox SET busy_until = busy_until - 601"))
            connection.execute(sa.text("UPDATE migrate_storage_outbox SET expires = expires - 601"))
        with on_machine(-hours):
            assert Outbox(elsewhere, "files").claim_entry("written", "me", 30) is not None
        assert repair.claim_entry("written", "another", 30) is None, "one at a time"


@pytest.mark.parametrize("hours", [-3, 3])
def test_a_known_loss_has_the_databases_time(world: World, on_machine: OnMachine, hours: float) -> None:
    world.fill(1)
    Path(world.old.prefix, "docs/0/d0.bin").unlink()
    with on_machine(hours):
        assert world.run().exit_code == 1
        outcome = next(event.outcome for event in world.events if isinstance(event, ObjectFinished))
        with opened(world) as journal:
            journal.known_losses.add([known_loss_of(outcome, "lost")])
            [[loss]] = journal.known_losses.all()
    assert abs(loss.at - time.time()) < 60
