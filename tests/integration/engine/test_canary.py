"""Canaries: which pages of a listing they prove to be new, and what is left of them."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event
from typing import Any

import obstore
import pytest

from migrate_storage.engine import place_proof
from migrate_storage.engine.canary import is_canary
from migrate_storage.engine.listing_evidence import ListingEvidence
from migrate_storage.jobs.orphans.job import OrphansJob, OrphansOptions
from migrate_storage.reporting import Report
from migrate_storage.stores.obstore_store import ObstoreStore
from migrate_storage.stores.resolved_backend import ResolvedBackend
from migrate_storage.stores.retry import Retry
from tests.support.engine import registrations as places
from tests.support.engine.world import World
from tests.support.lies import Lie, lagging_listing, s3_entries
from tests.support.lying_proxy import Answer, Liar, Request, lying_proxy
from tests.support.servers import S3Server

ROWS = 60
NAMES = [f"a/{number:03}.bin" for number in range(60)]


@pytest.fixture
def liar(moto_s3: S3Server) -> Iterator[Liar]:
    with lying_proxy(moto_s3.service.port) as liar:
        liar.buckets = {"source": moto_s3.new_bucket(), "destination": moto_s3.new_bucket()}
        for name in NAMES:
            moto_s3.store(liar.buckets["source"]).put(name, name.encode())
        liar.entries = lambda: s3_entries(moto_s3, liar.buckets["source"])
        yield liar


def listings(server: S3Server, liar: Liar, prefix: str = "") -> ListingEvidence:
    backend = places.old_s3(server.behind(liar.endpoint), liar.buckets["source"]).build()
    return ListingEvidence.probe(ResolvedBackend(backend, canary_prefix=prefix), Retry(2, Event()), NAMES)


def left(server: S3Server, liar: Liar) -> list[str]:
    listed = obstore.list(server.store(liar.buckets["source"])).collect()
    return [meta["path"] for meta in listed if is_canary(meta["path"])]


def test_a_page_that_shows_its_canary_is_evidence(moto_s3: S3Server, liar: Liar) -> None:
    evidence = listings(moto_s3, liar)
    assert sorted(evidence.fetch(NAMES)) == NAMES
    assert evidence.canaries is not None and evidence.canaries.refusal == ""
    assert left(moto_s3, liar) == []


def test_only_what_the_user_allows_is_listed(moto_s3: S3Server, liar: Liar) -> None:
    evidence = listings(moto_s3, liar, prefix="a/00")
    evidence.canaries.max_keys = 5  # type: ignore[union-attr]
    found = evidence.fetch(NAMES[:40])
    assert found == {}, "ten objects are too few for a listing"
    assert sorted(listings(moto_s3, liar, prefix="a/0").fetch(NAMES)) == NAMES
    assert not listings(moto_s3, liar, prefix="b").fetch(NAMES)


def test_a_canary_on_a_later_page_proves_nothing_of_the_first_one(moto_s3: S3Server, liar: Liar) -> None:
    """A cache has the first page from before a write; the second one, which shows the canary, is new."""
    evidence = listings(moto_s3, liar)
    kept: dict[str, Answer] = {}
    paged = lagging_listing(0, by_page=True, per_request=25)

    def keep_first_page(liar: Liar, request: Request) -> Answer:
        answer = paged.tell(liar, request)
        return answer if "continuation-token" in request.target else kept.setdefault(request.target, answer)

    liar.lie = Lie(name="first_page", side="source", calls=frozenset({"LIST"}), tell=keep_first_page)
    assert evidence.fetch(NAMES) == {}, "the first pages are shorter than was hoped"
    moto_s3.store(liar.buckets["source"]).put(NAMES[3], b"written")
    stale = evidence.fetch(NAMES)
    assert NAMES[3] not in stale, "the page that has it was kept from before the write"
    assert left(moto_s3, liar) == []


def test_where_pages_are_short_more_canaries_prove_them_all(moto_s3: S3Server, liar: Liar) -> None:
    evidence = listings(moto_s3, liar)
    liar.lie = lagging_listing(0, by_page=True, per_request=25)
    found: dict[str, Any] = {}
    for _ in range(8):
        found = evidence.fetch(NAMES)
    assert len(found) == len(NAMES), "20 objects and their canary are on one page"
    assert evidence.canaries is not None and evidence.canaries.refusal == ""


@pytest.mark.parametrize("by_page", [True, False])
def test_a_listing_without_the_canary_ends_their_use(moto_s3: S3Server, liar: Liar, by_page: bool) -> None:
    evidence = listings(moto_s3, liar)
    liar.lie = lagging_listing(60, by_page=by_page)
    assert len(evidence.fetch(NAMES)) == len(NAMES), "nothing was kept yet, so the first answer is new"
    assert evidence.fetch(NAMES) == {}
    assert not evidence.ready
    assert evidence.canaries is not None and "did not show" in evidence.canaries.refusal
    assert left(moto_s3, liar) == []


def worlds(server: S3Server, url: str) -> World:
    old = places.old_s3(server.by_another_name, server.new_bucket())
    return World(url, old.build(), places.new_s3(server, server.new_bucket()).build())


def notes(report: Report) -> str:
    return " ".join(note.message for note in report.notes if note.code == "evidence.canary")


@pytest.mark.parametrize("server", ["rclone", "moto"])
def test_a_fresh_store_needs_no_heads(
    request: pytest.FixtureRequest, sqlite_url: str, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    world = worlds(request.getfixturevalue(f"{server}_s3"), sqlite_url)
    world.fill(ROWS)
    asked: list[str] = []
    original = ObstoreStore.head

    def counted(self: ObstoreStore, path: str) -> Any:
        if self.name.startswith("old") and path in world.contents:
            asked.append(path)
        return original(self, path)

    monkeypatch.setattr(ObstoreStore, "head", counted)
    report = world.run(canary_prefix="")
    assert (report.exit_code, report.rows_repointed) == (0, ROWS)
    assert world.check(backend="new") == ROWS
    assert len(asked) < place_proof.MAX_COMPARED + ROWS, (
        "of three HEADs for each source only those of the proofs are left"
    )
    assert "behind any file" in notes(report)
    assert not [path for path in world.old.fs.find(world.old.prefix) if is_canary(path)]
    world.close()


def test_where_it_cannot_be_written_each_source_gets_heads(
    moto_s3: S3Server, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = worlds(moto_s3, sqlite_url)
    world.fill(ROWS)
    original = ObstoreStore.put

    def denied(self: ObstoreStore, path: str, *args: Any, **more: Any) -> Any:
        if is_canary(path):
            raise PermissionError("the key may only read")
        return original(self, path, *args, **more)

    monkeypatch.setattr(ObstoreStore, "put", denied)
    report = world.run(canary_prefix="")
    assert (report.exit_code, report.rows_repointed) == (0, ROWS)
    assert "a canary cannot be written: " in notes(report)
    assert world.check(backend="new") == ROWS
    world.close()


def test_what_cannot_be_deleted_is_named_and_found_as_an_orphan(
    moto_s3: S3Server, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a kill between the PUT and the DELETE."""
    world = worlds(moto_s3, sqlite_url)
    world.fill(ROWS)
    original = ObstoreStore.delete

    def denied(self: ObstoreStore, path: str) -> None:
        if is_canary(path):
            raise PermissionError("nothing may be deleted here")
        original(self, path)

    monkeypatch.setattr(ObstoreStore, "delete", denied)
    report = world.run(canary_prefix="")
    monkeypatch.undo()
    assert (report.exit_code, report.rows_repointed) == (0, ROWS)
    kept = [path for path in world.old.fs.find(world.old.prefix) if is_canary(path)]
    assert len(kept) == 1, "no more are written once one stays"
    assert kept[0].partition("/")[2] in notes(report)
    found = OrphansJob(world.application, OrphansOptions(keys=("old",), min_age=0)).run()
    assert kept[0].partition("/")[2] in {outcome.source.path for outcome in found.problems}
    world.close()


def test_a_recheck_lists_sources_too(moto_s3: S3Server, sqlite_url: str) -> None:
    world = worlds(moto_s3, sqlite_url)
    world.fill(ROWS)
    assert world.run(settle_time=0).exit_code == 0
    name = min(world.contents)
    world.contents[name] = b"written after the run"
    world.old.fs.pipe(world.old._prepare_path(name), world.contents[name])
    report = world.run(recheck=True, canary_prefix="", settle_time=0)
    assert report.exit_code == 0
    assert world.check(backend="new") == ROWS
    world.close()
