"""The full comparison of both sides, on stores that tell hashes and on stores that tell none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec
import pytest
from advanced_alchemy.types.file_object import FileObject
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend

from migrate_storage import ObstoreBackend
from migrate_storage.cutover.comparison import Kind, differences
from migrate_storage.cutover.outbox import Outbox
from migrate_storage.cutover.phases import Side
from migrate_storage.database import Database
from migrate_storage.errors import ConfigurationError


@pytest.fixture
def outbox(sqlite_url: str) -> Outbox:
    made = Outbox(Database(sqlite_url), "files")
    made.prepare()
    return made


def s3(server: Any, key: str, below: str) -> ObstoreBackend:
    return ObstoreBackend(
        key,
        f"s3://{server.new_bucket()}/{below}",
        aws_endpoint=server.endpoint,
        aws_access_key_id=server.key,
        aws_secret_access_key=server.secret,
        aws_region=server.region,
        aws_allow_http=True,
    )


@pytest.fixture(params=["memory", "fsspec to local", "s3"])
def sides(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, Any]:
    if request.param == "memory":
        return ObstoreBackend("old", "memory://"), ObstoreBackend("new", "memory://")
    if request.param == "fsspec to local":
        for name in ("old", "new"):
            (tmp_path / name).mkdir()
        old = FSSpecBackend("old", fsspec.filesystem("file", auto_mkdir=True), prefix=str(tmp_path / "old"))
        return old, ObstoreBackend("new", (tmp_path / "new").as_uri())
    server = request.getfixturevalue("moto_s3")
    return s3(server, "old", "below/"), s3(server, "new", "")


def put(backend: Any, name: str, content: bytes) -> None:
    backend.save_object(FileObject(backend=backend, filename=name), content)


def test_each_difference_is_found_and_nothing_else(sides: tuple[Any, Any], outbox: Outbox) -> None:
    old, new = sides
    for name in ("a b", "a-b", "a/b", "é/ü%41", "z"):
        put(old, name, name.encode())
        put(new, name, name.encode())
    put(old, "size", b"1")
    put(new, "size", b"22")
    put(old, "bytes", b"1")
    put(new, "bytes", b"2")
    put(old, "old only/x", b"1")
    put(new, "new only/x", b"1")
    put(old, "settling", b"1")
    outbox.note("settling", Side.SOURCE)
    found = {each.path: each.kind for each in differences(old, new, outbox)}
    assert found == {
        "size": Kind.DIFFERENT,
        "bytes": Kind.DIFFERENT,
        "old only/x": Kind.ONLY_SOURCE,
        "new only/x": Kind.ONLY_DESTINATION,
    }


def test_a_listing_that_breaks_is_no_listing(outbox: Outbox, moto_s3: Any, tmp_path: Path) -> None:
    there, gone = s3(moto_s3, "old", ""), s3(moto_s3, "new", "")
    put(there, "k", b"1")
    gone = ObstoreBackend("new", "s3://no-such-bucket/", aws_endpoint=moto_s3.endpoint, aws_access_key_id="a", aws_secret_access_key="b", aws_region="us-east-1", aws_allow_http=True)  # fmt: skip
    with pytest.raises(Exception, match="NoSuchBucket"):
        list(differences(there, gone, outbox))
    whole = FSSpecBackend("old", fsspec.filesystem("file"))
    with pytest.raises(ConfigurationError, match="cannot be listed"):
        list(differences(whole, there, outbox))
