"""What breaks half-way for good: the run stops by itself, nothing is half done, and mended it goes on."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend

from migrate_storage import ObstoreBackend
from migrate_storage.core.events import BytesTransferred, Event
from migrate_storage.core.model import OutcomeKind
from migrate_storage.jobs.run.job import RunJob
from migrate_storage.jobs.run.options import RunOptions
from migrate_storage.reporting import Report
from tests.support.engine.world import Document, World
from tests.support.fault_proxy import Fault, fault_proxy
from tests.support.recipes import RECIPES, S3_SECRET
from tests.support.servers import S3Server, start_rclone
from tests.support.services import launch, launched

NOTHING_WORKS = "objects in a row failed for a reason that concerns all"


def on_disk(tmp_path: Path) -> FSSpecBackend:
    (tmp_path / "old").mkdir()
    return FSSpecBackend(key="old", fs="file", prefix=str(tmp_path / "old"), auto_mkdir=True)


def documents(world: World, count: int, size: int = 100) -> None:
    files = [world.file(f"docs/f{i:03}", world.random.randbytes(size)) for i in range(count)]
    world.add(*(Document(title=str(i), file=file) for i, file in enumerate(files)))


def half_way(world: World, break_it: Callable[[], None], **options: object) -> Report:
    """Run, and break something once 20 objects were read."""
    read = 0

    def listener(event: Event) -> None:
        nonlocal read
        if isinstance(event, BytesTransferred):
            read += 1
            if read == 20:
                break_it()

    given = {
        "source": "old",
        "destination": "new",
        "settle_time": 0.1,
        "concurrency": 8,
        "max_attempts": 2,
        "batch_size": 40,
    }
    return RunJob(world.application, RunOptions(**{**given, **options}), listener).run()


def assert_stopped_and_sound(world: World, report: Report, count: int) -> None:
    assert (report.state, report.exit_code) == ("failed", 3), report
    assert report.problem_count < 80, "it stops rather than fail every object"
    assert sum(report.counts.values()) < count
    moved = sum(value["backend"] == "new" for value in world.raw())
    assert moved == report.rows_repointed < count


def test_a_service_that_dies(tmp_path: Path, sqlite_url: str) -> None:
    with start_rclone(tmp_path / "s3") as server:
        bucket = server.new_bucket()
        new = ObstoreBackend(key="new", fs=f"s3://{bucket}/", **server.options())
        world = World(sqlite_url, on_disk(tmp_path), new)
        documents(world, 300)
        report = half_way(world, server.service.kill)
        assert_stopped_and_sound(world, report, 300)
        assert NOTHING_WORKS in report.error
        with launched("rclone", tmp_path / "s3", port=server.service.port):
            assert world.check() == 300
            assert world.run().exit_code == 0
            assert world.check(backend="new") == 300


def test_credentials_that_end_half_way_and_are_renewed(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = RECIPES["rclone"]
    renewed = "renewed-secret-0123456789"
    monkeypatch.setitem(
        RECIPES,
        "renewed",
        replace(
            recipe,
            command=lambda directory, port: [
                part.replace(S3_SECRET, renewed) for part in recipe.command(directory, port)
            ],
        ),
    )
    with start_rclone(tmp_path / "s3") as server:
        bucket = server.new_bucket()
        started = []

        def renew() -> None:
            server.service.kill()
            started.append(launch("renewed", tmp_path / "s3", port=server.service.port))

        try:
            world = World(
                sqlite_url, on_disk(tmp_path), ObstoreBackend(key="new", fs=f"s3://{bucket}/", **server.options())
            )
            documents(world, 300)
            report = half_way(world, renew, max_attempts=6)
            assert_stopped_and_sound(world, report, 300)
            assert NOTHING_WORKS in report.error
            assert S3_SECRET not in report.error
            later = replace(server, secret=renewed)
            world.new = ObstoreBackend(key="new", fs=f"s3://{bucket}/", **later.options())
            World.__post_init__(world)
            assert world.check() == 300
            assert world.run().exit_code == 0
            assert world.check(backend="new") == 300
        finally:
            for service in started:
                service.stop()


def drop(server: S3Server, bucket: str) -> None:
    """Delete a bucket into which other threads write: one that is not empty is emptied again."""
    while True:
        for page in server.client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for each in page.get("Contents", ()):
                server.client.delete_object(Bucket=bucket, Key=each["Key"])
        try:
            server.client.delete_bucket(Bucket=bucket)
        except server.client.exceptions.ClientError as error:
            if error.response["Error"]["Code"] != "BucketNotEmpty":
                raise
        else:
            return


def test_a_destination_bucket_that_disappears(tmp_path: Path, sqlite_url: str, moto_s3: S3Server) -> None:
    bucket = moto_s3.new_bucket()
    new = ObstoreBackend(key="new", fs=f"s3://{bucket}/", **moto_s3.options())
    world = World(sqlite_url, on_disk(tmp_path), new)
    documents(world, 300)
    report = half_way(world, lambda: drop(moto_s3, bucket))
    assert_stopped_and_sound(world, report, 300)
    assert "bucket" in report.error.lower()
    # What was re-pointed before went with the bucket; everything else is whole.
    lost = {value["filename"] for value in world.raw() if value["backend"] == "new"}
    moto_s3.client.create_bucket(Bucket=bucket)
    assert world.run().exit_code == 0
    for file in world.files():
        if file.filename not in lost:
            assert (file.backend.key, file.get_content()) == ("new", world.contents[file.filename])
    assert len(lost) < 50


def test_a_source_bucket_that_disappears(tmp_path: Path, sqlite_url: str, moto_s3: S3Server) -> None:
    """It must not look like so many missing objects."""
    bucket = moto_s3.new_bucket()
    old = FSSpecBackend(key="old", fs=moto_s3.fs(), prefix=bucket)
    world = World(sqlite_url, old, ObstoreBackend(key="new", fs=tmp_path / "new"))
    files = world.files_at_once([f"docs/f{i:03}" for i in range(120)])
    world.add(*(Document(title=str(i), file=file) for i, file in enumerate(files)))
    report = half_way(world, lambda: drop(moto_s3, bucket))
    assert_stopped_and_sound(world, report, 120)
    assert "bucket" in report.error.lower()
    assert report.counts.get(OutcomeKind.MISSING, 0) <= 8, "those that were under way"


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["obstore", "fsspec"])
def test_a_disk_without_room_stops_the_run_at_the_first_object(tmp_path: Path, sqlite_url: str, kind: str) -> None:
    """Few objects are enough: no other one would fit either. It wants root, for a small disk."""
    (tmp_path / "new").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "small", str(tmp_path / "new")], check=True)
    try:
        new = ObstoreBackend(key="new", fs=tmp_path / "new")
        if kind == "fsspec":
            new = FSSpecBackend(key="new", fs="file", prefix=str(tmp_path / "new"), auto_mkdir=True)
        world = World(sqlite_url, on_disk(tmp_path), new)
        documents(world, 12, size=30_000)
        report = world.run(concurrency=1, lease_ttl=1)
        assert (report.state, report.exit_code) == ("failed", 3), report
        assert "an object failed for a reason that concerns all" in report.error
        assert "No space left" in report.error
        assert report.problem_count <= 1
        subprocess.run(["mount", "-o", "remount,size=2m", str(tmp_path / "new")], check=True)
        assert world.run(lease_ttl=1).exit_code == 0
        assert world.check(backend="new") == 12
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path / "new")], check=True)


def test_a_disk_that_runs_full(tmp_path: Path, sqlite_url: str, small_disk: Callable[[int | None], None]) -> None:
    world = World(sqlite_url, on_disk(tmp_path), ObstoreBackend(key="new", fs=tmp_path / "new"))
    documents(world, 120, size=600_000)
    report = half_way(world, lambda: small_disk(500_000))
    small_disk(None)
    assert_stopped_and_sound(world, report, 120)
    assert "too large" in report.error
    held = [path for path in (tmp_path / "new").rglob("*") if path.is_file()]
    assert all(path.stat().st_size == 600_000 for path in held), "nothing stands there half"
    assert world.check() == 120
    assert world.run().exit_code == 0
    assert world.check(backend="new") == 120


def test_attempts_are_bounded(tmp_path: Path, sqlite_url: str, rclone_s3: S3Server) -> None:
    bucket = rclone_s3.new_bucket()
    with fault_proxy(rclone_s3.service.port, seed=1, only="^PUT .*/docs/", in_a_row=10**6) as proxy:
        new = ObstoreBackend(key="new", fs=f"s3://{bucket}/", **rclone_s3.behind(proxy.endpoint).options())
        world = World(sqlite_url, on_disk(tmp_path), new)
        documents(world, 2)
        proxy.set(reset=1.0)
        report = world.run(max_attempts=3)
        assert proxy.counts[Fault.RESET] == 6, "two objects, three attempts each"
        assert (report.exit_code, report.counts) == (1, {OutcomeKind.FAILED: 2})
        proxy.set()
        assert world.run().exit_code == 0
        assert world.check(backend="new") == 2


def test_a_streamed_body_is_read_again_and_not_replayed(tmp_path: Path, sqlite_url: str, rclone_s3: S3Server) -> None:
    """Parts of a large upload are cut: each attempt reads the source from its beginning."""
    source, bucket = rclone_s3.new_bucket(), rclone_s3.new_bucket()
    old = FSSpecBackend(key="old", fs=rclone_s3.fs(), prefix=source)
    content = bytes(range(256)) * (100 * 1024)
    with fault_proxy(rclone_s3.service.port, seed=5, only="^PUT .*docs.*partNumber", in_a_row=1) as proxy:
        new = ObstoreBackend(key="new", fs=f"s3://{bucket}/", **rclone_s3.behind(proxy.endpoint).options())
        world = World(sqlite_url, old, new)
        world.add(Document(title="large", file=world.file("docs/large", content)))
        proxy.set(cut_request=1.0)
        with ThreadPoolExecutor(1) as pool:
            run = pool.submit(world.run, max_attempts=20)
            while not proxy.counts and not run.done():
                time.sleep(0.01)
            proxy.set()
            report = run.result()
        assert report.exit_code == 0, report
        assert proxy.counts[Fault.CUT_REQUEST] >= 1
        assert report.bytes_copied > len(content), "a second attempt read the source again"
        assert world.check(backend="new") == 1
