"""The predicate says no exactly where obstore fails or reads something else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from obstore.store import LocalStore, MemoryStore

from migrate_storage.translate import decode_key, encode_key, unaddressable
from tests.support.translate.hostile_keys import HOSTILE, addressed


@pytest.mark.parametrize("key", HOSTILE)
def test_memory_agrees(key):
    expected = addressed(MemoryStore(), key)
    assert (unaddressable(key) is None) is expected


@pytest.mark.parametrize("key", HOSTILE)
def test_local_disk_agrees(key, tmp_path):
    expected = addressed(LocalStore(tmp_path, mkdir=True), key)
    assert (unaddressable(key, local=True) is None) is expected


def test_lone_surrogates_are_refused_with_words():
    assert unaddressable("a\ud800") == "is not valid Unicode"


@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize("key", HOSTILE)
def test_the_encode_rule_makes_every_key_addressable_that_a_name_can_help(key, local, tmp_path):
    encoded = encode_key(key, local=local)
    if unaddressable(key, local=local) is None:
        assert encoded == key
        return
    if key == "" or "longer" in str(unaddressable(key, local=local)):
        assert unaddressable(encoded, local=local)
        return
    assert decode_key(encoded) == key
    assert addressed(LocalStore(tmp_path, mkdir=True) if local else MemoryStore(), encoded)


@given(st.text(alphabet=st.sampled_from("/./.%#1a\x00\n\ud800é2F"), min_size=1, max_size=12), st.booleans())
def test_the_encode_rule_can_be_undone_and_is_addressable(key, local):
    encoded = encode_key(key, local=local)
    assert unaddressable(encoded, local=local) is None
    if encoded != key:
        assert decode_key(encoded) == key
