"""Evidence has two ends; an equal digest proves, an unequal or missing one proves nothing."""

from __future__ import annotations

import hashlib
from typing import Any

import obstore
import pytest

from migrate_storage.core.model import Evidence, ObjectMeta
from migrate_storage.engine.transfer import Digests, UnverifiedCopy
from migrate_storage.engine.verify import (
    DiffersError,
    UnverifiedError,
    compare_content,
    consistent_with,
    sha256_of,
    verify,
)
from migrate_storage.stores.base import ObjectAt
from migrate_storage.stores.obstore_store import ObstoreStore
from tests.support.servers import S3Server

NOW = Evidence(size=3, e_tag="a", last_modified=5.0, version="1")


@pytest.mark.parametrize(
    ("later", "is_unchanged"),
    [
        (NOW, True),
        (Evidence(size=3), True),
        (Evidence(size=3, e_tag="a"), True),
        (Evidence(size=3, last_modified=5.00005), True),
        # A listing may tell fractions of the second that a look at the object tells whole.
        (Evidence(size=3, e_tag="a", last_modified=5.4), True),
        (Evidence(size=3, e_tag="a", last_modified=6.4), False),
        (Evidence(size=4, e_tag="a", last_modified=5.0, version="1"), False),
        (Evidence(size=3, e_tag="b", last_modified=5.0, version="1"), False),
        (Evidence(size=3, e_tag="a", last_modified=6.0, version="1"), False),
        (Evidence(size=3, e_tag="a", last_modified=5.0, version="2"), False),
    ],
)
def test_what_says_that_an_object_was_replaced(later: Evidence, is_unchanged: bool) -> None:
    assert consistent_with(NOW, later) is is_unchanged
    assert consistent_with(later, NOW) is is_unchanged


class Reading:
    """A store that counts its reads, and may hold other bytes each time."""

    def __init__(self, store: ObstoreStore, *, trusted: bool = False) -> None:
        self._store, self.name, self.is_local, self.reads = store, "s", trusted, 0

    def open(self, path: str) -> Any:
        self.reads += 1
        return self._store.open(path)


@pytest.fixture
def server(moto_s3: S3Server) -> ObstoreStore:
    store = moto_s3.store(moto_s3.new_bucket())
    obstore.put(store, "right", b"content")
    obstore.put(store, "wrong", b"c0ntent")
    return ObstoreStore(store, "s")


def copied(*, source_tag: str | None, destination_tag: str | None, size: int = 7) -> UnverifiedCopy:
    taken = Digests()
    taken.update(b"content")
    return UnverifiedCopy(
        source=ObjectMeta(path="s", size=7, e_tag=source_tag),
        destination=ObjectMeta(path="d", size=size, e_tag=destination_tag),
        sha256=taken.sha256,
        e_tags=taken.e_tags,
    )


MD5 = hashlib.md5(b"content").hexdigest()
OTHER = hashlib.md5(b"encrypted").hexdigest()


@pytest.mark.parametrize(
    ("source_tag", "destination_tag", "trusted", "evidence", "reads"),
    [
        (MD5, MD5, False, "source digest, destination digest", (0, 0)),
        (MD5, None, False, "source digest, read back", (0, 1)),
        (MD5, OTHER, False, "source digest, read back", (0, 1)),
        (None, MD5, False, "read twice, destination digest", (1, 0)),
        (OTHER, MD5, False, "read twice, destination digest", (1, 0)),
        (None, None, False, "read twice, read back", (1, 1)),
        (None, MD5, True, "local source, destination digest", (0, 0)),
    ],
)
def test_how_equality_is_proved(
    server: ObstoreStore, source_tag: str | None, destination_tag: str | None, trusted: bool, evidence: str, reads: Any
) -> None:
    source, destination = Reading(server, trusted=trusted), Reading(server)
    verified = verify(
        copied(source_tag=source_tag, destination_tag=destination_tag),
        ObjectAt(source, "right"),
        ObjectAt(destination, "right"),
    )
    assert verified.evidence == evidence
    assert (source.reads, destination.reads) == reads
    assert verified.sha256 == hashlib.sha256(b"content").hexdigest()
    assert verified.ours is True


def test_other_bytes_at_the_destination_differ(server: ObstoreStore) -> None:
    with pytest.raises(DiffersError, match="read back, wrong does not hold"):
        verify(copied(source_tag=MD5, destination_tag=None), ObjectAt(server, "right"), ObjectAt(server, "wrong"))


def test_other_bytes_on_a_second_reading_prove_nothing(server: ObstoreStore) -> None:
    with pytest.raises(UnverifiedError, match="two reads of wrong gave different bytes"):
        verify(copied(source_tag=None, destination_tag=MD5), ObjectAt(server, "wrong"), ObjectAt(server, "right"))


def test_another_size_differs_whatever_the_tag_says(server: ObstoreStore) -> None:
    with pytest.raises(DiffersError, match="holds 8 bytes, 7 were written"):
        verify(
            copied(source_tag=MD5, destination_tag=MD5, size=8), ObjectAt(server, "right"), ObjectAt(server, "right")
        )


def test_what_stands_there_already_is_compared_by_its_bytes(server: ObstoreStore) -> None:
    obstore.put(server._store, "again", b"content")
    equal = compare_content(ObjectAt(server, "right"), ObjectAt(server, "again"))
    assert equal is not None
    assert (equal.evidence, equal.ours, equal.sha256) == ("both read", False, sha256_of(ObjectAt(server, "right")))
    assert compare_content(ObjectAt(server, "right"), ObjectAt(server, "wrong")) is None
