"""Credentials that live longer than their first token: three refreshes of every provider, wherever it is asked."""

from __future__ import annotations

import asyncio
import inspect
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from adlfs import AzureBlobFileSystem
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend
from aiobotocore.session import AioSession
from azure.core.credentials import AccessToken
from azure.identity.aio import DefaultAzureCredential, ManagedIdentityCredential
from fsspec.asyn import get_loop, sync

from migrate_storage import ObstoreBackend
from migrate_storage.stores.config.credentials import provider
from migrate_storage.translate.model import CredentialSource
from tests.support.backend.echo import Echo, Seen, echo, json_answer

REFRESHES = 3
#: obstore asks again when a token has less than this left; every token here expires at once.
EXPIRED = 1


class _Tokens:
    """Answers requests for a token, each with another one that expires at once."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, seen: Seen) -> Any:
        if not seen.path.startswith("/msi"):
            return None
        self.count += 1
        expires = str(int(time.time()) + EXPIRED)
        return json_answer(
            {"access_token": f"t{self.count}", "expires_on": expires, "resource": "x", "token_type": "Bearer"}
        )


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Echo]:
    for name in list(os.environ):
        if name.startswith(("AZURE", "AWS_")):
            monkeypatch.delenv(name)
    with echo(_Tokens()) as running:
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{running.url}/msi")
        monkeypatch.setenv("IDENTITY_HEADER", "x")
        yield running


def _azure(server: Echo, credential: Any) -> ObstoreBackend:
    return ObstoreBackend(
        "az", "az://c", azure_storage_account_name="acct", azure_storage_endpoint=f"{server.url}/acct",
        credential_provider=credential, retry_config={"max_retries": 0},
    )  # fmt: skip


class _SyncCredential:
    """A synchronous azure.identity credential whose tokens expire at once."""

    def __init__(self) -> None:
        self.count = 0

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        self.count += 1
        return AccessToken(f"t{self.count}", int(time.time()) + EXPIRED)


CREDENTIALS: Mapping[str, Callable[[], Any]] = {
    "managed identity": ManagedIdentityCredential,
    "default": DefaultAzureCredential,
    "synchronous": _SyncCredential,
}


def _authorizations(server: Echo) -> list[str]:
    return [seen.headers["authorization"] for seen in server.seen if seen.path.endswith("/x")]


@pytest.mark.parametrize("kind", CREDENTIALS)
def test_azure_credentials_are_refreshed(server: Echo, kind: str) -> None:
    """Azure/azure-sdk-for-python#33987, fsspec/adlfs#537: the credentials that adlfs asks for are asynchronous."""
    backend = _azure(server, CREDENTIALS[kind]())
    for _ in range(REFRESHES):
        assert backend.get_content("x") == b"content"

    async def read() -> None:
        for _ in range(REFRESHES):
            assert await backend.get_content_async("x") == b"content"

    asyncio.run(read())
    asyncio.run(read())
    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(lambda _: backend.get_content("x"), range(8))) == {b"content"}
    assert len(set(_authorizations(server))) >= REFRESHES


@pytest.mark.parametrize("used", [False, True], ids=["new", "used elsewhere"])
@pytest.mark.parametrize("kind", CREDENTIALS)
def test_after_a_fork(server: Echo, kind: str, used: bool) -> None:
    credential = CREDENTIALS[kind]()
    if used:
        get_token_elsewhere(credential)
    ask = provider(CredentialSource(kind="object", provider=credential), "azure")
    assert ask()["token"]
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            found = [str(ask()["token"]) for _ in range(REFRESHES)]
            os.write(writing, ",".join(found).encode())
        except BaseException as error:
            os.write(writing, repr(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    answer = os.read(reading, 1_000).decode()
    os.close(reading)
    assert answer.count(",") == REFRESHES - 1, answer
    assert all(part.startswith("t") for part in answer.split(",")), answer
    assert ask()["token"]


def get_token_elsewhere(credential: Any) -> None:
    """Use a credential on the event loop of fsspec, which runs on, as adlfs does."""

    async def get() -> Any:
        found = credential.get_token("scope")
        return await found if inspect.isawaitable(found) else found

    assert sync(get_loop(), get).token


@pytest.mark.parametrize("kind", CREDENTIALS)
def test_a_credential_in_use_on_another_event_loop(server: Echo, kind: str) -> None:
    credential = CREDENTIALS[kind]()
    backend = _azure(server, credential)
    for _ in range(REFRESHES):
        get_token_elsewhere(credential)
        assert backend.get_content("x") == b"content"
    late = _azure(server, credential)
    for _ in range(REFRESHES):
        assert late.get_content("x") == b"content"
        get_token_elsewhere(credential)


def test_a_translated_backend_keeps_its_credential(server: Echo) -> None:
    filesystem = AzureBlobFileSystem(
        account_name="acct", credential=ManagedIdentityCredential(), skip_instance_cache=True
    )
    translated = ObstoreBackend.from_fsspec(FSSpecBackend(key="az", fs=filesystem, prefix="c"))
    source = translated.registration.translation.config.credentials
    ask = provider(source, "azure")
    assert len({ask()["token"] for _ in range(REFRESHES)}) == REFRESHES


def test_a_session_of_aiobotocore_is_asked(server: Echo) -> None:
    class Refreshing:
        """Credentials as a chain of botocore's would find them, for one minute."""

        method = "example"
        count = 0

        def refresh_needed(self) -> bool:
            return True

        async def get_frozen_credentials(self) -> Any:
            await asyncio.sleep(0)
            type(self).count += 1
            return type("Frozen", (), {"access_key": f"K{self.count}", "secret_key": "S", "token": None})

    session = AioSession()
    session._credentials = Refreshing()
    ask = provider(CredentialSource(kind="object", provider=session), "s3")
    assert [ask()["access_key_id"] for _ in range(REFRESHES)] == ["K1", "K2", "K3"]
    assert ask()["expires_at"] > datetime.now(UTC)


def test_a_credential_that_fails_is_not_blamed_on_the_container(server: Echo) -> None:
    def sealed() -> Any:
        raise RuntimeError("the vault is sealed")

    with pytest.raises(PermissionError, match="its credentials could not be had: RuntimeError: the vault is sealed"):
        _azure(server, sealed).get_content("x")
