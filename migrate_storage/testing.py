"""Fixtures for an application's own tests: storage that is registered for a test.

The previous backend is registered again afterwards.

::

    # conftest.py
    pytest_plugins = ["migrate_storage.testing"]

    # test_documents.py
    def test_upload(memory_storage, client):
        storage = memory_storage("documents")      # the key that the models name
        client.post("/documents", files={"file": b"hello"})
        assert [info["path"] for info in storage.list_files()] == ["hello.txt"]

They do not affect a column that was given a backend object instead of a key, nor a ``FileObject`` that was made before. Only
this module needs pytest.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from advanced_alchemy.types.file_object import StorageBackend, storages

from migrate_storage.backend import ObstoreBackend

__all__ = ("local_storage", "memory_storage", "registered")

Backend = TypeVar("Backend", bound=StorageBackend)


@contextlib.contextmanager
def registered(backend: Backend) -> Iterator[Backend]:
    """Register a backend under its key; afterwards restore the previous one."""
    key = backend.key
    before = storages.get_backend(key) if storages.is_registered(key) else None
    storages.register_backend(backend)
    try:
        yield backend
    finally:
        if before is None:
            storages.unregister_backend(key)
        else:
            storages.register_backend(before)


@pytest.fixture
def memory_storage() -> Iterator[Callable[[str], ObstoreBackend]]:
    """Return a function that registers an empty storage in memory, for this test."""
    with contextlib.ExitStack() as stack:
        yield lambda key: stack.enter_context(registered(ObstoreBackend(key=key, fs="memory://")))


@pytest.fixture
def local_storage(tmp_path: Path) -> Iterator[Callable[[str], ObstoreBackend]]:
    """Return a function that registers an empty folder, for this test."""
    with contextlib.ExitStack() as stack:

        def make(key: str) -> ObstoreBackend:
            number = sum(entry.name.startswith("storage-") for entry in tmp_path.iterdir())
            folder = tmp_path / f"storage-{number}"
            folder.mkdir()
            return stack.enter_context(registered(ObstoreBackend(key=key, fs=folder)))

        yield make
