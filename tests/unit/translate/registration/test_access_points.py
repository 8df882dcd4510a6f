"""The ARN of an access point: its host is botocore's, for a live filesystem, for written options, and in written code."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import s3fs
from advanced_alchemy.types.file_object import storages

from migrate_storage import ObstoreBackend
from migrate_storage.stores.config.url_check import compare_urls, requested_by_store
from migrate_storage.translate import translate
from migrate_storage.translate.codegen import as_python, entries, variables
from migrate_storage.translate.registration import read, read_filesystem
from tests.support.translate.aws_sweep import isolate_aws

ARN = "arn:aws:s3:eu-west-1:123456789012:accesspoint/my-ap"
KEYS = {"key": "A", "secret": "S"}
FORMS: dict[str, dict[str, Any]] = {
    "its own region": {"client_kwargs": {"region_name": "eu-west-1"}},
    "another region": {"client_kwargs": {"region_name": "us-west-2"}},
    "no region": {},
    "an endpoint": {"endpoint_url": "https://minio.example.com:9000/base"},
    "path style": {"config_kwargs": {"s3": {"addressing_style": "path"}}},
    "virtual style": {"config_kwargs": {"s3": {"addressing_style": "virtual"}}},
    "no TLS": {"use_ssl": False},
    "FIPS": {"client_kwargs": {"region_name": "us-east-1"}, "config_kwargs": {"use_fips_endpoint": True}},
    "dual stack": {"config_kwargs": {"use_dualstack_endpoint": True}},
    "FIPS and dual stack": {"config_kwargs": {"use_fips_endpoint": True, "use_dualstack_endpoint": True}},
}


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate_aws(monkeypatch, tmp_path, {})


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("arn", [ARN, ARN.replace("accesspoint/", "accesspoint:")])
def test_the_same_url(monkeypatch: pytest.MonkeyPatch, name: str, arn: str) -> None:
    options = {**KEYS, **FORMS[name]}
    registration = read_filesystem(s3fs.S3FileSystem(**options, skip_instance_cache=True), f"{arn}/up")
    compared = compare_urls(registration, "d/a b.txt")
    assert (compared.difference, compared.reason) == ("", "")
    assert compared.fsspec is not None
    assert compared.fsspec.path.endswith("/up/d/a b.txt")
    assert "arn" not in compared.fsspec.path
    place = registration.place("d/a b.txt")
    written = translate("s3", options, f"{arn}/up").config
    assert written is not None
    assert requested_by_store(replace(written, prefix=""), place) == compared.fsspec

    made = entries([("k", registration.translation)])
    for variable in variables(made):
        monkeypatch.setenv(variable, "A")
    before = dict(storages._registry)
    try:
        exec(compile(as_python(made), "written", "exec"), {})
        backend = storages.get_backend("k")
    finally:
        storages._registry.clear()
        storages._registry.update(before)
    assert isinstance(backend, ObstoreBackend)
    again = read(backend)
    there = again.place("d/a b.txt")
    config = again.config_at(there)
    assert config is not None
    assert requested_by_store(config, there) == compared.fsspec


@pytest.mark.parametrize(
    ("arn", "options"),
    [
        (ARN, {"client_kwargs": {"region_name": "us-gov-west-1"}}),
        (ARN, {"config_kwargs": {"s3": {"use_accelerate_endpoint": True}}}),
        (ARN.replace("eu-west-1", "cn-north-1"), {}),
        (ARN.replace("my-ap", "My_AP"), {}),
        (ARN, {"endpoint_url": "https://[::1]:9000"}),
        (ARN, {"endpoint_url": "http://127.0.0.1:9000"}),
        (ARN.replace("eu-west-1", ""), {}),
        ("arn:aws:s3:::123456789012:accesspoint/mfzwi23gnjvgw.mrap", {}),
        ("arn:aws:s3-object-lambda:eu-west-1:123456789012:accesspoint/my-ol", {}),
        ("arn:aws:s3-outposts:eu-west-1:123456789012:outpost/op-01234567890123456/accesspoint/my-ap", {}),
    ],
)
def test_what_has_no_address_is_refused(arn: str, options: dict[str, Any]) -> None:
    filesystem = s3fs.S3FileSystem(**KEYS, **options, skip_instance_cache=True)
    for found in (
        read_filesystem(filesystem, f"{arn}/up").translation,
        translate("s3", {**KEYS, **options}, f"{arn}/up"),
    ):
        assert found.config is None
        assert all(note.todo for note in found.refused)
