"""Each option of ``S3FileSystem``: what obstore is given, and what is said."""

from pathlib import Path

import pytest
from botocore import UNSIGNED

from migrate_storage.translate import translate
from tests.support.translate.option_row import Row

KEYS = {"key": "K", "secret": "S"}
OWN = {"access_key_id": "K", "secret_access_key": "S"}
REGION = {"client_kwargs": {"region_name": "eu-west-1"}}
BASE = {**KEYS, **REGION}
OUT = {**OWN, "region": "eu-west-1"}
MINIO = {**BASE, "endpoint_url": "https://m.example.com"}
MINIO_OUT = {**OUT, "endpoint": "https://m.example.com"}
GLOBAL = {**OWN, "region": "us-east-1", "endpoint": "https://s3.amazonaws.com"}
PLAIN_HTTP = {**OUT, "endpoint": "http://s3.eu-west-1.amazonaws.com"}


def s3(options, expected=None, *codes, **more) -> Row:
    return Row("s3", options, expected or {}, codes=codes, **more)


def client(options, expected, *codes) -> Row:
    return Row("s3", {**BASE, **options}, OUT, client=expected, codes=codes)


def region(**kwargs):
    return {"region_name": "eu-west-1", **kwargs}


ROWS = {
    # constructor parameters
    "key": s3(BASE, OUT),
    "username": s3({"username": "K", "password": "S", **REGION}, OUT),
    "half a key": s3({"key": "K", **REGION}, {}, "s3.credentials.incomplete", refused=True),
    "other half": s3({"secret": "S", **REGION}, {}, "s3.credentials.incomplete", refused=True),
    "empty keys": s3(
        {"key": "", "secret": "", **REGION}, {}, "s3.credentials.empty", "s3.credentials.chain", refused=True
    ),
    "token": s3({**BASE, "token": "T"}, {**OUT, "session_token": "T"}, "credentials.expires"),
    "token alone": s3(
        {"token": "T", **REGION},
        {"region": "eu-west-1"},
        "s3.credentials.token_alone",
        "s3.credentials.chain",
        credentials="boto3",
    ),
    "anon": s3({"anon": True, **REGION}, {"skip_signature": True, "region": "eu-west-1"}),
    "anon with keys": s3(
        {"anon": True, **BASE}, {"skip_signature": True, "region": "eu-west-1"}, "s3.credentials.anonymous"
    ),
    "anon of an INI file": s3({"anon": "false", **REGION}, {"skip_signature": True, "region": "eu-west-1"}),
    "anon false": s3({"anon": False, **BASE}, OUT),
    "no keys": s3(REGION, {"region": "eu-west-1"}, "s3.credentials.chain", credentials="boto3"),
    "endpoint": s3(MINIO, MINIO_OUT),
    "endpoint with a slash": s3({**BASE, "endpoint_url": "https://m.example.com/"}, MINIO_OUT),
    "endpoint with a path": s3(
        {**BASE, "endpoint_url": "https://m.example.com/base/"}, {**OUT, "endpoint": "https://m.example.com/base"}
    ),
    "endpoint by http": s3(
        {**BASE, "endpoint_url": "http://127.0.0.1:9000"},
        {**OUT, "endpoint": "http://127.0.0.1:9000"},
        client={"allow_http": True},
    ),
    "endpoint without scheme": s3({**BASE, "endpoint_url": "localhost:9000"}, {}, "endpoint.scheme", refused=True),
    "endpoint with a user": s3({**BASE, "endpoint_url": "https://u:p@m.example.com"}, MINIO_OUT, "endpoint.userinfo"),
    "endpoint of the client": s3({**KEYS, "client_kwargs": region(endpoint_url="https://m.example.com")}, MINIO_OUT),
    "endpoint twice, the same": s3({**MINIO, "client_kwargs": region(endpoint_url="https://m.example.com")}, MINIO_OUT),
    "endpoint twice, different": s3(
        {**MINIO, "client_kwargs": region(endpoint_url="https://other.example.com")},
        {},
        "option.conflict",
        refused=True,
    ),
    "key twice, different": s3(
        {**BASE, "client_kwargs": region(aws_access_key_id="L")}, {}, "option.conflict", refused=True
    ),
    "use_ssl without endpoint": s3({**BASE, "use_ssl": False}, PLAIN_HTTP, "s3.use_ssl", client={"allow_http": True}),
    "use_ssl of the client": s3(
        {**KEYS, "client_kwargs": region(use_ssl=False)}, PLAIN_HTTP, "s3.use_ssl", client={"allow_http": True}
    ),
    "use_ssl with endpoint": s3({**MINIO, "use_ssl": False}, MINIO_OUT),
    "region of the config": s3({**KEYS, "config_kwargs": region()}, OUT),
    "region twice": s3({**BASE, "config_kwargs": {"region_name": "us-west-2"}}, OUT),
    "no region on AWS": s3(KEYS, GLOBAL, "s3.region.missing"),
    "the region with the global host": s3({**KEYS, "client_kwargs": {"region_name": "us-east-1"}}, GLOBAL),
    "the global region": s3({**KEYS, "client_kwargs": {"region_name": "aws-global"}}, GLOBAL),
    "no region on MinIO": s3({**MINIO, "client_kwargs": {}}, {**MINIO_OUT, "region": "us-east-1"}),
    "no region on R2": s3(
        {**KEYS, "endpoint_url": "https://a.r2.cloudflarestorage.com"},
        {**OWN, "region": "us-east-1", "endpoint": "https://a.r2.cloudflarestorage.com"},
    ),
    "no region's name": s3(
        {**KEYS, "client_kwargs": {"region_name": "not a region"}},
        {},
        "s3.region.invalid",
        "s3.region.missing",
        refused=True,
    ),
    "endpoint with a query": s3(
        {**BASE, "endpoint_url": "https://m.example.com?x=1"}, {}, "endpoint.query", refused=True
    ),
    "keys of the client": s3(
        {"client_kwargs": region(aws_access_key_id="K", aws_secret_access_key="S", aws_session_token="T")},
        {**OUT, "session_token": "T"},
        "credentials.expires",
    ),
    "verify false": s3(
        {**KEYS, "client_kwargs": region(verify=False)},
        OUT,
        "client.unverified",
        client={"allow_invalid_certificates": True},
    ),
    "verify true": s3({**KEYS, "client_kwargs": region(verify=True)}, OUT),
    "verify a file": s3(
        {**KEYS, "client_kwargs": region(verify="/ca.pem")},
        OUT,
        "client.ca_file",
        client={"root_certificate": Path("/ca.pem")},
    ),
    "other client arguments": s3(
        {**KEYS, "client_kwargs": region(api_version="2006", aws_account_id="1", config=object())},
        OUT,
        "option.dropped",
        "option.no_effect",
    ),
    "path style": s3({**MINIO, "config_kwargs": {"s3": {"addressing_style": "path"}}}, MINIO_OUT),
    "virtual style, own endpoint": s3(
        {**MINIO, "config_kwargs": {"s3": {"addressing_style": "virtual"}}},
        {**MINIO_OUT, "endpoint": "https://bucket.m.example.com", "virtual_hosted_style_request": True},
        prefix="bucket",
    ),
    "virtual style, a bucket that is no host's name": s3(
        {**MINIO, "config_kwargs": {"s3": {"addressing_style": "virtual"}}}, MINIO_OUT, prefix="My_Bucket"
    ),
    "virtual style, an address": s3(
        {**BASE, "endpoint_url": "http://127.0.0.1:9000", "config_kwargs": {"s3": {"addressing_style": "virtual"}}},
        {**OUT, "endpoint": "http://127.0.0.1:9000"},
        client={"allow_http": True},
        prefix="bucket",
    ),
    "the bucket in the endpoint": s3(
        {**BASE, "endpoint_url": "https://bucket.nyc3.digitaloceanspaces.com"},
        {**OUT, "endpoint": "https://bucket.nyc3.digitaloceanspaces.com", "virtual_hosted_style_request": False},
        prefix="bucket",
    ),
    "the bucket in the endpoint's path": s3(
        {**BASE, "endpoint_url": "https://a.r2.cloudflarestorage.com/bucket"},
        {**OUT, "endpoint": "https://a.r2.cloudflarestorage.com/bucket", "virtual_hosted_style_request": False},
        prefix="bucket/up",
    ),
    "virtual style, no bucket": s3(
        {**MINIO, "config_kwargs": {"s3": {"addressing_style": "virtual"}}},
        MINIO_OUT,
        "s3.endpoint.per_bucket",
        "place.per_row",
        prefix=None,
    ),
    "virtual style on AWS": s3(
        {**BASE, "config_kwargs": {"s3": {"addressing_style": "virtual"}}},
        {**OUT, "virtual_hosted_style_request": True},
        prefix="bucket",
    ),
    "no style on AWS": s3(BASE, {**OUT, "virtual_hosted_style_request": True}, prefix="bucket"),
    "path style on AWS": s3({**BASE, "config_kwargs": {"s3": {"addressing_style": "path"}}}, OUT, prefix="bucket"),
    "virtual style, dotted bucket": s3(
        {**BASE, "config_kwargs": {"s3": {"addressing_style": "virtual"}}}, OUT, prefix="my.bucket"
    ),
    "auto style": s3({**MINIO, "config_kwargs": {"s3": {"addressing_style": "auto"}}}, MINIO_OUT),
    "accelerate": s3(
        {**BASE, "config_kwargs": {"s3": {"use_accelerate_endpoint": True}}},
        {**OUT, "endpoint": "https://bucket.s3-accelerate.amazonaws.com", "virtual_hosted_style_request": True},
        prefix="bucket",
    ),
    "accelerate a bucket that cannot be": s3(
        {**BASE, "config_kwargs": {"s3": {"use_accelerate_endpoint": True}}},
        {},
        "s3.address",
        refused=True,
        prefix="my.bucket",
    ),
    "accelerate on MinIO": s3(
        {**MINIO, "config_kwargs": {"s3": {"use_accelerate_endpoint": True}}},
        {},
        "s3.endpoint.accelerate",
        refused=True,
    ),
    "fips in China": s3(
        {**KEYS, "client_kwargs": {"region_name": "cn-north-1"}, "config_kwargs": {"use_fips_endpoint": True}},
        {},
        "s3.address",
        refused=True,
    ),
    "the European sovereign cloud": s3(
        {**KEYS, "client_kwargs": {"region_name": "eusc-de-east-1"}},
        {**OWN, "region": "eusc-de-east-1", "endpoint": "https://s3.eusc-de-east-1.amazonaws.eu"},
    ),
    "a region that is closed off": s3(
        {**KEYS, "client_kwargs": {"region_name": "us-isob-east-1"}},
        {**OWN, "region": "us-isob-east-1", "endpoint": "https://s3.us-isob-east-1.sc2s.sgov.gov"},
    ),
    "accelerate, no bucket": s3(
        {**BASE, "config_kwargs": {"s3": {"use_accelerate_endpoint": True}}},
        OUT,
        "s3.endpoint.per_bucket",
        "place.per_row",
        prefix="/",
    ),
    "dual stack": s3(
        {**BASE, "config_kwargs": {"use_dualstack_endpoint": True}},
        {**OUT, "endpoint": "https://s3.dualstack.eu-west-1.amazonaws.com"},
    ),
    "dual stack of s3": s3(
        {**BASE, "config_kwargs": {"s3": {"use_dualstack_endpoint": True}}},
        {**OUT, "endpoint": "https://s3.dualstack.eu-west-1.amazonaws.com"},
    ),
    "fips": s3(
        {**BASE, "config_kwargs": {"use_fips_endpoint": True}},
        {**OUT, "endpoint": "https://s3-fips.eu-west-1.amazonaws.com"},
    ),
    "dual stack on MinIO": s3(
        {**MINIO, "config_kwargs": {"use_dualstack_endpoint": True}}, MINIO_OUT, "s3.endpoint.variant"
    ),
    "China": s3(
        {**KEYS, "client_kwargs": {"region_name": "cn-north-1"}},
        {**OWN, "region": "cn-north-1", "endpoint": "https://s3.cn-north-1.amazonaws.com.cn"},
    ),
    "signature 4": s3({**BASE, "config_kwargs": {"signature_version": "s3v4"}}, OUT),
    "signature 2": s3({**BASE, "config_kwargs": {"signature_version": "s3"}}, {}, "s3.signature", refused=True),
    "unsigned": s3(
        {**REGION, "config_kwargs": {"signature_version": UNSIGNED}}, {"region": "eu-west-1", "skip_signature": True}
    ),
    "proxies": client(
        {"config_kwargs": {"proxies": {"https": "http://proxy:3128", "http": "http://other:1"}}},
        {"proxy_url": "http://proxy:3128"},
    ),
    "proxy for a plain endpoint of the client": s3(
        {
            **BASE,
            "client_kwargs": region(endpoint_url="http://127.0.0.1:9000"),
            "config_kwargs": {"proxies": {"http": "http://other:1"}},
        },
        {**OUT, "endpoint": "http://127.0.0.1:9000"},
        client={"allow_http": True, "proxy_url": "http://other:1"},
    ),
    "proxy for another scheme": client({"config_kwargs": {"proxies": {"http": "http://other:1"}}}, {}, "client.proxy"),
    "proxy's certificate": client(
        {"config_kwargs": {"proxies_config": {"proxy_ca_bundle": "/p.pem"}}}, {"proxy_ca_certificate": Path("/p.pem")}
    ),
    "retries": s3(
        {**BASE, "config_kwargs": {"retries": {"max_attempts": 3, "mode": "standard"}}},
        OUT,
        "option.no_effect",
        retry={"max_retries": 3},
    ),
    "retries in total": s3(
        {**BASE, "config_kwargs": {"retries": {"total_max_attempts": 3}}}, OUT, retry={"max_retries": 2}
    ),
    "pool": client({"config_kwargs": {"max_pool_connections": 50}}, {"pool_max_idle_per_host": "50"}),
    "timeouts": client(
        {"config_kwargs": {"connect_timeout": 3, "read_timeout": 0.5}},
        {"connect_timeout": "3s", "read_timeout": "500ms"},
    ),
    "no timeout": client({"config_kwargs": {"read_timeout": 0}}, {}, "option.invalid"),
    "checksums": client(
        {"config_kwargs": {"request_checksum_calculation": "when_required", "response_checksum_validation": "x"}},
        {},
        "option.no_effect",
    ),
    "unsigned payload": s3(
        {**BASE, "config_kwargs": {"s3": {"payload_signing_enabled": False}}}, {**OUT, "unsigned_payload": True}
    ),
    "user agent": client({"config_kwargs": {"user_agent": "me/1"}}, {"user_agent": "me/1"}),
    "client certificate": s3(
        {**BASE, "config_kwargs": {"client_cert": "/c.pem"}}, {}, "client.certificate", refused=True
    ),
    "other Config keys": client(
        {"config_kwargs": {"tcp_keepalive": True, "inject_host_prefix": False, "account_id_endpoint_mode": "x"}},
        {},
        "option.no_effect",
        "option.dropped",
    ),
    "requester pays": s3({**BASE, "requester_pays": True}, {**OUT, "request_payer": True}),
    "version aware": s3({**BASE, "version_aware": True}, OUT, "s3.version_aware"),
    "cache regions": s3({**BASE, "cache_regions": True}, OUT, "option.dropped"),
    "session": s3({**REGION, "session": object()}, {}, "s3.session", refused=True),
    "profile": s3(
        {**REGION, "profile": "p"},
        {"region": "eu-west-1", "virtual_hosted_style_request": False},
        "s3.credentials.profile",
        credentials="boto3",
    ),
    "keys before a profile": s3({**BASE, "profile": "p"}, {**OUT, "virtual_hosted_style_request": False}),
    "arguments that s3fs refuses": s3({**BASE, "region": "eu-west-1"}, OUT, "option.unknown"),
    "caches and parts": client(
        {
            "default_block_size": 1,
            "default_fill_cache": True,
            "max_concurrency": 4,
            "fixed_upload_size": True,
            "local_expiry_check": True,
            "use_listings_cache": False,
            "asynchronous": True,
            "batch_size": 3,
        },
        {},
        "option.no_effect",
    ),
    "access point": s3(
        KEYS,
        {
            **OWN,
            "endpoint": "https://ap-123456789012.s3-accesspoint.eu-west-1.amazonaws.com",
            "region": "eu-west-1",
            "virtual_hosted_style_request": True,
        },
        "s3.bucket.access_point",
        prefix="arn:aws:s3:eu-west-1:123456789012:accesspoint/ap/pre",
    ),
    "other ARN": s3(
        BASE,
        {},
        "s3.bucket.arn",
        refused=True,
        prefix="arn:aws:s3-outposts:eu-west-1:123456789012:outpost/o/bucket/b/pre",
    ),
    "express": s3(
        BASE, {**OUT, "s3_express": True, "virtual_hosted_style_request": True}, prefix="fast--use1-az4--x-s3"
    ),
    # s3_additional_kwargs
    "encryption": s3(
        {**BASE, "s3_additional_kwargs": {"ServerSideEncryption": "AES256"}},
        {**OUT, "server_side_encryption": "AES256"},
    ),
    "encryption by KMS": s3(
        {
            **BASE,
            "s3_additional_kwargs": {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "id", "BucketKeyEnabled": True},
        },
        {**OUT, "server_side_encryption": "aws:kms", "sse_kms_key_id": "id", "sse_bucket_key_enabled": True},
    ),
    "KMS key alone": s3(
        {**BASE, "s3_additional_kwargs": {"SSEKMSKeyId": "id"}}, {**OUT, "sse_kms_key_id": "id"}, "s3.encryption.kms"
    ),
    "no encryption's name": s3(
        {**BASE, "s3_additional_kwargs": {"ServerSideEncryption": "rot13"}}, {}, "s3.encryption.unknown", refused=True
    ),
    "customer's key": s3(
        {**BASE, "s3_additional_kwargs": {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": b"0" * 32}},
        {
            **OUT,
            "server_side_encryption": "sse-c",
            "sse_customer_key_base64": "MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA=",
        },
    ),
    "customer's algorithm alone": s3(
        {**BASE, "s3_additional_kwargs": {"SSECustomerAlgorithm": "AES256"}},
        {},
        "s3.encryption.customer_key",
        refused=True,
    ),
    "headers": client(
        {
            "s3_additional_kwargs": {
                "ACL": "public-read",
                "StorageClass": "STANDARD_IA",
                "CacheControl": "no-cache",
                "ExpectedBucketOwner": "1",
                "ContentType": "text/plain",
            }
        },
        {
            "default_headers": {
                "x-amz-acl": "public-read",
                "x-amz-storage-class": "STANDARD_IA",
                "cache-control": "no-cache",
                "x-amz-expected-bucket-owner": "1",
            },
            "default_content_type": "text/plain",
        },
        "s3.header",
    ),
    "per put": client(
        {
            "s3_additional_kwargs": {
                "ContentDisposition": "x",
                "ContentEncoding": "x",
                "ContentLanguage": "x",
                "Metadata": {},
                "Tagging": "a=b",
                "Expires": "x",
                "GrantRead": "x",
                "ObjectLockMode": "x",
                "WebsiteRedirectLocation": "x",
            }
        },
        {},
        "option.dropped",
    ),
    "RequestPayer": s3({**BASE, "s3_additional_kwargs": {"RequestPayer": "requester"}}, {**OUT, "request_payer": True}),
    "unknown request argument": s3({**BASE, "s3_additional_kwargs": {"acl": "x"}}, OUT, "option.unknown"),
    # credentials from the environment
    "keys of the environment": s3(
        REGION,
        {"region": "eu-west-1"},
        "s3.credentials.environment",
        environment={"AWS_ACCESS_KEY_ID": "K", "AWS_SECRET_ACCESS_KEY": "S"},
    ),
    "web identity": s3(
        REGION,
        {"region": "eu-west-1"},
        "s3.credentials.environment",
        environment={"AWS_WEB_IDENTITY_TOKEN_FILE": "/t", "AWS_ROLE_ARN": "arn"},
    ),
    "ECS": s3(
        REGION,
        {"region": "eu-west-1"},
        "s3.credentials.environment",
        environment={"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/x"},
    ),
    "EKS pod identity": s3(
        REGION,
        {"region": "eu-west-1"},
        "s3.credentials.environment",
        environment={"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://x", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/t"},
    ),
    "container token as a value": s3(
        REGION,
        {"region": "eu-west-1"},
        "s3.credentials.chain",
        credentials="boto3",
        environment={"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://x", "AWS_CONTAINER_AUTHORIZATION_TOKEN": "t"},
    ),
    "AWS_PROFILE": s3(
        REGION, {"region": "eu-west-1"}, "s3.credentials.profile", credentials="boto3", environment={"AWS_PROFILE": "p"}
    ),
    "AWS_DEFAULT_REGION": s3(KEYS, OUT, environment={"AWS_DEFAULT_REGION": "eu-west-1"}),
    "AWS_REGION is not botocore's": s3(KEYS, GLOBAL, "s3.region.missing", environment={"AWS_REGION": "eu-west-1"}),
    "AWS_CA_BUNDLE of a plain endpoint": s3(
        {**BASE, "client_kwargs": region(endpoint_url="http://127.0.0.1:9000")},
        {**OUT, "endpoint": "http://127.0.0.1:9000"},
        client={"allow_http": True, "root_certificate": Path("/ca.pem")},
        environment={"AWS_CA_BUNDLE": "/ca.pem"},
    ),
    "AWS_CA_BUNDLE": s3(
        BASE,
        OUT,
        "client.ca_file",
        client={"root_certificate": Path("/ca.pem")},
        environment={"AWS_CA_BUNDLE": "/ca.pem"},
    ),
    # traps
    "ALL_PROXY": s3(BASE, OUT, "s3.trap.proxy", environment={"ALL_PROXY": "http://proxy:1"}),
    "all_proxy beside another": s3(BASE, OUT, environment={"all_proxy": "http://a:1", "https_proxy": "http://b:1"}),
    "all_proxy of another scheme": s3(
        BASE, OUT, "s3.trap.proxy", environment={"all_proxy": "http://a:1", "HTTP_PROXY": "http://b:1"}
    ),
    "ALL_PROXY with an exception": s3(
        BASE, OUT, environment={"ALL_PROXY": "http://proxy:1", "NO_PROXY": "localhost,.amazonaws.com"}
    ),
    "AWS_SESSION_TOKEN": s3(BASE, OUT, "s3.trap.session_token", environment={"AWS_SESSION_TOKEN": "T"}),
    "AWS_ENDPOINT_URL": s3(
        BASE, MINIO_OUT, "s3.endpoint.environment", environment={"AWS_ENDPOINT_URL": "https://m.example.com"}
    ),
    "AWS_ENDPOINT_URL_S3": s3(
        BASE,
        MINIO_OUT,
        "s3.endpoint.environment",
        environment={"AWS_ENDPOINT_URL_S3": "https://m.example.com", "AWS_ENDPOINT_URL": "https://x.example.com"},
    ),
    "AWS_ENDPOINT_URL_S3 and explicit": s3(
        MINIO, MINIO_OUT, "s3.trap.endpoint", environment={"AWS_ENDPOINT_URL_S3": "https://x.example.com"}
    ),
    "AWS_ENDPOINT_URL and explicit": s3(MINIO, MINIO_OUT, environment={"AWS_ENDPOINT_URL": "https://x.example.com"}),
    "endpoints of the environment ignored": s3(
        {**BASE, "config_kwargs": {"ignore_configured_endpoint_urls": True}},
        {**OUT, "endpoint": "https://s3.eu-west-1.amazonaws.com"},
        environment={"AWS_ENDPOINT_URL": "https://m.example.com"},
    ),
    "AWS_SKIP_SIGNATURE": s3(
        BASE, {**OUT, "skip_signature": False}, "s3.trap.skip_signature", environment={"AWS_SKIP_SIGNATURE": "true"}
    ),
    "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": s3(
        MINIO,
        {**MINIO_OUT, "virtual_hosted_style_request": False},
        "s3.trap.virtual_hosted",
        environment={"AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true"},
    ),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_option(row):
    row.check()


@pytest.mark.parametrize(
    ("prefix", "root", "inner", "code"),
    [
        ("b", "b", "", None),
        ("b/pre", "b", "pre", None),
        ("s3://b/pre/", "b", "pre", None),
        ("s3a://b/a b/%20#?", "b", "a b/%20#?", None),
        (None, "", "", "place.per_row"),
        ("", "", "", "place.per_row"),
        ("/", "", "", "place.per_row"),
        ("b//pre", None, None, "place.prefix"),
        ("b/../x", None, None, "place.prefix"),
        ("b/a\tb", None, None, "place.prefix"),
    ],
)
def test_prefix(prefix, root, inner, code):
    translation = translate("s3", BASE, prefix)
    assert [note.code for note in translation.notes] == ([code] if code else [])
    if root is None:
        assert translation.config is None
    else:
        assert (translation.config.root, translation.config.prefix) == (root, inner)
