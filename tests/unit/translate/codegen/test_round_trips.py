"""What a writer writes, read again, asks the URL that the filesystem asked."""

from __future__ import annotations

import pprint
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import s3fs
from advanced_alchemy.types.file_object import storages
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend

from migrate_storage import ObstoreBackend
from migrate_storage.application.config_file import load_settings
from migrate_storage.stores.config.url_check import requested_by_store
from migrate_storage.translate.codegen import as_python, as_toml, entries, variables
from migrate_storage.translate.codemod import convert_source
from migrate_storage.translate.registration import read, read_filesystem
from migrate_storage.translate.registration.requested_url import RequestedUrl
from tests.support.translate.aws_sweep import configurations, isolate_aws, share_botocore_data

KEY = "k"
SEED = 7


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    before = dict(storages._registry)
    storages._registry.clear()
    yield
    storages._registry.clear()
    storages._registry.update(before)


def asked_by(backend: Any) -> RequestedUrl:
    """Return the URL of a file of an obstore backend."""
    registration = read(backend)
    place = registration.place("d/x")
    return requested_by_store(registration.config_at(place), place)


def run_code(code: str) -> Any:
    """Execute a module that registers one backend, and return it."""
    storages._registry.clear()
    exec(compile(code, "written", "exec"), {"__name__": "written"})
    return storages.get_backend(KEY)


def set_variables(monkeypatch: pytest.MonkeyPatch, written: Any, options: Mapping[str, Any]) -> None:
    for name in variables([written]):
        monkeypatch.setenv(name, str(options.get(name.removeprefix("K_AWS_").lower(), "c2VjcmV0")))


def test_python_and_toml(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    share_botocore_data(monkeypatch)
    count = 0
    for configuration in configurations(50, SEED):
        with monkeypatch.context() as patch:
            isolate_aws(patch, tmp_path, configuration.environment)
            prefix = f"{configuration.bucket}/up/a b"
            registration = read_filesystem(configuration.filesystem(), prefix, key=KEY)
            config = registration.translation.config
            if config is None:
                continue
            place = registration.place("d/x")
            expected = requested_by_store(registration.config_at(place), place)
            (written,) = entries([(KEY, registration.translation)])
            set_variables(patch, written, config.options)
            assert asked_by(run_code(as_python([written]))) == expected, configuration
            path = tmp_path / "migrate-storage.toml"
            path.write_text(as_toml([written]))
            environment = {
                name: str(config.options.get(name.removeprefix("K_AWS_").lower(), "c2VjcmV0"))
                for name in variables([written])
            }
            assert asked_by(load_settings(path, (), environment).destination.build()) == expected, configuration
            count += 1
    assert count > 20


def test_convert(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    share_botocore_data(monkeypatch)
    count = 0
    for configuration in configurations(70, SEED + 1):
        if configuration.session:
            continue
        with monkeypatch.context() as patch:
            isolate_aws(patch, tmp_path)
            backend = FSSpecBackend(
                key=KEY, fs=s3fs.S3FileSystem(**configuration.options), prefix=f"{configuration.bucket}/up"
            )
            old = read(backend)
            result = convert_source(write_source(configuration.options, f"{configuration.bucket}/up"))
            if not result.done or old.translation.config is None:
                continue
            place = old.place("d/x")
            expected = requested_by_store(old.config_at(place), place)
            asked = asked_by(run_code(result.code))
            if "s3.region.missing" in str(result.done):
                # The note says so: the region is left to the environment, and the host with it.
                assert (asked.scheme, asked.path, asked.host.endswith("amazonaws.com")) == (
                    expected.scheme,
                    expected.path,
                    True,
                )
                continue
            assert asked == expected, f"{configuration}\n{result.code}"
            count += 1
    assert count > 20


def write_source(options: Mapping[str, Any], prefix: str) -> str:
    arguments = ", ".join(f"{name}={pprint.pformat(value)}" for name, value in options.items())
    return (
        "import s3fs\n"
        "from advanced_alchemy.types.file_object import storages\n"
        "from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend\n\n"
        f"storages.register_backend(FSSpecBackend(key={KEY!r}, fs=s3fs.S3FileSystem({arguments}), prefix={prefix!r}))\n"
    )


@pytest.mark.parametrize(
    ("endpoint", "prefix"),
    [
        ("https://chatwidget.nyc3.digitaloceanspaces.com", "chatwidget"),
        ("https://acc.r2.cloudflarestorage.com/chatwidget", "chatwidget/up"),
        ("https://chatwidget.s3.eu-west-1.amazonaws.com", "chatwidget"),
        ("https://chatwidget.s3.us-west-004.backblazeb2.com", "chatwidget"),
    ],
)
def test_a_bucket_in_the_endpoint_is_taken_out_nowhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, endpoint: str, prefix: str
) -> None:
    """vaersaagod/dospaces#16, medusajs/medusa#10145: s3fs keeps everything below BUCKET/BUCKET there."""
    isolate_aws(monkeypatch, tmp_path)
    options = {"key": "K", "secret": "S", "endpoint_url": endpoint, "client_kwargs": {"region_name": "us-east-1"}}
    filesystem = s3fs.S3FileSystem(**options, skip_instance_cache=True)
    backend = FSSpecBackend(key=KEY, fs=filesystem, prefix=prefix)
    expected = urlsplit(filesystem.url(f"{prefix}/a"))
    translated = ObstoreBackend.from_fsspec(backend)
    (written,) = entries([(KEY, read(backend).translation)])
    set_variables(monkeypatch, written, {"access_key_id": "K", "secret_access_key": "S"})
    pasted = run_code(as_python([written]))
    converted = run_code(convert_source(write_source(options, prefix)).code)
    for each in (translated, pasted, converted):
        signed = urlsplit(str(each.sign("a")))
        assert (signed.scheme, signed.netloc, signed.path) == (expected.scheme, expected.netloc, expected.path)


@pytest.mark.parametrize(
    "options",
    [
        {"key": "K", "secret": "S"},
        {"client_kwargs": {"aws_access_key_id": "K", "aws_secret_access_key": "S"}},
        {"username": "K", "password": "S", "token": "T"},
        {"key": "K", "secret": "S", "client_kwargs": {"region_name": "ap-south-1"}},
        {"key": "K", "secret": "S", "endpoint_url": "https://minio.corp:9000"},
        {"anon": True},
    ],
)
@pytest.mark.parametrize("profile", ["minio", "services", "virtual", "fips", "dualstack", "stored"])
def test_explicit_keys_beside_a_profile(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, profile: str, options: dict[str, Any]
) -> None:
    """The keys sign, and the profile says where: in s3fs, in what convert writes, and in what translate writes."""
    isolate_aws(monkeypatch, tmp_path)
    backend = FSSpecBackend(key=KEY, fs=s3fs.S3FileSystem(profile=profile, **options), prefix="bkt/up")
    old = read(backend)
    place = old.place("d/x")
    expected = requested_by_store(old.config_at(place), place)
    result = convert_source(write_source({"profile": profile, **options}, "bkt/up"))
    converted = run_code(result.code)
    assert asked_by(converted) == expected, result.code
    (written,) = entries([(KEY, old.translation)])
    set_variables(monkeypatch, written, {"access_key_id": "K", "secret_access_key": "S", "session_token": "T"})
    for each in (converted, run_code(as_python([written]))):
        assert each.config.credentials is None
        if "anon" in options:
            assert each.config.options["skip_signature"]
        else:
            assert "X-Amz-Credential=K%2F" in urlsplit(str(each.sign("a"))).query
