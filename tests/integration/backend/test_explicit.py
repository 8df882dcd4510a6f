"""What is written in the configuration is what is sent, whatever the environment says. Shown by the requests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from obstore.store import AzureStore, GCSStore, S3Store

from migrate_storage import ObstoreBackend
from migrate_storage.core.errors import ConfigurationError
from tests.support.backend.echo import Echo, Seen, echo, json_answer
from tests.support.backend.signatures import ACCOUNT_KEY, SERVICE_ACCOUNT

S3_KEYS = {"aws_access_key_id": "EXPLICIT", "aws_secret_access_key": "SECRET", "aws_region": "r"}
AMBIENT_S3 = {"AWS_ACCESS_KEY_ID": "AMBIENT", "AWS_SECRET_ACCESS_KEY": "AMBIENT-SECRET"}


def _tokens(seen: Seen) -> Any:
    if "token" in seen.path:
        return json_answer({"access_token": "from-account", "token_type": "Bearer", "expires_in": 3600})
    return None


@pytest.fixture
def server() -> Iterator[Echo]:
    with echo(_tokens) as running:
        yield running


@pytest.fixture
def account(server: Echo, tmp_path: Path) -> dict[str, Any]:
    return {**SERVICE_ACCOUNT, "token_uri": f"{server.url}/token", "gcs_base_url": server.url}


def _object_request(server: Echo) -> Seen:
    return next(seen for seen in server.seen if seen.path.endswith("/x"))


def _set(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    "environment",
    [
        {"AWS_SESSION_TOKEN": "ambient"},
        {"AWS_TOKEN": "ambient"},
        {"AWS_SKIP_SIGNATURE": "true"},
        {"AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true"},
        {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9"},
        {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"},
        {"AWS_ENDPOINT": "http://127.0.0.1:9"},
        {"AWS_REGION": "ambient"},
        {"AWS_BUCKET": "ambient"},
        {**AMBIENT_S3, "AWS_SESSION_TOKEN": "ambient", "AWS_PROFILE": "none", "AWS_ROLE_ARN": "x"},
        {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:9/c", "AWS_WEB_IDENTITY_TOKEN_FILE": "/none"},
    ],
    ids=lambda environment: ",".join(environment),
)
def test_s3(server: Echo, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    _set(monkeypatch, environment)
    backend = ObstoreBackend("k", "s3://b", aws_endpoint=server.url, **S3_KEYS)
    assert backend.get_content("x") == b"content"
    seen = _object_request(server)
    assert seen.path == "/b/x"
    assert "Credential=EXPLICIT/" in seen.headers["authorization"]
    assert "/r/s3/aws4_request" in seen.headers["authorization"]
    assert "x-amz-security-token" not in seen.headers
    url = str(backend.sign("x"))
    assert url.startswith(f"{server.url}/b/x?")
    assert "Security-Token" not in url
    assert "EXPLICIT" in url


def test_an_explicit_token_is_sent(server: Echo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "ambient")
    ObstoreBackend("k", "s3://b", aws_endpoint=server.url, aws_session_token="explicit", **S3_KEYS).get_content("x")
    assert _object_request(server).headers["x-amz-security-token"] == "explicit"


def test_a_provider_beats_the_environment(server: Echo, monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, {**AMBIENT_S3, "AWS_SESSION_TOKEN": "ambient", "AWS_SKIP_SIGNATURE": "true"})
    provider = lambda: {"access_key_id": "PROVIDED", "secret_access_key": "s", "token": None}  # noqa: E731
    ObstoreBackend("k", "s3://b", aws_endpoint=server.url, region="r", credential_provider=provider).get_content("x")
    seen = _object_request(server)
    assert "Credential=PROVIDED/" in seen.headers["authorization"]
    assert "x-amz-security-token" not in seen.headers


def test_anonymous_is_anonymous(server: Echo, monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, {**AMBIENT_S3, "AWS_SESSION_TOKEN": "ambient"})
    ObstoreBackend("k", "s3://b", aws_endpoint=server.url, skip_signature=True).get_content("x")
    assert "authorization" not in _object_request(server).headers


def test_what_is_not_explicit_comes_from_the_environment(server: Echo, monkeypatch: pytest.MonkeyPatch) -> None:
    _set(
        monkeypatch,
        {**AMBIENT_S3, "AWS_SESSION_TOKEN": "ambient", "AWS_ENDPOINT_URL": server.url, "AWS_REGION": "here"},
    )
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    ObstoreBackend("k", "s3://b", user_agent="me").get_content("x")
    seen = _object_request(server)
    assert "Credential=AMBIENT/" in seen.headers["authorization"]
    assert seen.headers["x-amz-security-token"] == "ambient"
    assert seen.headers["user-agent"] == "me"


def test_a_role_that_the_environment_would_beat_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, AMBIENT_S3)
    with pytest.raises(ConfigurationError, match="AWS_ACCESS_KEY_ID in the environment"):
        ObstoreBackend("k", "s3://b", aws_web_identity_token_file="/t", aws_role_arn="arn:x")


@pytest.mark.parametrize(
    "environment",
    [
        {"AZURE_STORAGE_ACCOUNT_KEY": ACCOUNT_KEY},
        {"AZURE_STORAGE_TOKEN": "ambient"},
        {"AZURE_FEDERATED_TOKEN_FILE": "/none", "AZURE_CLIENT_ID": "c", "AZURE_TENANT_ID": "t"},
        {"AZURE_CLIENT_ID": "c", "AZURE_TENANT_ID": "t", "AZURE_CLIENT_SECRET": "s"},
        {"AZURE_SKIP_SIGNATURE": "true"},
        {"AZURE_STORAGE_ENDPOINT": "http://127.0.0.1:9"},
        {"AZURE_STORAGE_USE_EMULATOR": "true"},
        {"AZURE_STORAGE_SAS_TOKEN": "sv=1&sig=ambient"},
        {"AZURE_STORAGE_ACCOUNT_NAME": "ambient", "AZURE_CONTAINER_NAME": "ambient"},
        {"AZURE_STORAGE_CONNECTION_STRING": f"AccountName=ambient;AccountKey={ACCOUNT_KEY}"},
    ],
    ids=lambda environment: ",".join(environment),
)
def test_azure(server: Echo, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    _set(monkeypatch, environment)
    base = {"azure_storage_account_name": "acct", "azure_storage_endpoint": f"{server.url}/acct"}
    ObstoreBackend("k", "az://c", azure_storage_sas_token="sv=1&sig=explicit", **base).get_content("x")
    seen = _object_request(server)
    assert seen.path == "/acct/c/x"
    assert seen.query["sig"] == ["explicit"]
    assert "authorization" not in seen.headers
    server.seen.clear()
    backend = ObstoreBackend("k", "az://c", azure_storage_account_key=ACCOUNT_KEY, **base)
    backend.get_content("x")
    assert _object_request(server).headers["authorization"].startswith("SharedKey acct:")


def test_an_explicit_account_is_not_sent_to_another_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", "https://elsewhere.example.com")
    backend = ObstoreBackend("k", "az://c", account_name="acct", account_key=ACCOUNT_KEY)
    assert backend.fs.config["endpoint"] == "https://acct.blob.core.windows.net"


@pytest.mark.parametrize(
    "environment",
    [
        {"GOOGLE_BEARER_TOKEN": "ambient"},
        {"GOOGLE_SKIP_SIGNATURE": "true"},
        {"GOOGLE_SERVICE_ACCOUNT": "/none.json"},
        {"SERVICE_ACCOUNT": "/none.json"},
        {"GOOGLE_SERVICE_ACCOUNT_KEY": "{}"},
        {"GOOGLE_APPLICATION_CREDENTIALS": "/none.json"},
        {"GOOGLE_BUCKET": "ambient"},
        {"GOOGLE_BEARER_TOKEN": "ambient", "SERVICE_ACCOUNT": "/none.json"},
    ],
    ids=lambda environment: ",".join(environment),
)
@pytest.mark.parametrize("form", ["path", "key"])
def test_google(
    server: Echo,
    account: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    form: str,
) -> None:
    _set(monkeypatch, environment)
    path = tmp_path / "sa.json"
    path.write_text(json.dumps(account))
    options = {"service_account": str(path)} if form == "path" else {"service_account_key": json.dumps(account)}
    backend = ObstoreBackend("k", "gs://b", base_url=server.url, **options)
    assert backend.get_content("x") == b"content"
    seen = _object_request(server)
    assert seen.path == "/b/x"
    # obstore signs its own token for an account with a key; google-auth asks the token service.
    assert seen.headers["authorization"].startswith("Bearer ")
    assert "ambient" not in seen.headers["authorization"]
    assert "robot%40project.iam.gserviceaccount.com" in str(backend.sign("x"))


@pytest.mark.parametrize(
    "environment",
    [{"GOOGLE_APPLICATION_CREDENTIALS": "/none.json"}, {"GOOGLE_BEARER_TOKEN": "ambient"}],
    ids=lambda environment: ",".join(environment),
)
def test_anonymous_google_is_anonymous(
    server: Echo, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    _set(monkeypatch, environment)
    ObstoreBackend("k", "gs://b", base_url=server.url, skip_signature=True).get_content("x")
    assert "ambient" not in _object_request(server).headers.get("authorization", "")


def test_default_credentials_of_kinds_that_obstore_does_not_read(
    server: Echo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "adc.json"
    subject = tmp_path / "subject"
    subject.write_text("subject-token")
    path.write_text(
        json.dumps(
            {
                "type": "external_account",
                "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
                "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
                "token_url": f"{server.url}/token",
                "credential_source": {"file": str(subject)},
            }
        )
    )
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "p")
    with pytest.raises(Exception, match="external_account"):
        GCSStore("b")
    ObstoreBackend("k", "gs://b", base_url=server.url).get_content("x")
    assert _object_request(server).headers["authorization"] == "Bearer from-account"


def test_the_traps_are_real(server: Echo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without us, obstore does fall into them: these tests could fail."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", "ambient")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "false")
    client = {"allow_http": True}
    S3Store("b", config=S3_KEYS, endpoint=server.url, client_options=client).get("x")  # type: ignore[typeddict-item]
    assert server.seen[-1].headers["x-amz-security-token"] == "ambient"
    monkeypatch.setenv("AZURE_STORAGE_TOKEN", "ambient")
    AzureStore("c", account_name="a", sas_key="sig=explicit", endpoint=server.url, client_options=client).get("x")
    assert server.seen[-1].headers["authorization"] == "Bearer ambient"
    monkeypatch.setenv("GOOGLE_BEARER_TOKEN", "ambient")
    key = json.dumps({**SERVICE_ACCOUNT, "gcs_base_url": server.url})
    GCSStore("b", service_account_key=key, client_options=client).get("x")
    assert unquote(server.seen[-1].headers["authorization"]) == "Bearer ambient"
