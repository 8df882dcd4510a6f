"""Each configuration of advanced-alchemy's guide, said to fsspec, translates into what the guide says to obstore."""

import pytest

from migrate_storage.backend import ObstoreBackend
from migrate_storage.translate import translate
from migrate_storage.translate.registration import read

KEYS = {"key": "AKIAIOSFODNN7EXAMPLE", "secret": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}
AWS = {"aws_access_key_id": KEYS["key"], "aws_secret_access_key": KEYS["secret"]}
AZURE_KEY = "c2VjcmV0LWtleS1mb3ItdGVzdHM="
AZURE_STRING = f"DefaultEndpointsProtocol=https;AccountName=acct;AccountKey={AZURE_KEY};EndpointSuffix=core.windows.net"


def region(name):
    return {"client_kwargs": {"region_name": name}}


GUIDE = {
    "access keys": (
        ("s3", {**KEYS, **region("us-west-2")}, "my-bucket"),
        {"fs": "s3://my-bucket/", **AWS, "aws_region": "us-west-2"},
    ),
    "IAM role": (("s3", region("us-west-2"), "my-bucket"), {"fs": "s3://my-bucket/", "aws_region": "us-west-2"}),
    "MinIO": (
        ("s3", {**KEYS, "endpoint_url": "http://localhost:9000", **region("us-east-1")}, "my-bucket"),
        {
            "fs": "s3://my-bucket/",
            "aws_endpoint": "http://localhost:9000",
            **AWS,
            "aws_region": "us-east-1",
            "aws_allow_http": True,
        },
    ),
    "MinIO in production": (
        ("s3", {**KEYS, "endpoint_url": "https://minio.example.com", **region("us-east-1")}, "production-bucket"),
        {
            "fs": "s3://production-bucket/",
            "aws_endpoint": "https://minio.example.com",
            **AWS,
            "aws_region": "us-east-1",
            "aws_allow_http": False,
        },
    ),
    "R2": (
        (
            "s3",
            {**KEYS, "endpoint_url": "https://account-id.r2.cloudflarestorage.com", **region("auto")},
            "my-bucket",
        ),
        {"fs": "s3://my-bucket/", "aws_endpoint": "https://account-id.r2.cloudflarestorage.com", **AWS},
    ),
    "Spaces": (
        ("s3", {**KEYS, "endpoint_url": "https://nyc3.digitaloceanspaces.com", **region("us-east-1")}, "my-space"),
        {
            "fs": "s3://my-space/",
            "aws_endpoint": "https://nyc3.digitaloceanspaces.com",
            **AWS,
            "aws_region": "us-east-1",
        },
    ),
    "GCS default credentials": (("gcs", {"token": "google_default"}, "my-bucket"), {"fs": "gs://my-bucket/"}),
    "Azure connection string": (
        ("abfs", {"connection_string": AZURE_STRING}, "my-container"),
        {"fs": "az://my-container/", "azure_storage_connection_string": AZURE_STRING},
    ),
    "Azure account key": (
        ("abfs", {"account_name": "mystorageaccount", "account_key": AZURE_KEY}, "my-container"),
        {
            "fs": "az://my-container/",
            "azure_storage_account_name": "mystorageaccount",
            "azure_storage_account_key": AZURE_KEY,
        },
    ),
    "Azure SAS": (
        ("abfs", {"account_name": "mystorageaccount", "sas_token": "sv=1&sig=x"}, "my-container"),
        {
            "fs": "az://my-container/",
            "azure_storage_account_name": "mystorageaccount",
            "azure_storage_sas_token": "sv=1&sig=x",
        },
    ),
    "migration from fsspec": (
        ("s3", {**KEYS}, "my-bucket"),
        {"fs": "s3://my-bucket/", **AWS},
    ),
}


@pytest.mark.parametrize(("before", "after"), GUIDE.values(), ids=GUIDE.keys())
def test_configuration(before, after, monkeypatch):
    monkeypatch.delenv("AWS_REGION", raising=False)
    translated = translate(*before).config
    guide = ObstoreBackend(key="k", **after).config
    assert (translated.service, translated.root, translated.prefix) == (guide.service, guide.root, guide.prefix)
    # A region that the guide leaves out is one that obstore, or the vendor, assumes.
    expected = (
        {"region": translated.options.get("region"), **guide.options} if guide.service == "s3" else dict(guide.options)
    )
    expected.pop("connection_string", None)
    assert {name: value for name, value in translated.options.items() if name in expected} == expected
    assert bool(translated.client_options.get("allow_http")) is bool(guide.client_options.get("allow_http"))


def test_local_disk(tmp_path):
    translated = translate("file", {}, str(tmp_path / "uploads")).config
    guide = read(ObstoreBackend(key="local", fs=f"file://{tmp_path}/uploads/")).translation.config
    assert translated.root == guide.root


def test_service_account(tmp_path):
    from migrate_storage.translate.protocols.gcs import CredentialFile

    config = translate(
        "gcs", {"token": CredentialFile("/path/to/service-account.json", "service_account")}, "my-bucket"
    ).config
    assert (config.root, dict(config.options)) == ("my-bucket", {"service_account": "/path/to/service-account.json"})


def test_memory():
    assert translate("memory").config.service == ObstoreBackend(key="memory", fs="memory://").config.service
