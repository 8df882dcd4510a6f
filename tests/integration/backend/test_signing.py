"""Signed URLs: right for hosts that cannot be reached here, and for every key."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrate_storage import ObstoreBackend
from migrate_storage.core.errors import KeyRefusedError
from tests.support.backend.signatures import ACCOUNT_KEY, KEYS, SERVICE_ACCOUNT, check_gcs_signature, check_s3_signature


@pytest.mark.parametrize(
    ("url", "options", "base", "region"),
    [
        ("s3://my-bucket/", {"aws_region": "us-west-2"}, "https://s3.us-west-2.amazonaws.com/my-bucket/", "us-west-2"),
        ("s3://my-bucket", {}, "https://s3.us-east-1.amazonaws.com/my-bucket/", "us-east-1"),
        ("s3://b", {"aws_region": "cn-north-1"}, "https://s3.cn-north-1.amazonaws.com.cn/b/", "cn-north-1"),
        (
            "s3://my-bucket/",
            {"aws_endpoint": "https://account-id.r2.cloudflarestorage.com"},
            "https://account-id.r2.cloudflarestorage.com/my-bucket/",
            "auto",
        ),
        (
            "https://account-id.r2.cloudflarestorage.com/my-bucket/",
            {},
            "https://account-id.r2.cloudflarestorage.com/my-bucket/",
            "auto",
        ),
        (
            "s3://my-space/",
            {"aws_endpoint": "https://nyc3.digitaloceanspaces.com", "aws_region": "us-east-1"},
            "https://nyc3.digitaloceanspaces.com/my-space/",
            "us-east-1",
        ),
        ("https://my-space.nyc3.digitaloceanspaces.com", {}, "https://nyc3.digitaloceanspaces.com/my-space/", "nyc3"),
        ("s3://production-bucket/", {"aws_endpoint": "https://minio.example.com", "aws_region": "us-east-1"}, "https://minio.example.com/production-bucket/", "us-east-1"),
        (
            "s3://bucket",
            {"aws_endpoint": "https://bucket.nyc3.example.com", "virtual_hosted_style_request": True, "region": "r"},
            "https://bucket.nyc3.example.com/",
            "r",
        ),
    ],
)  # fmt: skip
def test_vendors_by_their_urls(url: str, options: dict[str, Any], base: str, region: str) -> None:
    backend = ObstoreBackend("k", url, **KEYS, **options)
    for key in ("a/b.txt", "ü #?%.txt"):
        for upload in (False, True):
            signed = str(backend.sign(key, expires_in=60, for_upload=upload))
            assert signed.startswith(base + quote(key, safe="/~"))
            found = check_s3_signature(signed, "PUT" if upload else "GET")
            assert (found["key"], found["region"], found["X-Amz-Expires"]) == ("AKID", region, "60")


odd = st.text(alphabet="aZ09 #?%&+=@:()~'!*$,;[]|^`{}\"<>é日", min_size=1, max_size=10).filter(
    lambda text: text.strip(".") == text
)


@given(key=odd, prefix=st.one_of(st.none(), odd))
def test_every_key_under_every_prefix(key: str, prefix: str | None) -> None:
    whole = f"{prefix}/{key}" if prefix else key
    s3 = str(ObstoreBackend("k", "s3://b", prefix=prefix, region="r", **KEYS).sign(key))
    check_s3_signature(s3, "GET")
    gcs = str(ObstoreBackend("k", "gs://b", prefix=prefix, service_account_key=SERVICE_ACCOUNT).sign(key))
    check_gcs_signature(gcs, "GET")
    azure = str(ObstoreBackend("k", "az://b", prefix=prefix, account_name="a", account_key=ACCOUNT_KEY).sign(key))
    for url in (s3, gcs, azure):
        parts = urlsplit(url)
        assert not parts.fragment
        assert unquote(parts.path).removeprefix("/b/") == whole


def test_a_url_never_leaves_the_bucket() -> None:
    backend = ObstoreBackend("k", "gs://b", service_account_key=SERVICE_ACCOUNT)
    assert urlsplit(str(backend.sign("%2E%2E/other/secret"))).path == "/b/%252E%252E/other/secret"


def test_google_uploads_are_signed() -> None:
    backend = ObstoreBackend("k", "gs://b", service_account_key=SERVICE_ACCOUNT)
    check_gcs_signature(str(backend.sign("a b", for_upload=True, expires_in=604_800)), "PUT")


def test_azure_says_until_when_and_what_for() -> None:
    backend = ObstoreBackend("k", "az://c", account_name="acct", account_key=ACCOUNT_KEY)
    query = parse_qs(urlsplit(str(backend.sign("x", expires_in=60))).query)
    until = datetime.strptime(query["se"][0], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert 50 < (until - datetime.now(UTC)).total_seconds() <= 61
    assert (query["sp"], query["sr"]) == (["r"], ["b"])
    upload = str(backend.sign("x", for_upload=True, expires_in=10**8))
    assert parse_qs(urlsplit(upload).query)["sp"] == ["cw"]
    assert upload.startswith("https://acct.blob.core.windows.net/c/x?")


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("memory://", {}),
        ("file:///tmp/migrate-storage-sign", {}),
        ("https://example.com/", {}),
        ("s3://b", {"skip_signature": True}),
        ("gs://b", {"bearer_token": "t"}),
        ("gs://b", {"skip_signature": True}),
        ("gs://b", {"credential_provider": lambda: {"token": "t", "expires_at": None}}),
        ("az://c", {"account_name": "a", "sas_key": "sv=1&sig=x"}),
        ("az://c", {"account_name": "a", "skip_signature": True}),
    ],
    ids=lambda value: value if isinstance(value, str) else ",".join(value) or "plain",
)
async def test_stores_that_cannot_sign_say_so(url: str, options: dict[str, Any]) -> None:
    backend = ObstoreBackend("k", url, **options)
    with pytest.raises(NotImplementedError):
        backend.sign("x")
    with pytest.raises(NotImplementedError):
        await backend.sign_async(["x", "y"], for_upload=True)


def test_what_azure_would_refuse_is_refused_by_name() -> None:
    backend = ObstoreBackend("k", "az://c", account_name="a", token="t")
    with pytest.raises(KeyRefusedError, match="a b"):
        backend.sign("a b")


def test_the_account_of_the_environment_signs_every_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "acct")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", ACCOUNT_KEY)
    assert str(ObstoreBackend("k", "az://c").sign("a b")).startswith("https://acct.blob.core.windows.net/c/a%20b?")
