"""What a sync copies, what it leaves, what it keeps beside the bytes, and where it refuses to begin."""

from __future__ import annotations

import os
import time
import zipfile
from pathlib import Path
from typing import Any

import fsspec
import pytest

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.events import DiagnosticRaised, Event
from migrate_storage.core.model import OutcomeKind
from migrate_storage.core.proofs import SERVER_SIDE_COPY
from migrate_storage.engine import verify as engine_verify
from migrate_storage.jobs.sync import reconcile
from migrate_storage.reporting import Report
from migrate_storage.stores.obstore_store import ObstoreStore
from tests.support.servers import AzureServer, S3Server
from tests.support.sync.ends import azure_backend, blobs_of, fsspec_s3_backend, objects_of, s3_backend
from tests.support.sync.fixtures import Run
from tests.support.sync.trees import files, write

HOUR = 3600


def copied(report: Report) -> int:
    return report.counts.get(OutcomeKind.COPIED, 0)


def test_by_size_then_time(tmp_path: Path, sync: Run) -> None:
    source, destination = tmp_path / "a", tmp_path / "b"
    now = time.time()
    for name, here, there, age in (
        ("missing", b"1", None, 0), ("size", b"12", b"1", -HOUR), ("newer", b"1", b"2", HOUR), ("older", b"1", b"2", -HOUR),
        ("equal", b"1", b"1", -HOUR),
    ):  # fmt: skip
        write(source / name, here, now - 2 * HOUR + age)
        if there is not None:
            write(destination / name, there, now - 2 * HOUR)
    write(destination / "more", b"1")
    assert copied(sync(source, destination, by="size", dry_run=True)) == 2
    assert copied(sync(source, destination, dry_run=True)) == 3
    assert copied(sync(source, destination, by="checksum", dry_run=True)) == 4
    assert files(destination)["size"] == b"1"
    report = sync(source, destination)
    assert report.exit_code == 0
    assert files(destination) == {**files(source), "older": b"2", "more": b"1"}
    assert copied(sync(source, destination)) == 0
    assert copied(sync(source, destination, by="checksum")) == 1
    assert files(destination) == {**files(source), "more": b"1"}


def test_times_of_whole_seconds_miss_nothing() -> None:
    newer = reconcile._newer  # noqa: SLF001
    assert newer(10.0, 10.0)
    assert newer(10.5, 10.0)
    assert not newer(10.5, 10.5)
    assert not newer(10.0, 10.5)


def test_places_that_overlap_are_refused(tmp_path: Path, sync: Run, moto_s3: S3Server) -> None:
    write(tmp_path / "a" / "b" / "x", b"1")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    bucket = moto_s3.new_bucket()
    other = moto_s3.behind(moto_s3.endpoint.replace("127.0.0.1", "localhost"))
    pairs: list[tuple[Any, Any]] = [
        (tmp_path / "a", tmp_path / "a"), (tmp_path / "a", tmp_path / "a/b"), (tmp_path / "a/b", tmp_path / "a"),
        (tmp_path / "link", tmp_path / "a/b"), (s3_backend(moto_s3, bucket), s3_backend(moto_s3, bucket, "in")),
        (fsspec_s3_backend(moto_s3, bucket, "in"), s3_backend(moto_s3, bucket)), (s3_backend(moto_s3, bucket, "in"), s3_backend(other, bucket, "in")),
    ]  # fmt: skip
    for source, destination in pairs:
        with pytest.raises(ConfigurationError, match="one place"):
            sync(source, destination)
    assert copied(sync(tmp_path / "a", tmp_path / "ab")) == 1
    assert objects_of(moto_s3, bucket) == {}


@pytest.mark.parametrize("within", ["one bucket", "one service"])
def test_within_one_service_the_service_copies_and_what_is_beside_the_bytes_is_kept(
    within: str, sync: Run, rclone_s3: S3Server
) -> None:
    one = rclone_s3.new_bucket()
    other = one if within == "one bucket" else rclone_s3.new_bucket()
    for number in range(3):
        rclone_s3.client.put_object(Bucket=one, Key=f"in/{number}", Body=b"x", ContentType="text/x")
    rclone_s3.client.put_object(Bucket=one, Key="in/more", Body=b"x", ContentType="text/y", Metadata={"k": "v"})
    report = sync(s3_backend(rclone_s3, one, "in"), s3_backend(rclone_s3, other, "out"))
    assert report.verified_by[SERVER_SIDE_COPY] == 4
    assert report.bytes_copied == 0
    head = rclone_s3.client.head_object(Bucket=other, Key="out/1")
    assert head["ContentType"] == "text/x"
    head = rclone_s3.client.head_object(Bucket=other, Key="out/more")
    # This server spells the names of metadata as headers, and adds the time of each object.
    metadata = {name.lower(): value for name, value in head["Metadata"].items() if name.lower() != "mtime"}
    assert (head["ContentType"], metadata) == ("text/y", {"k": "v"})
    rclone_s3.client.put_object(Bucket=one, Key="in/1", Body=b"y")
    report = sync(s3_backend(rclone_s3, one, "in"), s3_backend(rclone_s3, other, "out"))
    assert report.counts == {OutcomeKind.COPIED: 1, OutcomeKind.UNCHANGED: 3}
    assert objects_of(rclone_s3, other)["out/1"] == b"y"


def test_across_buckets_what_is_beside_the_bytes_is_kept_and_one_digest_is_enough(sync: Run, moto_s3: S3Server) -> None:
    one, other = moto_s3.new_bucket(), moto_s3.new_bucket()
    moto_s3.client.put_object(Bucket=one, Key="a/é", Body=b"x", ContentType="text/x", Metadata={"k": "v"})
    assert copied(sync(fsspec_s3_backend(moto_s3, one), s3_backend(moto_s3, other))) == 1
    head = moto_s3.client.head_object(Bucket=other, Key="a/é")
    assert (head["ContentType"], head["Metadata"]) == ("text/x", {"k": "v"})
    report = sync(fsspec_s3_backend(moto_s3, one), s3_backend(moto_s3, other), by="checksum")
    assert (report.counts, report.verified_by) == ({OutcomeKind.UNCHANGED: 1}, {"digest": 1})
    # Overwritten later with as many other bytes: no time would tell, the digests do.
    moto_s3.client.put_object(Bucket=other, Key="a/é", Body=b"y")
    assert copied(sync(fsspec_s3_backend(moto_s3, one), s3_backend(moto_s3, other))) == 1
    assert objects_of(moto_s3, other) == {"a/é": b"x"}


def test_a_key_that_ends_the_listing_is_listed_through_s3fs_and_told(
    sync: Run, moto_s3: S3Server, tmp_path: Path, events: list[Event]
) -> None:
    bucket = moto_s3.new_bucket()
    for key in ("a", "b//c", "z"):
        moto_s3.client.put_object(Bucket=bucket, Key=key, Body=b"1")
    report = sync(fsspec_s3_backend(moto_s3, bucket), tmp_path / "out")
    assert any(isinstance(event, DiagnosticRaised) and event.note.code == "listing.fallback" for event in events)
    assert set(files(tmp_path / "out")) == {"a", "z"}
    assert (report.exit_code, [outcome.source.path for outcome in report.problems]) == (1, ["b//c"])


@pytest.mark.parametrize("to", ["s3", "azure"])
@pytest.mark.parametrize("of", ["zip", "memory", "sftp", "sshd"])
def test_from_what_only_fsspec_reaches(
    of: str,
    to: str,
    sync: Run,
    moto_s3: S3Server,
    azurite: AzureServer,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    contents = {"a.txt": b"1", "d/é": b"", "d/e/f.png": bytes(100_000)}
    if of == "zip":
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
            for name, content in contents.items():
                archive.writestr(name, content)
        source = f"zip://::{tmp_path / 'x.zip'}"
    elif of in ("sftp", "sshd"):
        folder, source = request.getfixturevalue(of)
        for name, content in contents.items():
            write(folder / name, content)
    else:
        source = f"memory://{tmp_path.name}"
        fsspec.filesystem("memory").pipe({f"/{tmp_path.name}/{name}": content for name, content in contents.items()})
    bucket = moto_s3.new_bucket() if to == "s3" else azurite.new_container()
    destination = s3_backend(moto_s3, bucket) if to == "s3" else azure_backend(azurite, bucket)
    report = sync(source, destination)
    assert (report.exit_code, copied(report)) == (0, 3), report
    assert "pw" not in report.source
    assert (objects_of(moto_s3, bucket) if to == "s3" else blobs_of(azurite, bucket)) == contents
    if to == "s3":
        assert moto_s3.client.head_object(Bucket=bucket, Key="d/e/f.png")["ContentType"] == "image/png"
    assert copied(sync(source, destination, by="checksum")) == 0


def test_pipes_and_links_to_folders_are_no_files(tmp_path: Path, sync: Run) -> None:
    write(tmp_path / "a" / "x", b"1")
    os.mkfifo(tmp_path / "a" / "pipe")
    (tmp_path / "a" / "link").symlink_to("x")
    (tmp_path / "a" / "folder").symlink_to("/")
    (tmp_path / "a" / "nowhere").symlink_to("/nowhere")
    assert sync(tmp_path / "a", tmp_path / "b").exit_code == 0
    assert files(tmp_path / "b") == {"x": b"1", "link": b"1"}


def test_a_destination_that_would_show_half_an_object_is_refused(tmp_path: Path, sync: Run) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a", b"1")
    with pytest.raises(ConfigurationError, match="half-written"):
        sync(tmp_path, f"zip://::{tmp_path / 'x.zip'}", dry_run=True)


def test_a_destination_that_changed_since_the_listing_is_looked_at_again(
    tmp_path: Path, sync: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, destination = tmp_path / "a", tmp_path / "b"
    write(source / "x", b"1", time.time() - HOUR)
    write(destination / "x", b"22")
    real = reconcile.Reconciler._reconcile  # noqa: SLF001

    def meanwhile(self: Any, pair: Any) -> Any:
        # Listed as of another size; by now it is what the source holds, written by somebody else.
        write(destination / "x", b"1", 1_000_000_000)
        return real(self, pair)

    monkeypatch.setattr(reconcile.Reconciler, "_reconcile", meanwhile)
    report = sync(source, destination)
    assert report.counts == {OutcomeKind.UNCHANGED: 1}
    assert (destination / "x").stat().st_mtime == 1_000_000_000


def test_what_does_not_verify_is_taken_away_again(tmp_path: Path, sync: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    source, destination = tmp_path / "a", tmp_path / "b"
    write(source / "x", b"right")
    write(source / "y", b"right")
    real = ObstoreStore.put

    def harmed(self: ObstoreStore, path: str, content: Any, **options: Any) -> Any:
        return real(self, path, b"wrong" if path.endswith("x") else content, **options)

    monkeypatch.setattr(ObstoreStore, "put", harmed)
    report = sync(source, destination)
    assert [(outcome.kind, outcome.source.path) for outcome in report.problems] == [(OutcomeKind.MISMATCH, "x")]
    assert files(destination) == {"y": b"right"}
    monkeypatch.undo()
    assert sync(source, destination).exit_code == 0
    assert files(destination) == files(source)


def test_a_source_that_changes_while_it_is_copied_is_copied_again(
    tmp_path: Path, sync: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a" / "x", b"1")
    real, times = engine_verify.copy_bytes, iter(range(2))

    def late(*args: Any, **options: Any) -> Any:
        done = real(*args, **options)
        if (number := next(times, None)) is not None:
            write(tmp_path / "a" / "x", b"2" * (number + 2))
        return done

    monkeypatch.setattr(engine_verify, "copy_bytes", late)
    assert copied(sync(tmp_path / "a", tmp_path / "b")) == 1
    assert files(tmp_path / "b") == {"x": b"222"}


def test_a_limit_stops_it_and_the_same_command_goes_on(tmp_path: Path, sync: Run) -> None:
    for number in range(60):
        write(tmp_path / "a" / str(number), bytes(1000))
    first = sync(tmp_path / "a", tmp_path / "b", max_bytes=10_000)
    assert first.exit_code == 4
    done = len(files(tmp_path / "b"))
    assert 10 <= done == copied(first) < 60
    second = sync(tmp_path / "a", tmp_path / "b")
    assert second.resumed
    assert (second.exit_code, copied(second)) == (0, 60 - done)


@pytest.mark.parametrize("keys", [("a", "a/b"), ("a", "a/b", "a/b/c"), ("d/x", "d/x/y", "other")])
def test_of_a_file_and_a_folder_of_one_name_a_disk_gets_one(
    keys: tuple[str, ...], tmp_path: Path, moto_s3: S3Server, sync: Run
) -> None:
    bucket = moto_s3.new_bucket()
    for key in keys:
        moto_s3.client.put_object(Bucket=bucket, Key=key, Body=key.encode())
    for _ in range(2):
        report = sync(s3_backend(moto_s3, bucket), tmp_path / "out")
        assert report.exit_code == 1
        assert all("a file and a folder of one name" in outcome.reason for outcome in report.problems)
        found = files(tmp_path / "out")
        assert {*found, *(outcome.source.path for outcome in report.problems)} == set(keys)
        assert found == {key: key.encode() for key in found}


@pytest.mark.parametrize("name", ["new\nline", "tab\tx", "x\x7f"])
def test_no_option_is_advised_that_a_sync_does_not_have(
    name: str, tmp_path: Path, moto_s3: S3Server, sync: Run
) -> None:
    write(tmp_path / "a" / name, b"1")
    report = sync(tmp_path / "a", s3_backend(moto_s3, moto_s3.new_bucket()))
    [listed] = report.problems
    assert listed.reason.endswith("has a control character; give it another name")
