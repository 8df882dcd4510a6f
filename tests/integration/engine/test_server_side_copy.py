"""Copies by the service itself: only where that was seen to work, only what it does not change, and believed by digests."""

from __future__ import annotations

import contextlib
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import obstore
import pytest

from migrate_storage.core.model import Attributes, Capabilities, ObjectMeta, OutcomeKind
from migrate_storage.core.proofs import SERVER_SIDE_COPY
from migrate_storage.core.text import size
from migrate_storage.engine import probe
from migrate_storage.engine.server_side_copy import (
    MAX_COPY_BYTES,
    can_server_side_copy,
    probe_server_side_copy,
    verify_server_side_copy,
)
from migrate_storage.jobs.revert.job import RevertJob, RevertOptions
from migrate_storage.jobs.run import preflight
from migrate_storage.reporting.text import render
from migrate_storage.stores.resolved_backend import ResolvedBackend
from migrate_storage.stores.retry import Retry
from migrate_storage.stores.server_side_copy import ServerSideCopier
from migrate_storage.translate import unaddressable
from tests.support.copy_shim import Answer, CopyShim, copy_shim
from tests.support.engine import registrations as places
from tests.support.engine.hostile_keys import hostile_names
from tests.support.engine.hostile_rows import check_rows, insert_row
from tests.support.engine.world import World
from tests.support.fault_proxy import fault_proxy
from tests.support.servers import S3Server

THROUGH = "source_digest, destination_digest"


def two_buckets(server: S3Server, url: str, **more: Any) -> tuple[World, S3Server, str, str]:
    source, destination = server.new_bucket(), server.new_bucket()
    world = World(
        url, places.old_s3(server, source).build(), places.new_s3(server, f"{destination}{more.get('prefix', '')}").build()
    )  # fmt: skip
    return world, server, source, destination


def types_are_right(world: World, server: S3Server, bucket: str) -> None:
    """By another client than the tool's: bytes and content type of every row's file."""
    for value in world.raw():
        held = server.client.get_object(Bucket=bucket, Key=value["filename"])
        assert held["ContentType"] == value["content_type"] == world.types[value["metadata"]["name"]]
        assert held["Body"].read() == world.contents[value["metadata"]["name"]]
        assert held["ETag"].strip('"') == value["etag"]
        assert value["backend"] == "new"


def codes(report: Any) -> set[str]:
    return {note.code for note in report.notes}


def test_no_byte_passes_through_this_process_between_two_buckets_of_one_server(rclone_s3, database_url: str) -> None:
    world, server, _, bucket = two_buckets(rclone_s3, database_url)
    world.fill(40, 3, 6)
    named = world.check()
    report = world.run()
    assert (report.state, report.exit_code, report.rows_remaining, report.bytes_copied) == ("completed", 0, 0, 0)
    assert report.verified_by == {SERVER_SIDE_COPY: len(world.contents)}
    copied = sum(map(len, world.contents.values()))
    assert report.bytes_copied_by_service == report.to_dict()["bytes_copied_by_service"] == copied
    assert f"0 B through this process, {size(copied)} copied by the service" in render(report)
    assert "copy.service" in codes(report)
    assert world.check(backend="new") == named
    types_are_right(world, server, bucket)
    assert {entry.written_by_us for entry in world.journal.values()} == {True}
    held = {meta["path"] for page in obstore.list(server.store(bucket)) for meta in page}
    assert held == set(world.contents), "the probe is gone"
    world.close()


def test_the_requests_of_the_probe(rclone_s3: S3Server, moto_s3: S3Server) -> None:
    """GET, COPY, GET, a conditional COPY, DELETE; where the condition is refused, also one to a free name and its DELETE."""
    for server, answer, requests in ((rclone_s3, None, 5), (moto_s3, Answer.HONOURED, 7)):
        with contextlib.ExitStack() as stack:
            port = server.service.port
            if answer is not None:
                shim = stack.enter_context(copy_shim(port, copy=answer))
                port = int(shim.endpoint.rpartition(":")[2])
            proxy = stack.enter_context(fault_proxy(port, seed=0))
            near = server.behind(proxy.endpoint)
            source, destination = near.new_bucket(), near.new_bucket()
            obstore.put(server.store(source), "a.bin", b"bytes")
            sides = [
                ResolvedBackend(places.new_s3(near, bucket, key).build())
                for bucket, key in ((source, "old"), (destination, "new"))
            ]
            before = proxy.requests
            copiers, notes = probe_server_side_copy(
                *sides, [sides[0].place("a.bin")], Capabilities(), Retry(1, threading.Event())
            )
            assert proxy.requests - before == requests
            assert copiers, notes
            assert copiers[source].create_only is (answer is not None)
            assert not [meta for page in obstore.list(server.store(destination)) for meta in page], "the probe is gone"


def test_what_was_copied_by_the_service_can_be_undone(rclone_s3, sqlite_url: str) -> None:
    world, *_ = two_buckets(rclone_s3, sqlite_url)
    world.fill(12)
    before = world.raw()
    assert world.run().exit_code == 0
    report = RevertJob(world.application, RevertOptions(lease_ttl=1.0, settle_time=0.05)).run()
    assert report.exit_code == 0, report
    assert [value["backend"] for value in world.raw()] == ["old"] * 12
    assert [value["filename"] for value in world.raw()] == [value["filename"] for value in before]
    assert world.check(backend="old") == 12


def test_a_service_whose_copies_replace_where_its_puts_refuse_does_not_copy(moto_s3, sqlite_url: str) -> None:
    """A copy is never less careful than a put."""
    world, server, _, bucket = two_buckets(moto_s3, sqlite_url)
    world.fill(5)
    report = world.run()
    assert (report.exit_code, report.verified_by) == (0, {THROUGH: 5})
    assert "copy.through" in codes(report)
    types_are_right(world, server, bucket)


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts are not create-only either, so that moto, which knows all headers, may copy."""

    def tried(*args: Any) -> tuple[Capabilities, list[Any]]:
        found, notes = probe.try_destination(*args)
        return replace(found, create_only=False), notes

    monkeypatch.setattr(preflight, "try_destination", tried)


def test_headers_and_user_metadata_are_kept_by_each_way_of_copying(moto_s3, sqlite_url: str, lenient) -> None:
    """A copy that keeps those of its source, and one that sends them with the content type of the row."""
    world, server, source, bucket = two_buckets(moto_s3, sqlite_url)
    world.fill(7)
    put = lambda number, **more: server.client.put_object(  # noqa: E731
        Bucket=source, Key=f"docs/{number}/d{number}.bin", Body=world.contents[f"docs/{number}/d{number}.bin"], **more
    )
    put(0, Metadata={"owner": "me"})
    put(1, CacheControl="no-store")
    put(2, ContentType="image/webp")
    world.contents["docs/3/d3.bin"] = bytes(range(256)) * 4096 * 6
    store = server.store(source)
    obstore.put(store, "docs/3/d3.bin", world.contents["docs/3/d3.bin"], use_multipart=True, chunk_size=5 * 1024**2)
    assert "-" in (obstore.head(store, "docs/3/d3.bin")["e_tag"] or "")
    world.sql("UPDATE documents SET file = replace(file, 'content_type\": \"', 'content_type\": \"ü') WHERE id = 5")
    [(_,)] = world.sql("SELECT id FROM documents WHERE file LIKE '%ü%'")
    report = world.run()
    by_evidence = {name: entry.evidence for name, entry in world.journal.items()}
    # The ETag of an upload in parts is no digest, and no header takes the content type of one row.
    through = {"docs/3/d3.bin", "docs/4/d4.bin"}
    assert {name for name, evidence in by_evidence.items() if evidence != SERVER_SIDE_COPY} == through
    assert report.bytes_copied == sum(len(world.contents[name]) for name in through)
    held = server.client.head_object(Bucket=bucket, Key="docs/0/d0.bin")
    assert (held["Metadata"], held["ContentType"]) == ({"owner": "me"}, world.types["docs/0/d0.bin"])
    assert server.client.head_object(Bucket=bucket, Key="docs/1/d1.bin")["CacheControl"] == "no-store"
    assert server.client.head_object(Bucket=bucket, Key="docs/2/d2.bin")["ContentType"] == "image/webp"


def test_an_object_that_changes_while_it_is_copied_is_copied_again(
    rclone_s3, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, *_ = two_buckets(rclone_s3, sqlite_url)
    world.fill(4)
    original, left = ServerSideCopier.copy, [True]

    def copied(self: ServerSideCopier, source: str, destination: str, **more: Any) -> None:
        original(self, source, destination, **more)
        if source == "docs/0/d0.bin" == destination and left:
            left.pop()
            world.old.fs.pipe(world.old._prepare_path(source), b"replaced meanwhile")

    monkeypatch.setattr(ServerSideCopier, "copy", copied)
    world.contents["docs/0/d0.bin"] = b"replaced meanwhile"
    assert world.run().exit_code == 0
    assert not left
    assert world.check(backend="new") == 4
    assert world.raw()[0]["size"] == len(b"replaced meanwhile")


def test_a_copy_with_another_digest_is_not_believed(
    rclone_s3, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service says that it copied, and something else stands there: it goes through the client, over that copy."""
    world, server, _, bucket = two_buckets(rclone_s3, sqlite_url)
    world.fill(6)
    original = ServerSideCopier.copy

    def spoilt(self: ServerSideCopier, source: str, destination: str, **more: Any) -> None:
        original(self, source, destination, **more)
        if destination == "docs/1/d1.bin":
            server.client.put_object(Bucket=bucket, Key=destination, Body=b"spoilt")

    monkeypatch.setattr(ServerSideCopier, "copy", spoilt)
    report = world.run()
    assert (report.exit_code, report.verified_by) == (0, {SERVER_SIDE_COPY: 5, THROUGH: 1})
    types_are_right(world, server, bucket)


def test_what_stands_at_the_destination_is_not_copied_over(rclone_s3, sqlite_url: str) -> None:
    world, server, _, bucket = two_buckets(rclone_s3, sqlite_url)
    world.fill(4)
    server.client.put_object(Bucket=bucket, Key="docs/0/d0.bin", Body=b"somebody else's")
    server.client.put_object(Bucket=bucket, Key="docs/1/d1.bin", Body=world.contents["docs/1/d1.bin"])
    report = world.run()
    assert report.counts == {OutcomeKind.REPOINTED: 3, OutcomeKind.DESTINATION_EXISTS: 1}
    assert server.client.get_object(Bucket=bucket, Key="docs/0/d0.bin")["Body"].read() == b"somebody else's"
    assert {name: entry.written_by_us for name, entry in world.journal.items()}["docs/1/d1.bin"] is False


@pytest.fixture
def strict(moto_s3) -> Iterator[tuple[S3Server, CopyShim]]:
    """moto, and before it what refuses to copy onto something that stands there."""
    with copy_shim(moto_s3.service.port, copy=Answer.HONOURED) as shim:
        yield moto_s3.behind(shim.endpoint), shim


def test_copies_that_refuse_to_replace_are_used_beside_puts_that_do(strict, sqlite_url: str) -> None:
    server, shim = strict
    world, _, _, bucket = two_buckets(server, sqlite_url)
    world.fill(8)
    server.client.put_object(Bucket=bucket, Key="docs/0/d0.bin", Body=b"somebody else's")
    report = world.run()
    assert report.counts == {OutcomeKind.REPOINTED: 7, OutcomeKind.DESTINATION_EXISTS: 1}
    assert report.verified_by == {SERVER_SIDE_COPY: 7}
    assert server.client.get_object(Bucket=bucket, Key="docs/0/d0.bin")["Body"].read() == b"somebody else's"
    # One probe copied without a condition and one with it, and one refused; and no HEAD of the destination before a copy.
    assert shim.copies == {"done": 2 + 7, "exists": 1 + 1}


def test_every_header_that_must_be_signed_is(strict, sqlite_url: str) -> None:
    server, shim = strict
    world, *_ = two_buckets(server, sqlite_url)
    world.fill(4)
    assert world.run().verified_by == {SERVER_SIDE_COPY: 4}
    assert shim.copies["unsigned"] == 0
    unsigned = {"x-amz-copy-source": "x/y", "authorization": "AWS4-HMAC-SHA256 SignedHeaders=host, Signature=0"}
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(urllib.request.Request(f"{shim.endpoint}/a/b", method="PUT", headers=unsigned))
    assert shim.copies["unsigned"] == 1, "the check itself can fail"


def test_objects_that_may_not_be_copied_go_through_the_client(strict, sqlite_url: str) -> None:
    server, shim = strict
    world, _, _, bucket = two_buckets(server, sqlite_url)
    world.fill(9)
    shim.denied = r"/docs/[12]/"
    report = world.run()
    assert (report.exit_code, report.verified_by) == (0, {SERVER_SIDE_COPY: 6, THROUGH: 3})
    assert shim.copies["denied"] == 3
    types_are_right(world, server, bucket)


def test_where_the_probe_may_not_be_copied_nothing_is_tried(strict, sqlite_url: str) -> None:
    server, shim = strict
    world, *_ = two_buckets(server, sqlite_url)
    world.fill(30)
    shim.denied = ""
    report = world.run()
    assert (report.exit_code, report.verified_by) == (0, {THROUGH: 30})
    assert "copy.through" in codes(report)
    assert shim.copies == {"denied": 5}


@pytest.mark.parametrize("count", [160, pytest.param(5000, marks=pytest.mark.soak)])
@pytest.mark.parametrize("kind", ["rclone", "moto"])
def test_hostile_keys_between_two_buckets(
    request: pytest.FixtureRequest, kind: str, count: int, sqlite_url: str, lenient, seed: int
) -> None:
    server: S3Server = request.getfixturevalue(f"{kind}_s3")
    world, _, source, _ = two_buckets(server, sqlite_url)
    store = server.store(source, retry_config={"max_retries": 0})
    names, contents = {}, {}
    for number, name in enumerate(hostile_names(count, seed), 1):
        content = f"{number} ".encode() * 3
        try:
            if unaddressable(name) is None:
                obstore.put(store, name, content)
            elif kind == "moto":
                server.client.put_object(Bucket=source, Key=name, Body=content)
        except Exception:
            if kind == "rclone":
                # Names too long for its disk: each request for one of them fails for ever, and is tried again and again.
                continue
        if insert_row(world, number, name):
            names[number] = name
    for number, name in names.items():
        with contextlib.suppress(Exception):
            contents[number] = world.old.get_content(name)
    report = world.run(invalid_keys="encode")
    assert report.state == "completed", report.error
    check_rows(world, names, contents)
    assert report.verified_by[SERVER_SIDE_COPY] > count / 4


PLAIN = ObjectMeta(path="x", size=5, e_tag="0" * 32)


@pytest.mark.parametrize(
    ("found", "attributes", "content_type", "may"),
    [
        (PLAIN, Attributes(), "text/plain", True),
        (PLAIN, Attributes(), None, True),
        (PLAIN, Attributes(content_type="a/b"), "not\nsendable", True),
        (PLAIN, Attributes(), "not\nsendable", False),
        (PLAIN, Attributes(), "t\u00e4xt/plain", False),
        (PLAIN, Attributes(), " text/plain", False),
        (PLAIN, Attributes(metadata={"a": "b"}), "text/plain", True),
        (PLAIN, Attributes(metadata={"a": " b"}), "text/plain", False),
        (PLAIN, Attributes(metadata={"a b": "c"}), "text/plain", False),
        (PLAIN, Attributes(content_type="a/b", metadata={"a b": "c"}), "text/plain", True),
        (PLAIN, Attributes(metadata={"a": "\u00fc"}), "text/plain", False),
        (PLAIN, Attributes(content_type="a/b", content_encoding="gzip"), "text/plain", True),
        (PLAIN, Attributes(cache_control="no-store"), "text/plain", True),
        (replace(PLAIN, e_tag=None), Attributes(), "text/plain", False),
        (replace(PLAIN, e_tag="0" * 32 + "-2"), Attributes(), "text/plain", False),
        (replace(PLAIN, e_tag="0x8D4BCC2E4835CD0"), Attributes(), "text/plain", False),
        (replace(PLAIN, size=MAX_COPY_BYTES), Attributes(), "text/plain", True),
        (replace(PLAIN, size=MAX_COPY_BYTES + 1), Attributes(), "text/plain", False),
    ],
)
def test_what_may_be_copied(found: ObjectMeta, attributes: Attributes, content_type: str | None, may: bool) -> None:
    assert can_server_side_copy(found, attributes, content_type) is may


def test_a_service_that_loses_metadata_gets_no_second_object_with_some(strict, sqlite_url: str) -> None:
    server, shim = strict
    shim.drops_metadata = True
    world, _, source, bucket = two_buckets(server, sqlite_url)
    world.fill(6)
    for number in range(4):
        name = f"docs/{number}/d{number}.bin"
        content = {"Body": world.contents[name], "ContentType": world.types[name]}
        server.client.put_object(Bucket=source, Key=name, Metadata={"owner": "me"}, **content)
    report = world.run(concurrency=1)
    assert (report.exit_code, report.verified_by) == (0, {SERVER_SIDE_COPY: 2, THROUGH: 4})
    assert shim.copies["without metadata"] == 1
    for number in range(4):
        held = server.client.head_object(Bucket=bucket, Key=f"docs/{number}/d{number}.bin")
        assert held["Metadata"] == {"owner": "me"}
    types_are_right(world, server, bucket)


@pytest.mark.parametrize(
    "copy", [None, replace(PLAIN, e_tag="1" * 32), replace(PLAIN, e_tag=None), replace(PLAIN, size=6)]
)
def test_what_is_not_believed(copy: ObjectMeta | None) -> None:
    assert verify_server_side_copy(PLAIN, PLAIN) is not None
    assert verify_server_side_copy(PLAIN, copy) is None
