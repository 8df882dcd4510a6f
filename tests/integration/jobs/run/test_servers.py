"""Rows leave fsspec for obstore on real servers and real databases, at full size in the soak."""

from __future__ import annotations

import time
from collections.abc import Callable

import obstore
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from migrate_storage.core.model import OutcomeKind, Strategy
from tests.support.engine import registrations as places
from tests.support.engine.world import World
from tests.support.evidence import Evidence


def carried_over(world: World, store: obstore.store.ObjectStore, *, types: bool = True) -> None:
    """The destination holds each file of the documents with its row's content type; the row has what it holds."""
    tags = 0
    for value in world.raw():
        name = value["metadata"]["name"]
        held = obstore.get(store, value["filename"], options={"head": True})
        content = world.contents[name]
        if types:
            assert held.attributes["Content-Type"] == value["content_type"] == world.types[name]
        assert value["backend"] == "new"
        assert value["filename"] == name
        assert value["size"] == held.meta["size"] == len(content)
        # A HEAD of rclone's server leaves the ETag out while it computes the digest; then the row has none.
        assert value["etag"] in (None, (held.meta["e_tag"] or "").strip('"'))
        tags += value["etag"] is not None
        assert value["last_modified"] == pytest.approx(held.meta["last_modified"].timestamp())
        assert value["checksum"] == f"sha256:{_sha256(content)}"
        assert value["metadata"] == {"name": name}
    assert tags > 0.9 * len(world.contents)


def _sha256(content: bytes) -> str:
    import hashlib

    return hashlib.sha256(content).hexdigest()


def moved(world: World, documents: int, evidence: Evidence, what: str) -> None:
    world.fill(documents)
    began = time.monotonic()
    report = world.run()
    seconds = time.monotonic() - began
    assert (report.state, report.strategy, report.exit_code) == ("completed", Strategy.MOVE, 0), report
    assert report.counts == {OutcomeKind.REPOINTED: documents}
    assert (report.rows_repointed, report.rows_remaining, report.problem_count) == (documents, 0, 0)
    assert report.bytes_copied >= sum(map(len, world.contents.values())), "a request may be sent twice"
    assert world.check(backend="new") == documents
    evidence.record(
        what, rows=documents, objects=documents, verified=dict(report.verified_by), seconds=round(seconds, 1),
        opened_through_the_orm=documents,
    )  # fmt: skip


@pytest.mark.parametrize("documents", [1000, pytest.param(10_000, marks=pytest.mark.soak)])
def test_s3fs_to_obstore_with_rows_in_postgresql(
    rclone_s3, postgres_url: str, seed: int, evidence: Evidence, documents: int
) -> None:
    bucket = rclone_s3.new_bucket()
    old, new = places.old_s3(rclone_s3.by_another_name, rclone_s3.new_bucket()), places.new_s3(rclone_s3, bucket)
    world = World(postgres_url, old.build(), new.build(), seed)
    moved(world, documents, evidence, "s3fs to obstore S3 on rclone, rows in PostgreSQL")
    carried_over(world, rclone_s3.store(bucket))
    world.close()


@pytest.mark.parametrize("documents", [100, pytest.param(1000, marks=pytest.mark.soak)])
@pytest.mark.parametrize("database", ["mariadb", "sqlite"])
def test_s3fs_to_obstore_with_rows_elsewhere(
    rclone_s3, request: pytest.FixtureRequest, database: str, seed: int, evidence: Evidence, documents: int
) -> None:
    bucket = rclone_s3.new_bucket()
    old, new = places.old_s3(rclone_s3.by_another_name, rclone_s3.new_bucket()), places.new_s3(rclone_s3, bucket)
    world = World(request.getfixturevalue(f"{database}_url"), old.build(), new.build(), seed)
    moved(world, documents, evidence, f"s3fs to obstore S3 on rclone, rows in {database}")
    carried_over(world, rclone_s3.store(bucket))
    world.close()


def test_local_to_s3(rclone_s3, tmp_path, sqlite_url: str, seed: int, evidence: Evidence) -> None:
    bucket = rclone_s3.new_bucket()
    old, new = places.old_local(tmp_path / "old"), places.new_s3(rclone_s3, bucket)
    world = World(sqlite_url, old.build(), new.build(), seed)
    moved(world, 100, evidence, "local files to obstore S3 on rclone")
    carried_over(world, rclone_s3.store(bucket))


def test_s3_to_azurite(rclone_s3, azurite, sqlite_url: str, seed: int, evidence: Evidence) -> None:
    container = azurite.new_container()
    old, new = places.old_s3(rclone_s3, rclone_s3.new_bucket()), places.new_azure(azurite, container)
    world = World(sqlite_url, old.build(), new.build(), seed)
    moved(world, 60, evidence, "s3fs on rclone to obstore Azure on Azurite")
    carried_over(world, azurite.store(container))
    assert not [how for how in evidence_of(world) if "destination_digest" in how], "an Azure ETag is no hash"


def evidence_of(world: World) -> set[str]:
    return {str(entry.evidence) for entry in world.journal.values()}


def test_gcsfs_to_s3(gcs, rclone_s3, sqlite_url: str, seed: int, evidence: Evidence) -> None:
    bucket = rclone_s3.new_bucket()
    old, new = places.old_gcs(gcs, gcs.new_bucket()), places.new_s3(rclone_s3, bucket)
    world = World(sqlite_url, old.build(), new.build(), seed)
    moved(world, 60, evidence, "gcsfs on fake-gcs-server to obstore S3 on rclone")
    carried_over(world, rclone_s3.store(bucket))


DRIVERS: list[tuple[str, Callable[[str], str]]] = [
    ("postgres", lambda url: url.replace("+psycopg:", "+asyncpg:")),
    ("mariadb", lambda url: url.replace("+pymysql:", "+asyncmy:")),
    ("sqlite", lambda url: url.replace("sqlite:", "sqlite+aiosqlite:")),
]


@pytest.mark.parametrize(("database", "async_url"), DRIVERS, ids=[name for name, _ in DRIVERS])
def test_an_async_engine_is_taken_as_it_is(
    tmp_path, request: pytest.FixtureRequest, database: str, async_url: Callable[[str], str], seed: int
) -> None:
    url = request.getfixturevalue(f"{database}_url")
    world = World(url, places.old_local(tmp_path / "old").build(), places.new_local(tmp_path / "new").build(), seed)
    world.fill(30, 8, 9)
    world.sql("UPDATE documents SET updated_at = '2020-02-02 02:02:02'")
    world.other_engine = create_async_engine(async_url(url))
    report = world.run()
    assert (report.state, report.exit_code, report.rows_remaining) == ("completed", 0, 0), report
    assert world.check(backend="new") == 30 + sum(i % 4 for i in range(8)) + 3 + 4
    assert world.sql("SELECT count(*) FROM documents WHERE updated_at <> '2020-02-02 02:02:02'") == [(0,)]
    world.close()


def test_the_rows_keep_what_the_store_does_not_know(rclone_s3, sqlite_url: str, seed: int) -> None:
    """Content type, metadata, keys of somebody else, and their order; the source's own headers win over the row's."""
    source, bucket = rclone_s3.new_bucket(), rclone_s3.new_bucket()
    world = World(
        sqlite_url,
        places.old_s3(rclone_s3.by_another_name, source).build(),
        places.new_s3(rclone_s3, bucket).build(),
        seed,
    )
    world.fill(2)
    obstore.put(
        rclone_s3.store(source), "docs/1/d1.bin", b"x", attributes={"Content-Type": "image/webp", "owner": "me"}
    )
    [(before,)] = world.sql("SELECT file FROM documents WHERE id = 1")
    odd = before[:-1] + ', "zzz": [1, {"a": 1.5}], "\\u00fc": "\\ud83c\\udf88", "big": 12345678901234567890123}'
    world.sql("UPDATE documents SET file = :v WHERE id = 1", v=odd)
    assert world.run().exit_code == 0
    first, second = world.raw()
    assert first["zzz"] == [1, {"a": 1.5}]
    assert first["ü"] == "🎈"
    assert first["big"] == 12345678901234567890123
    assert list(first)[-3:] == ["zzz", "ü", "big"]
    held = obstore.get(rclone_s3.store(bucket), second["filename"], options={"head": True}).attributes
    assert (held["Content-Type"], held["owner"]) == ("image/webp", "me")
    assert second["content_type"] == world.types["docs/1/d1.bin"]
