"""A share of reads is compared on both sides in the background."""

from __future__ import annotations

import logging
import threading

import pytest

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.cutover.compare import Comparison
from migrate_storage.cutover.decisions import Phase, Side, trusted_side
from migrate_storage.cutover.outbox import Outbox
from migrate_storage.cutover.repair import Repair
from migrate_storage.cutover.shadow_reads import ShadowReads
from tests.support.cutover.sides import Sides

S, D = Side
MIDDLE = (Phase.DUAL_WRITE, Phase.DESTINATION_FIRST)


@pytest.fixture(params=MIDDLE, ids=lambda phase: phase.name)
def sides(request: pytest.FixtureRequest, outbox: Outbox) -> Sides:
    made = Sides(Phase(request.param), outbox)
    made.shadowed(1.0)
    return made


@pytest.mark.parametrize("there", [True, False])
def test_a_difference_is_counted_told_and_repaired(sides: Sides, caplog: pytest.LogCaptureFixture, there: bool) -> None:
    backend, right = sides.backend, trusted_side(sides.backend.phase)
    sides.put(right, b"right")
    if there:
        sides.put(right.other, b"wrong")
    with caplog.at_level(logging.WARNING, "migrate_storage.cutover"):
        assert backend.get_content("k") == b"right"
        backend.shadow.wait_for_comparisons()
    assert backend.counters.get("shadow", right.other) == 1
    assert backend.counters.get("difference", right.other) == 1
    (record,) = caplog.records
    assert (record.__dict__["object_key"], record.__dict__["side"]) == ("k", right.other.value)
    assert Repair(sides.source, sides.destination, sides.outbox, phases=MIDDLE).repair_pending().settled == 1
    assert (sides.has(S), sides.has(D)) == (b"right", b"right")
    backend.get_content("k")
    backend.shadow.wait_for_comparisons()
    assert backend.counters.get("difference", right.other) == 1
    assert sides.outbox.count_open() == 0


def test_what_an_entry_names_is_left_to_repair(sides: Sides) -> None:
    right = trusted_side(sides.backend.phase)
    sides.put(right, b"right")
    sides.put(right.other, b"wrong")
    sides.outbox.request_repair("k", right.other)
    assert sides.backend.get_content("k") == b"wrong"
    sides.backend.shadow.wait_for_comparisons()
    assert sides.backend.counters.get("difference", right.other) == 0
    (waiting,) = sides.outbox.pending_entries()
    assert waiting.side is right.other


def test_a_read_waits_for_nothing_and_fails_for_nothing(sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    held, begun = threading.Event(), threading.Event()

    def look(*_: object) -> None:
        begun.set()
        held.wait(60)
        raise OSError("a side is down")

    monkeypatch.setattr(Comparison, "compare_key", look)
    backend = sides.backend
    backend.shadow = ShadowReads(backend._executor, 1.0, waiting=2)
    sides.put(trusted_side(backend.phase), b"1")
    assert backend.get_content("k") == b"1"
    assert begun.wait(60)
    for _ in range(5):
        assert backend.get_content("k") == b"1"
    assert backend.counters.get("shadow_dropped") == 3
    held.set()
    backend.shadow.wait_for_comparisons()
    assert backend.counters.get("shadow_failure") == 3


@pytest.mark.parametrize("phase", [Phase.SOURCE, Phase.DESTINATION], ids=lambda phase: phase.name)
def test_the_outer_phases_compare_nothing(outbox: Outbox, phase: Phase) -> None:
    sides = Sides(phase, outbox)
    sides.shadowed(1.0)
    sides.save(b"1")
    sides.backend.get_content("k")
    sides.backend.shadow.wait_for_comparisons()
    assert all(sides.backend.counters.get("shadow", side) == 0 for side in Side)


def test_a_share_of_reads(sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    sides.shadowed(0.1)
    seen: list[str] = []
    monkeypatch.setattr(ShadowReads, "_compare_key", lambda _, path: seen.append(path))
    sides.backend.shadow._random.seed(1)
    for number in range(1000):
        sides.backend.shadow.offer(str(number))
        sides.backend.shadow.wait_for_comparisons()
    assert 60 < len(seen) < 140
    for share in (-0.1, 1.1):
        with pytest.raises(ConfigurationError, match="no share"):
            sides.shadowed(share)
