"""S3 configurations, drawn with a seed, and what s3fs asks for each of them. Nothing is sent."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import botocore.loaders
import botocore.session
import pytest
import s3fs
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from fsspec.asyn import sync

from migrate_storage.translate.registration.requested_url import RequestedUrl

__all__ = (
    "Asked",
    "Configuration",
    "asked_by_s3fs",
    "configurations",
    "isolate_aws",
    "share_botocore_data",
)  # fmt: skip

KEYS = "aws_access_key_id = PROFILE\naws_secret_access_key = S\n"
CONFIG = f"""
[profile plain]
region = eu-west-3
{KEYS}
[profile "with space"]
region = ca-central-1
{KEYS}
[profile minio]
endpoint_url = http://127.0.0.1:9000
{KEYS}
[profile services]
region = eu-central-1
services = mine
{KEYS}
[services mine]
s3 =
  endpoint_url = https://objects.example.com/base
[profile virtual]
endpoint_url = https://objects.example.com
s3 =
  addressing_style = virtual
{KEYS}
[profile fips]
region = us-gov-west-1
use_fips_endpoint = true
{KEYS}
[profile dualstack]
region = eu-west-1
use_dualstack_endpoint = true
{KEYS}
[profile accelerate]
region = eu-west-1
s3 =
  use_accelerate_endpoint = true
{KEYS}
[profile ignoring]
region = eu-west-1
ignore_configured_endpoint_urls = true
endpoint_url = http://127.0.0.1:9000
{KEYS}
[profile unsigned]
region = eu-west-1
s3 =
  payload_signing_enabled = false
  addressing_style = path
{KEYS}
"""
CREDENTIALS = f"""
[stored]
region = eu-north-1
endpoint_url = https://stored.example.com:8443
{KEYS}
[plain]
region = sa-east-1
"""
PROFILES = (
    *("plain", "with space", "minio", "services", "virtual", "fips", "dualstack", "accelerate", "ignoring"),
    *("unsigned", "stored", "missing"),
)
ENDPOINTS = (
    *("http://127.0.0.1:9000", "http://localhost:9000/", "https://minio.corp:9000", "https://[::1]:9000"),
    *("https://objects.example.com/base/", "https://Objects.Example.com", "https://objects.example.com:443"),
    *("https://s3.eu-west-1.amazonaws.com", "https://s3.amazonaws.com", "https://bkt.s3.eu-west-1.amazonaws.com"),
    *("https://s3-accelerate.amazonaws.com", "https://s3.dualstack.us-west-2.amazonaws.com"),
    *("https://acc.r2.cloudflarestorage.com", "https://acc.eu.r2.cloudflarestorage.com/bkt"),
    *("https://nyc3.digitaloceanspaces.com", "https://bkt.nyc3.digitaloceanspaces.com"),
    *("https://s3.us-west-004.backblazeb2.com", "https://s3.wasabisys.com", "https://s3.fr-par.scw.cloud"),
    *("https://s3.gra.io.cloud.ovh.net", "https://storage.googleapis.com", "https://fly.storage.tigris.dev"),
    *(
        "https://bucket.vpce-1a2b3c4d-5e6f.s3.us-east-1.vpce.amazonaws.com",
        "minio:9000",
        "https://user:pw@h.example.com",
    ),
)
BUCKETS = (
    *("bkt", "bkt", "my-bucket-1", "my.dotted.bucket", "MyBucket", "my_bucket", "ab", "192.168.1.2", "xn--bkt"),
    *("a..b", "-lead", "trail-", "s3", "fast--use1-az4--x-s3", "alias-abc123-s3alias", "n" * 63, "n" * 64, "a-.b"),
    "arn:aws:s3:eu-west-1:123456789012:accesspoint/my-ap",
)
_PARTITIONS = botocore.session.Session().get_available_partitions()
REGIONS = (
    *("us-east-1", "eu-west-1", "us-west-2", "us-gov-west-1", "cn-north-1", "us-iso-east-1", "us-isob-east-1"),
    *("eu-isoe-west-1", "us-isof-south-1", "auto", "aws-global", "us-west-004", "nyc3", "MARS-1"),
    # What is only written down follows today's partitions: an older botocore may not know them.
    *(("eusc-de-east-1",) if "aws-eusc" in _PARTITIONS else ()),
)
VARIABLES = (
    {"AWS_DEFAULT_REGION": "ap-south-1"}, {"AWS_REGION": "ap-south-1"}, {"AWS_ENDPOINT_URL": "https://env.example.com"},
    {"AWS_ENDPOINT_URL_S3": "http://env.example.com:8000/s3", "AWS_ENDPOINT_URL": "https://other.example.com"},
    {"AWS_USE_FIPS_ENDPOINT": "true"}, {"AWS_USE_DUALSTACK_ENDPOINT": "true"}, {"AWS_PROFILE": "plain"},
    {"AWS_PROFILE": "virtual"}, {"AWS_PROFILE": "stored"}, {"AWS_DEFAULT_PROFILE": "fips"},
    {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true", "AWS_ENDPOINT_URL": "https://env.example.com"},
    {"AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true"}, {"AWS_ENDPOINT": "http://obstore.example.com"},
    {"AWS_S3_US_EAST_1_REGIONAL_ENDPOINT": "regional"}, {"AWS_S3_EXPRESS": "true"}, {"AWS_SKIP_SIGNATURE": "true"},
    {"AWS_ACCESS_KEY_ID": "ENV", "AWS_SECRET_ACCESS_KEY": "S"}, {"AWS_SESSION_TOKEN": "stale"},
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """One way to write an ``S3FileSystem`` down."""

    bucket: str
    options: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    #: Which kind of session is given: empty for none.
    session: str = ""
    #: What the tables of the translation did not know before it was found; empty for nothing.
    news: str = ""

    def filesystem(self) -> s3fs.S3FileSystem:
        """Make the filesystem, in the environment of now."""
        given = {"session": _make_session(self.session)} if self.session else {}
        return s3fs.S3FileSystem(**self.options, **given, skip_instance_cache=True)


def _make_session(kind: str) -> AioSession:
    if kind == "variables":
        return AioSession(session_vars={"region": (None, "EXAMPLE_REGION", "eu-north-1", None)})
    session = AioSession(profile="virtual" if kind == "profile" else None)
    if kind in ("keys", "default config"):
        session.set_credentials("SESSION", "S")
    if kind == "default config":
        config = AioConfig(s3={"addressing_style": "virtual"}, region_name="eu-west-2", proxies={"https": "http://p:1"})
        session.set_default_client_config(config)
    if kind == "keys":
        session.set_config_variable("region", "eu-south-1")
    return session


def configurations(count: int, seed: int) -> Iterator[Configuration]:
    """Yield configurations, the same ones for a seed."""
    draw = random.Random(seed)
    for _ in range(count):
        yield _draw_configuration(draw)


def _draw_configuration(draw: random.Random) -> Configuration:
    def some(chance: float) -> bool:
        return draw.random() < chance

    options: dict[str, Any] = {}
    client: dict[str, Any] = {}
    config: dict[str, Any] = {}
    s3: dict[str, Any] = {}
    endpoint = draw.choice(ENDPOINTS) if some(0.5) else None
    if endpoint:
        (client if some(0.2) else options)["endpoint_url"] = endpoint
    if some(0.6):
        (config if some(0.15) else client)["region_name"] = draw.choice(REGIONS)
    if some(0.6):
        s3["addressing_style"] = draw.choice(("auto", "virtual", "path"))
    if some(0.15):
        (s3 if (name := draw.choice(("use_accelerate_endpoint", "use_dualstack_endpoint"))) else config)[name] = True
    if some(0.1):
        config["use_fips_endpoint"] = True
    if some(0.1):
        options["use_ssl"] = False
    if some(0.05):
        s3["us_east_1_regional_endpoint"] = draw.choice(("legacy", "regional"))
    profile = draw.choice(PROFILES) if some(0.3) else None
    session = draw.choice(("keys", "profile", "default config")) if not profile and some(0.2) else ""
    if some(0.1):
        options["anon"] = True
    elif some(0.8) and session not in ("keys", "default config"):
        options |= {"key": "EXPLICIT", "secret": "S"}
    if profile:
        options["profile"] = profile
    if s3:
        config["s3"] = s3
    options |= {name: value for name, value in (("client_kwargs", client), ("config_kwargs", config)) if value}
    environment: dict[str, str] = {}
    for _ in range(draw.choice((0, 0, 1, 1, 2))):
        environment |= draw.choice(VARIABLES)
    return Configuration(bucket=draw.choice(BUCKETS), options=options, environment=environment, session=session)


def isolate_aws(monkeypatch: pytest.MonkeyPatch, folder: Path, environment: Mapping[str, str] = {}) -> None:
    """Set the AWS files of the sweep, and no variable but the given ones."""
    import os

    for name in list(os.environ):
        if name.startswith("AWS_") or name == "REQUESTS_CA_BUNDLE":
            monkeypatch.delenv(name)
    files = {"AWS_CONFIG_FILE": folder / "config", "AWS_SHARED_CREDENTIALS_FILE": folder / "credentials"}
    for (name, path), content in zip(files.items(), (CONFIG, CREDENTIALS), strict=True):
        if not path.exists():
            path.write_text(content)
        monkeypatch.setenv(name, str(path))
    for name, value in {"AWS_EC2_METADATA_DISABLED": "true", **environment}.items():
        monkeypatch.setenv(name, value)


def share_botocore_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all sessions share botocore's descriptions of services, which take 100 milliseconds to load."""
    monkeypatch.setattr(botocore.session, "create_loader", functools.cache(botocore.loaders.create_loader))


@dataclass(frozen=True, slots=True)
class Asked:
    """What s3fs asks for an object. Nothing was sent."""

    #: The URL of a GET.
    opened: RequestedUrl
    #: Its access key; empty where it is not signed.
    key_id: str
    #: The pre-signed URL; ``None`` for an express bucket, where the service is asked for a session first.
    signed: RequestedUrl | None


class _Stopped(BaseException):
    pass


def asked_by_s3fs(filesystem: s3fs.S3FileSystem, bucket: str, key: str) -> Asked:
    """Return what s3fs is about to send, and what it signs.

    Raises:
        Exception: whatever s3fs raises for options that cannot work.
    """
    found: list[Any] = []

    def stop(request: Any, **_: Any) -> None:
        found.append(request)
        raise _Stopped

    async def ask() -> tuple[str, str]:
        client = await filesystem.set_session()
        client.meta.events.register_last("before-send.s3", stop)
        signed = ""
        try:
            if not bucket.endswith("--x-s3"):
                # As s3fs signs. Its own function makes another client first, and 2026.2 then forgets a session it was given.
                signed = await client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": key})
            await client.get_object(Bucket=bucket, Key=key)
        except _Stopped:
            pass
        finally:
            await filesystem._s3creator.__aexit__(None, None, None)
        return str(client.meta.region_name), signed

    region, signed = sync(filesystem.loop, ask)
    request = found[0]
    url, authorization = str(request.url), request.headers.get("Authorization", b"")
    text = authorization.decode() if isinstance(authorization, bytes) else authorization
    key_id = ""
    if "Credential=" in text:
        key_id, _, region, service, _ = text.partition("Credential=")[2].partition(",")[0].split("/")
        if service == "s3express":
            # The session of the bucket comes first, from the host that serves its objects too.
            url = f"{url.partition('://')[0]}://{url.partition('://')[2].partition('/')[0]}/{key}"
    opened = RequestedUrl.of(url, _name_region(region))
    # Version 2 of the signature has no region.
    scope = parse_qs(urlsplit(signed).query).get("X-Amz-Credential", [f"//{region}"])[0].split("/")
    return Asked(opened, key_id, RequestedUrl.of(signed, _name_region(scope[2])) if signed else None)


def _name_region(region: str) -> str:
    return "us-east-1" if region == "aws-global" else region
