"""Each line of the tables of docs/translation.md is what the translation does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from advanced_alchemy.types.file_object.backends.obstore import ObstoreBackend
from aiobotocore.session import AioSession
from botocore import UNSIGNED
from obstore.store import S3Store
from s3fs import S3FileSystem

from migrate_storage.translate import translate
from migrate_storage.translate.model import Translation
from migrate_storage.translate.notes import CODES
from migrate_storage.translate.option_tables import Option
from migrate_storage.translate.protocols.unsupported import ARCHIVES, SOURCE_ONLY
from migrate_storage.translate.registration import read, read_filesystem
from scripts.translation_tables import TABLES
from tests.support import ROOT

TEXT = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
KEYS = {"key": "K", "secret": "S"}
REGION = {"client_kwargs": {"region_name": "eu-west-1"}}
KEY = "c2VjcmV0LWtleS1mb3ItdGVzdHM="
#: What is given beside each option, by the first name of the protocol.
BESIDE: Mapping[str, Mapping[str, Any]] = {
    "s3": {**KEYS, **REGION}, "gs": {"token": "anon"}, "az": {"account_name": "acct", "account_key": KEY},
    "file": {}, "memory": {}, "http": {},
}  # fmt: skip
PREFIXES = {"file": "/srv/files", "http": "https://files.example.com/base"}
#: Values that mean something; any other option gets a text.
VALUES: Mapping[str, Any] = {
    "use_ssl": False, "client_kwargs.use_ssl": False, "client_kwargs.region_name": "eu-west-2",
    "config_kwargs.region_name": "eu-west-2", "client_kwargs.verify": False, "config_kwargs.s3.addressing_style": "path",
    "config_kwargs.s3.payload_signing_enabled": False, "config_kwargs.signature_version": UNSIGNED,
    "config_kwargs.proxies": {"https": "http://proxy.example.com:3128"}, "config_kwargs.retries": {"max_attempts": 7},
    "config_kwargs.max_pool_connections": 7, "config_kwargs.connect_timeout": 7, "config_kwargs.read_timeout": 7,
    "endpoint_url": "http://127.0.0.1:9000", "client_kwargs.endpoint_url": "http://127.0.0.1:9000",
    "s3_additional_kwargs.ServerSideEncryption": "aws:kms", "s3_additional_kwargs.RequestPayer": "requester",
    "s3_additional_kwargs.SSECustomerAlgorithm": "AES256", "s3_additional_kwargs.SSECustomerKey": "0" * 32,
    "timeout": 7, "requests_timeout": 7, "connection_timeout": 7, "read_timeout": 7,
    "connection_string": f"AccountName=other;AccountKey={KEY}", "account_host": "acct.blob.core.usgovcloudapi.net",
    "location_mode": "secondary", "sas_token": "sv=1&sig=x", "credential": "YW5vdGhlcg==",
    "session": AioSession(),
    "token": "/account.json",
    "connect_timeout": 7,
    "headers": {"x": "y"}, "client_kwargs.headers": {"x": "y"}, "client_kwargs": {"trust_env": True},
}  # fmt: skip
#: What must not be beside an option, and what must.
WITHOUT = {
    "username": ("key",), "password": ("secret",), "client_kwargs.aws_access_key_id": ("key",),
    "client_kwargs.aws_secret_access_key": ("secret",), "profile": ("key", "secret"), "session": ("key", "secret"),
    "sas_token": ("account_key",), "client_id": ("account_key",), "client_secret": ("account_key",),
    "tenant_id": ("account_key",), "anon": ("account_key",), "config_kwargs.region_name": ("client_kwargs",),
}  # fmt: skip
PRINCIPAL = {"tenant_id": "t", "client_id": "i", "client_secret": "s"}
ALSO: Mapping[str, Mapping[str, Any]] = {
    **dict.fromkeys(PRINCIPAL, PRINCIPAL),
    "s3_additional_kwargs.SSECustomerAlgorithm": {"s3_additional_kwargs": {"SSECustomerKey": "0" * 32}},
    "s3_additional_kwargs.SSECustomerKey": {"s3_additional_kwargs": {"SSECustomerAlgorithm": "AES256"}},
    "s3_additional_kwargs.SSEKMSKeyId": {"s3_additional_kwargs": {"ServerSideEncryption": "aws:kms"}},
    "s3_additional_kwargs.BucketKeyEnabled": {"s3_additional_kwargs": {"ServerSideEncryption": "aws:kms"}},
    "requester_pays": {"project": "p"},
}
OPTIONS = {
    f"{title}: {option.name}": (title.partition(",")[0].partition(" ")[0], option)
    for title, table in TABLES.items()
    for option in table
}


def merge(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return both mappings as one, as deep as they nest."""
    nested = {
        name: merge(one[name], value) if isinstance(one.get(name), Mapping) and isinstance(value, Mapping) else value
        for name, value in other.items()
    }
    return {**one, **nested}


def nest(name: str, value: Any) -> dict[str, Any]:
    head, _, rest = name.partition(".")
    return {head: nest(rest, value) if rest else value}


def translate_beside(protocol: str, option: Option, *, given: bool) -> Translation:
    options = {name: value for name, value in BESIDE[protocol].items() if name not in WITHOUT.get(option.name, ())}
    if given:
        options = merge(options, ALSO.get(option.name, {}))
        options = merge(options, nest(option.name, VALUES.get(option.name, "x")))
    environment = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9000"} if "ignore_configured" in option.name else {}
    return translate(protocol, options, PREFIXES.get(protocol, "bucket/up"), environment)


def contents(translation: Translation) -> dict[str, Any]:
    config = translation.config
    if config is None:
        return {}
    return {**config.options, **config.client_options, **config.retry, "credential_provider": config.credentials}


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option(name: str) -> None:
    protocol, option = OPTIONS[name]
    with_it, without = (translate_beside(protocol, option, given=given) for given in (True, False))
    if option.code:
        assert option.code in {note.code for note in with_it.notes}
    if option.becomes and option.code != "option.dropped":
        assert with_it.config is not None
        also = {"root_certificate": "allow_invalid_certificates"}.get(option.becomes, option.becomes)
        changed = {name: value for name, value in contents(with_it).items() if contents(without).get(name) != value}
        gone = contents(without).keys() - contents(with_it).keys()
        assert option.name == "auto_mkdir" or {option.becomes, also} & {*changed, *gone}
    elif not option.becomes and with_it.config is not None and "version" not in option.name:
        assert contents(with_it) == contents(without)


@pytest.mark.parametrize("protocol", sorted({*SOURCE_ONLY, *ARCHIVES}))
def test_a_source_only(protocol: str) -> None:
    translation = translate(protocol, {}, "bucket/up")
    assert translation.config is None
    assert {note.code for note in translation.refused} <= {"protocol.source_only", "protocol.archive"}
    assert SOURCE_ONLY.get(protocol, "") in translation.refused[0].message


def test_each_code_is_in_a_test() -> None:
    assert [code for code in CODES if f'"{code}"' not in TEXT] == []


def test_options_that_cannot_be_read() -> None:
    class Unreadable(dict[str, Any]):
        def items(self) -> Any:
            raise RuntimeError

    translation = translate("s3", {"client_kwargs": Unreadable(x=1)}, "bucket")
    assert [note.code for note in translation.refused] == ["translation.failed"]


def test_a_store_that_does_not_show_its_configuration() -> None:
    backend = ObstoreBackend(key="k", fs=S3Store("b", aws_allow_http=True, aws_region="us-east-1"))
    assert [note.code for note in read(backend, {}).translation.refused] == ["backend.unreadable"]


def test_a_session_of_the_process() -> None:
    filesystem = S3FileSystem(session=AioSession(), skip_instance_cache=True)
    translation = read_filesystem(filesystem, "bucket").translation
    assert "s3.session.object" in {note.code for note in translation.notes}
