"""Beside explicit credentials no variable, and no two of them, change a request: recorded on loopback."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from advanced_alchemy.types.file_object import FileObject

from migrate_storage import ObstoreBackend
from migrate_storage.core.errors import ConfigurationError
from tests.support.backend.echo import Echo, Seen, echo, json_answer
from tests.support.backend.poison import REFUSED, VARIABLES
from tests.support.backend.signatures import ACCOUNT_KEY, SERVICE_ACCOUNT

FORMS = {
    "s3": ("keys", "keys with a token", "anonymous", "provider"),
    "gcs": ("key", "file", "token", "user's file", "anonymous", "provider"),
    "azure": ("key", "SAS", "token", "anonymous", "provider"),
}
EVERY_FORM = [(service, form) for service, forms in FORMS.items() for form in forms]
PAIRS = 40
S3_KEYS = {"aws_access_key_id": "EXPLICIT", "aws_secret_access_key": "S"}


def _answer(seen: Seen) -> Any:
    if "token" in seen.path:
        return json_answer({"access_token": "from-account", "token_type": "Bearer", "expires_in": 3600})
    return None


@pytest.fixture
def server() -> Iterator[Echo]:
    with echo(_answer) as running:
        yield running


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("AWS_", "GOOGLE_", "AZURE_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def make(server: Echo, tmp_path: Path) -> Callable[[str, str], ObstoreBackend]:
    """Return the maker of a backend with explicit credentials of a form."""
    account = {**SERVICE_ACCOUNT, "token_uri": f"{server.url}/token", "gcs_base_url": server.url}
    files = {"account": account}
    files["user"] = {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"}
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    aws: Any = lambda: {"access_key_id": "P", "secret_access_key": "S", "token": None}  # noqa: E731
    token: Any = lambda: {"token": "provided", "expires_at": None}  # noqa: E731
    options: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
        "s3": {
            "keys": S3_KEYS,
            "keys with a token": {**S3_KEYS, "aws_session_token": "T"},
            "anonymous": {"aws_skip_signature": True},
            "provider": {"credential_provider": aws},
        },
        "gcs": {
            "key": {"google_service_account_key": json.dumps(account)},
            "file": {"google_service_account": str(tmp_path / "account.json")},
            "token": {"google_bearer_token": "explicit"},
            "user's file": {"google_application_credentials": str(tmp_path / "user.json")},
            "anonymous": {"google_skip_signature": True},
            "provider": {"credential_provider": token},
        },
        "azure": {
            "key": {"azure_storage_account_key": ACCOUNT_KEY},
            "SAS": {"azure_storage_sas_token": "sv=1&sig=explicit"},
            "token": {"azure_storage_token": "explicit"},
            "anonymous": {"azure_skip_signature": True},
            "provider": {"credential_provider": token},
        },
    }
    places: Mapping[str, tuple[str, Mapping[str, str]]] = {
        "s3": ("s3://b", {"aws_endpoint": server.url, "aws_region": "r"}),
        "gcs": ("gs://b", {"google_base_url": server.url}),
        "azure": ("az://c", {"azure_storage_account_name": "acct", "azure_storage_endpoint": f"{server.url}/acct"}),
    }

    def make_backend(service: str, form: str) -> ObstoreBackend:
        url, place = places[service]
        return ObstoreBackend("k", url, **place, **options[service][form], retry_config={"max_retries": 0})

    return make_backend


def record(server: Echo, backend: ObstoreBackend) -> list[Any]:
    """Save and read a file, and return the requests without what time and signature change in them."""
    server.seen.clear()
    backend.save_object(FileObject(backend=backend, filename="x", content=b"abc"), b"abc")
    backend.get_content("x")
    return [_without_time(seen) for seen in server.seen if seen.path.endswith("/x")]


def _without_time(seen: Seen) -> Any:
    headers = {name: value for name, value in seen.headers.items() if name not in ("x-amz-date", "x-ms-date", "date")}
    authorization = headers.get("authorization", "")
    for pattern in (r"Signature=\w+", r"\d{8}/", r"(?<=:)[\w+/=]{20,}", r"eyJ\S+"):
        authorization = re.sub(pattern, "", authorization)
    headers["authorization"] = authorization
    return seen.method, seen.path, seen.query, headers


@pytest.mark.parametrize(("service", "form"), EVERY_FORM)
def test_one_variable(server: Echo, make: Any, monkeypatch: pytest.MonkeyPatch, service: str, form: str) -> None:
    expected = record(server, make(service, form)) if form != "user's file" else None
    for name, value in VARIABLES[service].items():
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            if name in REFUSED:
                with pytest.raises(ConfigurationError, match=name):
                    make(service, form)
            elif expected is None:
                make(service, form)
            else:
                assert record(server, make(service, form)) == expected, name


def _check_pairs(server: Echo, make: Any, monkeypatch: pytest.MonkeyPatch, service: str, pairs: Any) -> None:
    forms = [form for form in FORMS[service] if form != "user's file"]
    expected = {form: record(server, make(service, form)) for form in forms}
    for form, pair in zip(itertools.cycle(forms), pairs, strict=False):
        with monkeypatch.context() as patch:
            for name in pair:
                patch.setenv(name, VARIABLES[service][name])
            try:
                backend = make(service, form)
            except ConfigurationError as error:
                # Some cannot be outvoted, and then the message names one of them.
                assert any(name in str(error) for name in pair), (form, pair, str(error))
                assert REFUSED & set(pair) or set(pair) <= ACCOUNTS, (form, pair, str(error))
                continue
            assert record(server, backend) == expected[form], (form, pair)


ACCOUNTS = {"SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH", "GOOGLE_SERVICE_ACCOUNT_KEY"}


@pytest.mark.parametrize("service", FORMS)
def test_some_pairs(server: Echo, make: Any, monkeypatch: pytest.MonkeyPatch, service: str) -> None:
    pairs = list(itertools.combinations(sorted(VARIABLES[service]), 2))
    _check_pairs(server, make, monkeypatch, service, random.Random(23).sample(pairs, PAIRS))


@pytest.mark.soak
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("service", FORMS)
def test_all_pairs(server: Echo, make: Any, monkeypatch: pytest.MonkeyPatch, service: str) -> None:
    pairs = list(itertools.combinations(sorted(VARIABLES[service]), 2))
    random.Random(7).shuffle(pairs)
    _check_pairs(server, make, monkeypatch, service, pairs)


@pytest.mark.parametrize(
    "variables",
    [{}, {"AWS_ACCESS_KEY_ID": "x"}, {"AWS_SECRET_ACCESS_KEY": "x"}, {"AWS_S3_EXPRESS": "true"}],
    ids=str,
)
def test_half_a_key_of_the_environment_breaks_no_anonymous_store(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    """developmentseed/obstore#516."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert ObstoreBackend("x", "s3://public-bucket", aws_region="us-west-2", aws_skip_signature=True).fs is not None
