"""A batch of which the database refuses a row: the others are written with few transactions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from migrate_storage.core.model import OutcomeKind
from migrate_storage.engine import repoint_batches
from migrate_storage.engine.recorder import RunRecorder
from tests.support.engine.world import World

REFUSE = "CREATE TRIGGER refuse BEFORE UPDATE OF file ON documents WHEN old.id {} BEGIN SELECT RAISE(ABORT, 'not this one'); END"
KEEP = (
    "CREATE TRIGGER keep AFTER UPDATE OF file ON documents WHEN old.id {} AND new.file <> old.file"
    " BEGIN UPDATE documents SET file = old.file WHERE id = old.id; END"
)


@pytest.fixture
def batches(world: World, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """64 rows, and the number of rows of each transaction in which rows or results are written."""
    world.fill(64)
    monkeypatch.setattr(repoint_batches, "REPOINT_INTERVAL_SECONDS", 600.0)
    sizes, repoint_rows = [], RunRecorder.repoint_rows

    def counting(self: RunRecorder, updates: Sequence[Any], results: Sequence[Any]) -> Any:
        sizes.append(len(updates))
        return repoint_rows(self, updates, results)

    monkeypatch.setattr(RunRecorder, "repoint_rows", counting)
    return sizes


@pytest.mark.parametrize("trigger", [REFUSE, KEEP], ids=["refused", "left as it is"])
def test_one_row_is_found_by_halves(world: World, batches: list[int], trigger: str) -> None:
    world.sql(trigger.format("= 33"))
    report = world.run()
    assert (report.exit_code, report.rows_repointed) == (1, 63)
    assert report.counts == {OutcomeKind.REPOINTED: 63, OutcomeKind.FAILED: 1}
    assert [str(ref) for ref in report.problems[0].refs] == ["documents.file[33]"]
    assert [row for row, file in enumerate(world.raw(), 1) if file["backend"] == "old"] == [33]
    first = batches[: batches.index(64) + 17]
    assert first.count(1) <= 3
    assert len(batches) < 40, "each row by itself would be 64"


def test_rows_at_both_ends(world: World, batches: list[int]) -> None:
    world.sql(REFUSE.format("IN (1, 2, 64)"))
    report = world.run()
    assert report.counts == {OutcomeKind.REPOINTED: 61, OutcomeKind.FAILED: 3}
    assert [row for row, file in enumerate(world.raw(), 1) if file["backend"] == "old"] == [1, 2, 64]


def test_a_run_ends_where_every_row_is_refused(world: World, batches: list[int]) -> None:
    world.sql(REFUSE.format("> 0"))
    report = world.run()
    assert (report.state, report.exit_code) == ("failed", 3)
    assert "not this one" in report.error
    assert {file["backend"] for file in world.raw()} == {"old"}
    assert batches.count(1) <= 2 * repoint_batches.MAX_CONSECUTIVE_REFUSALS
