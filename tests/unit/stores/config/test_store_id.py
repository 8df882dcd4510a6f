"""The digest of a store has no secret as an input, and there is none where credentials have no name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from migrate_storage.core.model import Place
from migrate_storage.stores.config.store_id import compute_store_id
from migrate_storage.translate.model import CredentialSource, StoreConfig
from migrate_storage.translate.option_names import SECRETS

S3 = Place(service="s3", endpoint="http://127.0.0.1:9000", root="files", key="below/")
OPTIONS = {"access_key_id": "AKIA1", "secret_access_key": "one", "endpoint": "http://127.0.0.1:9000", "region": "eu"}
CONFIG = StoreConfig(service="s3", root="files", options=OPTIONS, client_options={"allow_http": True})


def digest(place: Place = S3, **changes: object) -> str | None:
    return compute_store_id(place, replace(CONFIG, **changes))


def test_a_secret_is_no_input() -> None:
    assert digest() == digest(options={**OPTIONS, "secret_access_key": "two", "session_token": "three"})
    assert digest() is not None


@pytest.mark.parametrize(
    "other",
    [
        digest(replace(S3, root="other")),
        digest(replace(S3, endpoint="http://127.0.0.1:9001")),
        digest(replace(S3, key="elsewhere/")),
        digest(options={**OPTIONS, "access_key_id": "AKIA2"}),
        digest(options={**OPTIONS, "region": "us"}),
        digest(options={**OPTIONS, "server_side_encryption": "aws:kms"}),
        digest(client_options={}),
    ],
)
def test_another_place_name_or_option_has_another_digest(other: str | None) -> None:
    assert other is not None
    assert other != digest()


@pytest.mark.parametrize(
    "unknown",
    [
        digest(options={}),
        digest(options={"region": "eu"}),
        digest(options={"secret_access_key": "one"}),
        digest(credentials=CredentialSource(kind="boto3")),
        digest(credentials=CredentialSource(kind="object", provider=object())),
        digest(client_options={"default_headers": {"Authorization": "secret"}}),
        digest(client_options={"proxy_url": "http://user:secret@proxy"}),
        digest(options={**OPTIONS, "of_a_later_version": "x"}),
        digest(options={**OPTIONS, "endpoint_url_sts": "https://user:secret@host"}),
        digest(replace(S3, endpoint="https://user:secret@host")),
        digest(replace(S3, root="")),
        digest(replace(S3, service="file")),
        compute_store_id(S3, None),
        *(
            digest(replace(S3, service=service), service=service, options={name: "secret"})
            for service in ("gcs", "azure")
            for name in sorted(SECRETS)
        ),
        digest(replace(S3, service="gcs"), service="gcs", options={"service_account": '{"private_key": "secret"}'}),
    ],
)
def test_credentials_without_a_name_and_options_with_any_content_have_none(unknown: str | None) -> None:
    assert unknown is None


@pytest.mark.parametrize(
    ("service", "options"),
    [
        ("s3", {"skip_signature": "true"}),
        ("azure", {"account_name": "acme", "account_key": "secret"}),
        ("azure", {"client_id": "acme", "client_secret": "secret"}),
        ("gcs", {"service_account": "/etc/key.json"}),
    ],
)
def test_named_credentials_have_one(service: str, options: dict[str, str]) -> None:
    assert digest(replace(S3, service=service), service=service, options=options) is not None
