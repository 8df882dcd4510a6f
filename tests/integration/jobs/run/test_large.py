"""Large objects move in bounded memory, and stop half-way without leaving parts behind."""

from __future__ import annotations

import hashlib
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import obstore
import pytest
import sqlalchemy as sa
from advanced_alchemy.types import FileObject
from sqlalchemy.orm import Session

from migrate_storage.core.events import BytesTransferred, Event
from migrate_storage.core.model import OutcomeKind
from migrate_storage.core.text import MiB
from migrate_storage.jobs.run.job import RunJob
from migrate_storage.jobs.run.options import RunOptions
from tests.support.engine import other_process as outside
from tests.support.engine import registrations as places
from tests.support.engine.world import Document, World
from tests.support.evidence import Evidence


def pieces(size: int, seed: int = 0) -> Iterator[bytes]:
    """Content of which no piece is like another."""
    for number in range(0, size, MiB):
        yield random.Random(f"{seed} {number}").randbytes(min(MiB, size - number))


def digest(content: Any) -> str:
    found = hashlib.sha256()
    for piece in content:
        found.update(piece)
    return found.hexdigest()


def saved(url: str, old: places.Registration, store: obstore.store.ObjectStore, name: str, size: int) -> None:
    """One row whose object was uploaded in parts of 5 MiB, as s3fs and obstore do by default."""
    obstore.put(store, name, pieces(size), use_multipart=True, chunk_size=5 * MiB)
    world = World(url, old.build(), obstore_memory())
    file = FileObject(backend="old", filename=name, content_type="video/mp4", metadata={"name": name}, size=size)
    with Session(world.engine) as session:
        session.add(Document(id=1, title="film", file=file))
        session.commit()
    world.close()


def obstore_memory() -> Any:
    return places.Registration(key="new", driver="obstore", fs="memory://").build()


def row(url: str) -> dict[str, Any]:
    import json

    with sa.create_engine(url).connect() as connection:
        value = connection.execute(sa.text("SELECT file FROM documents")).scalar_one()
    return json.loads(value) if isinstance(value, str) else value


@pytest.mark.slow
@pytest.mark.parametrize("source", ["s3", pytest.param("local", marks=pytest.mark.soak)])
def test_300_mb_in_less_than_200_mb(
    rclone_s3, tmp_path: Path, sqlite_url: str, source: str, evidence: Evidence
) -> None:
    size = 300 * 1000 * 1000
    bucket = rclone_s3.new_bucket()
    new = places.new_s3(rclone_s3, bucket)
    if source == "s3":
        held = rclone_s3.new_bucket()
        old, store = places.old_s3(rclone_s3, held), rclone_s3.store(held)
    else:
        old = places.old_local(tmp_path / "old")
        store = obstore.store.LocalStore(tmp_path / "old")
    saved(sqlite_url, old, store, "film.mp4", size)
    done = outside.run(sqlite_url, old, new)
    assert done.returncode == 0, done.stderr
    report, peak = outside.told(done, "report"), outside.told(done, "peak")["bytes"]
    assert (report["counts"], report["bytes_copied"]) == ({"repointed": 1}, size)
    assert peak < 200 * 1000 * 1000, f"{peak / 1e6:.0f} MB"
    moved = obstore.get(rclone_s3.store(bucket), "film.mp4")
    assert digest(moved.stream()) == digest(pieces(size))
    assert moved.attributes["Content-Type"] == "video/mp4"
    assert (row(sqlite_url)["backend"], row(sqlite_url)["size"]) == ("new", size)
    evidence.record(f"an object of 300 MB moved from {source} to S3", bytes=size, peak_bytes=peak)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_in_the_middle(moto_s3, sqlite_url: str, number: signal.Signals) -> None:
    """The upload is aborted, the row stays, and the same command goes on."""
    size = 24 * MiB
    source, bucket = moto_s3.new_bucket(), moto_s3.new_bucket()
    old, new = places.old_s3(moto_s3, source), places.new_s3(moto_s3, bucket)
    saved(sqlite_url, old, moto_s3.store(source), "film.mp4", size)
    done = outside.run(sqlite_url, old, new, signal=number, steps=12, of="body")
    assert done.returncode == 128 + number, done.stderr
    report = outside.told(done, "report")
    assert (report["state"], report["rows_remaining"], report["counts"]) == ("interrupted", 1, {})
    assert 0 < report["bytes_copied"] < size
    assert "run --from old --to new" in report["next_command"]
    assert not moto_s3.client.list_multipart_uploads(Bucket=bucket).get("Uploads")
    assert not list(obstore.list(moto_s3.store(bucket)).collect())
    assert row(sqlite_url)["backend"] == "old"
    done = outside.run(sqlite_url, old, new)
    assert done.returncode == 0, done.stderr
    assert outside.told(done, "report")["resumed"]
    assert digest(obstore.get(moto_s3.store(bucket), "film.mp4").stream()) == digest(pieces(size))


def test_small_objects_in_flight_finish_when_it_is_stopped(world: World) -> None:
    """In Python: what was begun is carried to its end and its rows re-pointed, nothing else is begun."""
    world.fill(300)
    migration: RunJob

    def listener(event: Event) -> None:
        if isinstance(event, BytesTransferred):
            migration.stop()

    migration = RunJob(
        world.application, RunOptions(source="old", destination="new", concurrency=4, batch_size=20), listener
    )
    report = migration.run()
    assert (report.state, report.exit_code) == ("interrupted", 130)
    assert 0 < report.rows_repointed < 300
    assert report.rows_remaining == 300 - report.rows_repointed
    assert report.counts == {OutcomeKind.REPOINTED: report.rows_repointed}
    assert world.check() == 300
    again = world.run()
    assert (again.exit_code, again.rows_repointed) == (0, 300 - report.rows_repointed)
    assert world.check(backend="new") == 300
