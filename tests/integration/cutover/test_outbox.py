"""The outbox on each database, step by step as the search assumes it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Connection, text

from migrate_storage.cutover.decisions import Side
from migrate_storage.cutover.outbox import Outbox
from migrate_storage.cutover.protocol import EntryFate
from migrate_storage.database.connection import Database
from tests.support.cutover.clock import Clock

S, D = Side.SOURCE, Side.DESTINATION


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def outbox(database_url: str, clock: Clock) -> Iterator[Outbox]:
    database = Database(database_url.replace("postgresql://", "postgresql+psycopg://"))
    made = Outbox(database, "files", clock=clock)
    made.prepare()
    yield made
    database.close()


def test_a_write_alone(outbox: Outbox) -> None:
    assert outbox.find_entry("a/b") is None
    entry = outbox.open_entry("a/b", S)
    assert (entry.sequence, entry.side, entry.tombstone) == (1, S, False)
    assert outbox.find_entry("a/b") == entry
    assert outbox.find_entry("a/c") is None
    assert outbox.close_entry("a/b", entry) is EntryFate.CLOSED
    assert outbox.find_entry("a/b") is None
    assert outbox.close_entry("a/b", entry) is EntryFate.VANISHED
    assert outbox.leave_for_repair("a/b", entry) is EntryFate.VANISHED


def test_two_writers_leave_it_and_the_first_ones_side_stays(outbox: Outbox) -> None:
    first = outbox.open_entry("k", S, about={"content_type": "text/plain"})
    second = outbox.open_entry("k", D, tombstone=True)
    assert (second.epoch, second.sequence, second.side, second.tombstone) == (first.epoch, 2, S, True)
    assert outbox.close_entry("k", first) is EntryFate.STAYS
    assert outbox.close_entry("k", second) is EntryFate.STAYS
    third = outbox.open_entry("k", D)
    assert third.tombstone is True
    assert outbox.count_open() == 1
    assert outbox.pending_attributes("k") == {"content_type": "text/plain"}


def test_an_entry_made_anew_is_another(outbox: Outbox) -> None:
    first = outbox.open_entry("k", S)
    outbox.close_entry("k", first)
    outbox.open_entry("k", D)
    assert outbox.close_entry("k", first) is EntryFate.VANISHED
    assert outbox.leave_for_repair("k", first) is EntryFate.VANISHED


def test_a_note_touches_no_entry_that_stands(outbox: Outbox) -> None:
    entry = outbox.open_entry("k", S)
    outbox.request_repair("k", D)
    assert outbox.find_entry("k") == entry
    outbox.request_repair("other", D)
    assert [(each.path, each.side) for each in sorted(outbox.pending_entries(), key=lambda each: each.path)] == [
        ("k", S),
        ("other", D),
    ]


def test_repair_lets_a_writer_be_until_it_is_done_or_late(outbox: Outbox, clock: Clock) -> None:
    entry = outbox.open_entry("k", S)
    assert outbox.claim_entry("k", "me", 30) is None
    assert outbox.leave_for_repair("k", entry) is EntryFate.STAYS
    claimed = outbox.claim_entry("k", "me", 30)
    assert claimed is not None
    outbox.open_entry("late", S)
    clock.now += 301
    assert outbox.claim_entry("late", "me", 30) is not None


def test_one_repair_at_a_time_until_its_lease_ends(outbox: Outbox, clock: Clock) -> None:
    outbox.request_repair("k", S)
    mine = outbox.claim_entry("k", "me", 30)
    assert mine is not None
    assert outbox.claim_entry("k", "you", 30) is None
    clock.now += 31
    yours = outbox.claim_entry("k", "you", 30)
    assert yours is not None
    assert outbox.close_claimed("k", mine) is False
    outbox.release("k", "me")
    assert outbox.claim_entry("k", "she", 30) is None
    outbox.release("k", "you", "no such bucket")
    assert next(outbox.pending_entries()).failure == "no such bucket"
    assert outbox.claim_entry("k", "she", 30) is not None


def test_a_repair_does_not_close_what_moved_on(outbox: Outbox) -> None:
    outbox.request_repair("k", S)
    claimed = outbox.claim_entry("k", "me", 30)
    assert claimed is not None
    writer = outbox.open_entry("k", D)
    assert outbox.close_claimed("k", claimed) is False
    assert outbox.switch_trusted_side("k", claimed) is None
    assert outbox.leave_for_repair("k", writer) is EntryFate.STAYS


def test_a_writer_that_leaves_stops_the_repair_that_claimed_after_it_opened(outbox: Outbox, clock: Clock) -> None:
    writer = outbox.open_entry("k", S)
    clock.now += 301
    claimed = outbox.claim_entry("k", "me", 30)
    assert claimed is not None
    assert outbox.leave_for_repair("k", writer) is EntryFate.STAYS
    assert outbox.close_claimed("k", claimed) is False


def test_the_side_changes_with_the_epoch(outbox: Outbox) -> None:
    outbox.request_repair("k", D)
    claimed = outbox.claim_entry("k", "me", 30)
    assert claimed is not None
    flipped = outbox.switch_trusted_side("k", claimed)
    assert flipped is not None
    assert (flipped.side, outbox.find_entry("k")) == (S, flipped)
    assert outbox.close_claimed("k", claimed) is False
    assert outbox.close_claimed("k", flipped) is True


def test_an_upload_keeps_its_entry_until_its_url_expires(outbox: Outbox, clock: Clock) -> None:
    entry = outbox.open_entry("k", S, expires=clock.now + 60)
    assert outbox.close_entry("k", entry) is EntryFate.STAYS
    claimed = outbox.claim_entry("k", "me", 30)
    assert claimed is not None
    assert outbox.close_claimed("k", claimed) is False
    clock.now += 61
    assert outbox.close_claimed("k", claimed) is True


def test_opened_by_many_at_once_each_has_its_own_sequence(outbox: Outbox) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: outbox.open_entry("k", S), range(16)))
    assert sorted(each.sequence for each in found) == list(range(1, 17))
    assert len({each.epoch for each in found}) == 1


def test_looking_up_uses_the_index(outbox: Outbox) -> None:
    if outbox.database.dialect.name != "sqlite":
        return
    plan = outbox.database.transaction(
        lambda connection: connection.execute(
            text("EXPLAIN QUERY PLAN SELECT side FROM migrate_storage_outbox WHERE id = 'x'")
        ).all()
    )
    assert "INDEX" in str(plan)


def test_a_closed_line_tells_that_we_wrote_and_is_opened_anew(outbox: Outbox, clock: Clock) -> None:
    first = outbox.open_entry("k", S, about={"content_type": "text/plain"}, expires=1.0)
    assert outbox.close_entry("k", first, both_written=True) is EntryFate.CLOSED
    assert (
        outbox.find_entry("k"),
        outbox.count_open(),
        list(outbox.pending_entries()),
        outbox.pending_attributes("k"),
    ) == (
        None,
        0,
        [],
        {},
    )
    assert (outbox.written_by_us("k"), outbox.written_by_us("other")) == (True, False)
    assert outbox.claim_entry("k", "me", 30) is None
    assert (outbox.close_entry("k", first), outbox.leave_for_repair("k", first)) == (
        EntryFate.VANISHED,
        EntryFate.VANISHED,
    )
    clock.now += 1
    second = outbox.open_entry("k", D, tombstone=True)
    assert (second.sequence, second.side, second.tombstone) == (1, D, True)
    assert second.epoch != first.epoch
    (waiting,) = outbox.pending_entries()
    assert (waiting.opened_at, waiting.expires_at, waiting.attributes) == (clock.now, 0.0, {})
    assert outbox.close_entry("k", second) is EntryFate.CLOSED
    assert outbox.written_by_us("k") is False
    outbox.request_repair("k", S)
    claimed = outbox.claim_entry("k", "me", 30)
    assert claimed is not None
    assert outbox.close_claimed("k", claimed, both_written=True)
    outbox.request_repair("k", D)
    again = outbox.find_entry("k")
    assert again is not None
    assert (again.sequence, again.side) == (1, D)
    assert outbox.claim_entry("k", "me", 30) is not None


def test_what_is_open_is_told_by_what_it_waits_for(outbox: Outbox, clock: Clock) -> None:
    outbox.request_repair("left", S)
    outbox.open_entry("busy", S)
    outbox.open_entry("busy too", D)
    outbox.leave_for_repair("url", outbox.open_entry("url", D, expires=clock.now + 60))
    outbox.close_entry("done", outbox.open_entry("done", S), both_written=True)
    tally = outbox.count_by_kind()
    assert [tally.count(kind, S, D) for kind in ("repair", "writer", "upload")] == [1, 2, 1]
    assert (tally.count("writer", S), tally.last_upload) == (1, 60.0)
    clock.now += 400
    assert [outbox.count_by_kind().count(kind, S, D) for kind in ("repair", "writer", "upload")] == [4, 0, 0]


@pytest.mark.parametrize(
    ("phase", "changed", "forgotten"),
    [(None, 0, True), ("destination", 100, True), ("destination", 1500, False), ("dual_write", 100, False)],
)
def test_what_is_settled_is_forgotten_when_the_cutover_is_over(
    outbox: Outbox, clock: Clock, phase: str | None, changed: float, forgotten: bool
) -> None:
    def prune(connection: Connection) -> int:
        return outbox.tables.prune(connection, clock.now - 500)

    if phase is not None:
        table = outbox.tables.phase
        line = table.insert().values(backend="files", phase=phase, generation=1, changed=changed)
        outbox.database.transaction(lambda connection: connection.execute(line) and None)
    outbox.close_entry("settled", outbox.open_entry("settled", S), both_written=True)
    outbox.leave_for_repair("deleted", outbox.open_entry("deleted", D, tombstone=True))
    clock.now += 1000
    outbox.close_entry("of late", outbox.open_entry("of late", S), both_written=True)
    assert outbox.database.transaction(prune) == int(forgotten)
    assert outbox.database.transaction(prune) == 0
    assert outbox.written_by_us("settled") is not forgotten
    assert outbox.written_by_us("of late")
    assert outbox.find_entry("deleted") is not None
