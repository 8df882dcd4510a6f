"""Keys that begin or end with a slash: obstore lists them under other names. None is left out in silence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from migrate_storage.core.model import OutcomeKind
from migrate_storage.engine.compare import By
from migrate_storage.jobs.check import CheckJob, CheckOptions
from migrate_storage.reporting import Report
from migrate_storage.stores import listing
from tests.support.servers import AzureServer, S3Server
from tests.support.sync.ends import azure_backend, blobs_of, fsspec_s3_backend, objects_of, s3_backend
from tests.support.sync.fixtures import Run, end
from tests.support.sync.trees import files, write

PLAIN = ("-x", "a/b", "abs.txt", "data", "data.txt", "data/in", "ok.txt")
SLASHED = ("/-x", "/abs.txt", "/ok", "alone/", "data/", "empty/", "zz/data/")


def body(key: str) -> bytes:
    return b"" if key == "empty/" else b"body of " + key.encode()


def failed(report: Report) -> list[str]:
    """Return the keys that are listed as failed, with no slash at either end."""
    return sorted(outcome.source.path.strip("/") for outcome in report.problems if outcome.kind is OutcomeKind.FAILED)


def write_all(server: S3Server | AzureServer, keys: tuple[str, ...], prefix: str = "") -> tuple[str, Any]:
    """Write objects to a new bucket or container; return its name, and how it is read as a side."""
    if isinstance(server, S3Server):
        bucket = server.new_bucket()
        for key in keys:
            server.client.put_object(Bucket=bucket, Key=prefix + key, Body=body(key))
        return bucket, s3_backend(server, bucket, prefix)
    from azure.storage.blob import BlobServiceClient

    container = server.new_container()
    with BlobServiceClient.from_connection_string(server.connection_string) as client:
        for key in keys:
            client.get_blob_client(container, key).upload_blob(body(key))
    return container, azure_backend(server, container)


@pytest.fixture(params=["moto_s3", "azurite"])
def server(request: pytest.FixtureRequest) -> S3Server | AzureServer:
    """Each service that keeps such keys."""
    found: S3Server | AzureServer = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=["unordered", "ordered"])
def _order(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """List as from a service that promises key order, and as from another one."""
    monkeypatch.setattr(listing, "_promises_order", lambda _: request.param == "ordered")


@pytest.mark.usefixtures("_order")
@pytest.mark.parametrize("of", ["moto_s3 by obstore", "moto_s3 by fsspec", "azurite by obstore"])
def test_each_is_listed_as_failed_and_every_other_object_is_copied(
    of: str, moto_s3: S3Server, sync: Run, request: pytest.FixtureRequest
) -> None:
    name, source = write_all(request.getfixturevalue(of.split()[0]), PLAIN + SLASHED)
    source = fsspec_s3_backend(moto_s3, name) if "fsspec" in of else source
    other = moto_s3.new_bucket()
    for _ in range(2):
        report = sync(source, s3_backend(moto_s3, other))
        assert (report.exit_code, failed(report)) == (1, sorted(key.strip("/") for key in SLASHED))
        assert objects_of(moto_s3, other) == {key: body(key) for key in PLAIN}


@pytest.mark.parametrize("key", SLASHED)
def test_one_alone_is_not_taken_for_the_object_without_the_slash(
    key: str, server: S3Server | AzureServer, tmp_path: Path, sync: Run
) -> None:
    plain = key.strip("/")
    write(tmp_path / "a" / plain, body(key))
    name, destination = write_all(server, ("0", key))
    reader: Any = objects_of if isinstance(server, S3Server) else blobs_of
    report = sync(tmp_path / "a", destination, by="size")
    if key in ("alone/", "zz/data/", "data/"):
        # The limit in docs/sync.md: bytes of one size, and nothing beside it in the listing.
        assert report.counts == {OutcomeKind.UNCHANGED: 1}
    else:
        assert report.counts == {OutcomeKind.COPIED: 1}
        assert reader(server, name)[plain] == body(key)


def test_check_lists_them(server: S3Server | AzureServer, tmp_path: Path, sync: Run) -> None:
    _, source = write_all(server, ("ok.txt", "/abs.txt", "data/"))
    sync(source, tmp_path / "out")
    report = CheckJob(source, end(tmp_path / "out"), CheckOptions(by=By.DOWNLOAD)).run()
    assert sorted(outcome.source.path.strip("/") for outcome in report.problems) == ["abs.txt", "data"]


def test_at_the_destination_none_is_deleted_or_said_to_be_gone(moto_s3: S3Server, tmp_path: Path, sync: Run) -> None:
    bucket, destination = write_all(moto_s3, (*SLASHED, "old"))
    write(tmp_path / "a" / "ok", b"1")
    report = sync(tmp_path / "a", destination, delete=True, max_delete="100%", min_age=0)
    assert (report.exit_code, failed(report)) == (1, sorted(key.strip("/") for key in SLASHED))
    assert set(objects_of(moto_s3, bucket)) == {*SLASHED, "ok"}


@pytest.mark.parametrize("through", [s3_backend, fsspec_s3_backend])
def test_the_empty_marker_of_the_folder_itself_is_no_object(
    through: Callable[..., Any], moto_s3: S3Server, tmp_path: Path, sync: Run
) -> None:
    bucket, _ = write_all(moto_s3, ("ok.txt",), "in/")
    moto_s3.client.put_object(Bucket=bucket, Key="in/", Body=b"")
    report = sync(through(moto_s3, bucket, "in"), tmp_path / "out")
    assert (report.exit_code, files(tmp_path / "out")) == (0, {"ok.txt": body("ok.txt")})
    moto_s3.client.put_object(Bucket=bucket, Key="in/", Body=b"1")
    report = sync(through(moto_s3, bucket, "in"), tmp_path / "out")
    assert (report.exit_code, failed(report)) == (1, [""])


def test_objects_without_bytes_and_folders_of_one_name_are_copied(moto_s3: S3Server, sync: Run) -> None:
    bucket = moto_s3.new_bucket()
    keys = {"e": b"", "f": b"1", "f/g": b"", "f/g/h": b"2", "~": b""}
    for key, content in keys.items():
        moto_s3.client.put_object(Bucket=bucket, Key=key, Body=content)
    other = moto_s3.new_bucket()
    report = sync(s3_backend(moto_s3, bucket), s3_backend(moto_s3, other))
    assert (report.exit_code, objects_of(moto_s3, other)) == (0, keys)
