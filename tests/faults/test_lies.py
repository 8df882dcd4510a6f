"""Stores that lie: whatever one answers, no row is re-pointed to wrong or missing bytes.

Each lie of :mod:`tests.support.lies` is told about a tenth of the objects and about all of them, with the last looks by listings and
by HEADs, with bytes that pass through the client and with copies by the service, on each server. `scripts/test` takes one of
these combinations of each lie, `scripts/soak` all.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import obstore
import pytest

from migrate_storage.core.errors import PreflightError
from migrate_storage.engine import listing_evidence
from migrate_storage.engine import verify as engine_verify
from migrate_storage.engine.canary import is_canary
from migrate_storage.engine.transfer import UnverifiedCopy
from migrate_storage.engine.verify import Verified
from migrate_storage.reporting import Report
from tests.support.engine import registrations as places
from tests.support.engine.world import World
from tests.support.evidence import Evidence
from tests.support.lies import LIES, Lie, lagging_listing, other_etags, s3_entries
from tests.support.lying_proxy import Liar, lying_proxy
from tests.support.servers import AzureServer, GCSServer, S3Server

ROWS = 10
MiB = 1024 * 1024
_IN_PARTS = {"PART", "COMPLETE"}


@dataclass(frozen=True, kw_only=True)
class LyingWorld:
    """A world whose stores are behind a proxy that lies, and a client that goes past it."""

    world: World
    liar: Liar
    server: S3Server | AzureServer | GCSServer

    def held(self, side: str, key: str) -> bytes | None:
        try:
            return bytes(obstore.get(self.server.store(self.liar.buckets[side]), key).bytes())
        except FileNotFoundError:
            return None

    def keys(self, side: str) -> list[str]:
        listed = obstore.list(self.server.store(self.liar.buckets[side])).collect()
        return [meta["path"] for meta in listed]

    def judge(self, report: Report) -> int:
        """Check each row against what the stores really hold; return how many were re-pointed."""
        listed = {outcome.source.path: outcome for outcome in report.problems}
        moved = stayed = 0
        for value in self.world.raw():
            name = value["metadata"]["name"]
            side = "destination" if value["backend"] == "new" else "source"
            assert self.held(side, value["filename"]) == self.world.contents[name], f"{name} is wrong at the {side}"
            if side == "destination":
                moved += 1
                continue
            stayed += 1
            assert name in listed, f"{name} stayed and is not listed"
            assert listed[name].reason
        assert (report.state, report.rows_repointed, report.rows_remaining) == ("completed", moved, stayed), (
            report.error
        )
        assert report.exit_code == (1 if listed else 0)
        return moved


@pytest.fixture
def lying_world(sqlite_url: str, tmp_path: Path, seed: int) -> Iterator[Callable[..., LyingWorld]]:
    """Return a function that makes a world: which server, and whether the service can copy."""
    with ExitStack() as stack:

        def make(
            server: S3Server | AzureServer | GCSServer,
            *,
            by_service: bool = False,
            rows: int = ROWS,
            large: bool = False,
        ) -> LyingWorld:
            upstream = urlsplit(server.shim_endpoint).port if isinstance(server, GCSServer) else server.service.port
            liar = stack.enter_context(lying_proxy(upstream or 0))
            if isinstance(server, GCSServer):
                buckets = {"source": server.new_bucket(), "destination": server.new_bucket()}
                behind_shim = server.behind(liar.endpoint, tmp_path / "service-account.json")
                old, new = (
                    places.old_gcs(behind_shim, buckets["source"]),
                    places.new_gcs(behind_shim, buckets["destination"]),
                )
            elif isinstance(server, AzureServer):
                buckets = {"source": server.new_container(), "destination": server.new_container()}
                lying = server.behind(liar.endpoint)
                old = places.old_azure(lying, buckets["source"])
                new = places.new_azure(lying, buckets["destination"])
            else:
                buckets = {"source": server.new_bucket(), "destination": server.new_bucket()}
                behind = server.behind(liar.endpoint)
                old = places.old_s3(behind if by_service else behind.by_another_name, buckets["source"])
                new = places.new_s3(behind, buckets["destination"])
            world = World(sqlite_url, old.build(), new.build(), seed)
            stack.callback(world.close)
            world.fill(rows)
            stores = {side: server.store(bucket) for side, bucket in buckets.items()}
            if large:
                for name in world.contents:
                    world.contents[name] = world.random.randbytes(9 * MiB)
                    obstore.put(stores["source"], name, world.contents[name], use_multipart=False)

            def rewrite(key: str) -> None:
                world.contents[key] = b"written by the application, " + key.encode()
                obstore.put(stores["source"], key, world.contents[key])

            liar.buckets, liar.contents, liar.rewrite = buckets, world.contents, rewrite
            liar.remove = lambda key: obstore.delete(stores["destination"], key)
            if isinstance(server, S3Server):
                liar.entries = lambda: s3_entries(server, buckets["source"])
            liar.put = lambda key, body: obstore.put(stores["destination"], key, body)
            return LyingWorld(world=world, liar=liar, server=server)

        yield make


def _combinations(lie: Lie) -> list[Any]:
    """Return all ways in which a lie is told; those that only the soak tries are marked."""
    through = not lie.calls <= {"COPY"}
    by_service = bool(lie.calls & {"COPY", "HEAD", "LIST"}) and not lie.calls & {"PUT", "GET"}
    ways = [way for way, possible in (("client", through), ("service", by_service)) if possible]
    # Where a listing shows the copies, no HEAD asks for them.
    listings = [True] if lie.calls == {"LIST"} else [False] if lie.calls == {"HEAD"} else [False, True]
    every = product(["rclone", "moto"], ["tenth", "all"], listings, ways)
    # moto refuses a PUT where an object exists, but no COPY, so it is never asked for one.
    made = [each for each in every if each[0] == "rclone" or each[3] == "client"]
    quick = zlib.crc32(lie.name.encode()) % len(made)
    return [
        pytest.param(
            lie.name, *each, marks=() if number == quick else pytest.mark.soak,
            id=f"{lie.name}-{each[0]}-{each[1]}-{'listings' if each[2] else 'heads'}-{each[3]}",
        )
        for number, each in enumerate(made)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "server", "share", "listings", "way"),
    [each for lie in LIES.values() if not lie.calls & _IN_PARTS for each in _combinations(lie)],
)
def test_no_row_names_wrong_or_missing_bytes(
    request: pytest.FixtureRequest, lying_world: Any, name: str, server: str, share: str, listings: bool, way: str,
    monkeypatch: pytest.MonkeyPatch, seed: int, evidence: Evidence,
) -> None:  # fmt: skip
    monkeypatch.setattr(listing_evidence, "MIN_WANTED_OBJECTS", 1 if listings else 10**9)
    lie = LIES[name]
    made: LyingWorld = lying_world(request.getfixturevalue(f"{server}_s3"), by_service=way == "service")
    word = ("old",) if listings and not lie.breaks_user_word and not lie.rewrites else ()
    moved = check_lie(made, lie, share, seed, word)
    evidence.record(f"{name}, {share}, {way}, {server}", moved=moved, listed=ROWS - moved, lies=made.liar.told.total())


def check_lie(made: LyingWorld, lie: Lie, share: str, seed: int, word: tuple[str, ...]) -> int:
    """Run while it is told about a share of the objects; check each row, and return how many were re-pointed."""
    keys = sorted(made.world.contents)
    chosen = keys if share == "all" else random.Random(seed).sample(keys, len(keys) // 10)
    made.liar.lie, made.liar.chosen = lie, frozenset(chosen)
    try:
        report = made.world.run(consistent_listings=word, max_attempts=2, settle_time=0)
    except PreflightError:
        # The proof of the places met the lie: no row was changed.
        made.liar.lie = None
        assert made.liar.told
        assert {value["backend"] for value in made.world.raw()} == {"old"}
        return 0
    made.liar.lie = None
    assert made.liar.told, "no lie was told: this test shows nothing"
    moved = made.judge(report)
    assert moved >= ROWS - len(chosen), "what it tells the truth about is moved"
    return moved


_QUICK_LAGS = {("moto", True, 15, 1000), ("moto", True, 2, 7), ("moto", False, 15, 1000), ("rclone", False, 60, 7)}
"""Server, whether each answer is kept by itself, seconds, and objects in an answer."""


@pytest.mark.parametrize(
    ("server", "by_page", "lag", "per_request"),
    [
        pytest.param(*each, marks=() if each in _QUICK_LAGS else pytest.mark.soak)
        for each in product(["moto", "rclone"], [True, False], [2, 15, 60], [1000, 7])
    ],
)
def test_a_canary_finds_listings_that_are_old(
    request: pytest.FixtureRequest, lying_world: Any, server: str, by_page: bool, lag: int, per_request: int,
    monkeypatch: pytest.MonkeyPatch, seed: int,
) -> None:  # fmt: skip
    """Where canaries are allowed, no page that lags hides a write, however the pages of one listing differ in age."""
    monkeypatch.setattr(listing_evidence, "MIN_WANTED_OBJECTS", 1)
    made: LyingWorld = lying_world(request.getfixturevalue(f"{server}_s3"))
    lie = lagging_listing(lag, by_page=by_page, per_request=per_request)
    made.liar.lie, made.liar.chosen = lie, frozenset(sorted(made.world.contents)[::3])
    report = made.world.run(canary_prefix="", max_attempts=2, settle_time=0)
    made.liar.lie = None
    assert made.liar.told["LIST"] and made.liar.rewritten
    assert made.judge(report) == ROWS
    assert not [key for key in made.keys("source") if is_canary(key)]


_OF_AZURE = [
    lie.name
    for lie in LIES.values()
    # A body that is changed on its way is refused: its length is signed.
    if (not lie.calls & (_IN_PARTS | {"COPY"}) and not lie.name.startswith("put_keeps_"))
    or lie.name == "put_keeps_nothing"
]


_QUICK_OF_AZURE = {
    "put_keeps_nothing",
    "get_flips_one_bit_always",
    "get_answers_another_object",
    "head_of_copy_tells_another_size",
}


@pytest.mark.parametrize(
    ("name", "share"),
    [
        pytest.param(name, share, marks=() if name in _QUICK_OF_AZURE and share == "tenth" else pytest.mark.soak)
        for name in _OF_AZURE
        for share in ("tenth", "all")
    ],
)
def test_no_row_names_wrong_or_missing_bytes_of_azure(
    azurite: AzureServer, lying_world: Any, name: str, share: str, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """ETags of Azure are no digests: ``Content-MD5`` is one, which a signed HEAD shows."""
    monkeypatch.setattr(listing_evidence, "MIN_WANTED_OBJECTS", 1 if "LIST" in LIES[name].calls else 10**9)
    check_lie(lying_world(azurite), LIES[name], share, seed, ())


_OF_GOOGLE = [lie.name for lie in LIES.values() if not lie.calls & (_IN_PARTS | {"COPY"})]
_QUICK_OF_GOOGLE = {
    "put_keeps_nothing",
    "put_keeps_one_bit_flipped",
    "get_flips_one_bit_always",
    "get_answers_another_object",
    "copies_are_never_shown",
}


@pytest.mark.parametrize(
    ("name", "share"),
    [
        pytest.param(name, share, marks=() if name in _QUICK_OF_GOOGLE and share == "tenth" else pytest.mark.soak)
        for name in _OF_GOOGLE
        for share in ("tenth", "all")
    ],
)
def test_no_row_names_wrong_or_missing_bytes_of_google(
    gcs: GCSServer, lying_world: Any, name: str, share: str, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """The MD5 is in ``x-goog-hash``; ETags of this server are no MD5s in hex, and its source is asked without credentials."""
    monkeypatch.setattr(listing_evidence, "MIN_WANTED_OBJECTS", 1 if "LIST" in LIES[name].calls else 10**9)
    check_lie(lying_world(gcs), LIES[name], share, seed, ())


@pytest.mark.parametrize("name", [lie.name for lie in LIES.values() if lie.calls & _IN_PARTS])
@pytest.mark.parametrize("server", ["rclone", pytest.param("moto", marks=pytest.mark.soak)])
def test_no_row_names_wrong_or_missing_parts(
    request: pytest.FixtureRequest, lying_world: Any, name: str, server: str
) -> None:
    made: LyingWorld = lying_world(request.getfixturevalue(f"{server}_s3"), rows=2, large=True)
    made.liar.lie, made.liar.chosen = LIES[name], frozenset(sorted(made.world.contents)[:1])
    report = made.world.run(max_attempts=2, settle_time=0)
    made.liar.lie = None
    assert made.liar.told
    assert made.judge(report) >= 1


@pytest.mark.parametrize("flips", [True, False])
@pytest.mark.parametrize(
    "write", [str.upper, lambda tag: f"W/{tag}", lambda tag: tag.strip('"')], ids=["upper case", "weak", "no quotes"]
)
@pytest.mark.parametrize("listings", [True, False])
def test_an_md5_is_known_however_the_source_writes_it(
    rclone_s3: S3Server, lying_world: Any, monkeypatch: pytest.MonkeyPatch, write: Any, flips: bool, listings: bool
) -> None:
    monkeypatch.setattr(listing_evidence, "MIN_WANTED_OBJECTS", 1 if listings else 10**9)
    made: LyingWorld = lying_world(rclone_s3)
    made.liar.lie, made.liar.chosen = other_etags(write, flips=flips), frozenset(sorted(made.world.contents)[:3])
    report = made.world.run(settle_time=0, consistent_listings=("old",) if listings else ())
    made.liar.lie = None
    assert made.liar.told
    assert made.judge(report) == (ROWS - 3 if flips else ROWS)
    assert not any("source_reread" in proof for proof in report.verified_by), report.verified_by


def test_the_lies_are_what_verifying_finds(
    rclone_s3: S3Server, lying_world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: with nothing verified, a lie does end in rows with wrong bytes."""

    def believed(copied: UnverifiedCopy, *_: Any) -> Verified:
        return Verified(source=copied.source, destination=copied.destination, evidence="none", written_by_us=True)

    made: LyingWorld = lying_world(rclone_s3)
    monkeypatch.setattr(engine_verify, "verify", believed)
    made.liar.lie, made.liar.chosen = LIES["get_flips_one_bit_always"], frozenset(made.world.contents)
    report = made.world.run(settle_time=0)
    made.liar.lie = None
    with pytest.raises(AssertionError, match="is wrong at the destination"):
        made.judge(report)
