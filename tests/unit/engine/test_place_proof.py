"""A translation that would ask another URL is refused before anything is sent."""

from __future__ import annotations

import threading

import pytest
import s3fs
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend

from migrate_storage.core.errors import PreflightError
from migrate_storage.engine.place_proof import prove_translation
from migrate_storage.jobs.translation_check import compare_files
from migrate_storage.stores.resolved_backend import ResolvedBackend
from migrate_storage.stores.retry import Retry
from migrate_storage.translate.registration.botocore_client import BotocoreClient

ELSEWHERE = ("https://elsewhere.example.com/bkt/up/a", "eu-west-1")


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> FSSpecBackend:
    """An ``FSSpecBackend`` at a closed port, whose requests would go elsewhere."""
    filesystem = s3fs.S3FileSystem(key="K", secret="S", endpoint_url="http://127.0.0.1:9", skip_instance_cache=True)
    request = BotocoreClient.request
    monkeypatch.setattr(
        BotocoreClient, "request", lambda self, bucket, key: ELSEWHERE if key == "up/a" else request(self, bucket, key)
    )
    return FSSpecBackend(key="old", fs=filesystem, prefix="bkt/up")


def test_before_a_run(backend: FSSpecBackend) -> None:
    with pytest.raises(PreflightError) as caught:
        prove_translation(ResolvedBackend(backend), ["a"], Retry(1, threading.Event()))
    assert "the translation of 'old' does not ask what its filesystem asks" in str(caught.value)
    assert "https://elsewhere.example.com/bkt/up/a" in str(caught.value)
    assert "endpoint_url" in str(caught.value)


def test_in_a_check(backend: FSSpecBackend) -> None:
    (found,) = compare_files(backend, ("a",))
    assert "another scheme and host and port and region" in found.reason
