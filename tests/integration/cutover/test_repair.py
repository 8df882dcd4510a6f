"""Repair and backfill on real stores, while others write."""

from __future__ import annotations

import pytest
from advanced_alchemy.types.file_object import FileObject

from migrate_storage import ObstoreBackend
from migrate_storage.cutover.decisions import Phase, Side
from migrate_storage.cutover.outbox import Outbox
from migrate_storage.cutover.repair import Repair, writable_sides
from tests.support.cutover.breaking_backend import Breaking
from tests.support.cutover.sides import Sides

S, D = Side.SOURCE, Side.DESTINATION
MIDDLE = (Phase.DUAL_WRITE, Phase.DESTINATION_FIRST)


@pytest.fixture
def sides(outbox: Outbox) -> Sides:
    return Sides(Phase.DUAL_WRITE, outbox)


def repair(sides: Sides, *phases: Phase) -> Repair:
    return Repair(sides.source, sides.destination, sides.outbox, phases=phases or (Phase.DUAL_WRITE,))


def test_what_may_be_written() -> None:
    assert writable_sides([Phase.SOURCE, Phase.DUAL_WRITE]) == {D}
    assert writable_sides(MIDDLE) == {S, D}
    assert writable_sides([Phase.DESTINATION_FIRST, Phase.DESTINATION]) == {S}


def test_a_save_that_one_side_missed_reaches_it_with_its_type_and_metadata(sides: Sides) -> None:
    sides.destination.broken = lambda name: "before" if name == "save" else None
    backend = sides.backend
    file = FileObject(backend=backend, filename="k", content_type="text/x-one", metadata={"a": "b"})
    backend.save_object(file, b"new")
    assert repair(sides).repair_pending().failures == {"k": "OSError: broken before"}
    assert next(sides.outbox.pending_entries()).failure == "OSError: broken before"
    sides.destination.broken = lambda _: None
    assert repair(sides).repair_pending().settled == 1
    assert sides.has(D) == b"new"
    assert sides.outbox.count_open() == 0
    attributes = ObstoreBackend.attributes(sides.destination, "k")
    assert (attributes.content_type, attributes.metadata) == ("text/x-one", {"a": "b"})


def test_a_delete_that_one_side_missed_reaches_it(sides: Sides) -> None:
    sides.save(b"1")
    sides.destination.broken = lambda name: "before" if name == "delete" else None
    sides.backend.delete_object("k")
    sides.destination.broken = lambda _: None
    assert (sides.has(S), sides.has(D)) == (None, b"1")
    assert repair(sides).repair_pending().settled == 1
    assert sides.has(D) is None


def test_a_side_that_is_written_without_entries_is_not_written(sides: Sides) -> None:
    sides.put(S, b"1")
    sides.outbox.request_repair("k", S)
    assert repair(sides, Phase.DESTINATION_FIRST, Phase.DESTINATION).repair_pending().left == 1
    assert (sides.has(D), sides.outbox.count_open()) == (None, 1)


def test_what_never_reached_the_destination_is_brought_there(sides: Sides) -> None:
    sides.put(S, b"1")
    sides.outbox.request_repair("k", D)
    assert repair(sides, *MIDDLE).repair_pending().settled == 1
    assert (sides.has(S), sides.has(D)) == (b"1", b"1")


def test_a_save_in_the_middle_of_a_repair_is_not_overwritten(sides: Sides) -> None:
    sides.put(S, b"old")
    sides.outbox.request_repair("k", S)
    saved: list[bytes] = []

    def saved_meanwhile(name: str) -> None:
        if name == "save" and not saved:
            saved.append(b"new")
            sides.save(b"new")

    sides.destination.broken = saved_meanwhile
    result = repair(sides).repair_pending()
    assert saved
    assert (result.settled, result.bypassed) == (1, [])
    assert (sides.has(S), sides.has(D)) == (b"new", b"new")


def test_a_source_written_past_us_in_the_middle_of_a_backfill_is_copied_again(sides: Sides) -> None:
    sides.put(S, b"old")
    seen: list[str] = []

    def written_meanwhile(name: str) -> None:
        if name == "save" and not seen:
            seen.append(name)
            sides.put(S, b"new")

    sides.destination.broken = written_meanwhile
    result = repair(sides, Phase.SOURCE, Phase.DUAL_WRITE).backfill(["k"], S)
    assert (result.settled, result.bypassed) == (1, ["k"])
    assert sides.has(D) == b"new"


def test_a_backfill_takes_an_extra_object_away_only_under_its_own_entry(sides: Sides) -> None:
    other = Breaking("other", "memory://")
    assert other.exists("k") is False
    sides.put(S, b"1")

    def deleted_meanwhile(name: str) -> None:
        if name == "save":
            ObstoreBackend.delete_object(sides.source, "k")

    sides.destination.broken = deleted_meanwhile
    assert repair(sides, Phase.SOURCE, Phase.DUAL_WRITE).backfill(["k"], S).settled == 1
    assert sides.has(D) is None
