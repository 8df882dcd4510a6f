"""A paced store is the store itself, only slower."""

from __future__ import annotations

import threading
import time

import pytest
from obstore.store import MemoryStore

from migrate_storage.core.errors import StoppedError
from migrate_storage.core.model import Attributes
from migrate_storage.stores.obstore_store import ObstoreStore
from migrate_storage.stores.rate_limit import StoreLimits
from migrate_storage.stores.throttled_store import ThrottledStore

CONTENT = bytes(range(256)) * 40


def paced(bandwidth: float | None = None, requests: float | None = None) -> tuple[ThrottledStore, threading.Event]:
    stopping = threading.Event()
    store = ObstoreStore(MemoryStore(), "a store", chunk=1024)
    return ThrottledStore(store, StoreLimits(bandwidth, requests, stopping)), stopping


def put(store: ThrottledStore, path: str = "a") -> None:
    store.put(path, CONTENT, attributes=Attributes(), create=False, part_size=None)


def test_it_does_what_the_store_does() -> None:
    store, _ = paced()
    put(store)
    assert (store.name, store.is_local) == ("a store", True)
    assert store.head("a").size == len(CONTENT)
    opened = store.open("a")
    assert (opened.meta.size, opened.read()) == (len(CONTENT), CONTENT)
    assert b"".join(store.open("a").chunks()) == CONTENT
    assert [meta.path for meta in store.list("")] == ["a"]
    store.delete("a")
    with pytest.raises(FileNotFoundError):
        store.open("a")
    with pytest.raises(FileNotFoundError):
        store.head("a")


@pytest.mark.parametrize("pieces", [False, True])
def test_what_is_read_waits_for_the_bandwidth(pieces: bool) -> None:
    store, _ = paced(bandwidth=len(CONTENT) * 2)
    put(store)
    began = time.monotonic()
    for _ in range(3):
        content = b"".join(store.open("a").chunks()) if pieces else store.open("a").read()
        assert content == CONTENT
    assert time.monotonic() - began >= 3 / 2 - 0.6


def test_every_call_waits_for_its_turn() -> None:
    store, _ = paced(requests=20)
    began = time.monotonic()
    put(store)
    for _ in range(8):
        store.head("a")
    list(store.list(""))
    store.open("a")
    store.delete("a")
    assert time.monotonic() - began >= 13 / 20 - 0.55


def test_who_waits_is_sent_away_when_the_run_stops() -> None:
    store, stopping = paced(bandwidth=1)
    put(store)
    stopping.set()
    with pytest.raises(StoppedError):
        store.open("a").read()
