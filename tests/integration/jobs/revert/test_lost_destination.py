"""After the destination was lost, rows go back where the source is as it was copied; a missing bucket proves nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from migrate_storage.core.model import OutcomeKind
from migrate_storage.jobs.revert.job import RevertJob, RevertOptions
from migrate_storage.reporting import Report
from tests.support.engine import registrations as places
from tests.support.engine.world import Album, World
from tests.support.servers import S3Server

COUNT = 6


def revert(world: World) -> Report:
    return RevertJob(world.application, RevertOptions(lease_ttl=1.0, settle_time=0.05)).run()


@pytest.fixture(params=["moto_s3", "local"])
def site(request: pytest.FixtureRequest, tmp_path: Path, sqlite_url: str) -> tuple[World, Callable[[], None]]:
    """Rows that were moved, and what removes the whole destination, its bucket or folder too."""
    if request.param == "local":
        folder = tmp_path / "new"
        destination = places.new_local(folder)

        def remove() -> None:
            shutil.rmtree(folder)
    else:
        server: S3Server = request.getfixturevalue("moto_s3")
        bucket = server.new_bucket()
        destination = places.new_s3(server, bucket)

        def remove() -> None:
            for listed in server.client.list_objects_v2(Bucket=bucket)["Contents"]:
                server.client.delete_object(Bucket=bucket, Key=listed["Key"])
            server.client.delete_bucket(Bucket=bucket)

    world = World(sqlite_url, places.old_local(tmp_path / "old").build(), destination.build())
    world.fill(COUNT)
    assert world.run().exit_code == 0
    return world, remove


def test_rows_whose_source_is_as_it_was_copied_go_back(site: tuple[World, Callable[[], None]]) -> None:
    world, _ = site
    changed, gone, *_ = names = list(world.contents)
    for name in names:
        world.new.delete_object(name)
    world.old.fs.pipe(world.old._prepare_path(changed), b"changed since")  # type: ignore[attr-defined]
    world.old.fs.rm_file(world.old._prepare_path(gone))  # type: ignore[attr-defined]
    report = revert(world)
    assert report.counts == {OutcomeKind.REVERTED: COUNT - 2, OutcomeKind.MISSING: 2}, report
    assert sorted(value["backend"] for value in world.raw()) == ["new"] * 2 + ["old"] * (COUNT - 2)
    reasons = " ".join(outcome.reason for outcome in report.problems)
    assert "is gone too" in reasons
    assert "is not what was copied any more" in reasons


def test_a_missing_bucket_or_folder_is_one_line_and_no_row_changes(site: tuple[World, Callable[[], None]]) -> None:
    world, remove = site
    remove()
    before = world.raw()
    report = revert(world)
    assert report.exit_code == 3
    assert "'new'" in report.error
    assert "\n" not in report.error
    assert world.raw() == before


@pytest.mark.parametrize("position", [0, 1, 2])
def test_of_a_list_the_file_that_keeps_the_row_is_named_with_the_remedy(
    position: int, tmp_path: Path, sqlite_url: str
) -> None:
    old, new = places.old_local(tmp_path / "old").build(), places.new_local(tmp_path / "new").build()
    world = World(sqlite_url, old, new)
    names = [f"album/{number}" for number in range(3)]
    world.add(Album(pictures=[world.file(name) for name in names]))
    assert world.run().exit_code == 0
    world.new.delete_object(names[position])
    world.contents[names[position]] = b"changed since"
    world.old.fs.pipe(world.old._prepare_path(names[position]), b"changed since")  # type: ignore[attr-defined]
    report = revert(world)
    assert report.counts == {OutcomeKind.MISSING: 1}
    [listed] = report.problems
    assert (listed.source.path, listed.destination.path) == (names[position], names[position])
    assert listed.reason.endswith("'migrate-storage run --from old --to new --recheck' copies it again")
    assert world.run(recheck=True).exit_code == 0
    assert revert(world).exit_code == 0
    assert world.check(backend="old") == 3
