"""The table says what the rules say, and the page says what the table says."""

from __future__ import annotations

import pytest

from migrate_storage.cutover.decisions import TABLE, Operation, Phase, Side, Trust, are_adjacent, decide
from scripts.cutover_table import decision_table
from tests.support import ROOT

PAGE = ROOT / "docs" / "cutover.md"
S, D = Side.SOURCE, Side.DESTINATION
WRITES = (Operation.SAVE, Operation.DELETE)
READS = (Operation.READ, Operation.HEAD, Operation.SIGN)


def test_the_page_holds_the_table() -> None:
    text = PAGE.read_text()
    assert text.split("<!-- decisions -->\n")[1].split("<!-- end -->")[0].strip() == decision_table().strip()


@pytest.mark.parametrize("operation", WRITES)
def test_the_deciding_side_is_written_first(operation: Operation) -> None:
    assert [decide(phase, operation).sides for phase in Phase] == [(S,), (S, D), (D, S), (D,)]


@pytest.mark.parametrize("operation", READS)
def test_only_destination_first_falls_back(operation: Operation) -> None:
    assert [decide(phase, operation).sides for phase in Phase] == [(S,), (S,), (D, S), (D,)]


@pytest.mark.parametrize("phase", [Phase.DUAL_WRITE, Phase.DESTINATION_FIRST])
@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("tombstone", [False, True])
def test_an_entry_decides_whatever_the_phase(phase: Phase, side: Side, tombstone: bool) -> None:
    trust = Trust(side=side, tombstone=tombstone)
    for operation in WRITES:
        assert decide(phase, operation, trust).sides == (side, side.other)
    for operation in READS:
        sides = decide(phase, operation, trust).sides
        assert sides[0] is side
        assert len(sides) == (2 if side is D and not tombstone else 1)


@pytest.mark.parametrize("phase", [Phase.SOURCE, Phase.DESTINATION])
@pytest.mark.parametrize("operation", [Operation.SAVE, *READS, Operation.LIST])
def test_the_outer_phases_never_ask(phase: Phase, operation: Operation) -> None:
    plain = decide(phase, operation)
    assert not plain.entry
    assert all(decide(phase, operation, Trust(side=side, tombstone=True)) == plain for side in Side)


def test_only_deletes_leave_tombstones() -> None:
    for phase in Phase:
        for operation in Operation:
            wanted = operation is Operation.DELETE and phase is not Phase.SOURCE
            assert decide(phase, operation).tombstone is wanted


def test_phases_in_force_are_a_step_apart() -> None:
    phases = list(TABLE)
    assert [are_adjacent(phases[0], other) for other in phases] == [True, True, False, False]
    assert [are_adjacent(phases[2], other) for other in phases] == [False, True, True, True]
