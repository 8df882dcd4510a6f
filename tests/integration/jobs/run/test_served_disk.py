"""A disk, and the S3 server that serves it, are one storage: a run between them is refused before anything is touched."""

from __future__ import annotations

from pathlib import Path

import pytest
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend

from migrate_storage import ObstoreBackend
from migrate_storage.core.errors import PreflightError
from tests.support.engine.world import World
from tests.support.servers import start_rclone


def test_a_served_disk_is_seen_by_the_probe(tmp_path: Path, sqlite_url: str) -> None:
    (tmp_path / "served" / "data" / "files").mkdir(parents=True)
    with start_rclone(tmp_path / "served") as server:
        old = FSSpecBackend(key="old", fs=server.fs(), prefix="files/app")
        world = World(sqlite_url, old, ObstoreBackend(key="new", fs=tmp_path / "served" / "data" / "files" / "app"))
        world.fill(3)
        with pytest.raises(PreflightError, match="one storage reached in two ways"):
            world.run()
        assert world.check(backend="old") == 3
        elsewhere = World(sqlite_url, old, ObstoreBackend(key="new", fs=tmp_path / "elsewhere"))
        elsewhere.contents, elsewhere.types = world.contents, world.types
        assert elsewhere.run().exit_code == 0
        assert elsewhere.check(backend="new") == 3


def test_a_disk_whose_server_is_the_destination(tmp_path: Path, sqlite_url: str) -> None:
    (tmp_path / "served" / "data" / "files").mkdir(parents=True)
    (tmp_path / "served" / "data" / "others").mkdir(parents=True)
    with start_rclone(tmp_path / "served") as server:
        old = FSSpecBackend(key="old", fs="file", prefix=str(tmp_path / "served" / "data" / "files"), auto_mkdir=True)
        world = World(sqlite_url, old, ObstoreBackend(key="new", fs="s3://files/", **server.options()))
        world.fill(3)
        with pytest.raises(PreflightError, match="one storage reached in two ways"):
            world.run()
        assert world.check(backend="old") == 3
        elsewhere = World(sqlite_url, old, ObstoreBackend(key="new", fs="s3://others/", **server.options()))
        elsewhere.contents, elsewhere.types = world.contents, world.types
        assert elsewhere.run().exit_code == 0
        assert elsewhere.check(backend="new") == 3


def test_a_disk_that_is_not_mounted_is_no_list_of_missing_files(tmp_path: Path, sqlite_url: str) -> None:
    old = FSSpecBackend(key="old", fs="file", prefix=str(tmp_path / "disk"), auto_mkdir=True)
    world = World(sqlite_url, old, ObstoreBackend(key="new", fs=tmp_path / "new"))
    world.fill(3)
    (tmp_path / "disk").rename(tmp_path / "unmounted")
    with pytest.raises(PreflightError, match="is its disk mounted"):
        world.run()
