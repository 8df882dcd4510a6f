"""Written through fsspec, translated, read through obstore: the same bytes, or a refusal, never another object's."""

import pytest
from advanced_alchemy.types.file_object import FileObject
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend
from fsspec.implementations.cached import SimpleCacheFileSystem
from fsspec.implementations.dirfs import DirFileSystem

from migrate_storage.backend import ObstoreBackend
from migrate_storage.core.errors import KeyRefusedError
from migrate_storage.translate import unaddressable
from migrate_storage.translate.registration import read
from tests.support.translate.hostile_keys import HOSTILE


def written(backend: FSSpecBackend, filename: str, content: bytes) -> bool:
    """Whether the old side takes the file at all, and gives it back."""
    try:
        backend.save_object(FileObject(backend=backend, filename=filename), content)
        return backend.get_content(filename) == content
    except Exception:
        return False


def both_sides_agree(backend: FSSpecBackend, keys=HOSTILE) -> int:
    """Every file that the old side holds is read with the same bytes, or refused as a key; how many were read."""
    contents = {}
    for number, key in enumerate(keys):
        content = b"%d:" % number + key.encode()
        if written(backend, key, content):
            contents[key] = content
    registration = read(backend)
    translated = ObstoreBackend.from_fsspec(backend)
    count = 0
    for key in contents:
        expected = backend.get_content(key)  # two hostile keys may be one object on the old side too
        place = registration.place(key)
        if not key or unaddressable(place.key, local=place.service == "file"):
            with pytest.raises(KeyRefusedError):
                translated.get_content(key)
            continue
        assert translated.get_content(key) == expected, key
        count += 1
    return count


def impatient(server):
    """An ``S3FileSystem`` that asks once: servers answer some of these keys with an error that s3fs would retry."""
    fs = server.fs(config_kwargs={"s3": {"addressing_style": "path"}, "retries": {"max_attempts": 0}})
    fs.retries = 1
    return fs


FEWEST = 20


@pytest.mark.parametrize("prefix", ["{bucket}", "{bucket}/up/a b%20#?é", "s3://{bucket}/pre/"])
def test_s3_bucket_in_the_prefix(moto_s3, prefix):
    backend = FSSpecBackend(key="k", fs=impatient(moto_s3), prefix=prefix.format(bucket=moto_s3.new_bucket()))
    assert both_sides_agree(backend) >= FEWEST


def test_s3_with_signatures_checked(rclone_s3):
    # It keeps objects as files: what no file can be called, it refuses so slowly that moto has to stand for it.
    keys = [key for key in HOSTILE if unaddressable(key, local=True) is None]
    backend = FSSpecBackend(key="k", fs=impatient(rclone_s3), prefix=f"{rclone_s3.new_bucket()}/up/a b%20?é")
    assert both_sides_agree(backend, keys) >= FEWEST


def test_s3_buckets_in_the_filenames(moto_s3):
    one, other = moto_s3.new_bucket(), moto_s3.new_bucket()
    backend = FSSpecBackend(key="k", fs=impatient(moto_s3))
    keys = [f"{bucket}/{key}" for bucket in (one, f"s3://{other}", f"/{one}/x") for key in HOSTILE if key]
    assert both_sides_agree(backend, keys) >= 3 * FEWEST


def test_s3_through_folders_and_caches(moto_s3):
    bucket = moto_s3.new_bucket()
    inner = SimpleCacheFileSystem(fs=DirFileSystem(f"{bucket}/dd", impatient(moto_s3)))
    backend = FSSpecBackend(key="k", fs=DirFileSystem(f"{bucket}/dd", impatient(moto_s3)), prefix="pp")
    assert both_sides_agree(backend) >= FEWEST
    cached = FSSpecBackend(key="k", fs=inner, prefix="pp")
    backend.save_object(FileObject(backend=backend, filename="seen"), b"before")
    assert cached.get_content("seen") == b"before"
    backend.save_object(FileObject(backend=backend, filename="seen"), b"after, and longer")
    # What the cache would not have seen:
    assert ObstoreBackend.from_fsspec(cached).get_content("seen") == b"after, and longer"


def test_s3_virtual_hosts_without_a_bucket(rclone_s3):
    """The style is named per bucket once the bucket is known; here only that the translation stays readable."""
    fs = rclone_s3.fs(config_kwargs={"s3": {"addressing_style": "auto"}})
    backend = FSSpecBackend(key="k", fs=fs)
    bucket = rclone_s3.new_bucket()
    assert both_sides_agree(backend, [f"{bucket}/a", f"s3://{bucket}/b"]) == 2


@pytest.mark.parametrize("prefix", ["{container}", "abfs://{container}/up/a b"])
def test_azure(azurite, prefix):
    backend = FSSpecBackend(key="k", fs=azurite.fs(), prefix=prefix.format(container=azurite.new_container()))
    assert both_sides_agree(backend) >= FEWEST


def test_azure_containers_in_the_filenames(azurite):
    container = azurite.new_container()
    backend = FSSpecBackend(key="k", fs=azurite.fs())
    assert both_sides_agree(backend, [f"{container}/{key}" for key in HOSTILE if key]) >= FEWEST


def test_gcs(gcs):
    # The emulator answers 500 to what no file can be called, and gcsfs asks again for a minute.
    keys = [key for key in HOSTILE if unaddressable(key, local=True) is None and len(key.encode()) < 200]
    backend = FSSpecBackend(key="k", fs=gcs.fs(), prefix=f"{gcs.new_bucket()}/up/a b")
    assert both_sides_agree(backend, keys) >= FEWEST


def test_local_disk(tmp_path):
    backend = FSSpecBackend(key="k", fs="file", prefix=str(tmp_path / "a b%20#?"), auto_mkdir=True)
    assert both_sides_agree(backend, [key for key in HOSTILE if ".." not in key]) >= FEWEST


def test_local_disk_without_prefix(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    backend = FSSpecBackend(key="k", fs="file", auto_mkdir=True)
    assert both_sides_agree(backend, ["rel/a", f"{tmp_path}/abs", f"file://{tmp_path}/url"]) == 3


def test_memory_can_only_be_a_source_here():
    backend = FSSpecBackend(key="k", fs="memory")
    assert written(backend, "x", b"1")
    assert read(backend).place("x").service == "memory"
    with pytest.raises(ValueError, match="memory"):
        ObstoreBackend.from_fsspec(backend)


def test_a_plain_backend_of_the_translation_reads_the_relative_names(moto_s3):
    bucket = moto_s3.new_bucket()
    backend = FSSpecBackend(key="k", fs=impatient(moto_s3), prefix=f"{bucket}/pre")
    assert written(backend, "/a/b", b"1")
    registration = read(backend)
    plain = ObstoreBackend("k", registration.translation.config)
    assert plain.get_content(registration.relative("/a/b")) == b"1"
