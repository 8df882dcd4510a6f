"""Delete one object, also on services of S3's kind that lack DeleteObjects.

obstore deletes on S3 by DeleteObjects (https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html), one object too.
A service that refuses it gets a signed DELETE for each object
(https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObject.html).
"""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from contextlib import suppress
from datetime import timedelta
from typing import Any

import obstore
from obstore.store import S3Store

from migrate_storage.stores.sync_async import Caller

__all__ = ("delete_object",)

_SIGNATURE_LIFETIME = timedelta(minutes=5)
_TIMEOUT_SECONDS = 60.0
_REFUSAL = re.compile(r"\bPOST \S+[?&]delete\b.*\bstatus code: (400|404|405|501)\b", re.DOTALL)
"""obstore's message where a service refuses DeleteObjects. It does not report it for a bucket's objects: a missing one is no error."""
_refusing: set[tuple[str, str]] = set()
"""Endpoints and buckets that refused DeleteObjects and then accepted a DELETE."""


async def delete_object(caller: Caller, store: Any, key: str) -> None:
    """Delete one object.

    Args:
        caller: calls obstore.
        store: a store of obstore.
        key: below the store's own prefix.

    Raises:
        FileNotFoundError: there is no such bucket or, on other services than S3, no such object.
        Exception: what obstore raises. It is the refusal of DeleteObjects where a DELETE fails too.
    """
    if not isinstance(store, S3Store):
        await caller.call(store, "delete", key)
        return
    name = (str(store.config.get("endpoint", "")), str(store.config.get("bucket", "")))
    refusal: Exception | None = None
    if name not in _refusing:
        try:
            await caller.call(store, "delete", key)
        except Exception as error:
            if _REFUSAL.search(str(error)) is None:
                raise
            refusal = error
        else:
            return
    try:
        url = await caller.call(obstore, "sign", store, "DELETE", key, _SIGNATURE_LIFETIME)
        await caller.run_blocking(_send_delete, url)
    except FileNotFoundError:
        raise
    except Exception as error:  # noqa: BLE001 - its text may have the signed URL
        raise (refusal or error) from None
    _refusing.add(name)


def _send_delete(url: str) -> None:
    request = urllib.request.Request(url, method="DELETE")  # noqa: S310 - the store's own endpoint
    try:
        urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS).close()  # noqa: S310
    except urllib.error.HTTPError as error:
        with error, suppress(OSError):
            answer = error.read(4096)
            if error.code == 404 and b"NoSuchBucket" not in answer:
                return  # a missing object is no error
        if error.code == 404:
            raise FileNotFoundError("DELETE: the service answers 404 NoSuchBucket") from None
        raise OSError(f"DELETE: the service answers {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        raise OSError(f"DELETE: {error.reason}") from None
