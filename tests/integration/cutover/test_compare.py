"""The full comparison of both sides, on stores that tell hashes and on stores that tell none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec
import pytest
from advanced_alchemy.types.file_object import FileObject
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend
from fsspec.implementations.memory import MemoryFileSystem

from migrate_storage import ObstoreBackend
from migrate_storage.core.errors import ConfigurationError, RunError
from migrate_storage.cutover.compare import find_differences
from migrate_storage.cutover.decisions import Side
from migrate_storage.cutover.outbox import Outbox
from migrate_storage.engine.compare import Relation
from tests.support.cutover.s3_backend import s3_backend


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
    return s3_backend(server, "old", "below/"), s3_backend(server, "new", "")


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
    outbox.request_repair("settling", Side.SOURCE)
    found = {each.pair.key: each.relation for each in find_differences(old, new, outbox)}
    assert found == {
        "size": Relation.DIFFERENT,
        "bytes": Relation.DIFFERENT,
        "old only/x": Relation.MISSING,
        "new only/x": Relation.EXTRA,
    }


def test_a_listing_that_breaks_is_no_listing(outbox: Outbox, moto_s3: Any, tmp_path: Path) -> None:
    there, gone = s3_backend(moto_s3, "old", ""), s3_backend(moto_s3, "new", "")
    put(there, "k", b"1")
    gone = ObstoreBackend("new", "s3://no-such-bucket/", aws_endpoint=moto_s3.endpoint, aws_access_key_id="a", aws_secret_access_key="b", aws_region="us-east-1", aws_allow_http=True)  # fmt: skip
    with pytest.raises(RunError, match="NoSuchBucket"):
        list(find_differences(there, gone, outbox))
    whole = FSSpecBackend("old", fsspec.filesystem("file"))
    with pytest.raises(ConfigurationError, match="cannot be listed"):
        list(find_differences(whole, there, outbox))


def test_a_name_that_obstore_leaves_out_of_a_listing_is_compared(outbox: Outbox, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    old = FSSpecBackend("old", fsspec.filesystem("file", auto_mkdir=True), prefix=str(tmp_path / "old"))
    put(old, "x#1", b"1")
    (found,) = find_differences(old, ObstoreBackend("new", "memory://"), outbox)
    assert (found.pair.key, found.relation) == ("x#1", Relation.MISSING)


class Unreadable(MemoryFileSystem):
    """Tells of its objects, and gives none."""

    store, pseudo_dirs = {}, [""]

    def cat_file(self, path: str, *_: Any, **options: Any) -> bytes:
        raise PermissionError(path)


def test_an_object_that_cannot_be_read_is_not_taken_for_equal(outbox: Outbox) -> None:
    old, new = FSSpecBackend("old", Unreadable(), prefix="old"), ObstoreBackend("new", "memory://")
    put(old, "k", b"1")
    put(new, "k", b"1")
    with pytest.raises(RunError, match="k could not be read"):
        list(find_differences(old, new, outbox))
