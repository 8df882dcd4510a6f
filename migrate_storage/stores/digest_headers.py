"""What a HEAD shows of an object's digest, in headers that obstore and fsspec leave out.

S3 defines the ETag of an object that was written by one PUT as the MD5 of its bytes, but for objects that are encrypted
with KMS or with a customer's key (https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html). Google documents
the same of its XML API, and has the MD5 in ``x-goog-hash`` (https://cloud.google.com/storage/docs/hashes-etags). Azure has it in
``Content-MD5`` (https://learn.microsoft.com/rest/api/storageservices/get-blob-properties).
"""

from __future__ import annotations

import base64
import urllib.request
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal
from urllib.parse import quote

import obstore
from obstore.store import AzureStore, GCSStore, S3Store

from migrate_storage.stores.base import DigestHeaders, plain_e_tag
from migrate_storage.stores.config.nobody import make_credentials

__all__ = ("md5_to_hex", "read_digest_headers", "read_s3fs_digest_headers")

_SIGNATURE_LIFETIME = timedelta(minutes=5)
_TIMEOUT_SECONDS = 30.0
_CUSTOMER_KEYS = (
    "x-amz-server-side-encryption-customer-algorithm",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-goog-encryption-algorithm",
    "x-goog-encryption-kms-key-name",
)


def read_digest_headers(store: Any, path: str) -> DigestHeaders:
    """Send a signed HEAD.

    Args:
        store: a store of obstore.
        path: the key, below the store's own prefix.

    Returns:
        Nothing known where it cannot be seen: another service, no credentials that sign, no answer.
    """
    if not isinstance(store, (S3Store, GCSStore, AzureStore)):
        return DigestHeaders()
    try:
        # What Azure lets read by GET it lets read by HEAD; of HEAD obstore signs no right at all.
        headers = _request_signed(store, path, "GET" if isinstance(store, AzureStore) else "HEAD", "HEAD")
    except Exception:  # noqa: BLE001 - it is not seen then
        return DigestHeaders()
    return _read_headers(headers, md5=_find_md5(store, headers))


def _read_headers(headers: Mapping[str, str], md5: str | None = None) -> DigestHeaders:
    return DigestHeaders(
        e_tag=plain_e_tag(headers.get("etag")), md5=md5, encrypted=_names_encryption(headers),
        storage_class=_find_storage_class(headers), tag_count=int(headers.get("x-amz-tagging-count") or 0),
        removed_encoding="" if "content-encoding" in headers else headers.get("x-goog-stored-content-encoding", ""),
    )  # fmt: skip


def _request_signed(store: Any, path: str, signed: Literal["GET", "HEAD"], method: str) -> dict[str, str]:
    """Send a request that obstore signs, without a signature for an anonymous store; return the headers of the answer."""
    request = urllib.request.Request(_make_url(store, path, signed), method=method)  # noqa: S310 - the store's own endpoint
    with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310
        return {name.lower(): value for name, value in answer.headers.items()}


def _make_url(store: Any, path: str, signed: Literal["GET", "HEAD"]) -> str:
    # On Google Cloud Storage obstore signs a key as it is given.
    key = quote(path, safe="/-._~") if isinstance(store, GCSStore) else path
    if str(store.config.get("skip_signature", "")).lower() != "true":
        return obstore.sign(store, signed, key, _SIGNATURE_LIFETIME)
    # An anonymous store signs nothing. With keys that no user has it signs, and its URL is right without the signature.
    config = {name: value for name, value in store.config.items() if name != "skip_signature"}
    service = "s3" if isinstance(store, S3Store) else "azure" if isinstance(store, AzureStore) else "gcs"
    stranger = type(store)(
        prefix=store.prefix, config={**config, **make_credentials(service)}, client_options=store.client_options
    )
    return obstore.sign(stranger, signed, key, _SIGNATURE_LIFETIME).partition("?")[0]


def _find_storage_class(headers: Mapping[str, str]) -> str | None:
    # A blob without a tier of its own has that of its account.
    if headers.get("x-ms-access-tier-inferred", "").lower() == "true":
        return None
    named = ("x-amz-storage-class", "x-goog-storage-class", "x-ms-access-tier")
    return next((headers[name] for name in named if headers.get(name)), None)


def read_s3fs_digest_headers(filesystem: Any, path: str) -> DigestHeaders:
    """Ask a filesystem of s3fs; return as :func:`read_digest_headers` does."""
    if not hasattr(filesystem, "call_s3") or not hasattr(filesystem, "split_path"):
        return DigestHeaders()
    try:
        bucket, key, _ = filesystem.split_path(path)
        answer = filesystem.call_s3("head_object", Bucket=bucket, Key=key)["ResponseMetadata"]["HTTPHeaders"]
    except Exception:  # noqa: BLE001 - see above
        return DigestHeaders()
    headers = {str(name).lower(): str(value) for name, value in answer.items()}
    return _read_headers(headers)


def read_s3fs_tags(filesystem: Any, bucket: str, key: str) -> dict[str, str]:
    """Return the tags of an object, through a filesystem of s3fs.

    Raises:
        Exception: what s3fs raises.
    """
    answer = filesystem.call_s3("get_object_tagging", Bucket=bucket, Key=key)
    return {str(tag["Key"]): str(tag["Value"]) for tag in answer["TagSet"]}


def _find_md5(store: Any, headers: Mapping[str, str]) -> str | None:
    if isinstance(store, AzureStore):
        return md5_to_hex(headers.get("content-md5"))
    if isinstance(store, GCSStore):
        parts = (part.strip() for part in headers.get("x-goog-hash", "").split(","))
        return md5_to_hex(next((part.removeprefix("md5=") for part in parts if part.startswith("md5=")), None))
    return None


def md5_to_hex(encoded: str | None) -> str | None:
    """Return an MD5 in hex that a service gives in base64; ``None`` where it gives none."""
    try:
        return base64.b64decode(encoded, validate=True).hex() if encoded else None
    except ValueError:
        return None


def _names_encryption(headers: Mapping[str, str]) -> bool:
    if headers.get("x-amz-server-side-encryption", "").lower().startswith("aws:kms"):
        return True
    return any(headers.get(name) for name in _CUSTOMER_KEYS)
