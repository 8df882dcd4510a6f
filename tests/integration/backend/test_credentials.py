"""Roles and other sources of credentials, from services on loopback: what they give is what the request carries."""

from __future__ import annotations

import datetime
import ipaddress
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from migrate_storage import ObstoreBackend
from migrate_storage.core.errors import ConfigurationError
from migrate_storage.stores.config.credentials import provider
from migrate_storage.stores.config.open import open_store
from migrate_storage.translate.model import CredentialSource, StoreConfig
from tests.support.backend.echo import Echo, Seen, echo, json_answer

LATER = "2099-01-01T00:00:00Z"
ROLE = {
    "AccessKeyId": "FROM-ROLE",
    "SecretAccessKey": "s",
    "Token": "role-token",
    "Expiration": LATER,
    "Code": "Success",
}
STS = f"""<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>FROM-STS</AccessKeyId><SecretAccessKey>s</SecretAccessKey>
<SessionToken>sts-token</SessionToken><Expiration>{LATER}</Expiration></Credentials></AssumeRoleWithWebIdentityResult>
</AssumeRoleWithWebIdentityResponse>"""


def _services(seen: Seen) -> Any:
    """An instance, a container, a token service, and Azure's."""
    if seen.path == "/latest/api/token":
        return 200, {}, b"imds-token"
    if seen.path == "/latest/meta-data/iam/security-credentials/":
        return 200, {}, b"my-role"
    if seen.path in ("/latest/meta-data/iam/security-credentials/my-role", "/container"):
        return json_answer(ROLE)
    if seen.path == "/sts" or "AssumeRoleWithWebIdentity" in str(seen.query):
        return 200, {"Content-Type": "text/xml"}, STS.encode()
    if seen.path in ("/msi", "/tenant/oauth2/v2.0/token"):
        return json_answer(
            {"access_token": "azure-token", "token_type": "Bearer", "expires_on": "4070908800", "expires_in": 3600}
        )
    return None


@pytest.fixture
def server() -> Iterator[Echo]:
    with echo(_services) as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_ambient(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "aws-credentials"))


def _carried(server: Echo, backend: ObstoreBackend) -> Seen:
    assert backend.get_content("x") == b"content"
    return next(seen for seen in server.seen if seen.path.endswith("/x"))


def test_the_role_of_an_instance(server: Echo) -> None:
    backend = ObstoreBackend("k", "s3://b", aws_region="r", aws_endpoint=server.url, aws_metadata_endpoint=server.url)
    seen = _carried(server, backend)
    assert "Credential=FROM-ROLE/" in seen.headers["authorization"]
    assert seen.headers["x-amz-security-token"] == "role-token"
    assert "FROM-ROLE" in str(backend.sign("x"))


def test_the_role_of_a_container(server: Echo, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("pod-token")
    backend = ObstoreBackend(
        "k",
        "s3://b",
        aws_endpoint=server.url,
        aws_container_credentials_full_uri=f"{server.url}/container",
        aws_container_authorization_token_file=str(token),
    )
    assert "Credential=FROM-ROLE/" in _carried(server, backend).headers["authorization"]
    asked = next(seen for seen in server.seen if seen.path == "/container")
    assert asked.headers["authorization"] == "pod-token"


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A key and a certificate of our own for this machine."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = tmp_path / "server.pem"
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


def test_a_web_identity(tmp_path: Path, certificate: Path) -> None:
    """obstore asks a token service by HTTPS only; the certificate is given as a path."""
    public = tmp_path / "ca.pem"
    public.write_text(certificate.read_text().partition("-----END PRIVATE KEY-----\n")[2])
    token = tmp_path / "jwt"
    token.write_text("web-token")
    with echo(_services, certificate) as server:
        backend = ObstoreBackend(
            "k",
            "s3://b",
            aws_endpoint=server.url,
            aws_web_identity_token_file=str(token),
            aws_role_arn="arn:aws:iam::1:role/r",
            aws_sts_endpoint=f"{server.url}/sts",
            client_options={"root_certificate": public},
        )
        seen = _carried(server, backend)
        assert "Credential=FROM-STS/" in seen.headers["authorization"]
        assert seen.headers["x-amz-security-token"] == "sts-token"
        assert "web-token" in str(server.seen[0])


def test_a_profile(server: Echo, tmp_path: Path) -> None:
    (tmp_path / "aws-credentials").write_text("[work]\naws_access_key_id = OF-PROFILE\naws_secret_access_key = s\n")
    backend = ObstoreBackend("k", "s3://b", aws_endpoint=server.url, aws_profile="work")
    assert "Credential=OF-PROFILE/" in _carried(server, backend).headers["authorization"]
    again = pickle.loads(pickle.dumps(backend))
    assert "Credential=OF-PROFILE/" in _carried(server, again).headers["authorization"]
    assert b"OF-PROFILE" not in pickle.dumps(backend)


def test_a_profile_that_is_not_there_is_no_access(server: Echo) -> None:
    backend = ObstoreBackend("k", "s3://b", aws_endpoint=server.url, aws_profile="none")
    with pytest.raises(PermissionError):
        backend.get_content("x")


def test_a_managed_identity_of_azure(server: Echo) -> None:
    backend = ObstoreBackend(
        "k",
        "az://c",
        azure_storage_account_name="a",
        azure_storage_endpoint=server.url,
        azure_msi_endpoint=f"{server.url}/msi",
    )
    assert _carried(server, backend).headers["authorization"] == "Bearer azure-token"


def test_a_service_principal_of_azure(server: Echo) -> None:
    backend = ObstoreBackend(
        "k",
        "az://c",
        azure_storage_account_name="a",
        azure_storage_endpoint=server.url,
        azure_storage_client_id="c",
        azure_storage_client_secret="s",
        azure_storage_tenant_id="tenant",
        azure_storage_authority_host=server.url,
    )
    assert _carried(server, backend).headers["authorization"] == "Bearer azure-token"


async def _asynchronous() -> dict[str, Any]:
    return {"access_key_id": "ASYNC", "secret_access_key": "s"}


def _naive() -> dict[str, Any]:
    expires_at = datetime.datetime(2099, 1, 1)  # noqa: DTZ001
    return {"access_key_id": "NAIVE", "secret_access_key": "s", "expires_at": expires_at}


@pytest.mark.parametrize(("given", "name"), [(_asynchronous, "ASYNC"), (_naive, "NAIVE")])
async def test_providers_of_every_kind_work_inside_a_loop(server: Echo, given: Any, name: str) -> None:
    """An asynchronous provider hangs for ever in obstore when a synchronous call is made inside a running loop."""
    backend = ObstoreBackend("k", "s3://b", aws_endpoint=server.url, region="r", credential_provider=given)
    assert f"Credential={name}/" in _carried(server, backend).headers["authorization"]
    assert await backend.get_content_async("y") == b"content"


class _Token:
    token = "live"
    expires_on = 4070908800


class _AzureLive:
    def get_token(self, *scopes: str) -> _Token:
        assert scopes == ("https://storage.azure.com/.default",)
        return _Token()


class _AzureLiveAsync:
    async def get_token(self, *scopes: str) -> _Token:
        return _Token()


@pytest.mark.parametrize("live", [_AzureLive(), _AzureLiveAsync()], ids=["sync", "async"])
def test_credentials_objects_of_azure(server: Echo, live: Any) -> None:
    backend = ObstoreBackend("k", "az://c", account_name="a", endpoint=server.url, credential_provider=live)
    assert _carried(server, backend).headers["authorization"] == "Bearer live"


def test_credentials_objects_of_google(server: Echo) -> None:
    from google.oauth2.credentials import Credentials

    backend = ObstoreBackend("k", "gs://b", base_url=server.url, credential_provider=Credentials("ya29"))
    assert _carried(server, backend).headers["authorization"] == "Bearer ya29"


def test_a_session_of_botocore(server: Echo) -> None:
    import botocore.session

    session = botocore.session.Session()
    session.set_credentials("OF-SESSION", "s")
    backend = ObstoreBackend("k", "s3://b", endpoint=server.url, credential_provider=session)
    assert "Credential=OF-SESSION/" in _carried(server, backend).headers["authorization"]


def test_sources_in_a_configuration(server: Echo) -> None:
    source = CredentialSource(
        kind="static", options={"access_key_id": "STATIC", "secret_access_key": "s", "token": None}
    )
    config = StoreConfig(service="s3", root="b", options={"endpoint": server.url, "region": "r"}, credentials=source)
    open_store(config).get("x")
    assert "Credential=STATIC/" in server.seen[-1].headers["authorization"]
    with pytest.raises(ConfigurationError, match="'magic' are not known"):
        provider(CredentialSource(kind="magic"), "s3")


def test_constructing_asks_nobody(server: Echo) -> None:
    ObstoreBackend("k", "s3://b", aws_endpoint=server.url, aws_metadata_endpoint=server.url)
    ObstoreBackend("k", "s3://b", aws_endpoint=server.url, aws_profile="none")
    assert server.seen == []
