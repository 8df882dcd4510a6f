"""What stood at the destination before a run is believed by its digest, and by nothing less."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from advanced_alchemy.types.file_object import storages

from migrate_storage.core.events import DiagnosticRaised
from migrate_storage.core.model import OutcomeKind
from migrate_storage.engine.existing_objects import SAMPLED_OBJECTS
from tests.support.engine import registrations as places
from tests.support.engine.world import World
from tests.support.evidence import Evidence
from tests.support.lies import Lie
from tests.support.lying_proxy import Answer, Liar, Request, lying_proxy, md5
from tests.support.servers import AzureServer, S3Server
from tests.support.sync.trees import azure_remote, rclone, s3_remote

DIGESTS = "source_digest, destination_digest"
READ = "content_compared"
CONTRADICTED = "destination.contradicted"


class Site:
    """An application with both buckets behind proxies that count requests; rclone copied the objects already."""

    def __init__(self, stack: ExitStack, url: str, server: S3Server, rows: int) -> None:
        self.server, self.buckets = server, {"source": server.new_bucket(), "destination": server.new_bucket()}
        self.liar = stack.enter_context(lying_proxy(server.service.port))
        behind = server.behind(self.liar.endpoint)
        new = places.new_s3(behind, self.buckets["destination"]).build()
        self.world = World(url, places.old_s3(server, self.buckets["source"]).build(), new)
        stack.callback(self.world.close)
        self.world.fill(rows)
        # Through obstore, the source needs no proof that reads objects through two libraries.
        self.world.old = places.new_s3(behind.by_another_name, self.buckets["source"], key="old").build()
        storages.register_backend(self.world.old)
        copied = rclone("copy", *(s3_remote(server, self.buckets[side]) for side in ("source", "destination")))
        assert copied.returncode == 0, copied.stderr
        self.liar.buckets, self.liar.contents = self.buckets, self.world.contents

    def reads(self, side: str) -> int:
        return self.liar.seen["GET", self.buckets[side]]

    def put(self, number: int, body: bytes) -> None:
        key = f"docs/{number % 7}/d{number}.bin"
        self.server.client.put_object(Bucket=self.buckets["destination"], Key=key, Body=body)

    def lie(self, side: str, tell: Callable[[Liar, Request], Answer], *numbers: int) -> None:
        self.liar.chosen = frozenset(f"docs/{number % 7}/d{number}.bin" for number in numbers)
        self.liar.lie = Lie(name="lie", side=side, calls=frozenset({"HEAD", "GET"}), tell=tell)

    @property
    def moved(self) -> list[bool]:
        """Whether each row was re-pointed; checks that each one names its right bytes."""
        moved = []
        for value in self.world.raw():
            side = "destination" if value["backend"] == "new" else "source"
            found = self.server.client.get_object(Bucket=self.buckets[side], Key=value["filename"])["Body"].read()
            assert found == self.world.contents[value["metadata"]["name"]], value
            moved.append(side == "destination")
        return moved

    @property
    def contradictions(self) -> int:
        return sum(
            isinstance(event, DiagnosticRaised) and event.note.code == CONTRADICTED for event in self.world.events
        )


@pytest.fixture
def site(sqlite_url: str) -> Iterator[Callable[[S3Server, int], Site]]:
    """Return a function that makes a site."""
    with ExitStack() as stack:
        yield lambda server, rows: Site(stack, sqlite_url, server, rows)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [500, pytest.param(10_000, marks=pytest.mark.soak)])
def test_what_rclone_copied_is_not_read(
    rows: int, site: Callable[..., Site], rclone_s3: S3Server, evidence: Evidence
) -> None:
    made = site(rclone_s3, rows)
    plan = made.world.run(dry_run=True, sample=0)
    planned = made.reads("source"), made.reads("destination")
    assert planned <= (SAMPLED_OBJECTS + 20, SAMPLED_OBJECTS), "a plan reads up to 20 more to see how fast that goes"
    made.liar.seen.clear()
    report = made.world.run()
    assert report.exit_code == 0, report.problems[:3]
    assert plan.counts == report.counts == {OutcomeKind.REPOINTED: rows}
    assert report.verified_by == {DIGESTS: rows - SAMPLED_OBJECTS, READ: SAMPLED_OBJECTS}
    assert (made.reads("source"), made.reads("destination")) == (SAMPLED_OBJECTS, SAMPLED_OBJECTS)
    assert not made.liar.seen["PUT", made.buckets["destination"]]
    assert all(made.moved)
    evidence.record("what rclone copied is re-pointed without reading it", objects=rows, read=2 * SAMPLED_OBJECTS)


@pytest.mark.parametrize("way", ["disk to S3", "S3 to disk", "S3 to Azure"])
def test_other_ways(way: str, tmp_path: Path, sqlite_url: str, rclone_s3: S3Server, azurite: AzureServer) -> None:
    """A local disk is read, and the other side is not; Azure states the MD5 in a header."""
    rows, bucket, folder = 40, rclone_s3.new_bucket(), tmp_path / "files"
    with lying_proxy((azurite if way == "S3 to Azure" else rclone_s3).service.port) as liar:
        if way == "disk to S3":
            old, new = places.old_local(folder), places.new_s3(rclone_s3.behind(liar.endpoint), bucket)
            ends: tuple[str, ...] = (str(folder), s3_remote(rclone_s3, bucket))
            found = "local_source, destination_digest"
        elif way == "S3 to disk":
            old, new = places.old_s3(rclone_s3.behind(liar.endpoint), bucket), places.new_local(folder)
            ends, found = (s3_remote(rclone_s3, bucket), str(folder)), "source_digest, destination_readback"
        else:
            container = azurite.new_container()
            old, new = places.old_s3(rclone_s3, bucket), places.new_azure(azurite.behind(liar.endpoint), container)
            ends, found = (s3_remote(rclone_s3, bucket), azure_remote(azurite, container)), DIGESTS
        world = World(sqlite_url, old.build(), new.build())
        world.fill(rows)
        copied = rclone("copy", *ends)
        assert copied.returncode == 0, copied.stderr
        if way == "S3 to disk":
            world.old = places.new_s3(rclone_s3.behind(liar.endpoint), bucket, key="old").build()
            storages.register_backend(world.old)
        liar.contents = world.contents
        report = world.run()
    assert report.exit_code == 0, report.problems[:3]
    assert report.verified_by == {found: rows - SAMPLED_OBJECTS, READ: SAMPLED_OBJECTS}
    assert sum(count for (call, _), count in liar.seen.items() if call == "GET") == SAMPLED_OBJECTS
    world.close()


def test_what_states_no_digest_or_another_is_read(site: Callable[..., Site], moto_s3: S3Server) -> None:
    """Other bytes of one size; KMS with the ETag of the source; ETags of parts, over right bytes and over wrong ones."""
    made = site(moto_s3, 30)
    contents = list(made.world.contents.values())
    wrong = {21: "other", 22: "kms", 24: "parts"}
    for number in wrong:
        made.put(number, contents[number][::-1])
    names = list(made.world.contents)
    right_tags = {names[number]: md5(contents[number]) for number in (22, 25)}

    def tell(liar: Liar, request: Request) -> Answer:
        answer = liar.forward(request)
        if request.key in right_tags:
            return answer.having(etag=f'"{right_tags[request.key]}"', x_amz_server_side_encryption="aws:kms")
        return answer.having(etag=f'"{md5(b"parts")}-2"')

    made.lie("destination", tell, 22, 23, 24, 25)
    report = made.world.run(concurrency=1)
    assert report.counts == {OutcomeKind.REPOINTED: 27, OutcomeKind.DESTINATION_EXISTS: 3}, report.problems
    assert [number for number, moved in enumerate(made.moved) if not moved] == sorted(wrong)
    assert report.verified_by == {READ: SAMPLED_OBJECTS + 2, DIGESTS: 5}
    assert made.contradictions == 0


def test_a_sample_with_a_false_tag_takes_the_word_of_its_store(site: Callable[..., Site], moto_s3: S3Server) -> None:
    made = site(moto_s3, 30)
    contents = list(made.world.contents.values())
    made.put(5, contents[5][::-1])
    made.lie("destination", lambda liar, request: liar.forward(request).having(etag=f'"{md5(contents[5])}"'), 5)
    report = made.world.run(concurrency=1)
    assert report.counts == {OutcomeKind.REPOINTED: 29, OutcomeKind.DESTINATION_EXISTS: 1}, report.problems
    assert [number for number, moved in enumerate(made.moved) if not moved] == [5]
    assert report.verified_by == {READ: 29}
    assert made.contradictions == 1


def test_tags_that_are_no_digests_prove_nothing(site: Callable[..., Site], moto_s3: S3Server) -> None:
    """Equal tags over equal bytes whose MD5 they are not: the contradiction stays, unless an option says what they are."""
    made = site(moto_s3, 24)

    def tell(liar: Liar, request: Request) -> Answer:
        return liar.forward(request).having(etag=f'"{md5(request.key.encode())}"')

    made.lie("both", tell, *range(24))
    report = made.world.run()
    assert report.counts == {OutcomeKind.UNVERIFIED: 24}, report.problems[:1]
    assert not any(made.moved)
    report = made.world.run(opaque_etags=("old",))
    assert (report.counts, report.verified_by) == ({OutcomeKind.REPOINTED: 24}, {READ: 24}), report.problems[:1]
    assert all(made.moved)


def test_a_header_that_was_not_copied_is_listed(sqlite_url: str, moto_s3: S3Server) -> None:
    buckets = [moto_s3.new_bucket(), moto_s3.new_bucket()]
    old = places.new_s3(moto_s3.by_another_name, buckets[0], key="old")
    world = World(sqlite_url, old.build(), places.new_s3(moto_s3, buckets[1]).build())
    headers: list[dict[str, Any]] = [
        {"ContentType": "Text/Plain; charset=utf-8", "Metadata": {"a": "b"}},
        {"ContentType": "text/plain", "CacheControl": "no-store", "Metadata": {"a": "b"}},
        {"ContentType": "text/plain", "ContentEncoding": "identity"},
        {},
    ]
    kept: list[dict[str, Any]] = [
        {"ContentType": "text/plain;charset=UTF-8", "Metadata": {"a": "b", "mtime": "1700000000.0"}},
        {"ContentType": "image/png", "Metadata": {"a": "c"}},
        {"ContentType": "text/plain"},
        {"ContentType": "text/guessed"},
    ]
    from tests.support.engine.world import Document

    for number, (here, there) in enumerate(zip(headers, kept, strict=True)):
        file = world._named(f"f{number}", b"content", "text/plain")
        world.add(Document(id=number + 1, title="t", file=file))
        for bucket, more in zip(buckets, (here, there), strict=True):
            moto_s3.client.put_object(Bucket=bucket, Key=f"f{number}", Body=b"content", **more)
    report = world.run()
    assert report.counts == {OutcomeKind.REPOINTED: 2, OutcomeKind.DESTINATION_EXISTS: 2}, report.problems
    reasons = {outcome.source.path: outcome.reason for outcome in report.problems}
    advice = "give it those headers, or delete it, then run again"
    assert reasons == {
        "f1": "f1 has the bytes of the source, and other headers: Content-Type is image/png, and text/plain at the source; "
        f"Cache-Control is not set, and no-store at the source; metadata 'a' is another one; {advice}",
        "f2": "f2 has the bytes of the source, and other headers: Content-Encoding is not set, and identity at the source; "
        + advice,
    }
    world.check()
    moto_s3.client.delete_object(Bucket=buckets[1], Key="f1")
    moto_s3.client.put_object(Bucket=buckets[1], Key="f2", Body=b"content", **headers[2])
    assert world.run().exit_code == 0
    assert world.check(backend="new") == 4
    world.close()
