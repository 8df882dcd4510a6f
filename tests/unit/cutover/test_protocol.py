"""Two processes in adjacent phases, all sequences of writes, every failure and kill, repair and backfill in between."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from migrate_storage.cutover.decisions import Phase, Side
from tests.support.cutover.broken_rules import BROKEN_RULES
from tests.support.cutover.model import JUNK, BrokenError, D, Row, Rules, S, Search, State, Value
from tests.support.evidence import Evidence

BOTH = frozenset(Side)
P = Phase
#: Phases of the two processes, what repair may write, what a backfill trusts.
PAIRS: dict[str, tuple[tuple[Phase, Phase], frozenset[Side], Side]] = {
    "source and dual": ((P.SOURCE, P.DUAL_WRITE), frozenset({D}), S),
    "dual": ((P.DUAL_WRITE, P.DUAL_WRITE), BOTH, S),
    "dual and destination first": ((P.DUAL_WRITE, P.DESTINATION_FIRST), BOTH, S),
    "destination first": ((P.DESTINATION_FIRST, P.DESTINATION_FIRST), BOTH, D),
    "destination first and destination": ((P.DESTINATION_FIRST, P.DESTINATION), frozenset({S}), D),
}


def starts(pair: str, left: int, repairs: int) -> Iterator[State]:
    """What may stand when two processes come to be in these phases. Junk is what no read may ever return."""
    before_source: list[tuple[Value, Value, Row | None]] = [(None, None, None), (0, 0, None)]
    level = before_source
    open_entries: list[tuple[Value, Value, Row | None]] = [
        (0, JUNK, Row(2, S)),
        (JUNK, 0, Row(2, D)),
        (None, JUNK, Row(2, S, True)),
        (JUNK, None, Row(2, D, True)),
    ]
    not_yet_copied: list[tuple[Value, Value, Row | None]] = [(0, None, None)]
    never_level: list[tuple[Value, Value, Row | None]] = [(0, JUNK, None), (None, JUNK, None)]
    abandoned: list[tuple[Value, Value, Row | None]] = [(None, 0, None), (JUNK, 0, None), (JUNK, None, Row(2, D, True))]
    found = {
        "source and dual": [*level, *not_yet_copied, *never_level],
        "dual": [*level, *not_yet_copied, *never_level, *open_entries],
        "dual and destination first": [*level, *not_yet_copied, *open_entries],
        "destination first": [*level, *not_yet_copied, *open_entries],
        "destination first and destination": [*level, *abandoned],
    }[pair]
    for source, destination, row in found:
        trusts_source = row.side is S if row else pair in ("source and dual", "dual") or destination is None
        truth = source if trusts_source else destination
        yield State(source, destination, row, frozenset({truth}), left, repairs)


def search(pair: str, left: int, repairs: int = 0, rules: Rules | None = None, **how: bool) -> int:
    phases, writable, backfill = PAIRS[pair]
    made = Search(phases=phases, writable=writable, backfill=backfill, rules=rules or Rules(), **how)
    return made.run(starts(pair, left, repairs))


@pytest.mark.parametrize("pair", PAIRS)
def test_four_writes_with_repairs_and_backfills_between_them(pair: str) -> None:
    assert search(pair, 4) > 2000


@pytest.mark.parametrize("pair", PAIRS)
def test_a_repair_in_the_middle_of_a_write(pair: str) -> None:
    assert search(pair, 1, 1) > 2000


@pytest.mark.parametrize("pair", PAIRS)
def test_two_writes_at_once(pair: str) -> None:
    assert search(pair, 2, overlapping=True) > 1000


@pytest.mark.parametrize("pair", PAIRS)
def test_a_slow_read_while_two_write(pair: str) -> None:
    assert search(pair, 1, slow_reads=True) > 200


#: What is searched at full size, and how many states it has at least, in whichever pair of phases.
FULL: dict[str, tuple[dict[str, Any], int]] = {
    "four writes, a repair or backfill in the middle": ({"left": 4, "repairs": 1}, 10_000),
    "two writes at once, a repair or backfill beside": (
        {"left": 2, "repairs": 1, "overlapping": True, "grace": True},
        10_000,
    ),
    "three writes, two at once": ({"left": 3, "overlapping": True}, 5_000),
    "two writes, a slow read beside": ({"left": 2, "slow_reads": True}, 5_000),
    "two writes at once, a slow read beside": ({"left": 2, "overlapping": True, "slow_reads": True}, 8_000),
}


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("what", FULL)
def test_at_full_size(pair: str, what: str, evidence: Evidence) -> None:
    how, floor = FULL[what]
    states = search(pair, **how)
    assert states > floor
    evidence.record(
        f"Every order of steps of {what}, any request failing and any process killed, in the phases {pair}: no acknowledged "
        "write lost, stale or resurrected",
        states=states,
        phases=[phase.name for phase in PAIRS[pair][0]],
    )


# -- simpler rules: each must fail, or the search could not


@pytest.mark.parametrize("name", BROKEN_RULES)
def test_simpler_rules_fail(name: str) -> None:
    pair, left, repairs, rules = BROKEN_RULES[name]
    with pytest.raises(BrokenError):
        search(pair, left, repairs, rules)
