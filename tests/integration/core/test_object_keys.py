"""S3 accepts exactly the keys that the predicate accepts."""

import pytest

from migrate_storage.translate import unaddressable
from tests.support.translate.hostile_keys import HOSTILE, addressed


@pytest.mark.parametrize("key", HOSTILE)
def test_s3_agrees(key, moto_s3):
    expected = addressed(moto_s3.store(moto_s3.new_bucket()), key)
    assert (unaddressable(key) is None) is expected
