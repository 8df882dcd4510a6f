"""The URLs that consoles show, as stores: host, bucket, and what a request asks."""

from __future__ import annotations

import pytest

from migrate_storage import ObstoreBackend

S3_KEYS = {"aws_access_key_id": "K", "aws_secret_access_key": "S"}


@pytest.mark.parametrize(
    ("url", "asked", "region"),
    [
        ("https://bkt.s3-fips.us-gov-west-1.amazonaws.com/x", "https://s3-fips.us-gov-west-1.amazonaws.com/bkt/x/a", "us-gov-west-1"),
        ("https://bkt.s3.dualstack.us-west-2.amazonaws.com/", "https://s3.dualstack.us-west-2.amazonaws.com/bkt/a", "us-west-2"),
        ("https://bkt.s3-us-west-2.amazonaws.com/", "https://s3-us-west-2.amazonaws.com/bkt/a", "us-west-2"),
        ("https://my.dots.s3.eu-west-1.amazonaws.com/", "https://s3.eu-west-1.amazonaws.com/my.dots/a", "eu-west-1"),
        ("https://bkt.s3.cn-north-1.amazonaws.com.cn/x", "https://s3.cn-north-1.amazonaws.com.cn/bkt/x/a", "cn-north-1"),
        ("https://bkt.s3.eusc-de-east-1.amazonaws.eu/x", "https://s3.eusc-de-east-1.amazonaws.eu/bkt/x/a", "eusc-de-east-1"),
        ("https://bkt.s3.us-iso-east-1.c2s.ic.gov/x", "https://s3.us-iso-east-1.c2s.ic.gov/bkt/x/a", "us-iso-east-1"),
        ("https://bkt.s3-accelerate.amazonaws.com/x", "https://bkt.s3-accelerate.amazonaws.com/x/a", "us-east-1"),
        ("https://bucket.vpce-1a2b-3c.s3.us-east-1.vpce.amazonaws.com/bkt/x", "https://bucket.vpce-1a2b-3c.s3.us-east-1.vpce.amazonaws.com/bkt/x/a", "us-east-1"),
        ("https://s3.us-west-004.backblazeb2.com/MyB/x", "https://s3.us-west-004.backblazeb2.com/MyB/x/a", "us-west-004"),
        ("https://bkt.s3.us-west-004.backblazeb2.com/x", "https://s3.us-west-004.backblazeb2.com/bkt/x/a", "us-west-004"),
        ("https://s3.wasabisys.com/bkt", "https://s3.wasabisys.com/bkt/a", "us-east-1"),
        ("https://bkt.s3.eu-central-1.wasabisys.com/", "https://s3.eu-central-1.wasabisys.com/bkt/a", "eu-central-1"),
        ("https://s3.gra.io.cloud.ovh.net/bkt", "https://s3.gra.io.cloud.ovh.net/bkt/a", "gra"),
        ("https://bkt.s3.fr-par.scw.cloud/x", "https://s3.fr-par.scw.cloud/bkt/x/a", "fr-par"),
        ("https://fsn1.your-objectstorage.com/bkt", "https://fsn1.your-objectstorage.com/bkt/a", "fsn1"),
        ("https://bkt.fly.storage.tigris.dev/x", "https://fly.storage.tigris.dev/bkt/x/a", "auto"),
        ("https://bkt.oss-cn-hangzhou-internal.aliyuncs.com/x", "https://bkt.oss-cn-hangzhou-internal.aliyuncs.com/x/a", "cn-hangzhou"),
        ("https://bkt-125.cos.ap-guangzhou.myqcloud.com/x", "https://bkt-125.cos.ap-guangzhou.myqcloud.com/x/a", "ap-guangzhou"),
        ("https://bkt.gateway.storjshare.io/x", "https://gateway.storjshare.io/bkt/x/a", "us-east-1"),
        ("https://gateway.eu1.storjshare.io/bkt/x", "https://gateway.eu1.storjshare.io/bkt/x/a", "us-east-1"),
        ("https://bkt.l5g3.ldn.idrivee2-42.com/x", "https://l5g3.ldn.idrivee2-42.com/bkt/x/a", "us-east-1"),
        ("https://s3.eu-central-1.idrivee2.com/bkt/x", "https://s3.eu-central-1.idrivee2.com/bkt/x/a", "eu-central-1"),
        ("https://bkt.s3.private.eu-de.cloud-object-storage.appdomain.cloud/x", "https://s3.private.eu-de.cloud-object-storage.appdomain.cloud/bkt/x/a", "eu-de"),
        ("https://ns.compat.objectstorage.eu-frankfurt-1.oraclecloud.com/bkt/x", "https://ns.compat.objectstorage.eu-frankfurt-1.oraclecloud.com/bkt/x/a", "eu-frankfurt-1"),
        ("https://bkt.vhcompat.objectstorage.eu-frankfurt-1.oci.customer-oci.com/x", "https://bkt.vhcompat.objectstorage.eu-frankfurt-1.oci.customer-oci.com/x/a", "eu-frankfurt-1"),
        ("https://bkt.oss-cn-hangzhou.aliyuncs.com/x", "https://bkt.oss-cn-hangzhou.aliyuncs.com/x/a", "cn-hangzhou"),
        ("https://bkt.nyc3.digitaloceanspaces.com./x", "https://nyc3.digitaloceanspaces.com/bkt/x/a", "nyc3"),
        ("https://NYC3.DigitalOceanSpaces.com:443/bkt/x", "https://nyc3.digitaloceanspaces.com/bkt/x/a", "nyc3"),
    ],
)  # fmt: skip
def test_s3(monkeypatch: pytest.MonkeyPatch, url: str, asked: str, region: str) -> None:
    monkeypatch.delenv("AWS_REGION", raising=False)
    signed = str(ObstoreBackend("x", url, **S3_KEYS).sign("a"))
    assert signed.partition("?")[0] == asked
    assert f"%2F{region}%2Fs3%2F" in signed


@pytest.mark.parametrize(
    ("endpoint", "asked", "region"),
    [
        ("https://nyc3.digitaloceanspaces.com", "https://nyc3.digitaloceanspaces.com/bkt/x/a", "nyc3"),
        ("https://nyc3.digitaloceanspaces.com.:443/", "https://nyc3.digitaloceanspaces.com/bkt/x/a", "nyc3"),
        ("https://nyc3.digitaloceanspaces.com/bkt", "https://nyc3.digitaloceanspaces.com/bkt/x/a", "nyc3"),
        ("https://bkt.nyc3.digitaloceanspaces.com", "https://nyc3.digitaloceanspaces.com/bkt/x/a", "nyc3"),
        ("https://oss-cn-hangzhou.aliyuncs.com", "https://bkt.oss-cn-hangzhou.aliyuncs.com/x/a", "cn-hangzhou"),
        ("https://bkt.oss-cn-hangzhou.aliyuncs.com", "https://bkt.oss-cn-hangzhou.aliyuncs.com/x/a", "cn-hangzhou"),
        ("https://cos.ap-guangzhou.myqcloud.com", "https://bkt.cos.ap-guangzhou.myqcloud.com/x/a", "ap-guangzhou"),
        ("https://s3-accelerate.amazonaws.com", "https://bkt.s3-accelerate.amazonaws.com/x/a", "us-east-1"),
        ("https://bkt.s3-accelerate.amazonaws.com", "https://bkt.s3-accelerate.amazonaws.com/x/a", "us-east-1"),
        ("https://s3.amazonaws.com", "https://s3.amazonaws.com/bkt/x/a", "us-east-1"),
        ("https://minio.example:443/base", "https://minio.example/base/bkt/x/a", "us-east-1"),
    ],
)
def test_the_endpoint_that_a_console_shows(
    monkeypatch: pytest.MonkeyPatch, endpoint: str, asked: str, region: str
) -> None:
    monkeypatch.delenv("AWS_REGION", raising=False)
    signed = str(ObstoreBackend("x", "s3://bkt/x", aws_endpoint=endpoint, **S3_KEYS).sign("a"))
    assert signed.partition("?")[0] == asked
    assert f"%2F{region}%2Fs3%2F" in signed


@pytest.mark.parametrize(
    ("url", "asked", "account"),
    [
        ("abfss://ws@onelake.dfs.fabric.microsoft.com/lh.Lakehouse/Files", "https://onelake.blob.fabric.microsoft.com/ws/lh.Lakehouse/Files/a", "onelake"),
        ("https://onelake.dfs.fabric.microsoft.com/ws/lh.Lakehouse/Files", "https://onelake.blob.fabric.microsoft.com/ws/lh.Lakehouse/Files/a", "onelake"),
        ("https://onelake.blob.fabric.microsoft.com/ws/lh", "https://onelake.blob.fabric.microsoft.com/ws/lh/a", "onelake"),
        ("https://westus-onelake.dfs.fabric.microsoft.com/ws/lh", "https://westus-onelake.blob.fabric.microsoft.com/ws/lh/a", "westus-onelake"),
        ("https://acct.z22.blob.storage.azure.net/c/p", "https://acct.z22.blob.storage.azure.net/c/p/a", "acct"),
        ("abfss://c@acct.z22.dfs.storage.azure.net/p", "https://acct.z22.blob.storage.azure.net/c/p/a", "acct"),
        ("https://acct.privatelink.blob.core.windows.net/c", "https://acct.privatelink.blob.core.windows.net/c/a", "acct"),
        ("https://acct-secondary.blob.core.windows.net/c", "https://acct-secondary.blob.core.windows.net/c/a", "acct"),
        ("abfss://c@acct.dfs.core.chinacloudapi.cn/p", "https://acct.blob.core.chinacloudapi.cn/c/p/a", "acct"),
        ("https://acct.blob.core.windows.net:443/c", "https://acct.blob.core.windows.net/c/a", "acct"),
        ("https://acct.blob.core.windows.net./c", "https://acct.blob.core.windows.net/c/a", "acct"),
        ("abfss://c@acct.dfs.core.windows.net./p", "https://acct.blob.core.windows.net/c/p/a", "acct"),
        ("abfss://c@acct.privatelink.dfs.core.windows.net/p", "https://acct.privatelink.blob.core.windows.net/c/p/a", "acct"),
        ("abfss://c@acct.dfs.core.windows.net/p", "https://acct.blob.core.windows.net/c/p/a", "acct"),
    ],
)  # fmt: skip
def test_azure(url: str, asked: str, account: str) -> None:
    """fsspec/adlfs#486, apache/arrow-rs-object-store#117: a token for OneLake goes to OneLake."""
    backend = ObstoreBackend("x", url, azure_storage_account_key="c2VjcmV0")
    assert str(backend.sign("a")).partition("?")[0] == asked
    assert backend.config.options["account_name"] == account


@pytest.mark.parametrize(
    ("bucket", "endpoint", "asked"),
    [
        ("MyBucket", None, "https://s3.us-east-1.amazonaws.com/MyBucket/a"),
        ("bkt", None, "https://bkt.s3.us-east-1.amazonaws.com/a"),
        ("bkt", "https://h", "https://bkt.h/a"),
        ("bkt", "https://bkt.h", "https://bkt.h/a"),
        ("MyBucket", "https://MyBucket.h", "https://h/MyBucket/a"),
        ("my.dots", "https://h/base", "https://h/base/my.dots/a"),
        ("bkt", "http://127.0.0.1:9000", "http://127.0.0.1:9000/bkt/a"),
    ],
)
def test_the_style_follows_the_name(bucket: str, endpoint: str | None, asked: str) -> None:
    options = {**S3_KEYS, "aws_region": "us-east-1", "aws_virtual_hosted_style_request": True}
    backend = ObstoreBackend("x", f"s3://{bucket}", aws_endpoint=endpoint, **options)
    assert str(backend.sign("a")).partition("?")[0] == asked


def test_an_endpoint_of_the_environment_gets_the_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://h")
    options = {**S3_KEYS, "aws_virtual_hosted_style_request": True}
    assert str(ObstoreBackend("x", "s3://bkt", **options).sign("a")).startswith("https://bkt.h/a?")
