"""Evidence has two ends: an equal digest proves, no reading outvotes another one, and a missing one is made up for."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import replace
from typing import Any

import obstore
import pytest

from migrate_storage.core.model import Evidence, ObjectMeta
from migrate_storage.engine.transfer import Digests, UnverifiedCopy
from migrate_storage.engine.verify import (
    ContradictedError,
    DiffersError,
    SourceChangedError,
    UnverifiedError,
    compare_content,
    consistent_with,
    sha256_of,
    verify,
)
from migrate_storage.stores.base import DigestHeaders, ObjectAt
from migrate_storage.stores.obstore_store import ObstoreStore
from migrate_storage.stores.retry import Retry
from tests.support.servers import S3Server

RETRY = Retry(1, threading.Event())
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

    def __init__(self, store: ObstoreStore, *, trusted: bool = False, encrypted: bool = False) -> None:
        self._store, self.name, self.is_local, self.reads, self._encrypted = store, "s", trusted, 0, encrypted

    def digest_headers(self, path: str) -> DigestHeaders:
        return DigestHeaders(encrypted=self._encrypted)

    def open(self, path: str) -> Any:
        self.reads += 1
        return self._store.open(path)


@pytest.fixture
def server(moto_s3: S3Server) -> ObstoreStore:
    store = moto_s3.store(moto_s3.new_bucket())
    obstore.put(store, "right", b"content")
    obstore.put(store, "wrong", b"c0ntent")
    return ObstoreStore(store, "s")


def copied(*, source_tag: str | None, destination_tag: str | None, size: int = 7, **known: bool) -> UnverifiedCopy:
    taken = Digests()
    taken.update(b"content")
    return UnverifiedCopy(
        source=ObjectMeta(path="s", size=7, e_tag=source_tag),
        destination=ObjectMeta(path="d", size=size, e_tag=destination_tag),
        sha256=taken.sha256,
        e_tags=taken.e_tags,
        **known,
    )


MD5 = hashlib.md5(b"content").hexdigest()
OTHER = hashlib.md5(b"encrypted").hexdigest()


@pytest.mark.parametrize(
    ("source_tag", "destination_tag", "trusted", "evidence", "reads"),
    [
        (MD5, MD5, False, "source_digest, destination_digest", (0, 0)),
        (MD5, None, False, "source_digest, destination_readback", (0, 1)),
        (MD5, OTHER, False, "source_digest, destination_readback", (0, 1)),
        (None, MD5, False, "source_reread, destination_digest", (1, 0)),
        ("0x8DC", MD5, False, "source_reread, destination_digest", (1, 0)),
        (f"{OTHER}-2", MD5, False, "source_reread, destination_digest", (1, 0)),
        (None, None, False, "source_reread, destination_readback", (1, 1)),
        (None, MD5, True, "local_source, destination_digest", (0, 0)),
        (OTHER, MD5, True, "local_source, destination_digest", (0, 0)),
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
        RETRY,
    )
    assert verified.evidence == evidence
    assert (source.reads, destination.reads) == reads
    assert verified.sha256 == hashlib.sha256(b"content").hexdigest()
    assert verified.written_by_us is True


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("opaque", [False, True])
def test_no_reading_outvotes_the_digest_of_the_source(server: ObstoreStore, encrypted: bool, opaque: bool) -> None:
    """But where a HEAD names KMS, or the user says that ETags are no digests, there is none."""
    source, there = ObjectAt(Reading(server, encrypted=encrypted), "right"), ObjectAt(server, "right")
    unverified = copied(source_tag=OTHER, destination_tag=MD5, opaque_source=opaque)
    if not encrypted and not opaque:
        with pytest.raises(
            ContradictedError, match=f"the bytes of right are not those of its MD5 {OTHER}.*--opaque-etags"
        ):
            verify(unverified, source, there, RETRY)
        return
    evidence = "source_reread, by_option" if opaque else "source_reread"
    assert verify(unverified, source, there, RETRY).evidence == f"{evidence}, destination_digest"


def test_a_digest_beside_the_etag_is_not_outvoted_either(server: ObstoreStore) -> None:
    unverified = copied(source_tag="0x8DC", destination_tag=MD5)
    unverified = replace(unverified, source=replace(unverified.source, md5=OTHER))
    with pytest.raises(ContradictedError):
        verify(unverified, ObjectAt(Reading(server), "right"), ObjectAt(server, "right"), RETRY)


class _ReadingWithMd5(Reading):
    """A store that tells an MD5 without an ETag, as the filesystem's own API does."""

    def digest_headers(self, path: str) -> DigestHeaders:
        return DigestHeaders(md5=OTHER)

    def head(self, path: str) -> ObjectMeta:
        return self._store.head(path)


@pytest.mark.parametrize(("written", "error"), [(None, ContradictedError), (1.0, SourceChangedError)])
def test_an_md5_without_an_etag_is_of_what_was_read_only_while_nothing_changed(
    server: ObstoreStore, written: float | None, error: type[Exception]
) -> None:
    unverified = copied(source_tag="0x8DC", destination_tag=MD5)
    unverified = replace(unverified, source=ObjectMeta(path="s", size=7, last_modified=written))
    with pytest.raises(error):
        verify(unverified, ObjectAt(_ReadingWithMd5(server), "right"), ObjectAt(server, "right"), RETRY)


def test_no_reading_outvotes_the_digest_of_the_destination_where_a_probe_showed_that_it_is_one(
    server: ObstoreStore,
) -> None:
    there = Reading(server)
    with pytest.raises(DiffersError, match="which is none of the bytes that were written"):
        verify(
            copied(source_tag=MD5, destination_tag=OTHER, e_tag_is_digest=True),
            ObjectAt(server, "right"),
            ObjectAt(there, "right"),
            RETRY,
        )
    assert there.reads == 0


def test_an_equal_copy_of_bytes_that_contradict_the_source_is_no_proof(server: ObstoreStore) -> None:
    """Both were read, and are equal: the damaged bytes of an earlier attempt."""
    source, copy = Reading(server), ObjectAt(server, "right")
    source.head = lambda path: replace(server.head(path), e_tag=OTHER)
    assert compare_content(ObjectAt(source, "right"), copy, RETRY) is not None
    with pytest.raises(ContradictedError):
        compare_content(ObjectAt(source, "right"), copy, RETRY, opaque_source=False)
    source._encrypted = True
    assert compare_content(ObjectAt(source, "right"), copy, RETRY, opaque_source=False) is not None


def test_other_bytes_at_the_destination_differ(server: ObstoreStore) -> None:
    with pytest.raises(DiffersError, match="read back, wrong does not have"):
        verify(
            copied(source_tag=MD5, destination_tag=None), ObjectAt(server, "right"), ObjectAt(server, "wrong"), RETRY
        )


def test_other_bytes_on_a_second_reading_prove_nothing(server: ObstoreStore) -> None:
    with pytest.raises(UnverifiedError, match="two reads of wrong gave different bytes"):
        verify(
            copied(source_tag=None, destination_tag=MD5), ObjectAt(server, "wrong"), ObjectAt(server, "right"), RETRY
        )


def test_another_size_differs_whatever_the_tag_says(server: ObstoreStore) -> None:
    with pytest.raises(DiffersError, match="has 8 bytes, 7 were written"):
        verify(
            copied(source_tag=MD5, destination_tag=MD5, size=8),
            ObjectAt(server, "right"),
            ObjectAt(server, "right"),
            RETRY,
        )


class _FailingTwice(ObstoreStore):
    """A store of which each request fails twice before it is answered."""

    def __init__(self, server: ObstoreStore) -> None:
        super().__init__(server._store, "failing")
        self._failed = {"head": 0, "open": 0}

    def _fail_twice(self, request: str) -> None:
        self._failed[request] += 1
        if self._failed[request] % 3:
            raise ConnectionError("reset")

    def head(self, path: str) -> ObjectMeta:
        self._fail_twice("head")
        return super().head(path)

    def open(self, path: str) -> Any:
        self._fail_twice("open")
        return super().open(path)


def test_each_request_of_a_comparison_has_its_own_attempts(
    server: ObstoreStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    retry = Retry(3, threading.Event())
    monkeypatch.setattr(Retry, "pause", lambda *_, **__: None)
    one, other = ObjectAt(_FailingTwice(server), "right"), ObjectAt(_FailingTwice(server), "right")
    assert compare_content(one, other, retry) is not None
    assert (
        verify(copied(source_tag=None, destination_tag=None), one, other, retry).evidence
        == "source_reread, destination_readback"
    )


def test_what_stands_there_already_is_compared_by_its_bytes(server: ObstoreStore) -> None:
    obstore.put(server._store, "again", b"content")
    equal = compare_content(ObjectAt(server, "right"), ObjectAt(server, "again"), RETRY)
    assert equal is not None
    assert (equal.evidence, equal.written_by_us, equal.sha256) == (
        "content_compared",
        False,
        sha256_of(ObjectAt(server, "right")),
    )
    assert compare_content(ObjectAt(server, "right"), ObjectAt(server, "wrong"), RETRY) is None
