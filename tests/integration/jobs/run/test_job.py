"""The main job on every database, from fsspec to obstore, on real servers."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend

from migrate_storage import ObstoreBackend
from migrate_storage.core.events import Event, ObjectFinished, PassStarted
from migrate_storage.core.model import OutcomeKind, Strategy
from migrate_storage.database.file_column import FileColumn
from migrate_storage.jobs.run.job import RunJob
from migrate_storage.jobs.run.options import RunOptions
from tests.support.engine.world import Document, World


def local(tmp_path: Path) -> tuple[FSSpecBackend, ObstoreBackend]:
    (tmp_path / "old").mkdir()
    old = FSSpecBackend(key="old", fs="file", prefix=str(tmp_path / "old"), auto_mkdir=True)
    return old, ObstoreBackend(key="new", fs=tmp_path / "new")


def test_local_to_local(tmp_path: Path, any_database_url: str) -> None:
    world = World(any_database_url, *local(tmp_path))
    world.fill(60, 20, 30)
    report = world.run()
    assert (report.state, report.strategy, report.exit_code) == ("completed", Strategy.MOVE, 0), report
    assert report.rows_remaining == 0
    assert report.counts == {OutcomeKind.REPOINTED: len(world.contents)}
    assert world.check(backend="new") == 60 + 30 + 10 + 15
    again = world.run()
    assert again.exit_code == 0
    assert again.resumed
    assert not again.counts


def test_s3_to_s3(rclone_s3, sqlite_url: str) -> None:
    source, destination = rclone_s3.new_bucket(), rclone_s3.new_bucket()
    old = FSSpecBackend(key="old", fs=rclone_s3.fs(), prefix=source)
    new = ObstoreBackend(key="new", fs=f"s3://{destination}/", **rclone_s3.options())
    world = World(sqlite_url, old, new)
    world.fill(50, 10, 10)
    report = world.run()
    assert report.exit_code == 0, report
    assert world.check(backend="new")


def test_every_row_of_a_missing_object_is_listed_in_whatever_window_it_comes(world: World) -> None:
    lost, there = world.file("lost"), world.file("there")
    world.old.delete_object("lost")
    world.add(*(Document(title=str(i), file=there if i % 5 == 4 else lost) for i in range(40)))
    report = world.run(batch_size=3, concurrency=1)
    assert report.counts == {OutcomeKind.MISSING: 1, OutcomeKind.REPOINTED: 1}
    assert (report.rows_remaining, report.problem_count) == (32, 1)
    assert len(report.problems[0].refs) == 32
    told = [
        ref
        for event in world.events
        if isinstance(event, ObjectFinished)
        for ref in event.outcome.refs
        if event.outcome.kind is OutcomeKind.MISSING
    ]
    assert len(told) == len(set(told)) == 32


def test_an_interrupted_run_counts_its_objects_and_their_proofs_from_one_source(world: World) -> None:
    """Interrupted while it reports a batch that is in the journal already: the journal knows more than was reported."""
    world.fill(30)
    reported = itertools.count(1)

    def interrupt(event: Event) -> None:
        if isinstance(event, ObjectFinished) and next(reported) == 3:
            raise KeyboardInterrupt

    report = RunJob(world.application, RunOptions(source="old", destination="new"), interrupt).run()
    assert report.state == "interrupted"
    assert sum(report.verified_by.values()) == report.counts[OutcomeKind.REPOINTED] > 3


def test_a_finished_job_is_run_again_without_reading_the_rows(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.fill(20)
    assert world.run().exit_code == 0
    monkeypatch.setattr(FileColumn, "windows", lambda *_, **__: pytest.fail("the rows are counted, not read"))
    report = world.run(settle_time=60.0)
    assert (report.state, report.exit_code, report.passes, report.rows_remaining) == ("completed", 0, 1, 0)


def test_a_row_that_comes_after_the_count_of_a_finished_job_is_moved_all_the_same(world: World) -> None:
    world.fill(20)
    assert world.run().exit_code == 0

    class Events(list):  # type: ignore[type-arg]
        def append(self, event: Event) -> None:
            if event == PassStarted(number=1):
                world.add(Document(title="late", file=world.file("late")))
            super().append(event)

    world.events = Events()
    report = world.run()
    assert (report.state, report.exit_code, report.rows_repointed, report.rows_remaining) == ("completed", 0, 1, 0)
    assert world.check(backend="new") == 21
