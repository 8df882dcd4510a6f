"""The report of a run lists the runs of the same move: a first one with a limit, and the rest, until a revert ends it."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from migrate_storage.database.connection import Database
from migrate_storage.jobs.revert.job import RevertJob, RevertOptions
from migrate_storage.journal import Journal
from migrate_storage.reporting import Report
from migrate_storage.reporting.html.page import page
from migrate_storage.reporting.statistics import Figures, figures
from migrate_storage.reporting.text import render
from tests.support.engine import registrations as places
from tests.support.engine.world import World


@pytest.fixture
def world(sqlite_url: str, tmp_path: Path) -> World:
    made = World(sqlite_url, places.old_local(tmp_path / "old").build(), places.new_local(tmp_path / "new").build())
    made.fill(12)
    return made


def sums(world: World, report: Report) -> Figures:
    with contextlib.closing(Database(world.url)) as database:
        return figures(report, Journal(database))


def test_a_first_run_with_a_limit_and_the_rest_are_one_move(world: World) -> None:
    first = world.run(limit=4, settle_time=0)
    assert sums(world, first).move == ()
    rest = world.run(settle_time=0)
    found = sums(world, rest)
    assert [(each.run, each.state, each.rows_repointed) for each in found.move] == [
        (first.run, "limit_reached", first.rows_repointed), (rest.run, "completed", rest.rows_repointed)
    ]  # fmt: skip
    assert first.rows_repointed + rest.rows_repointed == 12
    text = render(rest, found)
    assert "Runs of this move (2)" in text
    assert "all of them" in text
    assert "12 rows, 12 objects" in text
    assert first.run in page(rest, found)
    assert [each["run"] for each in found.to_dict()["move"]] == [first.run, rest.run]
    # The report of the first run is as it was.
    assert sums(world, first).move == ()


def test_a_revert_ends_a_move_and_a_dry_run_is_none(world: World) -> None:
    world.run(limit=4, settle_time=0)
    RevertJob(world.application, RevertOptions(settle_time=0.0)).run()
    again = world.run(settle_time=0)
    assert sums(world, again).move == ()
    planned = world.run(dry_run=True)
    assert sums(world, planned).move == ()
    last = world.run(settle_time=0)
    assert [each.run for each in sums(world, last).move] == [again.run, last.run]
