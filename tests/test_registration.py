"""Registrations are read without being used, and their places compare across drivers."""

import pytest
import s3fs
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend
from advanced_alchemy.types.file_object.backends.obstore import ObstoreBackend
from fsspec.implementations.dirfs import DirFileSystem
from obstore.store import S3Store

from migrate_storage.registration import read, same_service


def s3() -> s3fs.S3FileSystem:
    return s3fs.S3FileSystem(key="k", secret="s", endpoint_url="http://127.0.0.1:9000/", skip_instance_cache=True)


@pytest.mark.parametrize(
    ("backend", "filename", "key", "relative"),
    [
        (lambda: FSSpecBackend(key="a", fs=s3(), prefix="b/pre/"), "a/x", "pre/a/x", "a/x"),
        (lambda: FSSpecBackend(key="a", fs=s3(), prefix="b/pre/"), "//a", "pre/a", "a"),
        (lambda: FSSpecBackend(key="a", fs=s3()), "b/a", "a", "a"),
        (lambda: FSSpecBackend(key="a", fs=s3()), "s3://b/a", "a", "a"),
        (lambda: FSSpecBackend(key="a", fs=DirFileSystem("b/dd", s3()), prefix="pp"), "a", "dd/pp/a", "a"),
        (lambda: FSSpecBackend(key="a", fs=DirFileSystem("b/dd", s3())), "/a", "dd//a", "/a"),
    ],
)
def test_places_on_s3_are_those_of_obstore(backend, filename, key, relative):
    registration = read(backend(), {})
    place = registration.place(filename)
    assert (place.service, place.endpoint, place.root, place.key) == ("s3", "http://127.0.0.1:9000", "b", key)
    assert registration.relative(filename) == relative
    store = S3Store("b", endpoint="http://127.0.0.1:9000", access_key_id="k", secret_access_key="s")
    other = read(ObstoreBackend(key="o", fs=store), {}).place(key)
    assert other == place
    assert same_service(place, other) is True
