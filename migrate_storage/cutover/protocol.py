"""What a process does for one operation on one key, step by step, without doing it.

Each protocol is a generator: it yields a :class:`Step`, whoever drives it performs the step and sends the answer back, or
throws the error in. The backend drives them against two stores and a database; the search in the tests drives the very same
ones against every order of steps, every failure and every kill.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Mapping
from typing import Any

from migrate_storage.cutover.acts import (
    Claim,
    Close,
    Entry,
    Erase,
    Fate,
    Flip,
    Get,
    Head,
    Leave,
    Look,
    Note,
    Open,
    Put,
    Release,
    Repaired,
    Settle,
    Step,
)
from migrate_storage.cutover.phases import TABLE, Operation, Phase, Rule, Side, decide
from migrate_storage.errors import ConfigurationError, KeyRefusedError

__all__ = (
    "Protocol",
    "UnacknowledgedError",
    "delete",
    "read",
    "repair",
    "save",
)


_ATTEMPTS = 5
"""How often a write is begun anew because a repair ended under it, and a repair because somebody wrote."""


NOTHING_WRITTEN = (KeyRefusedError, ConfigurationError, TypeError)
"""Errors that a backend raises before it sends a byte."""


class UnacknowledgedError(OSError):
    """A write was overtaken again and again by repairs of its key. It may have happened, or not."""


Protocol = Generator[Step, Any, Any]


def save(phase: Phase, content: Any, table: Mapping[Phase, Rule] = TABLE) -> Protocol:
    """Write an object.

    Args:
        phase: the phase of this process.
        content: handed on in each :class:`Put`; both sides get the same.
        table: the rules.

    Returns:
        What the deciding side's :class:`Put` answered.

    Raises:
        UnacknowledgedError: repairs overtook it again and again.
    """
    decision = decide(phase, Operation.SAVE, table=table)
    if not decision.entry:
        return (yield Put(decision.sides[0], content))
    return (yield from _under_entry(phase, Operation.SAVE, lambda entry, sides: _put(entry, sides, content), table))


def delete(phase: Phase, table: Mapping[Phase, Rule] = TABLE) -> Protocol:
    """Delete an object.

    Args:
        phase: the phase of this process.
        table: the rules.

    Raises:
        UnacknowledgedError: repairs overtook it again and again.
    """
    decision = decide(phase, Operation.DELETE, table=table)
    if not decision.entry:
        return (yield Erase(decision.sides[0]))
    return (yield from _under_entry(phase, Operation.DELETE, _erase, table))


_Written = Generator[Step, Any, tuple[Fate, Any]]
"""A write of both sides under an entry: what became of that, and what the first side answered."""


def _under_entry(
    phase: Phase,
    operation: Operation,
    write: Callable[[Entry, tuple[Side, ...]], _Written],
    table: Mapping[Phase, Rule],
) -> Protocol:
    """Open an entry and write the sides in the order that it says, until no repair ended under it."""
    decision = decide(phase, operation, table=table)
    for _ in range(_ATTEMPTS):
        entry: Entry = yield Open(decision.sides[0], decision.tombstone)
        fate, answer = yield from write(entry, decide(phase, operation, entry.trust, table).sides)
        if fate is not Fate.VANISHED:
            return answer
    raise UnacknowledgedError(
        f"repairs of the key overtook the {operation} each time; it may have happened or not: try again"
    )


def _put(entry: Entry, sides: tuple[Side, ...], content: Any) -> _Written:
    first, second = sides
    try:
        held = yield Put(first, content)
    except NOTHING_WRITTEN:
        yield Close(entry)
        raise
    except Exception:
        yield Leave(entry)
        raise
    try:
        yield Put(second, content)
    except Exception:  # noqa: BLE001 - the entry stands for it
        return (yield Leave(entry, held=True)), held
    return (yield Close(entry, wrote=True)), held


def _erase(entry: Entry, sides: tuple[Side, ...]) -> _Written:
    refused: list[KeyRefusedError] = []
    failed = False
    for side in sides:
        try:
            yield Erase(side)
        except FileNotFoundError:
            pass
        except KeyRefusedError as error:
            # A key that a side cannot hold is not there; the other may hold it.
            refused.append(error)
        except Exception:
            if side is sides[0]:
                yield Leave(entry)
                raise
            failed = True
    if len(refused) == len(sides):
        yield Close(entry)
        raise refused[0]
    # What is deleted on one side only stays an entry, until repair has deleted the other.
    return (yield Leave(entry) if failed or len(sides) == 1 else Close(entry)), None


def read(phase: Phase, operation: Operation = Operation.READ, table: Mapping[Phase, Rule] = TABLE) -> Protocol:
    """Read an object: its content, its head or a URL for it.

    Args:
        phase: the phase of this process.
        operation: which of the reads it is.
        table: the rules.

    Returns:
        What :class:`Get` answered for the side that holds the object.

    Raises:
        FileNotFoundError: no side that may answer holds it. A side that fails raises; it is no answer.
    """
    entry: Entry | None = (yield Look()) if table[phase].entries else None
    while True:
        sides = decide(phase, operation, entry.trust if entry else None, table).sides
        try:
            return (yield Get(sides[0]))
        except (FileNotFoundError, KeyRefusedError):
            if len(sides) == 1:
                raise
            # A delete may have come in between: then what the other side still holds is not to be seen any more.
            before, entry = entry, (yield Look())
            if entry != before:
                continue
            try:
                found = yield Get(sides[1])
            except (FileNotFoundError, KeyRefusedError):
                pass
            else:
                yield Note(sides[0])
                return found
            raise


def repair(writable: frozenset[Side], backfill: Side | None = None) -> Protocol:
    """Make the two sides of a key the same, as its entry says.

    Args:
        writable: the sides that no process writes without an entry: the destination while one may be in SOURCE, the source
            while one may be in DESTINATION, else both.
        backfill: open an entry that names this side first, if none stands; ``None`` does nothing where none stands.

    Returns:
        How it ended.
    """
    if backfill is not None:
        yield Note(backfill)
    for _ in range(_ATTEMPTS):
        entry: Entry | None = yield Claim()
        if entry is None:
            return Repaired.LEFT
        try:
            settled = yield from _once(entry, writable)
        except Exception:
            yield Release(entry)
            raise
        if settled:
            return Repaired.SETTLED
        yield Release(entry)
        if settled is None:
            return Repaired.LEFT
    return Repaired.LEFT


def _once(entry: Entry, writable: frozenset[Side]) -> Generator[Step, Any, bool | None]:
    """Whether the key is settled; ``None`` where that needs a side that may not be written."""
    before = yield Head(entry.side)
    if before is None and entry.side is Side.DESTINATION and not entry.tombstone:
        # Nobody deleted it: it never came there.
        before = yield Head(Side.SOURCE)
        if before is not None:
            if Side.DESTINATION not in writable:
                return None
            flipped: Entry | None = yield Flip(entry)
            if flipped is None:
                return False
            entry = flipped
    target = entry.side.other
    if target not in writable:
        return None
    try:
        content = yield Get(entry.side)
    except FileNotFoundError:
        with contextlib.suppress(FileNotFoundError, KeyRefusedError):
            yield Erase(target)
    else:
        yield Put(target, content)
    if (yield Head(entry.side)) != before:
        return False
    settled: bool = yield Settle(entry)
    return settled
