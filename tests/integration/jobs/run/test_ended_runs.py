"""What an ended run leaves in the journal does not block the next one, and what blocks it names a remedy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from advanced_alchemy.types import FileObject
from advanced_alchemy.types.file_object import storages

from migrate_storage.core.model import OutcomeKind
from migrate_storage.jobs.revert.job import RevertJob, RevertOptions
from tests.support.engine import registrations as places
from tests.support.engine.world import Document, World
from tests.support.jobs.purge import purge
from tests.support.servers import S3Server

COUNT = 12


def move_source(world: World, folder: Path) -> None:
    """Move the source's files, and register its key for their new place."""
    old = Path(str(world.old.prefix))  # type: ignore[attr-defined]
    shutil.move(old, folder)
    world.old = places.old_local(folder).build()
    storages.register_backend(world.old)


def revert(world: World) -> None:
    report = RevertJob(world.application, RevertOptions(lease_ttl=1.0, settle_time=0.05)).run()
    assert report.exit_code == 0, report


@pytest.fixture(params=["local", "moto"])
def world(request: pytest.FixtureRequest, tmp_path: Path, sqlite_url: str) -> World:
    """Rows that were moved from a disk, and put back."""
    if request.param == "local":
        destination = places.new_local(tmp_path / "new")
    else:
        server: S3Server = request.getfixturevalue("moto_s3")
        destination = places.new_s3(server, server.new_bucket())
    world = World(sqlite_url, places.old_local(tmp_path / "old").build(), destination.build())
    world.fill(COUNT)
    assert world.run().exit_code == 0
    revert(world)
    return world


def test_after_its_copies_were_purged(world: World, tmp_path: Path) -> None:
    assert purge(world, unreferenced_copies=True).counts == {OutcomeKind.DELETED: COUNT}
    move_source(world, tmp_path / "old2")
    report = world.run()
    assert (report.exit_code, report.rows_remaining) == (0, 0), report
    assert world.check(backend="new") == COUNT
    revert(world)
    assert world.check(backend="old") == COUNT


def test_after_its_copies_were_deleted_by_hand(world: World, tmp_path: Path) -> None:
    for name in world.contents:
        world.new.delete_object(name)
    move_source(world, tmp_path / "old2")
    planned = world.run(dry_run=True)
    assert planned.counts == {OutcomeKind.REPOINTED: COUNT}, planned
    assert world.run().exit_code == 0
    assert world.check(backend="new") == COUNT


def test_where_its_copies_are_still_there_the_remedy_works(world: World, tmp_path: Path) -> None:
    move_source(world, tmp_path / "old2")
    report = world.run()
    assert report.counts == {OutcomeKind.DESTINATION_EXISTS: COUNT}
    [run] = {outcome.reason.split("purge ")[1].split()[0] for outcome in report.problems}
    assert all("no row names" in outcome.reason for outcome in report.problems)
    assert purge(world, run=run, unreferenced_copies=True).counts == {OutcomeKind.DELETED: COUNT}
    assert world.run().exit_code == 0
    assert world.check(backend="new") == COUNT


def test_copies_that_rows_name_are_not_given_up(world: World, tmp_path: Path) -> None:
    assert world.run().exit_code == 0
    move_source(world, tmp_path / "old2")
    name = next(iter(world.contents))
    with world.session() as session:
        session.add(Document(id=99, title="late", file=FileObject(backend="old", filename=name, content=b"other")))
        session.commit()
    report = world.run()
    assert report.counts == {OutcomeKind.DESTINATION_EXISTS: 1}
    assert "registered for another place now: revert that run" in report.problems[0].reason
    assert sorted(value["backend"] for value in world.raw()) == ["new"] * COUNT + ["old"]


@pytest.fixture(params=["copy_only", "keep_rows"])
def copied(request: pytest.FixtureRequest, tmp_path: Path, sqlite_url: str) -> World:
    """Copies that a run made without re-pointing any row."""
    world = World(sqlite_url, places.old_local(tmp_path / "old").build(), places.new_local(tmp_path / "new").build())
    world.fill(COUNT)
    assert world.run(**{request.param: True}).exit_code == 0
    return world


def test_copies_without_rows_are_compared_once_the_source_has_moved(copied: World, tmp_path: Path) -> None:
    move_source(copied, tmp_path / "old2")
    name = next(iter(copied.contents))
    copied.contents[name] = b"replaced since"
    copied.old.fs.pipe(copied.old._prepare_path(name), copied.contents[name])
    planned = copied.run(dry_run=True)
    assert planned.counts == {OutcomeKind.REPOINTED: COUNT - 1, OutcomeKind.DESTINATION_EXISTS: 1}, planned
    report = copied.run()
    assert report.counts == {OutcomeKind.REPOINTED: COUNT - 1, OutcomeKind.DESTINATION_EXISTS: 1}, report
    assert report.bytes_copied == 0
    assert [outcome.source.path for outcome in report.problems] == [name]
    assert "another object is at new:" in report.problems[0].reason
    copied.new.delete_object(name)
    assert copied.run().exit_code == 0
    assert copied.check(backend="new") == COUNT
    revert(copied)
    assert copied.check(backend="old") == COUNT


def test_after_the_destination_of_a_mirror_took_over_the_key(copied: World, tmp_path: Path) -> None:
    copied.old = places.new_local(tmp_path / "new", "old").build()
    storages.register_backend(copied.old)
    report = copied.run()
    assert (report.exit_code, report.counts, report.bytes_copied) == (0, {OutcomeKind.REPOINTED: COUNT}, 0), report
    assert copied.check(backend="new") == COUNT
    revert(copied)
    assert copied.check(backend="old") == COUNT
