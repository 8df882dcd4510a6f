"""Reads as FSSpecBackend has them: ranges at both ends, empty files, and objects that obstore cannot read by itself."""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from advanced_alchemy.types.file_object import FileObject
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend

from migrate_storage import ObstoreBackend
from tests.support.backend.echo import Echo, Seen, echo

FILES = {"empty": b"", "ten": b"0123456789"}
RANGES = [
    *({"start": start, "end": end} for start, end in itertools.product((None, 0, 2, 10, 50), (None, 10, 50, 60, -2, -20)) if (start or 0) <= (end or 99) or (end or 0) < 0),
    {"start": -3}, {"start": -3, "end": -1}, {"start": -30}, {"start": -3, "end": 9},
]  # fmt: skip


def expected(content: bytes, start: int | None = None, end: int | None = None) -> bytes:
    return content[start:end]


def check_ranges(backend: ObstoreBackend) -> None:
    for name, content in FILES.items():
        backend.save_object(FileObject(backend=backend, filename=name), content)
        for asked in RANGES:
            wanted = expected(content, **asked)
            assert backend.get_content(name, options=asked) == wanted, (name, asked)
            assert b"".join(backend.stream(name, options=asked)) == wanted, (name, asked)
    with pytest.raises(FileNotFoundError):
        backend.get_content("missing", options={"start": 5})
    with pytest.raises(FileNotFoundError):
        backend.get_content("missing", options={"start": 0, "end": -1})


def test_ranges_are_those_of_a_local_fsspec_backend(tmp_path: Path) -> None:
    """apache/arrow-rs-object-store#453, nteract/papermill#603, fsspec/s3fs#229."""
    backend = FSSpecBackend(key="a", fs=fsspec.filesystem("file"), prefix=str(tmp_path))
    for name, content in FILES.items():
        backend.save_object(FileObject(backend=backend, filename=name), content)
        for asked in RANGES:
            first, last, _ = slice(asked.get("start"), asked.get("end")).indices(len(content))
            if (asked.get("end") or 0) < 0 and (first > last or last == 0):
                # fsspec fails where an end from the end lies before the start.
                continue
            assert backend.get_content(name, options=asked) == expected(content, **asked), (name, asked)


def test_ranges_in_memory_and_on_a_disk(tmp_path: Path) -> None:
    check_ranges(ObstoreBackend("m", "memory://"))
    check_ranges(ObstoreBackend("d", tmp_path))


def test_ranges_on_s3(moto_s3: Any) -> None:
    check_ranges(
        ObstoreBackend.from_fsspec(FSSpecBackend(key="k", fs=moto_s3.fs(), prefix=f"{moto_s3.new_bucket()}/up"))
    )


def test_ranges_on_azure_which_has_no_suffix(azurite: Any) -> None:
    check_ranges(
        ObstoreBackend.from_fsspec(FSSpecBackend(key="k", fs=azurite.fs(), prefix=f"{azurite.new_container()}/up"))
    )


PLAIN = b'{"hello": "world"}\n' * 50
STORED = gzip.compress(PLAIN, mtime=0)


def _decompress_on_the_way(seen: Seen) -> Any:
    """Answer as Google Cloud Storage does for an object with ``Content-Encoding: gzip``."""
    headers = {"ETag": '"e"', "Last-Modified": "Sun, 01 Nov 2026 00:00:00 GMT", "Content-Type": "application/json"}
    if "gzip" not in seen.headers.get("accept-encoding", ""):
        # Decompressed, in chunks: no Content-Length.
        return 200, {**headers, "Transfer-Encoding": "chunked"}, PLAIN
    return 200, {**headers, "Content-Encoding": "gzip"}, STORED


@pytest.fixture
def google() -> Iterator[Echo]:
    with echo(_decompress_on_the_way) as server:
        yield server


def test_a_gzip_encoded_object_on_google(google: Echo) -> None:
    """apache/arrow-rs-object-store#774, genlayerlabs/genlayer-studio#1707."""
    backend = ObstoreBackend("g", "gs://bkt/up", google_base_url=google.url, google_skip_signature=True)
    assert backend.get_content("a.json") == PLAIN
    assert b"".join(backend.stream("a.json")) == PLAIN
    assert backend.get_content("a.json", options={"start": 2, "end": 7}) == b"hello"
    assert backend.get_content("a.json", options={"start": -2}) == PLAIN[-2:]
    assert backend.exists("a.json")
    assert backend.head("a.json").size == len(STORED)
    assert backend.attributes("a.json").content_encoding == "gzip"


async def test_a_gzip_encoded_object_asynchronously(google: Echo) -> None:
    backend = ObstoreBackend("g", "gs://bkt/up", google_base_url=google.url, google_skip_signature=True)
    assert await backend.get_content_async("a.json") == PLAIN
    assert await backend.exists_async("a.json")
    assert [piece async for piece in await backend.stream_async("a.json")] == [PLAIN]


def _odd_metadata(_: Seen) -> Any:
    headers = {"ETag": '"e"', "Last-Modified": "Sun, 01 Nov 2026 00:00:00 GMT", "x-amz-meta-k": "\xe9"}
    return 200, headers, b"hello"


def test_metadata_outside_ascii_is_told() -> None:
    with echo(_odd_metadata) as server:
        keys = {"aws_access_key_id": "K", "aws_secret_access_key": "S", "aws_region": "r"}
        backend = ObstoreBackend("s", "s3://b", aws_endpoint=server.url, **keys)
        assert backend.exists("x")
        with pytest.raises(
            OSError, match="the object is there, but obstore cannot read the answer: read it through fsspec"
        ):
            backend.get_content("x")
