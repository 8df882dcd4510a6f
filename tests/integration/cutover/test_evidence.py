"""What a comparison of a cutover leaves behind: the keys that it found equal, and nothing else."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import pytest
from advanced_alchemy.types import FileObject

from migrate_storage.core.model import Location, ObjectMeta
from migrate_storage.cutover.compare import find_differences
from migrate_storage.cutover.decisions import Phase, Side
from migrate_storage.cutover.evidence import ComparedKeys
from migrate_storage.engine.compare import Compared, Pair, Relation
from migrate_storage.journal import Journal, ObjectRecord
from tests.support.cutover.world import CutoverWorld, make_cutover_world
from tests.support.engine.world import World

NAMES = [f"docs/{number}/d{number}.bin" for number in range(4)]


@pytest.fixture
def cutover(world: World) -> Iterator[CutoverWorld]:
    """Four documents, of which the destination has three, one with other bytes and one with an open entry."""
    world.fill(4)
    made = make_cutover_world(world)
    contents = {**world.contents, NAMES[1]: bytes(reversed(world.contents[NAMES[1]])) + b"!"}
    for name in NAMES[:3]:
        made.world.new.save_object(FileObject(backend="new", filename=name), contents[name])
    made.outbox.request_repair(NAMES[2], Side.SOURCE)
    yield made
    made.close()


def compare(cutover: CutoverWorld) -> dict[str, Relation]:
    found = find_differences(cutover.world.old, cutover.world.new, cutover.outbox)
    return {each.pair.key: each.relation for each in found}


def recorded(cutover: CutoverWorld) -> dict[str, ObjectRecord]:
    locations = [Location("old", name) for name in NAMES]
    return {each.path: record for each, record in Journal(cutover.database).comparisons.at(locations).items()}


def test_equal_keys_are_recorded_and_no_others(cutover: CutoverWorld) -> None:
    assert compare(cutover) == {NAMES[1]: Relation.DIFFERENT, NAMES[3]: Relation.MISSING}
    found = recorded(cutover)
    assert found.keys() == {NAMES[0]}
    record = found[NAMES[0]]
    assert (record.size, record.source_key, record.evidence) == (
        len(cutover.world.contents[NAMES[0]]),
        "old",
        "content_compared",
    )


def test_each_database_holds_it(worlds: World) -> None:
    worlds.fill(4)
    cutover = make_cutover_world(worlds)
    for backend in (worlds.old, worlds.new):
        for name in NAMES:
            backend.save_object(FileObject(backend="new", filename=name), worlds.contents[name])
    for _ in range(2):
        assert compare(cutover) == {}
        assert recorded(cutover).keys() == set(NAMES)
    cutover.close()


@pytest.mark.parametrize("key", ["a\0b", "a\udcffb"])
def test_a_key_that_no_text_column_holds_is_left_out(cutover: CutoverWorld, key: str) -> None:
    meta = ObjectMeta(path=key, size=1, e_tag="e")
    with ComparedKeys(cutover.outbox, "old") as equal:
        for name in (key, "other"):
            pair = Pair(key=name, source=meta, destination=meta)
            equal.add(Compared(pair=pair, relation=Relation.MATCHED, evidence="etag"))
    assert Journal(cutover.database).comparisons.at([Location("old", "other"), Location("old", key)]).keys() == {
        Location("old", "other")
    }


def test_the_same_finding_is_written_once_and_another_one_replaces_it(cutover: CutoverWorld) -> None:
    compare(cutover)
    before = recorded(cutover)[NAMES[0]]
    compare(cutover)
    assert recorded(cutover)[NAMES[0]] == before, "with its time"
    for backend in (cutover.world.old, cutover.world.new):
        backend.save_object(FileObject(backend="new", filename=NAMES[0]), b"written on both sides")
    compare(cutover)
    assert recorded(cutover)[NAMES[0]].size == 21


def test_a_record_of_a_run_to_the_same_key_stays_beside_it(cutover: CutoverWorld) -> None:
    """The destination of a run's record belongs to one object; a comparison owns none."""
    cutover.world.sql("UPDATE documents SET file = replace(file, '\"old\"', '\"new\"')")
    cutover.world.sql("DELETE FROM documents WHERE id > 1")
    assert cutover.world.run(source="new", destination="old").exit_code == 0
    compare(cutover)
    journal = Journal(cutover.database)
    location = Location("old", NAMES[0])
    assert journal.objects.at_destinations([location])[location].state == "verified"
    assert recorded(cutover).keys() == {NAMES[0]}


def test_a_comparison_is_right_where_it_may_not_be_recorded(
    cutover: CutoverWorld, caplog: pytest.LogCaptureFixture
) -> None:
    cutover.world.sql(
        "CREATE TRIGGER refused BEFORE INSERT ON migrate_storage_object BEGIN SELECT RAISE(ABORT, 'not allowed'); END"
    )
    with caplog.at_level(logging.WARNING):
        assert compare(cutover) == {NAMES[1]: Relation.DIFFERENT, NAMES[3]: Relation.MISSING}
    assert "is not recorded, so 'verify' cannot use it" in caplog.text
    assert recorded(cutover) == {}


def test_prune_forgets_it_after_its_time(cutover: CutoverWorld) -> None:
    compare(cutover)
    tables = cutover.outbox.tables
    cutover.database.transaction(lambda connection: tables.prune(connection, time.time() - 60))
    assert recorded(cutover).keys() == {NAMES[0]}
    while cutover.database.transaction(lambda connection: tables.prune(connection, time.time() + 60)):
        pass
    assert recorded(cutover) == {}


def test_a_step_forth_records_all(cutover: CutoverWorld) -> None:
    cutover.reach(Phase.DESTINATION_FIRST)
    assert recorded(cutover).keys() == set(NAMES)
