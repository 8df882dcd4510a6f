"""Which backends are read through their own methods: those whose reading is not the library's."""

from __future__ import annotations

from typing import Any

import pytest
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend
from advanced_alchemy.types.file_object.backends.obstore import ObstoreBackend as Upstream
from obstore.store import MemoryStore

from migrate_storage import ObstoreBackend
from migrate_storage.translate.registration import prefers_async, read


class ReadsBytes(FSSpecBackend):
    def get_content(self, path: Any, *, options: Any = None) -> bytes:
        return b""


class ReadsLater(FSSpecBackend):
    async def get_content_async(self, path: Any, *, options: Any = None) -> bytes:
        return b""


class Mixin:
    def get_content(self, path: Any, *, options: Any = None) -> bytes:
        return b""


class Mixed(Mixin, ReadsLater):
    pass


class Saves(FSSpecBackend):
    def save_object(self, *arguments: Any, **options: Any) -> Any:
        return None

    def _prepare_path(self, path: Any) -> str:
        return f"tenant/{path}"


class Deletes(FSSpecBackend):
    def delete_object(self, paths: Any) -> None:
        return None


class Counts(ReadsBytes):
    migrate_storage_direct = True


class OtherKeys(Upstream):
    @staticmethod
    def _to_path(path: Any) -> str:
        return f"tenant/{path}"


def memory(kind: Any) -> Any:
    return kind(key="k", fs="memory")


@pytest.mark.parametrize(
    ("backend", "own_class", "overrides", "later"),
    [
        (memory(FSSpecBackend), "", (), False),
        (ObstoreBackend("k", "memory://"), "", (), False),
        (Upstream(key="k", fs=MemoryStore()), "", (), False),
        (memory(ReadsBytes), "ReadsBytes", ("get_content",), False),
        (memory(ReadsLater), "ReadsLater", ("get_content_async",), True),
        (memory(Mixed), "Mixed", ("get_content", "get_content_async"), False),
        (memory(Saves), "", (), False),
        (memory(Deletes), "", ("delete_object",), False),
        (memory(Counts), "", (), False),
        (OtherKeys(key="k", fs=MemoryStore()), "OtherKeys", ("_to_path",), False),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "key") else "",
)
def test_what_a_class_overrides_decides(backend: Any, own_class: str, overrides: tuple[str, ...], later: bool) -> None:
    registration = read(backend, {})
    assert (registration.own_class, registration.overrides) == (own_class, overrides)
    codes = [note.code for note in registration.translation.refused]
    assert ("backend.own" in codes) is bool(own_class)
    assert (registration.filesystem is None) == (bool(own_class) or registration.driver == "obstore")
    if own_class:
        assert prefers_async(backend) is later
        assert (registration.place("a//b").service, registration.place("a//b").key) == ("own", "a//b")


def test_a_method_set_on_the_instance_counts() -> None:
    backend = memory(FSSpecBackend)
    backend.get_content = lambda path, options=None: b""
    assert read(backend, {}).own_class == "FSSpecBackend"


def test_two_keys_of_one_class_are_in_doubt_and_not_one_place() -> None:
    one, other = (read(ReadsBytes(key=key, fs="memory"), {}).place("x") for key in ("a", "b"))
    assert one != other
