"""``--backup-dir``: what a sync replaces or deletes is kept, byte for byte, or stays where it is."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.model import OutcomeKind
from migrate_storage.stores.obstore_store import ObstoreStore
from tests.support.servers import S3Server
from tests.support.sync.ends import s3_backend
from tests.support.sync.fixtures import Run
from tests.support.sync.trees import files, write

THEN = time.time() - 86400
DELETE: dict[str, Any] = {"delete": True, "max_delete": "100%"}


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path, Path]:
    """One file is equal on both sides, one differs, one is at the destination only; and a folder for backups."""
    for side, name, content in (
        ("a", "equal", b"1"), ("b", "equal", b"1"), ("a", "d/other", b"newer"), ("b", "d/other", b"older"),
        ("b", "extra", b"extra"),
    ):  # fmt: skip
        write(tmp_path / side / name, content, THEN + (side == "a" and name != "equal"))
    return tmp_path / "a", tmp_path / "b", tmp_path / "kept"


def test_what_is_replaced_or_deleted_is_kept(trees: tuple[Path, Path, Path], sync: Run) -> None:
    source, destination, kept = trees
    planned = sync(source, destination, backup=kept, dry_run=True, **DELETE)
    assert not kept.exists() or not files(kept)
    report = sync(source, destination, backup=kept, **DELETE)
    assert (report.exit_code, report.counts) == (0, planned.counts)
    assert files(destination) == files(source)
    assert files(kept) == {f"{report.run}/d/other": b"older", f"{report.run}/extra": b"extra"}
    again = sync(source, destination, backup=kept, **DELETE)
    assert again.exit_code == 0
    assert len(files(kept)) == 2


def test_what_has_no_backup_stays(
    trees: tuple[Path, Path, Path], sync: Run, moto_s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each PUT of a backup is refused."""
    source, destination, _ = trees
    bucket, before, real = moto_s3.new_bucket(), files(destination), ObstoreStore.put

    def refuse(self: ObstoreStore, path: str, *given: Any, **options: Any) -> Any:
        if "extra" in path or "other" in path:
            raise PermissionError("AccessDenied: not allowed here")
        return real(self, path, *given, **options)

    backup = s3_backend(moto_s3, bucket)
    with monkeypatch.context() as patched:
        patched.setattr(ObstoreStore, "put", refuse)
        report = sync(source, destination, backup=backup, **DELETE)
    assert report.exit_code == 1
    assert files(destination) == before
    [listed] = report.problems
    assert listed.kind is OutcomeKind.FAILED
    assert "its backup failed" in listed.reason
    done = sync(source, destination, backup=backup, **DELETE)
    assert done.exit_code == 0
    assert files(destination) == files(source)
    stored = {each["Key"] for each in moto_s3.client.list_objects_v2(Bucket=bucket)["Contents"]}
    assert stored == {f"{done.run}/d/other", f"{done.run}/extra"}


@pytest.mark.parametrize("place", ["a/kept", "b/kept", "a", "b", "."])
def test_a_backup_inside_a_side_is_refused(
    trees: tuple[Path, Path, Path], sync: Run, tmp_path: Path, place: str
) -> None:
    source, destination, _ = trees
    before = files(destination)
    with pytest.raises(ConfigurationError, match="one place, or one is inside the other"):
        sync(source, destination, backup=tmp_path / place, **DELETE)
    assert files(destination) == before


def test_one_backup_cannot_keep_two_of_a_key(trees: tuple[Path, Path, Path], sync: Run) -> None:
    source, destination, kept = trees
    with pytest.raises(ConfigurationError, match="--watch"):
        sync(source, destination, backup=kept, watch=1.0)
