"""Digests of what passes: they are what a service says of the same bytes, however the pieces fall."""

from __future__ import annotations

import contextlib
import hashlib
import random
import threading
from collections.abc import Callable
from dataclasses import replace

import obstore
import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrate_storage.core.model import Attributes, ObjectMeta
from migrate_storage.core.text import MiB
from migrate_storage.engine.transfer import (
    SMALL_BYTES,
    CopyPolicy,
    CopyResources,
    DigestPlan,
    Digests,
    SourceMissingError,
    _part_sizes_of,
    copy_bytes,
    merge_attributes,
    part_size,
)
from migrate_storage.engine.verify import DiffersError, verify
from migrate_storage.stores.base import ObjectAt
from migrate_storage.stores.failures import FailureKind, classify
from migrate_storage.stores.obstore_store import ObstoreStore
from migrate_storage.stores.retry import Retry
from tests.support.servers import S3Server


def resources(on_bytes: Callable[[int], None] = lambda _: None) -> CopyResources:
    retry = Retry(1, threading.Event())
    return CopyResources(retry=retry, memory=lambda _: contextlib.nullcontext(), on_bytes=on_bytes)


def content(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@given(st.lists(st.binary(max_size=40), max_size=12), st.integers(1, 50))
def test_the_same_bytes_have_the_same_digests_in_any_pieces(pieces: list[bytes], part: int) -> None:
    whole = b"".join(pieces)
    taken = Digests(part)
    for piece in pieces:
        taken.update(piece)
    assert taken.count == len(whole)
    assert taken.md5 == hashlib.md5(whole).hexdigest()
    assert taken.sha256 == hashlib.sha256(whole).hexdigest()
    parts = [hashlib.md5(whole[i : i + part]).digest() for i in range(0, max(1, len(whole)), part)]
    assert taken.e_tags == {taken.md5, f"{hashlib.md5(b''.join(parts)).hexdigest()}-{len(parts)}"}


@pytest.mark.parametrize("part", [5 * MiB, 8 * MiB])
@pytest.mark.parametrize("size", [5 * MiB - 1, 5 * MiB, 10 * MiB, 16 * MiB, 16 * MiB + 1])
def test_the_tag_of_an_upload_in_parts_is_the_one_of_a_server(moto_s3: S3Server, part: int, size: int) -> None:
    bucket, whole = moto_s3.new_bucket(), content(size)
    obstore.put(moto_s3.store(bucket), "x", whole, use_multipart=True, chunk_size=part)
    tag = obstore.head(moto_s3.store(bucket), "x")["e_tag"].strip('"')
    taken = Digests(part)
    for i in range(0, size, 777_777):
        taken.update(whole[i : i + 777_777])
    assert tag in taken.e_tags
    assert "-" in tag
    assert tag not in Digests(part).e_tags


def test_the_tag_of_one_request_is_the_md5(moto_s3: S3Server) -> None:
    bucket = moto_s3.new_bucket()
    obstore.put(moto_s3.store(bucket), "x", b"content", use_multipart=False)
    assert obstore.head(moto_s3.store(bucket), "x")["e_tag"].strip('"') == hashlib.md5(b"content").hexdigest()


@pytest.mark.parametrize(("size", "part"), [(60 * MiB, 5 * MiB), (60 * MiB, 8 * MiB), (60 * MiB, 50 * MiB), (100 * MiB, 25 * MiB)])  # fmt: skip
def test_the_part_size_of_the_source_is_found_from_its_tag(size: int, part: int) -> None:
    count = -(-size // part)
    assert part in _part_sizes_of(ObjectMeta(path="x", size=size, e_tag=f"{'0' * 32}-{count}"))
    assert _part_sizes_of(ObjectMeta(path="x", size=size, e_tag="0" * 32)) == ()
    assert _part_sizes_of(ObjectMeta(path="x", size=size, e_tag="no-tag")) == ()
    assert _part_sizes_of(ObjectMeta(path="x", size=size)) == ()


@given(st.integers(0, 50 * 1024**4))
def test_no_object_needs_more_parts_than_services_take(size: int) -> None:
    part = part_size(size)
    assert part >= 8 * MiB
    assert -(-size // part) <= 9000


def test_the_row_gives_the_content_type_where_the_source_has_none() -> None:
    assert merge_attributes(Attributes(), "image/png")[0].content_type == "image/png"
    assert merge_attributes(Attributes(content_type="image/webp"), "image/png")[0].content_type == "image/webp"
    plain = Attributes(metadata={"a": "b"}, cache_control="private")
    assert merge_attributes(plain, None) == (plain, ())


def test_what_obstore_could_not_read_back_is_left_out_and_named() -> None:
    found = Attributes(
        content_type="text/plain; name=é", content_disposition="attachment; filename=é.pdf", cache_control="private",
        metadata={"a": "b", "c": "\x01"},
    )  # fmt: skip
    attributes, lost = merge_attributes(found, "text/plain")
    assert attributes == Attributes(content_type="text/plain", cache_control="private", metadata={"a": "b"})
    assert lost == ("Content-Type", "Content-Disposition", "metadata 'c'")
    assert merge_attributes(Attributes(), "text/é") == (Attributes(), ("Content-Type",))


@pytest.mark.parametrize("size", [0, 1, SMALL_BYTES, SMALL_BYTES + 1, 3 * SMALL_BYTES])
@pytest.mark.parametrize("server", ["rclone_s3", "moto_s3"])
def test_an_object_of_every_size_arrives_with_what_it_carries(
    server: str, request: pytest.FixtureRequest, size: int
) -> None:
    s3: S3Server = request.getfixturevalue(server)
    one, two, whole = s3.store(s3.new_bucket()), s3.store(s3.new_bucket()), content(size)
    headers = {
        "Content-Type": "image/webp", "Content-Language": "de", "Content-Disposition": 'attachment; filename="x"',
        "Cache-Control": "max-age=60", "owner": "me",
    }  # fmt: skip
    obstore.put(one, "a/b c", whole, attributes=headers)
    moved: list[int] = []
    copied = copy_bytes(
        ObjectAt(ObstoreStore(one, "one"), "a/b c"), ObjectAt(ObstoreStore(two, "two"), "d"),
        CopyPolicy(content_type="text/plain", create=False), resources(moved.append),
    )  # fmt: skip
    assert bytes(obstore.get(two, "d").bytes()) == whole
    assert sum(moved) == copied.source.size == copied.destination.size == size
    assert copied.sha256 == hashlib.sha256(whole).hexdigest()
    held = obstore.get(two, "d", options={"head": True}).attributes
    kept = headers if server == "moto_s3" else {name: headers[name] for name in ("Content-Type", "owner")}
    assert {name: held.get(name) for name in kept} == kept


@pytest.mark.parametrize(("whole", "parts"), [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize("server", ["rclone_s3", "moto_s3"])
def test_a_large_copy_is_proved_with_the_digests_that_both_sides_tell_or_by_reading(
    server: str, request: pytest.FixtureRequest, whole: bool, parts: bool
) -> None:
    s3: S3Server = request.getfixturevalue(server)
    one, two = (ObstoreStore(s3.store(s3.new_bucket()), name) for name in ("one", "two"))
    bytes_ = content(2 * SMALL_BYTES + 1)
    one.put("a", iter((bytes_,)), attributes=Attributes(), create=False, part_size=5 * MiB)
    copied = copy_bytes(
        ObjectAt(one, "a"), ObjectAt(two, "b"),
        CopyPolicy(create=False, digests=DigestPlan(whole=whole, parts=parts)), resources(),
    )  # fmt: skip
    copied = replace(copied, destination=two.head("b"))
    # rclone tells the MD5 of the whole, moto that of the parts.
    told = whole if server == "rclone_s3" else parts
    by_source = server == "rclone_s3" and not whole
    verified = verify(copied, ObjectAt(one, "a"), ObjectAt(two, "b"), resources().retry)
    assert (
        verified.evidence == f"source_digest, {'destination_digest' if told or by_source else 'destination_readback'}"
    )
    two.put("b", iter((bytes_[:-1] + b"!",)), attributes=Attributes(), create=False, part_size=part_size(len(bytes_)))
    spoilt = replace(copied, destination=two.head("b"))
    with pytest.raises(DiffersError):
        verify(spoilt, ObjectAt(one, "a"), ObjectAt(two, "b"), resources().retry)


def test_a_source_that_is_not_there(moto_s3: S3Server) -> None:
    store = ObstoreStore(moto_s3.store(moto_s3.new_bucket()), "the old one")
    with pytest.raises(SourceMissingError, match="the old one has no object 'gone'"):
        copy_bytes(ObjectAt(store, "gone"), ObjectAt(store, "d"), CopyPolicy(create=False), resources())


def test_a_bucket_that_is_not_there_is_no_missing_object(moto_s3: S3Server) -> None:
    store = ObstoreStore(moto_s3.store("no-such-bucket"), "the old one")
    with pytest.raises(FileNotFoundError) as caught:
        copy_bytes(ObjectAt(store, "x"), ObjectAt(store, "d"), CopyPolicy(create=False), resources())
    assert classify(caught.value).kind is FailureKind.NO_BUCKET
