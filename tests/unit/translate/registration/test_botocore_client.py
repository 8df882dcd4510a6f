"""What botocore resolves for a filesystem is what the translation says, whatever it comes from."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import botocore.loaders
import botocore.session
import pytest
import s3fs
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession

from migrate_storage.backend import ObstoreBackend
from migrate_storage.core.errors import ConfigurationError
from migrate_storage.translate.registration import botocore_client, read_filesystem
from tests.support.translate.aws_sweep import KEYS, isolate_aws

OWN = {"key": "K", "secret": "S"}


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    isolate_aws(monkeypatch, tmp_path)
    monkeypatch.delenv("AWS_CONFIG_FILE")
    monkeypatch.delenv("AWS_SHARED_CREDENTIALS_FILE")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".aws").mkdir()
    return tmp_path / ".aws"


def filesystem(**options: Any) -> s3fs.S3FileSystem:
    return s3fs.S3FileSystem(**options, skip_instance_cache=True)


def signed(fs: s3fs.S3FileSystem, bucket: str = "bkt") -> tuple[str, str, str]:
    """Return host, path and scope of the URL that the translated store signs."""
    translation = read_filesystem(fs, bucket).translation
    assert translation.config is not None, translation.notes
    parts = urlsplit(str(ObstoreBackend("x", translation.config).sign("a")))
    key_id, _, region, *_ = parts.query.partition("X-Amz-Credential=")[2].partition("&")[0].split("%2F")
    return f"{parts.scheme}://{parts.netloc}", parts.path, f"{key_id} {region}"


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        ("minio", ("http://127.0.0.1:9000", "/bkt/a", "AKPROF eu-west-3")),
        ("my prof", ("https://bkt.s3.eu-west-3.amazonaws.com", "/a", "AKPROF eu-west-3")),
        ("ign", ("https://bkt.s3.eu-west-1.amazonaws.com", "/a", "AKPROF eu-west-1")),
        ("services", ("https://objects.example.com", "/base/bkt/a", "AKPROF us-east-1")),
        ("f", ("https://bkt.s3-fips.us-gov-west-1.amazonaws.com", "/a", "AKPROF us-gov-west-1")),
        ("d", ("https://bkt.s3.dualstack.eu-west-1.amazonaws.com", "/a", "AKPROF eu-west-1")),
        ("a", ("https://bkt.s3-accelerate.amazonaws.com", "/a", "AKPROF eu-west-1")),
    ],
)
def test_a_profile(home: Path, profile: str, expected: tuple[str, str, str]) -> None:
    """source-cooperative/source.coop#431, aws/aws-cli#1482: settings in either file, under any name."""
    keys = KEYS.replace("PROFILE", "AKPROF")
    (home / "credentials").write_text(
        f"[minio]\n{keys}region = eu-west-3\nendpoint_url = http://127.0.0.1:9000\n[services]\n{keys}"
    )
    (home / "config").write_text(
        f'[profile "my prof"]\nregion = eu-west-3\n{keys}\n'
        f"[profile ign]\nregion=eu-west-1\nignore_configured_endpoint_urls=true\nendpoint_url=http://127.0.0.1:9000\n{keys}"
        f"[profile f]\nregion=us-gov-west-1\nuse_fips_endpoint=true\n{keys}"
        f"[profile d]\nregion=eu-west-1\nuse_dualstack_endpoint=true\n{keys}"
        f"[profile a]\nregion=eu-west-1\ns3 =\n  use_accelerate_endpoint = true\n{keys}"
        "[profile services]\nservices = mine\n[services mine]\ns3 =\n  endpoint_url = https://objects.example.com/base\n"
    )
    assert signed(filesystem(profile=profile)) == expected
    backend = ObstoreBackend("x", "s3://bkt", profile=profile)
    parts = urlsplit(str(backend.sign("a")))
    assert (f"{parts.scheme}://{parts.netloc}", parts.path) == expected[:2]


@pytest.mark.parametrize(
    ("variable", "region", "host"),
    [
        ("AWS_USE_FIPS_ENDPOINT", "us-gov-west-1", "https://bkt.s3-fips.us-gov-west-1.amazonaws.com"),
        ("AWS_USE_DUALSTACK_ENDPOINT", "eu-west-1", "https://bkt.s3.dualstack.eu-west-1.amazonaws.com"),
    ],
)
def test_variants_of_the_environment(monkeypatch: pytest.MonkeyPatch, variable: str, region: str, host: str) -> None:
    """ansible-collections/amazon.aws#1712: a variable keeps the traffic on FIPS endpoints."""
    monkeypatch.setenv(variable, "true")
    assert signed(filesystem(**OWN, client_kwargs={"region_name": region}))[0] == host


@pytest.mark.parametrize(
    ("endpoint", "bucket", "expected"),
    [
        (
            "https://s3.us-west-004.backblazeb2.com",
            "MyBucket",
            ("https://s3.us-west-004.backblazeb2.com", "/MyBucket/a"),
        ),
        (None, "MyBucket", ("https://s3.amazonaws.com", "/MyBucket/a")),
        ("https://minio.corp:9000", "my_bucket", ("https://minio.corp:9000", "/my_bucket/a")),
        ("https://cwobject.com", "my.dotted.bucket", ("https://cwobject.com", "/my.dotted.bucket/a")),
        ("https://cwobject.com", "bkt", ("https://bkt.cwobject.com", "/a")),
        ("http://127.0.0.1:9000", "bkt", ("http://127.0.0.1:9000", "/bkt/a")),
        ("http://[::1]:9000", "bkt", ("http://[::1]:9000", "/bkt/a")),
    ],
)
def test_a_bucket_that_is_no_host_stays_in_the_path(
    endpoint: str | None, bucket: str, expected: tuple[str, str]
) -> None:
    """bradenmacdonald/s3-lite-client#76, aws/aws-sdk-java-v2#3035, aws/aws-sdk-cpp#1425."""
    options = {"config_kwargs": {"s3": {"addressing_style": "virtual"}}, "client_kwargs": {"region_name": "us-east-1"}}
    assert signed(filesystem(**OWN, endpoint_url=endpoint, **options), bucket)[:2] == expected


def test_a_session_counts_with_all_that_it_knows() -> None:
    """fsspec/s3fs#735: region, style, proxy of a session, beside its keys."""
    session = AioSession()
    session.set_credentials("AK", "SK")
    session.set_config_variable("region", "eu-west-2")
    config = AioConfig(s3={"addressing_style": "virtual"}, proxies={"https": "http://proxy.corp:3128"})
    session.set_default_client_config(config)
    fs = filesystem(session=session, endpoint_url="https://cwobject.com")
    assert signed(fs) == ("https://bkt.cwobject.com", "/a", "AK eu-west-2")
    translation = read_filesystem(fs, "bkt").translation
    assert translation.config.client_options == {"proxy_url": "http://proxy.corp:3128"}
    assert not [note.code for note in translation.notes if note.code == "s3.region.missing"]


def test_a_hook_that_waits_is_not_run(home: Path) -> None:
    session = AioSession()
    session.set_credentials("AK", "SK")

    class Answer:
        def __await__(self) -> Iterator[None]:
            yield

    async def wait(**_: Any) -> None:
        await Answer()

    session.register("before-parameter-build.s3.GetObject", wait)
    (refused,) = read_filesystem(filesystem(session=session), "bkt").translation.refused
    assert refused.code == "s3.address"
    assert "waits" in refused.message


def test_a_certificate_comes_from_where_botocore_takes_it(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    (home / "config").write_text("[profile p]\nca_bundle = /profile.pem\n")
    options = {**OWN, "client_kwargs": {"region_name": "eu-west-1"}}

    def found(**more: Any) -> str:
        config = read_filesystem(filesystem(**options, **more), "bkt").translation.config
        return str(config.client_options.get("root_certificate", ""))

    assert found() == ""
    assert found(profile="p") == "/profile.pem"
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/requests.pem")
    assert found() == "/requests.pem"
    monkeypatch.setenv("AWS_CA_BUNDLE", "/aws.pem")
    assert found() == "/aws.pem"
    options["client_kwargs"]["verify"] = "/own.pem"
    assert found() == "/own.pem"


def test_a_missing_profile_is_named(home: Path) -> None:
    (refused,) = read_filesystem(filesystem(profile="nobody"), "bkt").translation.refused
    assert refused.code == "s3.profile.missing"
    assert "nobody" in refused.message


def test_all_buckets_have_one_service(home: Path) -> None:
    (home / "config").write_text("[profile v]\nendpoint_url=https://s3.example.com\ns3 =\n  addressing_style=virtual\n")
    registration = read_filesystem(filesystem(**OWN, profile="v"))
    place = registration.place("other/x")
    assert place.endpoint == "https://s3.example.com"
    assert registration.config_at(place).options["endpoint"] == "https://other.s3.example.com"


def test_without_botocore_a_profile_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fs = filesystem(profile="p")
    monkeypatch.setitem(sys.modules, "botocore", None)
    (refused,) = read_filesystem(fs, "bkt").translation.refused
    assert refused.code == "s3.profile.unread"


def test_a_profile_that_cannot_reach_its_bucket_is_refused_early(home: Path) -> None:
    (home / "config").write_text("[profile a]\nregion=eu-west-1\ns3 =\n  use_accelerate_endpoint = true\n")
    with pytest.raises(ConfigurationError, match="Path-style addressing cannot be used with S3 Accelerate"):
        ObstoreBackend("x", "s3://my.dotted.bucket", profile="a")


@pytest.mark.parametrize(
    ("options", "endpoint"),
    [
        ({}, "https://fast--use1-az4--x-s3.s3express-use1-az4.us-west-2.amazonaws.com"),
        ({"use_ssl": False}, "http://fast--use1-az4--x-s3.s3express-use1-az4.us-west-2.amazonaws.com"),
        ({"endpoint_url": "http://localhost:9000"}, None),
    ],
)
@pytest.mark.slow  # left out with the lowest versions: that aiobotocore needs an event loop for it, and it is refused
def test_an_express_bucket(options: dict[str, Any], endpoint: str | None) -> None:
    fs = filesystem(**OWN, **options, client_kwargs={"region_name": "us-west-2"})
    translation = read_filesystem(fs, "fast--use1-az4--x-s3").translation
    codes = [note.code for note in translation.refused]
    if endpoint is None:
        assert codes == ["s3.address.unlike"]
    else:
        assert translation.config.options["endpoint"] == endpoint
        assert translation.config.options["s3_express"] is True


def test_what_botocore_describes_is_not_kept_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its description of S3 and of the endpoints of all services takes 12 MB, for as long as a registration lives."""
    # Not the loader that all tests share, which another test may have filled before memory is counted.
    monkeypatch.setattr(botocore.session, "create_loader", botocore.loaders.create_loader)
    botocore_client._load_data.cache_clear()
    tracemalloc.start()
    try:
        kept = read_filesystem(filesystem(**OWN), "bkt")
        gc.collect()
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept.translation.config is not None
    assert used < 5_000_000
