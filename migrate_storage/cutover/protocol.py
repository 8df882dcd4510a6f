"""What a process does for one operation on one key, step by step, without doing it.

Each protocol is a generator: it yields a :class:`Step`, whoever drives it performs the step and sends the answer back, or
throws the error in. The backend drives them against two stores and a database; the search in the tests drives the very same
ones against every order of steps, every failure and every kill.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from migrate_storage.core.errors import ConfigurationError, KeyRefusedError
from migrate_storage.cutover.decisions import TABLE, Operation, Phase, Rule, Side, Trust, decide

__all__ = (
    "ClaimEntry",
    "CloseClaimed",
    "CloseEntry",
    "Delete",
    "Entry",
    "EntryFate",
    "FindEntry",
    "Get",
    "Head",
    "LeaveForRepair",
    "OpenEntry",
    "Protocol",
    "Put",
    "Release",
    "Repaired",
    "RequestRepair",
    "Step",
    "SwitchTrustedSide",
    "UnacknowledgedError",
    "delete",
    "read",
    "repair",
    "save",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A key's open line in the outbox, as one process saw it."""

    #: New whenever the line is made, and whenever the side to trust changes.
    epoch: str
    #: 1 for whoever made it; one more for everybody who came since.
    sequence: int
    side: Side
    tombstone: bool = False

    @property
    def trust(self) -> Trust:
        """What it says to others."""
        return Trust(side=self.side, tombstone=self.tombstone)


class EntryFate(Enum):
    """What became of an entry."""

    CLOSED = "closed"
    STAYS = "stays"
    #: A repair settled it while the write was under way: what the write did may have been overwritten.
    VANISHED = "vanished"


class Repaired(Enum):
    """How a repair ended."""

    SETTLED = "settled"
    #: Somebody else is at it, or it needs a side that may not be written now.
    LEFT = "left"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do."""


@dataclass(frozen=True, slots=True)
class FindEntry(Step):
    """The key's entry, or ``None``."""


@dataclass(frozen=True, slots=True)
class OpenEntry(Step):
    """Open an entry, or join the one that stands: its side stays, its sequence grows. Answered with the :class:`Entry`."""

    side: Side
    tombstone: bool = False


@dataclass(frozen=True, slots=True)
class CloseEntry(Step):
    """Close an entry if it is this writer's alone; else leave it. Answered with its :class:`EntryFate`."""

    entry: Entry
    #: Both sides hold what this writer wrote.
    both_written: bool = False


@dataclass(frozen=True, slots=True)
class LeaveForRepair(Step):
    """Leave an entry to repair; the sequence grows, so that one under way looks again. Answered with its :class:`EntryFate`."""

    entry: Entry
    #: The side to trust holds the new content: what the other has is old, and is buried.
    first_written: bool = False


@dataclass(frozen=True, slots=True)
class RequestRepair(Step):
    """An entry for repair, if none stands; one that stands is not touched."""

    side: Side


@dataclass(frozen=True, slots=True)
class ClaimEntry(Step):
    """Take the key's lease; the sequence grows. Answered with the :class:`Entry`; ``None`` if none stands or another has it."""


@dataclass(frozen=True, slots=True)
class SwitchTrustedSide(Step):
    """Trust the other side from now on, if nobody came since. Answered with the :class:`Entry`, or ``None``."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class CloseClaimed(Step):
    """Close a claimed entry, if nobody came since. Answered with whether it is closed."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Release(Step):
    """Give the key's lease back; the entry stands."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Get(Step):
    """Read an object. Answered with what was asked; ``FileNotFoundError`` where there is none."""

    side: Side


@dataclass(frozen=True, slots=True)
class Head(Step):
    """What would differ if an object had been replaced; ``None`` where there is none."""

    side: Side


@dataclass(frozen=True, slots=True)
class Put(Step):
    """Write an object whole."""

    side: Side
    content: Any = field(repr=False)


@dataclass(frozen=True, slots=True)
class Delete(Step):
    """Delete an object; one that is not there is no error, or a ``FileNotFoundError``."""

    side: Side


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
        return (yield Delete(decision.sides[0]))
    return (yield from _under_entry(phase, Operation.DELETE, _erase, table))


_Written = Generator[Step, Any, tuple[EntryFate, Any]]
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
        entry: Entry = yield OpenEntry(decision.sides[0], decision.tombstone)
        fate, answer = yield from write(entry, decide(phase, operation, entry.trust, table).sides)
        if fate is not EntryFate.VANISHED:
            return answer
    raise UnacknowledgedError(
        f"repairs of the key overtook the {operation} each time; it may have happened or not: try again"
    )


def _put(entry: Entry, sides: tuple[Side, ...], content: Any) -> _Written:
    first, second = sides
    try:
        held = yield Put(first, content)
    except NOTHING_WRITTEN:
        yield CloseEntry(entry)
        raise
    except Exception:
        yield LeaveForRepair(entry)
        raise
    try:
        yield Put(second, content)
    except Exception:  # noqa: BLE001 - the entry stands for it
        return (yield LeaveForRepair(entry, first_written=True)), held
    return (yield CloseEntry(entry, both_written=True)), held


def _erase(entry: Entry, sides: tuple[Side, ...]) -> _Written:
    refused: list[KeyRefusedError] = []
    failed = False
    for side in sides:
        try:
            yield Delete(side)
        except FileNotFoundError:
            pass
        except KeyRefusedError as error:
            # A key that a side cannot hold is not there; the other may hold it.
            refused.append(error)
        except Exception:
            if side is sides[0]:
                yield LeaveForRepair(entry)
                raise
            failed = True
    if len(refused) == len(sides):
        yield CloseEntry(entry)
        raise refused[0]
    # What is deleted on one side only stays an entry, until repair has deleted the other.
    return (yield LeaveForRepair(entry) if failed or len(sides) == 1 else CloseEntry(entry)), None


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
    entry: Entry | None = (yield FindEntry()) if table[phase].entries else None
    while True:
        sides = decide(phase, operation, entry.trust if entry else None, table).sides
        try:
            return (yield Get(sides[0]))
        except (FileNotFoundError, KeyRefusedError):
            if len(sides) == 1:
                raise
            # A delete may have come in between: then what the other side still holds is not to be seen any more.
            before, entry = entry, (yield FindEntry())
            if entry != before:
                continue
            try:
                found = yield Get(sides[1])
            except (FileNotFoundError, KeyRefusedError):
                pass
            else:
                yield RequestRepair(sides[0])
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
        yield RequestRepair(backfill)
    for _ in range(_ATTEMPTS):
        entry: Entry | None = yield ClaimEntry()
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
            flipped: Entry | None = yield SwitchTrustedSide(entry)
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
            yield Delete(target)
    else:
        yield Put(target, content)
    if (yield Head(entry.side)) != before:
        return False
    settled: bool = yield CloseClaimed(entry)
    return settled
