"""Behind a network and services that fail one request in ten, a job finishes right: on the source's side and the other."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from migrate_storage.core.events import ThrottleChanged
from migrate_storage.core.model import OutcomeKind
from migrate_storage.core.proofs import SERVER_SIDE_COPY
from migrate_storage.engine import existing_objects, listing_evidence, object_copier
from migrate_storage.engine import verify as engine_verify
from migrate_storage.engine.transfer import UnverifiedCopy
from migrate_storage.engine.verify import Verified
from tests.support.engine import registrations as places
from tests.support.engine.proxied_world import ProxiedWorld
from tests.support.engine.world import World
from tests.support.evidence import Evidence
from tests.support.fault_proxy import Fault

RATE = 0.1


def finishes_right(
    proxied_world: ProxiedWorld, sides: str, rows: int, evidence: Evidence, what: str, **rates: float
) -> None:
    proxied_world.harm(sides, **rates)
    report = proxied_world.world.run()
    done = proxied_world.done()
    assert report.state == "completed", report.error
    assert done, "no fault was done: this test shows nothing"
    ends = proxied_world.judge(report, rows)
    # Requests fail at most twice in a row here: what keeps trying comes through, all of it.
    assert ends["moved"] == rows, [each.reason for each in report.problems[:3]]
    evidence.record(what, rows=rows, faults=done, **ends)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "least"), [*((kind, 1) for kind in Fault), *((kind, 10**9) for kind in (Fault.ERROR, Fault.LOST_ANSWER))]
)
def test_every_kind_of_fault_on_both_sides(
    rclone_s3, proxied_world: Any, kind: Fault, least: int, evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last looks by listings, and with more than so many objects wanted for one, by a look at each."""
    monkeypatch.setattr(listing_evidence, "MIN_WANTED_OBJECTS", least)
    # Who is asked to slow down does so, and that takes its time.
    rows = {Fault.THROTTLE: 40, Fault.ERROR: 100, Fault.LATE_ERROR: 100}.get(kind, 150)
    made = proxied_world(rclone_s3, rows, stall=0.2)
    finishes_right(made, "both", rows, evidence, f"{kind} at 10% on both sides of rclone", **{kind: RATE})


#: Faults that a copy by the service can meet: there are no bodies but the answers' own.
_OF_COPIES = [
    Fault.RESET,
    Fault.LOST_ANSWER,
    Fault.ERROR,
    Fault.LATE_ERROR,
    Fault.THROTTLE,
    Fault.STALL,
    Fault.TRUNCATE,
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "rows"),
    [
        (Fault.LOST_ANSWER, 60),
        (Fault.ERROR, 60),
        *(pytest.param(kind, 2000, marks=[pytest.mark.soak, pytest.mark.timeout(1800)]) for kind in _OF_COPIES),
    ],
)
def test_every_kind_of_fault_while_the_service_copies(
    rclone_s3, proxied_world: Any, kind: Fault, rows: int, evidence: Evidence
) -> None:
    made = proxied_world(rclone_s3, rows, one=True, stall=0.2)
    finishes_right(made, "both", rows, evidence, f"{kind} at 10% while rclone copies by itself", **{kind: RATE})
    by_evidence = Counter(entry.evidence for entry in made.world.journal.values())
    assert by_evidence[SERVER_SIDE_COPY] > rows / 2, by_evidence
    assert made.world.check(backend="new") == rows


def _flips_nothing(kind: Fault, side: str) -> bool:
    """The source is sent no bodies; and of a destination whose tags are digests nothing is read back."""
    return (kind, side) in {(Fault.FLIP_REQUEST, "source"), (Fault.CUT_REQUEST, "source")} or (
        side == "destination" and kind in {Fault.FLIP_ANSWER, Fault.TRUNCATE, Fault.STALL}
    )


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("server", ["rclone", "moto"])
@pytest.mark.parametrize(
    ("kind", "side"),
    [(kind, side) for kind in Fault for side in ("source", "destination") if not _flips_nothing(kind, side)],
)
def test_every_kind_of_fault_on_each_side_at_full_size(
    request: pytest.FixtureRequest, proxied_world: Any, server: str, kind: Fault, side: str, evidence: Evidence
) -> None:
    made = proxied_world(request.getfixturevalue(f"{server}_s3"), 2000, stall=1.0)
    finishes_right(made, side, 2000, evidence, f"{kind} at 10% on the side of the {side}, {server}", **{kind: RATE})


@pytest.mark.slow
def test_everything_at_once_on_a_store_with_conditional_puts(moto_s3, proxied_world: Any, evidence: Evidence) -> None:
    made = proxied_world(moto_s3, 100, stall=0.1)
    rates = {str(kind): 0.02 for kind in Fault}
    finishes_right(made, "both", 100, evidence, "every kind of fault together, 20% of all requests, on moto", **rates)


def test_a_bit_flipped_on_the_way_is_what_verifying_finds(
    rclone_s3, proxied_world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: with nothing verified the same flips do end in rows with wrong bytes, so the tests above can fail."""

    def believed(copied: UnverifiedCopy, *_: Any) -> Verified:
        return Verified(source=copied.source, destination=copied.destination, evidence="none", written_by_us=True)

    made = proxied_world(rclone_s3, 60)
    monkeypatch.setattr(engine_verify, "verify", believed)
    made.harm("both", flip_request=RATE, flip_answer=RATE)
    report = made.world.run()
    assert made.done().keys() == {"flip_request", "flip_answer"}
    with pytest.raises(AssertionError, match="re-pointed to wrong bytes"):
        made.judge(report, 60)


@pytest.mark.parametrize("way", ["source", "destination"])
def test_bits_flipped_while_what_stands_there_is_compared(
    rclone_s3, proxied_world: Any, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal objects stand at the destination: read on both sides, and one flipped reading condemns none of them."""
    monkeypatch.setattr(existing_objects, "SAMPLED_OBJECTS", 60)
    made = proxied_world(rclone_s3, 60)
    for name, content in made.world.contents.items():
        made.server.client.put_object(Bucket=made.bucket, Key=name, Body=content)
    made.harm(way, flip_answer=RATE)
    report = made.world.run()
    assert made.done()["flip_answer"] > 0
    assert made.judge(report, 60) == {"moved": 60, "listed": 0}


def test_stalls_longer_than_the_patience_for_one_read(rclone_s3, proxied_world: Any, seed: int) -> None:
    made = proxied_world(rclone_s3, 40, stall=30, in_a_row=1)
    impatient = places.Registration(
        key="old", driver="fsspec", fs="s3", prefix=made.world.old.prefix,
        options={**made.server.behind(made.source.endpoint).fs_options(),
                 "config_kwargs": {"s3": {"addressing_style": "path"}, "read_timeout": 1}},
    )  # fmt: skip
    world = World(made.world.url, impatient.build(), made.world.new, seed)
    world.contents, world.types = made.world.contents, made.world.types
    made.harm("source", stall=RATE)
    report = world.run()
    assert made.done()["stall"] > 0
    assert made.judge(report, 40) == {"moved": 40, "listed": 0}
    assert report.finished - report.started < 25
    world.close()


def test_a_service_that_always_fails_stops_the_run_and_lets_it_go_on(rclone_s3, proxied_world: Any) -> None:
    made = proxied_world(rclone_s3, 120, in_a_row=10**6, only="/docs/")
    made.world.run(limit=20)
    for kind in (Fault.RESET, Fault.ERROR, Fault.THROTTLE):
        made.harm("destination", **{kind: 1.0})
        report = made.world.run(max_attempts=2, concurrency=8)
        assert (report.state, report.exit_code, report.rows_repointed) == ("failed", 3, 0)
        assert "run the same command again" in report.error
        assert report.problem_count <= 60, "it does not fail the whole table item by item"
        made.harm("both")
        assert [value["backend"] for value in made.world.raw()].count("old") == 100
    report = made.world.run()
    assert (report.exit_code, report.rows_repointed, report.counts) == (0, 100, {OutcomeKind.REPOINTED: 100})
    assert made.world.check(backend="new") == 120


def test_a_service_that_throttles_is_asked_by_fewer_at_once(rclone_s3, proxied_world: Any) -> None:
    made = proxied_world(rclone_s3, 150, in_a_row=1)
    made.harm("destination", throttle=RATE)
    report = made.world.run(concurrency=16)
    widths = [event.concurrency for event in made.world.events if isinstance(event, ThrottleChanged)]
    assert made.done()["throttle"] > 0
    assert widths[0] == 8, "halved at the first refusal"
    assert any(later > earlier for earlier, later in pairwise(widths)), "and raised again"
    assert made.judge(report, 150) == {"moved": 150, "listed": 0}


@pytest.mark.parametrize(
    ("owner", "name"), [(object_copier.ObjectCopier, "source_changed"), (listing_evidence.ListingEvidence, "fetch")]
)
def test_an_error_that_nobody_foresaw_ends_the_run_and_hangs_nothing(
    rclone_s3, proxied_world: Any, monkeypatch: pytest.MonkeyPatch, owner: type, name: str
) -> None:
    made = proxied_world(rclone_s3, 40)

    def broken(*_: Any) -> bool:
        raise ZeroDivisionError("a fault of ours")

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, broken)
        patch.setattr(listing_evidence, "MIN_WANTED_OBJECTS", 10**9 if name == "source_changed" else 1)
        with pytest.raises(ZeroDivisionError):
            made.world.run(lease_ttl=1)
    assert made.world.check() == 40
    report = made.world.run(lease_ttl=1)
    assert (report.state, report.exit_code) == ("completed", 0)
    assert made.world.check(backend="new") == 40
