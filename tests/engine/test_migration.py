"""The main job on every database, from fsspec to obstore, on real servers."""

from __future__ import annotations

from pathlib import Path

from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend

from migrate_storage import ObstoreBackend
from migrate_storage.model import OutcomeKind, Way
from tests.engine.world import World


def local(tmp_path: Path) -> tuple[FSSpecBackend, ObstoreBackend]:
    (tmp_path / "old").mkdir()
    old = FSSpecBackend(key="old", fs="file", prefix=str(tmp_path / "old"), auto_mkdir=True)
    return old, ObstoreBackend(key="new", fs=tmp_path / "new")


def test_local_to_local(tmp_path: Path, database_url: str) -> None:
    world = World(database_url, *local(tmp_path))
    world.fill(60, 20, 30)
    report = world.run()
    assert (report.state, report.way, report.exit_code) == ("finished", Way.MOVE, 0), report
    assert report.rows_left == 0
    assert report.counts == {OutcomeKind.REWRITTEN: len(world.contents)}
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
