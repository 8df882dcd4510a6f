"""Both URLs of a file are compared before anything is sent, and a difference names its option."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import s3fs
from adlfs import AzureBlobFileSystem
from azure.core.credentials import AzureNamedKeyCredential
from fsspec.implementations.local import LocalFileSystem
from gcsfs import GCSFileSystem
from google.oauth2.credentials import Credentials

from migrate_storage.stores.config.url_check import compare_urls, find_url_difference
from migrate_storage.translate.registration import read_filesystem
from migrate_storage.translate.registration.requested_url import RequestedUrl
from tests.support.translate.aws_sweep import isolate_aws

KEY = "c2VjcmV0LWtleS1mb3ItdGVzdHM="
NAMES = ("a", "a b/ü+x%20.txt")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate_aws(monkeypatch, tmp_path)


def s3(**options: Any) -> s3fs.S3FileSystem:
    return s3fs.S3FileSystem(key="K", secret="S", **options, skip_instance_cache=True)


def azure(**options: Any) -> AzureBlobFileSystem:
    return AzureBlobFileSystem(**options, skip_instance_cache=True)


def gcs(**options: Any) -> GCSFileSystem:
    return GCSFileSystem(token="anon", **options, skip_instance_cache=True)


@pytest.mark.parametrize(
    ("make", "asked"),
    [
        (lambda: s3(client_kwargs={"region_name": "eu-west-1"}), "https://bkt.s3.eu-west-1.amazonaws.com/up/a (region eu-west-1)"),
        (lambda: s3(endpoint_url="http://127.0.0.1:9000"), "http://127.0.0.1:9000/bkt/up/a (region us-east-1)"),
        (lambda: s3(use_ssl=False), "http://bkt.s3.amazonaws.com/up/a (region us-east-1)"),
        (gcs, "https://storage.googleapis.com/bkt/up/a"),
        (lambda: gcs(endpoint_url="http://127.0.0.1:4443/base"), "http://127.0.0.1:4443/base/bkt/up/a"),
        (lambda: azure(account_name="acct", account_key=KEY), "https://acct.blob.core.windows.net/bkt/up/a"),
        (lambda: azure(account_name="acct", anon=True), "https://acct.blob.core.windows.net/bkt/up/a"),
        (lambda: azure(account_name="acct", account_key=KEY, location_mode="secondary"), "https://acct-secondary.blob.core.windows.net/bkt/up/a"),
        (
            lambda: azure(account_name="acct", account_key=KEY, location_mode="secondary", account_host="acct.blob.core.usgovcloudapi.net"),
            "https://acct-secondary.blob.core.usgovcloudapi.net/bkt/up/a",
        ),
        *(
            (lambda host=host: azure(account_name="acct", sas_token="sv=1&sig=x", account_host=host), f"https://{host}/bkt/up/a")
            for host in (
                "acct.blob.core.chinacloudapi.cn", "acct.privatelink.blob.core.windows.net", "acct.z22.blob.storage.azure.net",
                "onelake.blob.fabric.microsoft.com", "acct-secondary.blob.core.windows.net", "127.0.0.1:10000",
            )
        ),
        *(
            (lambda text=text: azure(connection_string=text), f"{url}/bkt/up/a")
            for text, url in (
                (f"AccountName=acct;AccountKey={KEY}", "https://acct.blob.core.windows.net"),
                (f"AccountName=acct;AccountKey={KEY};EndpointSuffix=core.chinacloudapi.cn", "https://acct.blob.core.chinacloudapi.cn"),
                (f"DefaultEndpointsProtocol=http;AccountName=acct;AccountKey={KEY}", "https://acct.blob.core.windows.net"),
                ("UseDevelopmentStorage=true", "http://127.0.0.1:10000/devstoreaccount1"),
                (f"BlobEndpoint=https://acct.privatelink.blob.core.windows.net/;AccountName=acct;AccountKey={KEY}", "https://acct.privatelink.blob.core.windows.net"),
                ("BlobEndpoint=https://acct.blob.core.windows.net;SharedAccessSignature=sv=1&sig=x", "https://acct.blob.core.windows.net"),
            )
        ),
    ],
)  # fmt: skip
def test_equal_urls(make: Any, asked: str) -> None:
    registration = read_filesystem(make(), "bkt/up")
    for name in NAMES:
        compared = compare_urls(registration, name)
        assert compared.fsspec == compared.obstore, compared
        assert compared.reason == compared.difference == ""
    assert str(compare_urls(registration, "a").obstore) == asked


def test_a_difference_names_what_and_why() -> None:
    registration = read_filesystem(s3(endpoint_url="http://127.0.0.1:9000"), "bkt")
    other = RequestedUrl.of("https://elsewhere.example.com/bkt/a", "eu-west-1")
    compared = compare_urls(replace(registration, requested_url=lambda _: other), "a")
    assert "another scheme and host and port and region" in compared.difference
    assert "endpoint_url" in compared.difference
    assert "region_name" in compared.difference
    assert find_url_difference(replace(registration, requested_url=lambda _: other), ())


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: s3(cache_regions=True), "cache_regions"),
        (LocalFileSystem, "no URL of a service"),
        (lambda: s3(config_kwargs={"signature_version": "s3"}), "no translation"),
    ],
)
def test_what_cannot_be_compared_has_a_reason(make: Any, reason: str) -> None:
    compared = compare_urls(read_filesystem(make(), "bkt"), "a")
    assert reason in compared.reason
    assert compared.difference == ""


def test_what_s3fs_signs_is_compared_too() -> None:
    registration = read_filesystem(s3(client_kwargs={"region_name": "eu-west-1"}), "bkt")
    compared = compare_urls(registration, "a")
    assert compared.signed == compared.obstore
    other = RequestedUrl.of("https://bkt.s3.eu-west-2.amazonaws.com/a", "eu-west-2")
    compared = compare_urls(replace(registration, signed_url=lambda _: other), "a")
    assert compared.difference.startswith("fsspec signs https://bkt.s3.eu-west-2.amazonaws.com/a (region eu-west-2)")
    assert "region_name" in compared.difference


@pytest.mark.parametrize(
    ("make", "other", "says"),
    [
        (gcs, lambda: GCSFileSystem(token=Credentials("T"), skip_instance_cache=True), "fsspec asks as an access token, obstore would ask as anonymous"),
        (gcs, lambda: gcs(requester_pays="payer"), "fsspec asks as anonymous, billed to payer"),
        (
            lambda: azure(account_name="acct", account_key=KEY),
            lambda: azure(account_name="acct", credential=AzureNamedKeyCredential("other", KEY)),
            "fsspec asks as the key of account other, obstore would ask as the key of account acct",
        ),
        (
            lambda: azure(account_name="acct", account_key=KEY),
            lambda: azure(account_name="acct", sas_token="sv=1&sig=x"),
            "fsspec asks as a shared access signature",
        ),
    ],
)  # fmt: skip
def test_as_whom_both_ask_is_compared(make: Any, other: Any, says: str) -> None:
    registration = read_filesystem(make(), "bkt/up")
    assert compare_urls(registration, "a").difference == ""
    compared = compare_urls(replace(registration, filesystem=other()), "a")
    assert says in compared.difference
    assert KEY not in compared.difference
