"""Two processes in adjacent phases, all sequences of writes, every failure and kill, repair and backfill in between."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from migrate_storage.cutover import protocol
from migrate_storage.cutover.decisions import TABLE, Phase, Side
from migrate_storage.cutover.protocol import EntryFate, Protocol
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


def save_both(phase: Phase, content: Any) -> Protocol:
    """Both sides in the phase's order, and no entry."""
    sides = TABLE[phase].writes
    held = yield protocol.Put(sides[0], content)
    for side in sides[1:]:
        with contextlib.suppress(OSError):
            yield protocol.Put(side, content)
    return held


def save_either(phase: Phase, content: Any) -> Protocol:
    """Held by either side is held."""
    if not TABLE[phase].entries:
        return (yield protocol.Put(TABLE[phase].writes[0], content))
    entry = yield protocol.OpenEntry(TABLE[phase].writes[0])
    failures = []
    for side in TABLE[phase].writes:
        try:
            yield protocol.Put(side, content)
        except OSError as error:
            failures.append(error)
    yield protocol.LeaveForRepair(entry) if failures else protocol.CloseEntry(entry)
    if len(failures) == 2:
        raise failures[0]
    return None


def save_and_tell_after(phase: Phase, content: Any) -> Protocol:
    """An entry only when a side has failed."""
    sides = TABLE[phase].writes
    held = yield protocol.Put(sides[0], content)
    for side in sides[1:]:
        try:
            yield protocol.Put(side, content)
        except OSError:
            yield protocol.OpenEntry(sides[0])
    return held


def save_in_own_order(phase: Phase, content: Any) -> Protocol:
    """The phase's order, whatever side an open entry names."""
    if not TABLE[phase].entries:
        return (yield protocol.Put(TABLE[phase].writes[0], content))
    first, second = TABLE[phase].writes
    entry = yield protocol.OpenEntry(first)
    held = yield protocol.Put(first, content)
    try:
        yield protocol.Put(second, content)
    except OSError:
        yield protocol.LeaveForRepair(entry)
    else:
        yield protocol.CloseEntry(entry)
    return held


def save_whatever_repair_did(phase: Phase, content: Any) -> Protocol:
    """Acknowledged although the entry vanished under it."""
    made = protocol.save(phase, content)
    answer = None
    step = next(made)
    while True:
        try:
            answer = yield step
        except OSError as error:
            step = made.throw(error)
            continue
        try:
            step = made.send(EntryFate.STAYS if answer is EntryFate.VANISHED else answer)
        except StopIteration as stop:
            return stop.value


def repair_without_looking_again(writable: frozenset[Side], backfill: Side | None = None) -> Protocol:
    if backfill is not None:
        yield protocol.RequestRepair(backfill)
    entry = yield protocol.ClaimEntry()
    if entry is None or entry.side.other not in writable:
        return
    try:
        content = yield protocol.Get(entry.side)
    except FileNotFoundError:
        yield protocol.Delete(entry.side.other)
    else:
        yield protocol.Put(entry.side.other, content)
    yield protocol.CloseClaimed(entry)


def read_by_phase_alone(phase: Phase) -> Protocol:
    """Nobody asks for entries."""
    rules = {each: replace(rule, entries=False) for each, rule in TABLE.items()}
    return protocol.read(phase, table=rules)


def delete_without_burying(phase: Phase) -> Protocol:
    rules = {each: replace(rule, buries=False) for each, rule in TABLE.items()}
    return protocol.delete(phase, table=rules)


def read_source_if_destination_fails(phase: Phase) -> Protocol:
    """The destination, else the source, tombstone or not."""
    for side in TABLE[phase].reads[:-1]:
        with contextlib.suppress(FileNotFoundError):
            return (yield protocol.Get(side))
    return (yield protocol.Get(TABLE[phase].reads[-1]))


WORSE: dict[str, tuple[str, int, int, Rules]] = {
    "no entries": ("dual and destination first", 2, 0, Rules(save=save_both)),
    "either side will do": ("dual and destination first", 2, 0, Rules(save=save_either)),
    "an entry after the failure": ("dual", 2, 1, Rules(save=save_and_tell_after)),
    "the phase's order under an entry": ("dual and destination first", 2, 1, Rules(save=save_in_own_order)),
    "nobody asks for entries": ("dual and destination first", 2, 0, Rules(read=read_by_phase_alone)),
    "no tombstones in DESTINATION": ("destination first and destination", 2, 0, Rules(delete=delete_without_burying)),
    "no tombstones for reads": ("destination first", 2, 0, Rules(read=read_source_if_destination_fails)),
    "a writer closes what others opened": ("dual and destination first", 2, 1, Rules(close_looks=False)),
    "a repair closes what others opened": ("dual", 2, 1, Rules(settle_looks=False)),
    "a repair that does not look again": ("dual", 2, 1, Rules(repair=repair_without_looking_again)),
    "a save that does not mind repairs": ("dual and destination first", 2, 1, Rules(save=save_whatever_repair_did)),
}


@pytest.mark.parametrize("name", WORSE)
def test_simpler_rules_fail(name: str) -> None:
    pair, left, repairs, rules = WORSE[name]
    with pytest.raises(BrokenError):
        search(pair, left, repairs, rules)
