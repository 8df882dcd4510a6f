"""Objects are deleted on services that lack DeleteObjects, too, and nothing is called deleted that is still there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from obstore.store import S3Store

from migrate_storage import ObstoreBackend
from migrate_storage.core.errors import MissingBucketError
from migrate_storage.stores.obstore_store import ObstoreStore
from tests.support.copy_shim import CopyShim, copy_shim
from tests.support.servers import S3Server

NO_RETRIES = {"max_retries": 0}


@pytest.fixture
def shim(moto_s3: S3Server) -> Iterator[CopyShim]:
    with copy_shim(moto_s3.service.port) as running:
        yield running


def keys(server: S3Server, bucket: str) -> set[str]:
    return {each["Key"] for each in server.client.list_objects_v2(Bucket=bucket).get("Contents", ())}


@pytest.mark.parametrize("status", [400, 404, 405, 501])
async def test_one_by_one_where_deleteobjects_is_refused(shim: CopyShim, moto_s3: S3Server, status: int) -> None:
    shim.bulk_delete, bucket = status, moto_s3.new_bucket()
    names = ["a", "b ü#?%", "c/d", "e", "f", "stays"]
    for name in names:
        moto_s3.client.put_object(Bucket=bucket, Key=name, Body=b"1")
    store = S3Store(bucket, **{**moto_s3.options(), "endpoint": shim.endpoint}, retry_config=NO_RETRIES)
    backend = ObstoreBackend("k", store)
    backend.delete_object("a")
    backend.delete_object(["b ü#?%", "c/d"])
    await backend.delete_object_async("e")
    ObstoreStore(store, "k").delete("f")
    assert keys(moto_s3, bucket) == {"stays"}
    assert shim.deletes == 5
    backend.delete_object("missing")


@pytest.mark.parametrize("status", [403, 409, 500, 503])
def test_other_errors_are_no_reason_for_a_second_request(shim: CopyShim, moto_s3: S3Server, status: int) -> None:
    shim.bulk_delete, bucket = status, moto_s3.new_bucket()
    moto_s3.client.put_object(Bucket=bucket, Key="a", Body=b"1")
    store = S3Store(bucket, **{**moto_s3.options(), "endpoint": shim.endpoint}, retry_config=NO_RETRIES)
    for delete in (ObstoreBackend("k", store).delete_object, ObstoreStore(store, "k").delete):
        with pytest.raises(Exception, match=r".") as raised:
            delete("a")
        assert "X-Amz-Signature" not in str(raised.value)
    assert shim.deletes == 0
    assert keys(moto_s3, bucket) == {"a"}


def test_a_missing_bucket_is_said(shim: CopyShim, moto_s3: S3Server) -> None:
    shim.bulk_delete = 404
    store = S3Store("no-such-bucket", **{**moto_s3.options(), "endpoint": shim.endpoint}, retry_config=NO_RETRIES)
    with pytest.raises(MissingBucketError):
        ObstoreBackend("k", store).delete_object("a")
