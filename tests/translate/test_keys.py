"""The predicate says no exactly where obstore fails or reads something else."""

import obstore
import pytest
from obstore.store import LocalStore, MemoryStore

from migrate_storage.translate import unaddressable
from tests.translate.hostile import HOSTILE


def addressed(store, key: str) -> bool:
    """Whether a put under the key makes exactly that key, and can be read back."""
    try:
        obstore.put(store, key, b"x")
        listed = [meta["path"] for page in obstore.list(store) for meta in page]
        return listed == [key] and obstore.get(store, key).bytes() == b"x"
    except Exception:
        return False


@pytest.mark.parametrize("key", HOSTILE)
def test_memory_agrees(key):
    expected = addressed(MemoryStore(), key)
    assert (unaddressable(key) is None) is expected


@pytest.mark.parametrize("key", HOSTILE)
def test_local_disk_agrees(key, tmp_path):
    expected = addressed(LocalStore(tmp_path, mkdir=True), key)
    assert (unaddressable(key, local=True) is None) is expected


@pytest.mark.parametrize("key", HOSTILE)
def test_s3_agrees(key, moto_s3):
    expected = addressed(moto_s3.store(moto_s3.new_bucket()), key)
    assert (unaddressable(key) is None) is expected


def test_lone_surrogates_are_refused_with_words():
    assert unaddressable("a\ud800") == "is not valid Unicode"
