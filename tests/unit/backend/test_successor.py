"""What the registration that replaces an fsspec one does not open is known from the filename alone."""

from __future__ import annotations

from pathlib import Path

import adlfs
import fsspec
import gcsfs
import pytest
import s3fs
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend

from migrate_storage.backend.locators import refused_by_successor
from migrate_storage.translate.registration import read

S3 = {"key": "k", "secret": "s", "endpoint_url": "http://127.0.0.1:9", "client_kwargs": {"region_name": "r"}}


def reason(fs: object, prefix: str | None, filename: str) -> str | None:
    return refused_by_successor(read(FSSpecBackend(key="old", fs=fs, prefix=prefix)), filename)


@pytest.mark.parametrize(
    ("prefix", "filename", "says"),
    [
        ("b/up", "photos/2024/002.pdf", None),
        ("b/up", "/photos/2024/002.pdf", "starts with a slash; ObstoreBackend.from_fsspec takes it"),
        ("b", "/photos/2024/002.pdf", "starts with a slash; ObstoreBackend.from_fsspec takes it"),
        ("b/up", "a//b", "has an empty path segment"),
        ("b/up", "a/", "ends with a slash"),
        ("b/up", "a/../b", "has a path segment '..'"),
        ("b/up", "nul\x00byte", "has a control character"),
        ("b/up", "a\ud800b", "is not valid Unicode"),
        ("b/up", "é" * 512, "is longer than 1024 bytes"),
        ("b/up", "é" * 500, None),
        ("b/up", "x?versionId=1", "would mean 'up/x?versionId=1' in place of 'up/x'"),
        ("b/up", "a%20b", None),
        (None, "b/photos/002.pdf", None),
        (None, "/b/photos/002.pdf", None),
        (None, "s3://b/photos/002.pdf", None),
        (None, "b//photos", "starts with a slash"),
        (None, "b", "is empty"),
    ],
)
def test_s3(prefix: str | None, filename: str, says: str | None) -> None:
    assert reason(s3fs.S3FileSystem(**S3), prefix, filename) == says


@pytest.mark.parametrize(
    ("filename", "says"),
    [
        ("a/b", None),
        ("/a", "starts with a slash; ObstoreBackend.from_fsspec takes it"),
        ("a//b", "has an empty path segment"),
    ],
)
def test_google_cloud_storage(filename: str, says: str | None) -> None:
    assert reason(gcsfs.GCSFileSystem(token="anon", project="p"), "b/up", filename) == says


@pytest.mark.parametrize(
    ("filename", "says"),
    [("a/b", None), ("/a", "starts with a slash; ObstoreBackend.from_fsspec takes it"), ("a\\b", "has a backslash")],
)
def test_azure(filename: str, says: str | None) -> None:
    fs = adlfs.AzureBlobFileSystem(account_name="a", account_key="YQ==")
    found = reason(fs, "c/up", filename)
    assert found == says or (says is not None and found is not None and found.startswith(says))


@pytest.mark.parametrize(
    ("filename", "says"),
    [
        ("a/b", None), ("/a", "starts with a slash; ObstoreBackend.from_fsspec takes it"),
        ("../up/a", "has a path segment '..'; ObstoreBackend.from_fsspec takes it"), ("../a", "has a path segment '..'"),
        ("x#1", "has a file name that a local store keeps for uploads under way"),
    ],
)  # fmt: skip
def test_a_disk(tmp_path: Path, filename: str, says: str | None) -> None:
    assert reason(fsspec.filesystem("file"), str(tmp_path / "up"), filename) == says
