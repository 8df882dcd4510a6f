"""An object in an archive class cannot be read: it is listed as such, and moves once it is restored."""

from __future__ import annotations

from pathlib import Path

from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend

from migrate_storage import ObstoreBackend
from migrate_storage.core.model import OutcomeKind
from tests.support.engine.world import World
from tests.support.servers import S3Server


def test_an_archived_object_is_listed_and_moves_after_its_restore(
    moto_s3: S3Server, sqlite_url: str, tmp_path: Path
) -> None:
    bucket = moto_s3.new_bucket()
    old = FSSpecBackend(key="old", fs=moto_s3.fs(), prefix=bucket)
    world = World(sqlite_url, old, ObstoreBackend(key="new", fs=tmp_path / "new"))
    world.fill(4)
    [name] = [name for name in world.contents if name.endswith("d2.bin")]
    client = moto_s3.client
    client.copy_object(
        Bucket=bucket,
        Key=name,
        CopySource={"Bucket": bucket, "Key": name},
        StorageClass="GLACIER",
        MetadataDirective="COPY",
    )
    report = world.run()
    assert report.counts == {OutcomeKind.REPOINTED: 3, OutcomeKind.ARCHIVED: 1}, report.problems
    assert report.exit_code == 1
    assert "restore it" in report.problems[0].reason
    assert report.rows_remaining == 1

    client.restore_object(
        Bucket=bucket, Key=name, RestoreRequest={"Days": 1, "GlacierJobParameters": {"Tier": "Expedited"}}
    )
    again = world.run()
    assert (again.exit_code, again.counts) == (0, {OutcomeKind.REPOINTED: 1}), again.problems
    assert world.check(backend="new") == 4
