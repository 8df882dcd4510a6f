"""Listings in place of looks: only where they tell as much, only to confirm, and never older than what they must see."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from threading import Event
from types import SimpleNamespace
from typing import Any, cast

import pytest

from migrate_storage.core.model import ObjectMeta, OutcomeKind, Place
from migrate_storage.engine import listing_evidence, place_proof
from migrate_storage.engine.existing_objects import HEADS_WITHOUT_OBJECT
from migrate_storage.engine.listing_evidence import ListingEvidence, lists_freshly
from migrate_storage.engine.scheduler import Scheduler
from migrate_storage.jobs.run.final_check import recheck_sources
from migrate_storage.stores.obstore_store import ObstoreStore
from migrate_storage.stores.resolved_backend import ResolvedBackend
from migrate_storage.stores.retry import Retry
from tests.support.engine import registrations as places
from tests.support.engine.world import World
from tests.support.servers import S3Server

ROWS = 60


def worlds(server: S3Server, url: str) -> World:
    """Two buckets of one server that nobody takes for one: what goes between them goes through the client."""
    old = places.old_s3(server.by_another_name, server.new_bucket())
    return World(url, old.build(), places.new_s3(server, server.new_bucket()).build())


def altered(monkeypatch: pytest.MonkeyPatch, alter: Callable[[Iterator[ObjectMeta]], Iterator[ObjectMeta]]) -> None:
    """Every listing tells something else than the server does."""
    original = ObstoreStore.list
    monkeypatch.setattr(ObstoreStore, "list", lambda *args, **more: alter(original(*args, **more)))


def heads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each object is looked at by itself, by the name of its side."""
    count: Counter[str] = Counter()
    original = ObstoreStore.head

    def counted(self: ObstoreStore, path: str) -> ObjectMeta:
        if path.startswith("docs/"):
            count[self.name[:3]] += 1
        return original(self, path)

    monkeypatch.setattr(ObstoreStore, "head", counted)
    return count


@pytest.mark.parametrize(("server", "before_the_put"), [("rclone", ROWS), ("moto", 0)])
def test_a_listing_stands_for_the_looks_at_all_its_objects(
    request: pytest.FixtureRequest, sqlite_url: str, monkeypatch: pytest.MonkeyPatch, server: str, before_the_put: int
) -> None:
    """Rclone replaces what stands even when told not to, so that its destination is asked before each put."""
    world = worlds(request.getfixturevalue(f"{server}_s3"), sqlite_url)
    world.fill(ROWS)
    count = heads(monkeypatch)
    # On a slow machine few objects wait for one listing.
    monkeypatch.setattr(listing_evidence, "MIN_WANTED_OBJECTS", 1)
    report = world.run(consistent_listings=("old",))
    assert (report.exit_code, report.rows_repointed) == (0, ROWS)
    assert world.check(backend="new") == ROWS
    proved = place_proof.MAX_COMPARED
    assert count["old"] < proved + ROWS, "three looks at each source come from listings, and a few heads prove these"
    assert count["new"] < proved + before_the_put + ROWS
    assert all(value["last_modified"] for value in world.raw()), "the row is told what a look would tell"
    assert "evidence.consistent-listings" in [note.code for note in report.notes]
    world.close()


def test_where_nobody_knows_that_listings_are_fresh_they_show_copies_only(
    moto_s3: S3Server, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = worlds(moto_s3, sqlite_url)
    world.fill(ROWS)
    count = heads(monkeypatch)
    assert world.run().exit_code == 0
    assert world.check(backend="new") == ROWS
    assert count["old"] >= 3 * ROWS, "after the copy, after the commit, and at the end"
    # The first copies are preceded by a HEAD, in case another program copied them.
    assert count["new"] <= ROWS / 4 + HEADS_WITHOUT_OBJECT
    world.close()


def lagging(monkeypatch: pytest.MonkeyPatch) -> None:
    """Listings of the folder of an object answer what they answered first, for ever."""
    seen: dict[str, list[ObjectMeta]] = {}
    original = ObstoreStore.list

    def list_(self: ObstoreStore, prefix: str, *, after: str = "") -> Iterator[ObjectMeta]:
        if prefix.startswith("docs"):
            key = f"{self.name} {prefix}"
            if key not in seen:
                seen[key] = list(original(self, prefix))
            return (meta for meta in seen[key] if meta.path > after)
        return original(self, prefix, after=after)

    monkeypatch.setattr(ObstoreStore, "list", list_)


def test_a_write_that_listings_hide_is_found_by_the_last_look(
    rclone_s3, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = worlds(rclone_s3, sqlite_url)
    world.fill(ROWS)
    lagging(monkeypatch)
    names, reached = sorted(world.contents)[:10], Event()

    def written(session: Any, *more: Any) -> None:
        if not reached.is_set():
            reached.set()
            for name in names:
                world.contents[name] = b"written after the copy"
                world.old.fs.pipe(world.old._prepare_path(name), world.contents[name])
        recheck_sources(session, *more)

    monkeypatch.setattr("migrate_storage.jobs.run.passes.recheck_sources", written)
    report = world.run()
    assert (report.exit_code, report.rows_repointed) == (0, ROWS)
    assert world.check(backend="new") == ROWS
    world.close()


@pytest.mark.parametrize(
    ("place", "fresh"),
    [
        (Place(service="s3", endpoint="", root="b", key=""), True),
        (Place(service="s3", endpoint="aws-cn", root="b", key=""), True),
        (Place(service="gcs", endpoint="", root="b", key=""), True),
        (Place(service="azure", endpoint="https://acme.blob.core.windows.net", root="b", key=""), True),
        (Place(service="s3", endpoint="https://cache.acme.example", root="b", key=""), False),
        (Place(service="s3", endpoint="https://storage.googleapis.com", root="b", key=""), False),
        (Place(service="gcs", endpoint="http://storage.googleapis.com", root="b", key=""), False),
        (Place(service="azure", endpoint="http://127.0.0.1:10000/devstoreaccount1", root="b", key=""), False),
        (Place(service="sftp", endpoint="", root="", key=""), False),
    ],
    ids=str,
)
def test_which_listings_are_known_to_be_fresh(place: Place, fresh: bool) -> None:
    assert lists_freshly(cast("ResolvedBackend", SimpleNamespace(root=place, consistent_listings=False))) is fresh
    assert lists_freshly(cast("ResolvedBackend", SimpleNamespace(root=place, consistent_listings=True)))


def ghosts(listed: Iterator[ObjectMeta]) -> Iterator[ObjectMeta]:
    """As rclone lists a key that two put at once: a second time, without a tag."""
    for meta in listed:
        yield replace(meta, e_tag=None)
        yield meta


def stale(listed: Iterator[ObjectMeta]) -> Iterator[ObjectMeta]:
    return (replace(meta, last_modified=(meta.last_modified or 0) - 60) for meta in listed)


def other_tags(listed: Iterator[ObjectMeta]) -> Iterator[ObjectMeta]:
    return (replace(meta, e_tag="0" * 32) for meta in listed)


def backwards(listed: Iterator[ObjectMeta]) -> Iterator[ObjectMeta]:
    return reversed(list(listed))


def broken(listed: Iterator[ObjectMeta]) -> Iterator[ObjectMeta]:
    for number, meta in enumerate(listed):
        if number > 20:
            raise ConnectionError("the listing ended here")
        yield meta


@pytest.mark.parametrize("alter", [ghosts, stale, other_tags, backwards, broken], ids=lambda alter: alter.__name__)
@pytest.mark.parametrize("begun", ["before", "after"])
def test_a_listing_that_is_no_evidence_decides_nothing(
    rclone_s3, sqlite_url: str, monkeypatch: pytest.MonkeyPatch, alter: Any, begun: str
) -> None:
    """Whether the probes see it or it only shows when the run is under way."""
    world = worlds(rclone_s3, sqlite_url)
    world.fill(ROWS)
    if begun == "before":
        altered(monkeypatch, alter)
    else:
        original = ListingEvidence.fetch

        def at_work(self: ListingEvidence, *wanted: Any) -> Any:
            if not begun_once.is_set():
                begun_once.set()
                altered(monkeypatch, alter)
            return original(self, *wanted)

        begun_once = Event()
        monkeypatch.setattr(ListingEvidence, "fetch", at_work)
    count = heads(monkeypatch)
    report = world.run(consistent_listings=("old",))
    assert (report.exit_code, report.counts) == (0, {OutcomeKind.REPOINTED: ROWS})
    assert world.check(backend="new") == ROWS
    assert count["old"] >= 3 * ROWS, "each was looked at by itself"
    world.close()


@pytest.mark.parametrize("tags", [(False,), (True, False), (False, True)], ids=["no tag", "tag first", "tag last"])
def test_a_key_that_is_being_written_gets_a_head_and_the_others_do_not(
    side: ResolvedBackend, monkeypatch: pytest.MonkeyPatch, tags: tuple[bool, ...]
) -> None:
    """Its entry has no tag, or it has two entries, of which one has a tag."""
    wanted = [f"a/{number:03}.bin" for number in range(300)]
    listings = _listings(side, wanted[7])

    def being_written(listed: Iterator[ObjectMeta]) -> Iterator[ObjectMeta]:
        for meta in listed:
            if meta.path.endswith("/100.bin"):
                yield from (meta if tagged else replace(meta, e_tag=None) for tagged in tags)
            else:
                yield meta

    altered(monkeypatch, being_written)
    for _ in range(2):
        assert sorted(listings.fetch(wanted)) == [name for name in wanted if name != "a/100.bin"]


@pytest.fixture
def side(rclone_s3) -> ResolvedBackend:
    bucket = rclone_s3.new_bucket()
    store = rclone_s3.store(bucket)
    for number in range(300):
        store.put(f"a/{number:03}.bin", b"x" * (number + 1))
    return ResolvedBackend(places.old_s3(rclone_s3, bucket).build())


def _listings(side: ResolvedBackend, *proof: str) -> ListingEvidence:
    return ListingEvidence.probe(side, Retry(3, Event()), proof)


def test_it_tells_what_it_saw_and_nothing_of_what_it_did_not(side: ResolvedBackend) -> None:
    wanted = [f"a/{number:03}.bin" for number in range(100, 180)]
    found = _listings(side, "a/007.bin").fetch([*wanted, "a/150.gone"])
    assert sorted(found) == wanted
    assert [found[name].size for name in wanted] == list(range(101, 181))


def test_sparse_keys_are_not_listed_for(side: ResolvedBackend) -> None:
    listings = _listings(side, "a/007.bin")
    assert listings.ready
    assert listings.fetch([f"a/{number:03}.bin" for number in range(0, 300, 10)]) == {}
    assert not listings.ready, "and not tried again for a while"
    everything = [f"a/{number:03}.bin" for number in range(300)]
    assert len(listings.fetch(everything)) == 300, "but far more of them at once are worth one"


def test_a_side_of_which_nothing_was_seen_is_not_believed(side: ResolvedBackend) -> None:
    assert not _listings(side).ready
    assert not _listings(side, "a/none.bin").ready


def test_a_few_objects_are_looked_at(side: ResolvedBackend) -> None:
    few = [f"a/{number:03}.bin" for number in range(listing_evidence.MIN_WANTED_OBJECTS - 1)]
    assert _listings(side, "a/007.bin").fetch(few) == {}


def test_a_source_deleted_while_its_copy_waits_leaves_a_copy_that_is_known_as_ours(
    rclone_s3, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that what is saved under its name later is moved, and not taken to meet an object of somebody else."""
    world = worlds(rclone_s3, sqlite_url)
    world.fill(ROWS)
    original = Scheduler._start_listing

    def deleted(self: Scheduler) -> None:
        monkeypatch.setattr(Scheduler, "_start_listing", original)
        world.old.delete_object("docs/1/d1.bin")
        original(self)

    monkeypatch.setattr(Scheduler, "_start_listing", deleted)
    report = world.run(consistent_listings=("old",))
    assert (report.counts[OutcomeKind.MISSING], report.rows_remaining) == (1, 1)
    entry = world.journal["docs/1/d1.bin"]
    assert (entry.state, entry.written_by_us) == ("unreferenced", True)
    world.contents["docs/1/d1.bin"] = b"restored with other content"
    world.old.fs.pipe(world.old._prepare_path("docs/1/d1.bin"), world.contents["docs/1/d1.bin"])
    assert world.run().exit_code == 0
    assert world.check(backend="new") == ROWS
    world.close()
