"""The four ways to leave, each on a server, and each told with its reason."""

from __future__ import annotations

from typing import Any

import fsspec
import obstore
import pytest
from advanced_alchemy.types.file_object import storages
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend

from migrate_storage import ObstoreBackend
from migrate_storage.core.events import RunStarted
from migrate_storage.core.model import OutcomeKind, Strategy
from migrate_storage.core.proofs import SERVER_SIDE_COPY
from migrate_storage.reporting import Report, render
from tests.support.engine import registrations as places
from tests.support.engine.world import World


def keys(store: Any) -> set[str]:
    return {meta["path"] for page in obstore.list(store) for meta in page}


def rows(world: World) -> dict[str, Any]:
    return {table: rows for table, rows in world.dump().items() if not table.startswith("migrate_storage_")}


def told(world: World, report: Report, strategy: Strategy, reason: str) -> None:
    """The way and its reason are in the first event, in the report, and in what a person reads."""
    [started] = [event for event in world.events if isinstance(event, RunStarted)]
    assert (started.strategy, report.strategy) == (strategy, strategy)
    assert reason in started.reason
    assert report.strategy_reason == started.reason
    assert strategy.words in render(report)
    assert reason in " ".join(render(report).split())


def test_swap_with_the_pair_of_the_guide(rclone_s3, sqlite_url: str) -> None:
    """Before: FSSpecBackend over s3fs with the bucket as prefix. After: ObstoreBackend over its URL, same key."""
    bucket = rclone_s3.new_bucket()
    before = FSSpecBackend(key="s3", fs=fsspec.filesystem("s3", **rclone_s3.fs_options()), prefix=bucket)
    after = ObstoreBackend(
        key="s3", fs=f"s3://{bucket}/", aws_endpoint=rclone_s3.endpoint, aws_access_key_id=rclone_s3.key,
        aws_secret_access_key=rclone_s3.secret, aws_region=rclone_s3.region, aws_allow_http=True,
    )  # fmt: skip
    world = World(sqlite_url, before, ObstoreBackend(key="unused", fs="memory://"))
    world.fill(20, 6, 10)
    stands, objects = rows(world), keys(rclone_s3.store(bucket))
    report = world.run(destination=None)
    assert (report.state, report.exit_code, report.bytes_copied, report.rows_repointed) == ("completed", 0, 0, 0), (
        report
    )
    assert report.counts == {OutcomeKind.UNCHANGED: len(world.contents)}
    assert rows(world) == stands
    assert keys(rclone_s3.store(bucket)) == objects
    told(world, report, Strategy.IN_PLACE, "every row is opened through both registrations and compared")
    storages.register_backend(after)
    assert world.check(backend="s3") == 20 + sum(i % 4 for i in range(6)) + 4 + 5
    assert all(file.backend is after for file in world.files())


def test_swap_lists_what_the_rows_name_and_the_store_lacks(rclone_s3, sqlite_url: str) -> None:
    bucket = rclone_s3.new_bucket()
    old = places.old_s3(rclone_s3, bucket, key="s3").build()
    world = World(sqlite_url, old, ObstoreBackend(key="unused", fs="memory://"))
    world.fill(4)
    world.old.delete_object("docs/2/d2.bin")
    report = world.run(destination=None)
    assert (report.exit_code, report.counts) == (1, {OutcomeKind.UNCHANGED: 3, OutcomeKind.MISSING: 1})
    assert [outcome.source.path for outcome in report.problems] == ["docs/2/d2.bin"]


def test_rekey_takes_the_bucket_out_of_the_filename(rclone_s3, postgres_url: str) -> None:
    """Without a prefix the filename is bucket/key: obstore is one bucket a store."""
    bucket, other = rclone_s3.new_bucket(), rclone_s3.new_bucket()
    world = World(postgres_url, places.old_s3(rclone_s3, None).build(), places.new_s3(rclone_s3, bucket).build())
    world.fill(12, 4, prefix=f"{bucket}/")
    objects = keys(rclone_s3.store(bucket))
    report = world.run()
    assert (report.exit_code, report.rows_remaining, report.bytes_copied) == (0, 0, 0), report
    assert {value["filename"] for value in world.raw()} == {f"docs/{i % 7}/d{i}.bin" for i in range(12)}
    assert keys(rclone_s3.store(bucket)) == objects
    assert world.check(backend="new") == 12 + 6
    told(world, report, Strategy.REKEY, "both keys reach the same storage")
    assert {entry.written_by_us for entry in world.journal.values()} == {False}
    assert not keys(rclone_s3.store(other))


def test_rekey_copies_what_is_in_another_bucket(rclone_s3, sqlite_url: str) -> None:
    """One s3fs backend may hold many buckets: what already is in the destination stays, the rest comes to it."""
    bucket, other = rclone_s3.new_bucket(), rclone_s3.new_bucket()
    world = World(sqlite_url, places.old_s3(rclone_s3, None).build(), places.new_s3(rclone_s3, bucket).build())
    world.fill(6, prefix=f"{bucket}/")
    world.sql("UPDATE documents SET id = id + 100")
    world.fill(0, 4, prefix=f"{other}/")
    report = world.run()
    assert (report.exit_code, report.rows_remaining, report.bytes_copied) == (0, 0, 0), report
    assert report.verified_by == {"same_object": 6, SERVER_SIDE_COPY: 6}
    assert world.check(backend="new") == 6 + 6
    assert {"docs/0/d0.bin", "albums/3/2.png"} <= keys(rclone_s3.store(bucket))


def test_two_sources_never_become_one_object(rclone_s3, sqlite_url: str) -> None:
    one, two, bucket = (rclone_s3.new_bucket() for _ in range(3))
    world = World(sqlite_url, places.old_s3(rclone_s3, None).build(), places.new_s3(rclone_s3, bucket).build())
    world.fill(3, prefix=f"{one}/")
    world.sql("UPDATE documents SET id = id + 100")
    world.fill(3, prefix=f"{two}/")
    report = world.run(batch_size=2)
    assert (report.exit_code, report.rows_remaining) == (1, 3)
    assert report.counts == {OutcomeKind.REPOINTED: 3, OutcomeKind.DESTINATION_EXISTS: 3}
    assert all("another source object goes to" in outcome.reason for outcome in report.problems)
    assert world.check() == 6
    again = world.run()
    assert (again.counts, again.rows_remaining) == ({OutcomeKind.DESTINATION_EXISTS: 3}, 3)
    assert world.check() == 6


@pytest.mark.parametrize("prefix", ["", "/media"])
def test_rekey_when_only_the_key_of_the_backend_changes(moto_s3, sqlite_url: str, prefix: str) -> None:
    bucket = moto_s3.new_bucket()
    world = World(
        sqlite_url, places.old_s3(moto_s3, bucket + prefix).build(), places.new_s3(moto_s3, bucket + prefix).build()
    )
    world.fill(5)
    report = world.run()
    assert (report.strategy, report.exit_code, report.bytes_copied) == (Strategy.REKEY, 0, 0), report
    assert world.check(backend="new") == 5
    first = world.raw()[0]
    assert (first["filename"], first["size"]) == ("docs/0/d0.bin", len(world.contents["docs/0/d0.bin"]))


def test_move(rclone_s3, moto_s3, sqlite_url: str) -> None:
    bucket = moto_s3.new_bucket()
    world = World(
        sqlite_url, places.old_s3(rclone_s3, rclone_s3.new_bucket()).build(), places.new_s3(moto_s3, bucket).build()
    )
    world.fill(10)
    report = world.run()
    assert report.exit_code == 0
    assert keys(moto_s3.store(bucket)) == set(world.contents), "nothing of the probes is left"
    told(world, report, Strategy.MOVE, "each object is copied and verified, then its rows are re-pointed")


def test_take_over_leaves_the_rows(rclone_s3, sqlite_url: str) -> None:
    bucket = rclone_s3.new_bucket()
    world = World(
        sqlite_url, places.old_s3(rclone_s3, rclone_s3.new_bucket()).build(), places.new_s3(rclone_s3, bucket).build()
    )
    world.fill(20, 6, 10)
    stands = rows(world)
    report = world.run(keep_rows=True)
    assert (report.state, report.exit_code, report.rows_repointed) == ("completed", 0, 0), report
    assert report.counts == {OutcomeKind.COPIED: len(world.contents)}
    assert rows(world) == stands
    told(world, report, Strategy.MIRROR, "--keep-rows is given")
    for name in world.contents:
        world.old.delete_object(name)
    storages.register_backend(places.new_s3(rclone_s3, bucket, key="old").build())
    assert world.check(backend="old") == 20 + sum(i % 4 for i in range(6)) + 4 + 5
