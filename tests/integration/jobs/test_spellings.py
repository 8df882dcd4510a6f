"""Disks that take two spellings for one name: no file is taken for another one, and none that a row names is deleted."""

from __future__ import annotations

from pathlib import Path

import pytest
from advanced_alchemy.types import FileObject

from migrate_storage.core.model import OutcomeKind
from migrate_storage.jobs.orphans.job import OrphansJob, OrphansOptions
from tests.support.engine import registrations as places
from tests.support.engine.world import Document, World
from tests.support.folding_disk import FoldingDisk
from tests.support.jobs.purge import purge
from tests.support.servers import S3Server
from tests.support.sync.ends import s3_backend
from tests.support.sync.fixtures import Run

CONTENTS = [(b"one", b"two"), (b"the same", b"the same"), (b"", b"longer")]


@pytest.mark.usefixtures("folding_disk")
@pytest.mark.parametrize(("one", "other"), CONTENTS)
def test_a_run_lists_the_second_spelling(
    one: bytes, other: bytes, moto_s3: S3Server, tmp_path: Path, sqlite_url: str
) -> None:
    old = places.old_s3(moto_s3, moto_s3.new_bucket()).build()
    world = World(sqlite_url, old, places.new_local(tmp_path / "new").build())
    world.add(Document(id=1, title="a", file=world.file("d/FOO.TXT", one)))
    world.add(Document(id=2, title="b", file=world.file("d/foo.txt", other)))
    for _ in range(2):
        report = world.run(concurrency=1)
        assert report.exit_code == 1
        [listed] = report.problems
        assert listed.kind is OutcomeKind.FAILED
        assert "takes this name for another spelling of it" in listed.reason
        assert world.check() == 2
    assert sorted(value["backend"] for value in world.raw()) == ["new", "old"]


@pytest.mark.usefixtures("folding_disk")
@pytest.mark.parametrize(("one", "other"), CONTENTS)
def test_a_sync_lists_the_second_spelling(
    one: bytes, other: bytes, moto_s3: S3Server, tmp_path: Path, sync: Run
) -> None:
    bucket, out = moto_s3.new_bucket(), tmp_path / "out"
    for key, content in (("FOO.TXT", one), ("foo.txt", other)):
        moto_s3.client.put_object(Bucket=bucket, Key=key, Body=content)
    report = sync(s3_backend(moto_s3, bucket), out, concurrency=1)
    assert report.counts == {OutcomeKind.COPIED: 1, OutcomeKind.FAILED: 1}
    [listed] = report.problems
    kept = one if listed.source.path == "foo.txt" else other
    assert (out / "FOO.TXT").read_bytes() == kept


def test_a_row_keeps_a_file_under_another_spelling(
    folding_disk: FoldingDisk, moto_s3: S3Server, tmp_path: Path, sqlite_url: str
) -> None:
    new = places.new_s3(moto_s3, moto_s3.new_bucket()).build()
    world = World(sqlite_url, places.old_local(tmp_path / "old").build(), new)
    world.add(Document(id=1, title="moved", file=world.file("FOO.TXT")))
    assert world.run().exit_code == 0
    folding_disk.link(tmp_path / "old" / "FOO.TXT")
    file = FileObject(backend="old", filename="foo.txt", content_type="text/plain", metadata={"name": "FOO.TXT"})
    world.types["FOO.TXT"] = "text/plain"
    world.add(Document(id=2, title="not moved", file=file))
    report = OrphansJob(world.application, OrphansOptions(min_age=0)).run()
    assert OutcomeKind.ORPHAN not in report.counts
    assert purge(world).counts == {OutcomeKind.KEPT: 1}
    assert (tmp_path / "old" / "FOO.TXT").exists()
