"""Simpler rules of the cutover, each with the search that must find it wrong."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

from migrate_storage.cutover import protocol
from migrate_storage.cutover.decisions import TABLE, Phase, Side
from migrate_storage.cutover.protocol import EntryFate, Protocol
from tests.support.cutover.model import Rules


def save_both(phase: Phase, content: Any) -> Protocol:
    """Write both sides in the phase's order, without an entry."""
    sides = TABLE[phase].writes
    held = yield protocol.Put(sides[0], content)
    for side in sides[1:]:
        with contextlib.suppress(OSError):
            yield protocol.Put(side, content)
    return held


def save_either(phase: Phase, content: Any) -> Protocol:
    """Acknowledge a write that either side accepted."""
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
    """Open an entry only after a side has failed."""
    sides = TABLE[phase].writes
    held = yield protocol.Put(sides[0], content)
    for side in sides[1:]:
        try:
            yield protocol.Put(side, content)
        except OSError:
            yield protocol.OpenEntry(sides[0])
    return held


def save_in_own_order(phase: Phase, content: Any) -> Protocol:
    """Write in the phase's order, also when an open entry names the other side."""
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
    """Acknowledge a write although its entry vanished meanwhile."""
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
    """Copy once, and close the entry without a second read."""
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
    """Read without asking for entries."""
    rules = {each: replace(rule, entries=False) for each, rule in TABLE.items()}
    return protocol.read(phase, table=rules)


def delete_without_burying(phase: Phase) -> Protocol:
    """Delete without a tombstone."""
    rules = {each: replace(rule, leaves_tombstones=False) for each, rule in TABLE.items()}
    return protocol.delete(phase, table=rules)


def read_source_if_destination_fails(phase: Phase) -> Protocol:
    """Read the destination, else the source, with or without a tombstone."""
    for side in TABLE[phase].reads[:-1]:
        with contextlib.suppress(FileNotFoundError):
            return (yield protocol.Get(side))
    return (yield protocol.Get(TABLE[phase].reads[-1]))


BROKEN_RULES: dict[str, tuple[str, int, int, Rules]] = {
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
