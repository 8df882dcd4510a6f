"""Whether two keys reach one place is proved through the filesystem that the application uses, before anything changes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import obstore
import pytest
import s3fs
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend
from fsspec.implementations.local import LocalFileSystem

from migrate_storage import ObstoreBackend
from migrate_storage.core.errors import ConfigurationError, PreflightError
from migrate_storage.core.model import OutcomeKind, Strategy
from migrate_storage.engine.probe import SCRATCH
from migrate_storage.jobs.purge.job import PurgeJob
from migrate_storage.jobs.purge.rules import PurgeOptions
from tests.support.alias_shim import AliasShim, alias_shim
from tests.support.engine import registrations as places
from tests.support.engine.world import World


def keys(store: Any) -> set[str]:
    return {meta["path"] for page in obstore.list(store) for meta in page}


def refused(world: World, says: str, **options: Any) -> None:
    before = world.dump()
    with pytest.raises(PreflightError, match=says):
        world.run(**options)
    assert world.dump() == before


def write_profile(folder: Path, server: Any, endpoint: str) -> None:
    """Write a profile with a server's keys and this endpoint."""
    keys = f"aws_access_key_id = {server.key}\naws_secret_access_key = {server.secret}"
    (folder / "credentials").write_text(f"[p]\n{keys}\nregion = us-east-1\nendpoint_url = {endpoint}\n")


def profiled(folder: Path, monkeypatch: pytest.MonkeyPatch, live: Any, named: str, bucket: str) -> FSSpecBackend:
    """A source that has connected to one server, and whose profile names another one since."""
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(folder / "config"))
    write_profile(folder, live, live.endpoint)
    fs = s3fs.S3FileSystem(profile="p", skip_instance_cache=True)
    fs.connect()
    write_profile(folder, live, named)
    return FSSpecBackend(key="old", fs=fs, prefix=bucket)


@pytest.fixture
def two_endpoints(rclone_s3, moto_s3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A source whose files are at rclone, though its profile names moto by now."""
    bucket = rclone_s3.new_bucket()
    moto_s3.client.create_bucket(Bucket=bucket)
    return bucket, profiled(tmp_path, monkeypatch, rclone_s3, moto_s3.endpoint, bucket)


@pytest.mark.parametrize("stands", ["other bytes", "nothing"])
def test_a_profile_that_leads_elsewhere(
    two_endpoints: Any, moto_s3, tmp_path: Path, sqlite_url: str, stands: str
) -> None:
    bucket, old = two_endpoints
    world = World(sqlite_url, old, places.new_s3(moto_s3, bucket).build())
    world.fill(3)
    if stands == "other bytes":
        for name, content in world.contents.items():
            moto_s3.client.put_object(Bucket=bucket, Key=name, Body=content[::-1] + b"!")
    refused(world, "the filesystem of 'old' reaches other storage than its options name")
    refused(world, "reaches other storage", destination=None)
    refused(world, "reaches other storage", dry_run=True)
    world.new = places.new_local(tmp_path / "new").build()
    refused(world, "reaches other storage")
    assert world.check(backend="old") == 3


@pytest.mark.parametrize("occupied", [True, False])
def test_a_profile_in_both_files(
    rclone_s3, moto_s3, tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch, occupied: bool
) -> None:
    """botocore takes the endpoint of the credentials file: the other file names the destination, with a bucket of the same name."""
    bucket = rclone_s3.new_bucket()
    moto_s3.client.create_bucket(Bucket=bucket)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    write_profile(tmp_path, rclone_s3, rclone_s3.endpoint)
    (tmp_path / "config").write_text(f"[profile p]\nregion = us-east-1\nendpoint_url = {moto_s3.endpoint}\n")
    old = FSSpecBackend(key="old", fs=s3fs.S3FileSystem(profile="p", skip_instance_cache=True), prefix=bucket)
    world = World(sqlite_url, old, places.new_s3(moto_s3, bucket).build())
    world.fill(3)
    if occupied:
        for name, content in world.contents.items():
            moto_s3.client.put_object(Bucket=bucket, Key=name, Body=content[::-1] + b"!")
    report = world.run()
    assert bool(report.exit_code) is occupied
    assert world.check(backend="old" if occupied else "new") == 3


class Jailed(LocalFileSystem):
    """Keeps all files below a folder of its own, which no option names."""

    jail = ""

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        plain = LocalFileSystem._strip_protocol(path)
        return plain if isinstance(plain, list) or plain.startswith(cls.jail) else f"{cls.jail}{plain}"


def test_a_disk_that_keeps_its_files_elsewhere(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Jailed, "jail", str(tmp_path / "jail"))
    (tmp_path / "data").mkdir()
    old = FSSpecBackend(key="old", fs=Jailed(auto_mkdir=True, skip_instance_cache=True), prefix=str(tmp_path / "data"))
    world = World(sqlite_url, old, places.new_local(tmp_path / "data").build())
    world.fill(3)
    refused(world, "nothing shows that obstore reaches the storage")
    refused(world, "nothing shows that obstore reaches the storage", destination=None)
    for name in world.contents:
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_bytes(b"other bytes")
    refused(world, "nothing shows that obstore reaches the storage")
    assert world.check(backend="old") == 3


@pytest.fixture
def alias(moto_s3) -> Iterator[tuple[str, AliasShim]]:
    """A bucket, and a service that shows it under a second name too."""
    bucket = moto_s3.new_bucket()
    with alias_shim(moto_s3.service.port, alias=f"{bucket}-alias", bucket=bucket) as shim:
        yield bucket, shim


def test_two_names_of_one_bucket_are_found_out(alias: tuple[str, AliasShim], moto_s3, sqlite_url: str) -> None:
    bucket, shim = alias
    new = places.new_s3(moto_s3.behind(shim.endpoint), f"{bucket}-alias").build()
    world = World(sqlite_url, places.old_s3(moto_s3, bucket).build(), new)
    world.fill(3)
    refused(world, "one storage reached in two ways")
    assert keys(moto_s3.store(bucket)) == set(world.contents)


def test_a_second_name_that_leads_below_a_prefix(moto_s3, sqlite_url: str) -> None:
    bucket = moto_s3.new_bucket()
    with alias_shim(moto_s3.service.port, alias=f"{bucket}-alias", bucket=f"{bucket}/media") as shim:
        new = places.new_s3(moto_s3.behind(shim.endpoint), f"{bucket}-alias").build()
        world = World(sqlite_url, places.old_s3(moto_s3, f"{bucket}/media").build(), new)
        world.fill(2)
        refused(world, "one storage reached in two ways")


def test_a_purge_proves_again_that_there_are_two_places(
    alias: tuple[str, AliasShim], moto_s3, rclone_s3, sqlite_url: str
) -> None:
    """After the run the name of the destination leads to the source: what is deleted there is the only copy."""
    bucket, shim = alias
    moto_s3.client.create_bucket(Bucket=f"{bucket}-alias")
    new = places.new_s3(moto_s3, f"{bucket}-alias").build()
    world = World(sqlite_url, places.old_s3(moto_s3, bucket).build(), new)
    world.fill(3)
    assert world.run().exit_code == 0
    world.new = places.new_s3(moto_s3.behind(shim.endpoint), f"{bucket}-alias").build()
    with pytest.raises(ConfigurationError, match="one storage reached in two ways"):
        PurgeJob(world.application, PurgeOptions(older_than=0.0, yes=True)).run()
    assert keys(moto_s3.store(bucket)) == set(world.contents)


@pytest.mark.parametrize("prefix", ["", "/media"])
def test_a_purge_proves_that_the_destination_does_not_fetch_from_the_source(
    moto_s3, sqlite_url: str, prefix: str
) -> None:
    """A bucket that finds in the source what it lacks shows each object as equal, and keeps none."""
    here, there = moto_s3.new_bucket(), moto_s3.new_bucket()
    with alias_shim(moto_s3.service.port) as shim:
        shim.fallback[there] = here
        new = places.new_s3(moto_s3.behind(shim.endpoint), f"{there}{prefix}").build()
        world = World(sqlite_url, places.old_s3(moto_s3, f"{here}{prefix}").build(), new)
        world.fill(3)
        assert world.run().exit_code == 0
        assert not keys(moto_s3.store(there))
        purge = PurgeJob(world.application, PurgeOptions(older_than=0.0, yes=True))
        with pytest.raises(ConfigurationError, match="fetches what it lacks from there"):
            purge.run()
        assert world.check(backend="new") == 3
        shim.fallback.clear()
        assert world.run(recheck=True).exit_code == 0
        report = PurgeJob(world.application, PurgeOptions(older_than=0.0, yes=True)).run()
        assert (report.exit_code, report.counts) == (0, {OutcomeKind.DELETED: 3})
        assert world.check(backend="new") == 3
    assert not keys(moto_s3.store(here))


@pytest.mark.parametrize("whole", [True, False])
def test_a_purge_leaves_no_probe_object_at_the_source(moto_s3, tmp_path: Path, sqlite_url: str, whole: bool) -> None:
    bucket = moto_s3.new_bucket()
    old = places.old_s3(moto_s3, None) if whole else places.old_local(tmp_path / "old")
    world = World(sqlite_url, old.build(), places.new_s3(moto_s3, moto_s3.new_bucket()).build())
    world.fill(2, prefix=f"{bucket}/" if whole else "")
    assert world.run().exit_code == 0
    report = PurgeJob(world.application, PurgeOptions(older_than=0.0, yes=True)).run()
    assert (report.exit_code, report.counts) == (0, {OutcomeKind.DELETED: 2})
    assert not keys(moto_s3.store(bucket))
    assert not whole or not [path for path in tmp_path.glob("old/**/*") if path.is_file()]
    assert world.check(backend="new") == 2


def test_a_rekey_where_nothing_may_be_written_compares_each_object(moto_s3, sqlite_url: str) -> None:
    bucket = moto_s3.new_bucket()
    with alias_shim(moto_s3.service.port, read_only=True) as shim:
        server = moto_s3.behind(shim.endpoint)
        world = World(sqlite_url, places.old_s3(moto_s3, bucket).build(), places.new_s3(moto_s3, bucket).build())
        world.fill(4)
        world.old, world.new = places.old_s3(server, bucket).build(), places.new_s3(server, bucket).build()
        report = world.run()
        assert (report.strategy, report.exit_code) == (Strategy.REKEY, 0), report
        assert report.verified_by == {"same_object": 4}
        assert world.check(backend="new") == 4


def test_a_replica_is_not_the_same_place_where_nothing_may_be_written(
    moto_s3, tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same names, the same bytes, but other objects: their dates show that."""
    bucket, replica = moto_s3.new_bucket(), moto_s3.new_bucket()
    port = moto_s3.service.port
    with (
        alias_shim(port, alias=bucket, bucket=replica, read_only=True) as live,
        alias_shim(port, read_only=True) as named,
    ):
        world = World(sqlite_url, places.old_s3(moto_s3, bucket).build(), places.new_s3(moto_s3, bucket).build())
        world.fill(1)
        [(name, content)] = world.contents.items()
        date = moto_s3.client.head_object(Bucket=bucket, Key=name)["LastModified"]
        while True:
            moto_s3.client.put_object(Bucket=replica, Key=name, Body=content)
            if moto_s3.client.head_object(Bucket=replica, Key=name)["LastModified"] != date:
                break
        world.old = profiled(tmp_path, monkeypatch, moto_s3.behind(live.endpoint), named.endpoint, bucket)
        world.new = places.new_s3(moto_s3.behind(named.endpoint), bucket).build()
        for destination in ("new", None):
            report = world.run(destination=destination)
            assert report.counts == {OutcomeKind.MISMATCH: 1}
            assert "another tag, date or version" in report.problems[0].reason
        assert world.check(backend="old") == 1


@pytest.mark.parametrize("destination", ["new", None])
def test_a_dry_run_writes_nothing_and_says_that_the_proof_is_still_to_be_made(
    moto_s3, sqlite_url: str, destination: str | None
) -> None:
    bucket = moto_s3.new_bucket()
    with alias_shim(moto_s3.service.port) as shim:
        server = moto_s3.behind(shim.endpoint)
        world = World(sqlite_url, places.old_s3(moto_s3, bucket).build(), places.new_s3(server, bucket).build())
        world.fill(2)
        world.old = places.old_s3(server, bucket).build()
        report = world.run(destination=destination, dry_run=True)
        assert shim.puts == 0
        assert "place.unproved" in {note.code for note in report.notes}
        assert report.exit_code == 0


def test_the_scratch_objects_of_a_swap_are_removed(moto_s3, tmp_path: Path, sqlite_url: str) -> None:
    bucket = moto_s3.new_bucket()
    for old in (places.old_s3(moto_s3, bucket), places.old_s3(moto_s3, None), places.old_local(tmp_path / "d")):
        prefix = f"{bucket}/" if old.prefix is None else ""
        with contextlib.closing(World(sqlite_url, old.build(), ObstoreBackend("new", "memory://"))) as world:
            world.sql("DELETE FROM documents")
            world.fill(2, prefix=prefix)
            assert world.run(destination=None).exit_code == 0
    assert not [key for key in keys(moto_s3.store(bucket)) if SCRATCH in key]
    assert not list((tmp_path / "d").glob(f"{SCRATCH}*"))
