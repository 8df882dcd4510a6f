"""Both sides are read, and what differs is said."""

from advanced_alchemy.types.file_object import FileObject
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend
from fsspec.implementations.local import LocalFileSystem

from migrate_storage.jobs.translation_check import compare_files, list_filenames


class Shouting(LocalFileSystem):
    """Gives other bytes than the disk holds; the translation cannot know."""

    def _open(self, path, mode="rb", **options):
        opened = super()._open(path, mode, **options)
        if mode == "rb":
            content = opened.read().upper()
            opened.close()
            import io

            return io.BytesIO(content)
        return opened


def disk(tmp_path, fs="file"):
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(name.encode() * 10)
    return FSSpecBackend(key="k", fs=fs, prefix=str(tmp_path))


def test_equal_bytes_agree(tmp_path):
    results = compare_files(disk(tmp_path), ["a", "/b"])
    assert [(each.filename, each.size, each.agreed) for each in results] == [("a", 10, True), ("/b", 10, True)]


def test_other_bytes_do_not(tmp_path):
    (result,) = compare_files(disk(tmp_path, Shouting(skip_instance_cache=True)), ["a"])
    assert not result.agreed
    assert "the bytes differ" in result.reason


def test_missing_and_odd_files_are_named(tmp_path):
    missing, odd = compare_files(disk(tmp_path), ["nowhere", "x#1"])
    assert missing.reason == "fsspec does not find it"
    assert "obstore cannot address it" in odd.reason


def test_without_rows_the_store_is_listed(tmp_path):
    assert sorted(list_filenames(disk(tmp_path), 5)) == ["a", "b"]
    assert len(list_filenames(disk(tmp_path), 1)) == 1
    assert list_filenames(FSSpecBackend(key="m", fs="memory"), 5) == ()


def test_on_a_server(moto_s3):
    backend = FSSpecBackend(key="k", fs=moto_s3.fs(), prefix=f"{moto_s3.new_bucket()}/up")
    backend.save_object(FileObject(backend=backend, filename="d/é 1"), b"1")
    assert list_filenames(backend, 5) == ("d/é 1",)
    assert all(each.agreed for each in compare_files(backend, ["d/é 1"]))
