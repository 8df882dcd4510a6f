"""An object goes through its states, and its rows are ready when nothing more is waited for."""

from __future__ import annotations

from typing import Any, cast

import pytest

from migrate_storage.core.model import Column, Location, ObjectMeta, OutcomeKind, RowRef, Slot
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.file_json import Row
from migrate_storage.engine.in_flight import PendingObject, PendingRow, PendingState
from migrate_storage.engine.plan import Action, Item
from migrate_storage.engine.task import CopyResult, CopyTask
from migrate_storage.engine.verify import Verified
from migrate_storage.journal import ObjectRecord

COLUMN = Column(table="documents", column="file", key=("id",))
META = ObjectMeta(path="x", size=1, e_tag="a")
VERIFIED = Verified(source=META, destination=META, evidence="content_compared")


def row_of(number: int, *ids: str) -> PendingRow:
    return PendingRow(
        cast("FileColumn", None), Row((number,), "{}"), {(i,): id_ for i, id_ in enumerate(ids)}, set(ids)
    )


def item_of(id_: str, number: int = 0) -> Item:
    slot = Slot(RowRef(COLUMN, (number,)), {})
    return Item(source=Location("old", id_), destination=Location("new", id_), action=Action.TRANSFER, slots=(slot,))


def pending(id_: str) -> PendingObject:
    return PendingObject(CopyTask(id_, item_of(id_)))


def result(of: PendingObject, **fields: Any) -> CopyResult:
    return CopyResult(task=of.task, **fields)


def test_a_row_is_ready_when_all_its_objects_are() -> None:
    one, other, row = pending("a"), pending("b"), row_of(1, "a", "b")
    assert not one.attach(row, item_of("a"))
    assert not other.attach(row, item_of("b"))
    assert [one.resolve_row(each) for each in one.begin_repointing(result(one, verified=VERIFIED))] == [False]
    assert [other.resolve_row(each) for each in other.begin_repointing(result(other, verified=VERIFIED))] == [True]
    assert row.objects == {"a", "b"}
    assert one.awaits_writes
    one.mark_tried(row, "{}")
    assert one.has_no_pending_rows


@pytest.mark.parametrize("verified", [None, VERIFIED])
def test_a_concluded_object_gives_no_proof(verified: Verified | None) -> None:
    of, row = pending("a"), row_of(1, "a")
    of.attach(row, item_of("a"))
    assert [of.resolve_row(each) for each in of.conclude(result(of, verified=verified))] == [False]
    assert of.state is PendingState.DONE
    assert of.needs_no_repointing


def test_its_states() -> None:
    of = pending("a")
    states = [of.state]
    of.start_copy()
    states.append(of.state)
    of.await_recheck()
    states.append(of.state)
    of.begin_repointing(result(of, verified=VERIFIED))
    states.append(of.state)
    assert of.fail(OutcomeKind.MODIFIED, "why").kind is OutcomeKind.MODIFIED
    assert [*states, of.state] == list(PendingState)


def test_another_write_that_won_in_each_row_is_known_and_a_recopy_has_the_updated_rows() -> None:
    of, rows = pending("a"), [row_of(1, "a"), row_of(2, "a")]
    for row in rows:
        of.attach(row, item_of("a"))
    for row in of.begin_repointing(result(of, verified=VERIFIED)):
        of.resolve_row(row)
    of.mark_tried(rows[0], None)
    assert of.lost_rows_reason
    of.mark_tried(rows[1], '{"new": 1}', refusal="")
    assert not of.lost_rows_reason
    record = ObjectRecord(id="a", run="r", source_key="old", source_path="a", destination_key="new", destination_path="a", state="verified")  # fmt: skip
    again = of.recopied(record)
    assert (again.recopies, again.task.record, again.refs) == (1, record, of.refs)
    assert [row.row.value for row in again.conclude(result(again))] == ['{"new": 1}']


def test_only_slots_that_are_new_are_reported_again() -> None:
    of = pending("a")
    of.attach(row_of(1, "a"), item_of("a", 1))
    of.conclude(result(of, kind=OutcomeKind.MISSING))
    assert [ref.pk for ref in of.report().refs] == [(1,)]
    assert not of.has_unreported_rows
    of.attach(row_of(2, "a"), item_of("a", 2))
    assert of.has_unreported_rows
    assert [ref.pk for ref in of.report(only_new_rows=True).refs] == [(2,)]
