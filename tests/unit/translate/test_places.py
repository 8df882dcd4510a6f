"""Each path rule is held against the real filesystem's own."""

import os

import pytest
import s3fs
from adlfs import AzureBlobFileSystem
from advanced_alchemy.types.file_object.backends.fsspec import _join_path
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from gcsfs.core import GCSFileSystem
from hypothesis import example, given
from hypothesis import strategies as st
from s3fs import S3FileSystem

from migrate_storage.core.model import Place
from migrate_storage.translate.places import (
    Split,
    join_folder,
    join_prefix,
    normalise_endpoint,
    root_and_prefix,
    s3_endpoint,
    same_service,
    split,
)
from tests.support.translate.hostile_keys import HOSTILE

WORDS = [
    "b",
    "a",
    "/",
    "//",
    "x",
    ".",
    "..",
    "s3://",
    "s3a://",
    "gs://",
    "abfs://",
    "az://",
    "file:",
    "memory://",
    "local:///",
]
WORDS += [
    "?versionId=",
    "?versionid=",
    "#",
    "?",
    "%20",
    " ",
    "é",
    "~",
    "::",
    "c@acct.dfs.core.windows.net/",
    ":",
    "\t",
    "u:p@h:1/",
]
paths = st.lists(st.sampled_from(WORDS), max_size=6).map("".join)


def settings(function):
    for key in HOSTILE:
        function = example(path=key)(example(path=f"b/{key}")(function))
    return function


S3 = S3FileSystem(anon=True)


@given(path=paths)
@settings
def test_s3_splits_as_s3fs_does(path):
    parts = split("s3", path)
    bucket, key, _ = S3.split_path(path)
    if s3fs.__version__ < "2026.2":
        # It wrote `x/` as `x` then. To us it is `x/` whatever the version, and so it is refused, not guessed.
        parts = Split(parts.root, parts.key.rstrip("/"))
    assert (parts.root, parts.key) == (bucket, key)


@given(path=paths)
@settings
def test_gcs_splits_as_gcsfs_does(path):
    parts = split("gcs", path)
    bucket, key, _ = GCSFileSystem._split_path(path)
    assert (parts.root, parts.key) == (bucket, key)


AZURE = object.__new__(AzureBlobFileSystem)
AZURE.version_aware = False


@given(path=paths)
@settings
def test_azure_splits_as_adlfs_does(path):
    parts = split("azure", path)
    try:
        container, key, _ = AZURE.split_path(path)
    except ValueError:
        return  # adlfs cannot reach it at all
    assert (parts.root, parts.key) == (container, key.replace("\\", "/"))


@given(path=paths)
@settings
def test_local_paths_lead_where_the_kernel_goes(path):
    parts = split("file", path)
    assert parts.root == "/"
    assert "/" + parts.key == "/" + os.path.abspath(LocalFileSystem._strip_protocol(path)).lstrip("/")


@given(path=paths)
@settings
def test_memory_keys_are_those_of_its_dictionary(path):
    parts = split("memory", path)
    stripped = MemoryFileSystem._strip_protocol(path)
    literal = "://" in path.removeprefix("memory://") or "::" in path
    assert parts.key == (stripped if literal else stripped.removeprefix("/"))


@given(path=paths, prefix=paths)
def test_prefixes_join_as_in_the_backend(path, prefix):
    assert join_prefix(prefix, path) == _join_path(prefix, path)


@pytest.mark.parametrize("path", ["a", "/a", "a/", "//a", "", "dir://a", "s3://b/a"])
@pytest.mark.parametrize("folder", ["b/dd", "b"])
def test_folders_join_as_in_dirfs(path, folder):
    assert join_folder(folder, path) == DirFileSystem(folder, S3)._join(path)


@pytest.mark.parametrize(
    ("protocol", "prefix", "expected"),
    [
        ("s3", "b", ("b", "")),
        ("s3", "b/pre", ("b", "pre")),
        ("s3", "s3://b/pre/", ("b", "pre")),
        ("s3", "s3a://b/pre/", ("b", "pre")),
        ("s3", "/b", ("b", "")),
        ("s3", "b//pre", ("b", "/pre")),
        ("s3", None, ("", "")),
        ("s3", "", ("", "")),
        ("s3", "/", ("", "")),
        ("azure", "c/up", ("c", "up")),
        ("azure", "abfs://c/up", ("c", "up")),
        ("azure", "abfs://c@acct.dfs.core.windows.net/up", ("c", "up")),
        ("gcs", "gs://b/p", ("b", "p")),
        ("file", "/d", ("/", "d")),
        ("file", "file:///d", ("/", "d")),
        ("file", "file:/d", ("/", "d")),
        ("file", "local:///d", ("/", "d")),
        ("file", "file:///a%20b", ("/", "a%20b")),
        ("memory", "/m", ("process", "m")),
    ],
)
def test_what_a_prefix_names(protocol, prefix, expected):
    assert root_and_prefix(protocol, prefix) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:9000/", "http://127.0.0.1:9000"),
        ("HTTPS://Minio.Example.com:443", "https://minio.example.com"),
        ("https://user:secret@h/base/", "https://h/base"),
        ("http://[::1]:80/x?q=1#f", "http://[::1]/x"),
        ("localhost:9000", "localhost:9000"),
        ("http://h:port", "http://h:port"),
        ("", ""),
    ],
)
def test_endpoints_normalise(url, expected):
    assert normalise_endpoint(url) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"endpoint": None}, ""),
        ({"endpoint": "https://s3.us-west-2.amazonaws.com"}, ""),
        ({"endpoint": "https://b.s3-accelerate.amazonaws.com", "bucket": "b", "virtual": True}, ""),
        ({"endpoint": "https://s3.dualstack.eu-west-1.amazonaws.com"}, ""),
        ({"endpoint": "", "region": "cn-north-1"}, "aws-cn"),
        ({"endpoint": "https://s3.cn-north-1.amazonaws.com.cn"}, "aws-cn"),
        ({"endpoint": "https://s3.us-gov-west-1.amazonaws.com"}, "aws-us-gov"),
        ({"endpoint": None, "region": "us-gov-west-1"}, "aws-us-gov"),
        ({"endpoint": "https://b.nyc3.x.com", "bucket": "b", "virtual": True}, "https://nyc3.x.com"),
        ({"endpoint": "https://b.nyc3.x.com", "bucket": "b"}, "https://b.nyc3.x.com"),
    ],
)
def test_aws_is_one_service_in_a_partition(arguments, expected):
    assert s3_endpoint(**arguments) == expected


def at(service: str, endpoint: str = "") -> Place:
    return Place(service=service, endpoint=endpoint, root="r", key="k")


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (at("s3"), at("s3"), True),
        (at("s3", "http://h:1"), at("s3", "http://h:1"), True),
        (at("s3", "http://h:1"), at("s3", "http://127.0.0.1:1"), None),
        (at("s3"), at("s3", "http://h:1"), None),
        (at("s3"), at("s3", "aws-cn"), False),
        (at("s3"), at("s3", "https://a.r2.cloudflarestorage.com"), False),
        (at("s3", "https://storage.googleapis.com"), at("gcs"), None),
        (at("s3", "http://h:1"), at("gcs"), None),
        (at("s3"), at("gcs"), False),
        (at("s3"), at("azure", "https://a.blob.core.windows.net"), False),
        (at("s3", "http://h:1"), at("azure", "http://h:2/dev"), False),
        (at("azure", "https://a.blob.core.windows.net"), at("azure", "https://b.blob.core.windows.net"), False),
        (at("azure", "https://a.blob.core.windows.net"), at("azure", "https://files.example.com"), None),
        (at("file"), at("file"), True),
        (at("file"), at("s3"), False),
        (at("file"), at("gcs"), False),
        (at("file"), at("s3", "http://127.0.0.1:9000"), None),
        (at("file"), at("sftp"), None),
        (at("file"), at("smb"), None),
        (at("file"), at("webdav"), None),
        (at("memory"), at("memory", "store-1"), False),
        (at("memory"), at("file"), False),
    ],
)
def test_one_service_or_another_or_in_doubt(one, other, expected):
    assert same_service(one, other) is expected
    assert same_service(other, one) is expected
