"""Whether a HEAD names an encryption of an object under which its ETag is no digest.

S3 defines the ETag of an object that was written by one PUT as the MD5 of its bytes, but for objects that are encrypted
with KMS or with a customer's key (https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html). Google says the same
of its XML API (https://cloud.google.com/storage/docs/hashes-etags). obstore and fsspec drop the headers that name it.
"""

from __future__ import annotations

import urllib.request
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import obstore
from obstore.store import GCSStore, S3Store

__all__ = ("fsspec_names_encryption", "obstore_names_encryption")

_SIGNATURE_LIFETIME = timedelta(minutes=5)
_TIMEOUT_SECONDS = 30.0
_CUSTOMER_KEYS = (
    "x-amz-server-side-encryption-customer-algorithm",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-goog-encryption-algorithm",
    "x-goog-encryption-kms-key-name",
)


def obstore_names_encryption(store: Any, path: str) -> bool:
    """Send a signed HEAD; return whether the answer names KMS or a customer's key.

    Returns:
        ``False`` too where that cannot be seen: another service, no credentials that sign, no answer.
    """
    if not isinstance(store, (S3Store, GCSStore)):
        return False
    try:
        url = obstore.sign(store, "HEAD", path, _SIGNATURE_LIFETIME)
        request = urllib.request.Request(url, method="HEAD")  # noqa: S310 - the store's own endpoint
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310
            return _names_encryption({name.lower(): value for name, value in answer.headers.items()})
    except Exception:  # noqa: BLE001 - it is not seen then, and the bytes stay unverified
        return False


def fsspec_names_encryption(filesystem: Any, path: str) -> bool:
    """Ask a filesystem of s3fs; return as :func:`obstore_names_encryption` does."""
    if not hasattr(filesystem, "call_s3") or not hasattr(filesystem, "split_path"):
        return False
    try:
        bucket, key, _ = filesystem.split_path(path)
        headers = filesystem.call_s3("head_object", Bucket=bucket, Key=key)["ResponseMetadata"]["HTTPHeaders"]
        return _names_encryption({str(name).lower(): str(value) for name, value in headers.items()})
    except Exception:  # noqa: BLE001 - see above
        return False


def _names_encryption(headers: Mapping[str, str]) -> bool:
    if headers.get("x-amz-server-side-encryption", "").lower().startswith("aws:kms"):
        return True
    return any(headers.get(name) for name in _CUSTOMER_KEYS)
