"""``from_fsspec``: each filename means the object that it meant before."""

from __future__ import annotations

import pickle
from pathlib import Path

import fsspec
import httpx
import pytest
from advanced_alchemy.types.file_object import FileObject, storages
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend
from fsspec.implementations.dirfs import DirFileSystem

from migrate_storage import ObstoreBackend
from migrate_storage.core.errors import ConfigurationError, KeyRefusedError
from migrate_storage.translate.registration import read
from tests.support.servers import AzureServer, S3Server


@pytest.mark.parametrize("name", ["a/x.txt", "/lead.txt", "//two.txt", "sp ace#.txt", "ü.txt"])
async def test_below_a_prefix(rclone_s3: S3Server, name: str) -> None:
    bucket = rclone_s3.new_bucket()
    for prefix in (bucket, f"{bucket}/pre", f"s3://{bucket}/pre/"):
        before = FSSpecBackend("files", rclone_s3.fs(), prefix=prefix)
        after = ObstoreBackend.from_fsspec(before)
        FileObject(backend=before, filename=name).save(prefix.encode())
        assert after.get_content(name) == prefix.encode()
        await FileObject(backend=after, filename=name).save_async(b"new")
        before.fs.invalidate_cache()
        assert before.get_content(name) == b"new"
        url = str(after.sign(name))
        async with httpx.AsyncClient() as client:
            assert (await client.get(url)).content == b"new"
        after.delete_object(name)
        with pytest.raises(FileNotFoundError):
            before.get_content(name)


def test_a_bucket_for_each_row(rclone_s3: S3Server) -> None:
    one, two = rclone_s3.new_bucket(), rclone_s3.new_bucket()
    before = FSSpecBackend("files", rclone_s3.fs())
    names = {f"{one}/a.txt": b"1", f"s3://{one}/b.txt": b"2", f"{two}/a.txt": b"3"}
    for name, content in names.items():
        FileObject(backend=before, filename=name).save(content)
    after = ObstoreBackend.from_fsspec(before)
    assert (after.fs, after.key, after.protocol) == (None, "files", "s3")
    for name, content in names.items():
        assert after.get_content(name) == content
    assert len(after._locator._stores) == 2
    with pytest.raises(NotImplementedError, match="two buckets"):
        after.copy(f"{one}/a.txt", f"{two}/b.txt")
    after.copy(f"{one}/a.txt", f"{one}/c.txt")
    assert after.get_content(f"{one}/c.txt") == b"1"
    after.delete_object(list(names))
    assert not any(after.exists(name) for name in names)
    with pytest.raises(NotImplementedError, match="its own bucket"):
        list(after.list())
    for name in ("", "only-a-bucket", "/"):
        with pytest.raises(KeyRefusedError):
            after.get_content(name)


def test_on_azure(azurite: AzureServer) -> None:
    container = azurite.new_container()
    before = FSSpecBackend("files", azurite.fs(), prefix=f"{container}/up")
    FileObject(backend=before, filename="a b.txt").save(b"1")
    after = ObstoreBackend.from_fsspec(before, key="new")
    assert (after.key, after.protocol) == ("new", "azure")
    assert after.get_content("a b.txt") == b"1"
    assert httpx.get(str(after.sign("a b.txt"))).content == b"1"


def test_on_disk(tmp_path: Path) -> None:
    for before in (
        FSSpecBackend("files", fsspec.filesystem("file", auto_mkdir=True), prefix=str(tmp_path / "one")),
        FSSpecBackend("files", DirFileSystem(str(tmp_path / "two"), fsspec.filesystem("file", auto_mkdir=True))),
        FSSpecBackend(
            "files", DirFileSystem(str(tmp_path / "three"), fsspec.filesystem("file", auto_mkdir=True)), prefix="p"
        ),
    ):
        FileObject(backend=before, filename="a/x.txt").save(b"1")
        after = ObstoreBackend.from_fsspec(before)
        assert after.get_content("a/x.txt") == b"1"
        assert [meta.path for meta in after.list()] == ["a/x.txt"]
        for outside in ("../x.txt", "a/../../x.txt"):
            with pytest.raises(KeyRefusedError):
                after.get_content(outside)


def test_absolute_filenames_on_disk(tmp_path: Path) -> None:
    before = FSSpecBackend("files", "file")
    name = str(tmp_path / "x.txt")
    FileObject(backend=before, filename=name).save(b"1")
    assert ObstoreBackend.from_fsspec(before).get_content(name) == b"1"


def test_what_has_no_counterpart_is_refused() -> None:
    for before in (FSSpecBackend("m", "memory"), FSSpecBackend("m", "memory", prefix="x")):
        with pytest.raises(ConfigurationError, match="'m' cannot be opened by obstore"):
            ObstoreBackend.from_fsspec(before)


def test_it_is_a_backend_like_any_other(tmp_path: Path) -> None:
    before = FSSpecBackend("translated", fsspec.filesystem("file", auto_mkdir=True), prefix=str(tmp_path))
    after = ObstoreBackend.from_fsspec(before)
    storages.register_backend(after)
    file = FileObject(backend="translated", filename="a.txt", content=b"1").save()
    assert file.checksum
    assert pickle.loads(pickle.dumps(after)).get_content("a.txt") == b"1"
    storages.unregister_backend("translated")


def test_it_is_read_as_the_place_that_it_is(rclone_s3: S3Server) -> None:
    before = FSSpecBackend("files", rclone_s3.fs())
    after = ObstoreBackend.from_fsspec(before, key="new")
    assert read(after).key == "new"
    for name in ("bucket/a", "s3://bucket/a", "/bucket/a"):
        assert read(after).place(name) == read(before).place(name)
