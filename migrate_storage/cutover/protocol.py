"""The protocols of a cutover: the steps of one operation on one key.

Each protocol is a generator without input or output. It yields a :class:`Step`; its executor performs the step and
sends the answer back, or throws the error in. The backend executes the protocols on two stores and a database. The
search in ``tests/unit/cutover/test_protocol.py`` executes the same ones in every order of steps, with every failure and
every kill.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import Any

from migrate_storage.core.errors import ConfigurationError, KeyRefusedError
from migrate_storage.cutover.decisions import TABLE, Operation, Phase, Rule, Side, Trust, decide

__all__ = (
    "ClaimEntry", "CloseClaimed", "CloseEntry", "Delete", "Entry", "EntryFate", "FindEntry", "Get", "Head",
    "LeaveForRepair", "OpenEntry", "Protocol", "Put", "Release", "Repaired", "RequestRepair", "Step",
    "SwitchTrustedSide", "UnacknowledgedError", "delete", "read", "repair", "save",
)  # fmt: skip

MAX_ATTEMPTS = 5
"""Attempts of a write that repairs overtake, and of a repair that writes overtake."""
NOTHING_WRITTEN = (KeyRefusedError, ConfigurationError, TypeError)
"""Errors that a backend raises before it sends a request."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A key's open entry in the outbox, as one process read it."""

    #: Changes when the entry is opened, and when its trusted side changes.
    epoch: str
    #: 1 for the process that opened the entry, one more for each later use.
    sequence: int
    side: Side
    tombstone: bool = False

    @property
    def trust(self) -> Trust:
        """The rule that the entry sets for all processes."""
        return Trust(side=self.side, tombstone=self.tombstone)


class EntryFate(Enum):
    """State of an entry after a write."""

    CLOSED = "closed"
    STAYS = "stays"
    #: A repair closed the entry during the write, and may have overwritten what the write did.
    VANISHED = "vanished"


class Repaired(Enum):
    """Result of a repair."""

    SETTLED = "settled"
    #: Another process works on the key, or the repair must write a side that it may not write now.
    LEFT = "left"


@dataclass(frozen=True, slots=True)
class Step:
    """One request to a store or to the outbox."""


@dataclass(frozen=True, slots=True)
class FindEntry(Step):
    """Read the key's open entry. Answer: the entry, or ``None``."""


@dataclass(frozen=True, slots=True)
class OpenEntry(Step):
    """Open an entry, or join the open one, which keeps its side. Answer: the entry."""

    side: Side
    tombstone: bool = False


@dataclass(frozen=True, slots=True)
class CloseEntry(Step):
    """Close an entry that only this writer used, else leave it. Answer: its fate."""

    entry: Entry
    #: Both sides have the content of this writer.
    both_written: bool = False


@dataclass(frozen=True, slots=True)
class LeaveForRepair(Step):
    """Leave an entry to repair; a running repair starts again. Answer: its fate."""

    entry: Entry
    #: The trusted side has the new content. The other side's object is old and must not be read.
    first_written: bool = False


@dataclass(frozen=True, slots=True)
class RequestRepair(Step):
    """Open an entry for repair, if the key has none."""

    side: Side


@dataclass(frozen=True, slots=True)
class ClaimEntry(Step):
    """Acquire the key's lease for repair. Answer: the entry, or ``None`` without it."""


@dataclass(frozen=True, slots=True)
class SwitchTrustedSide(Step):
    """Trust the other side. Answer: the entry, or ``None`` if it was used since."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class CloseClaimed(Step):
    """Close a claimed entry that no process has used since. Answer: if it is closed."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Release(Step):
    """Release the key's lease; the entry stays open."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Get(Step):
    """Read an object: content, attributes or URL. Error: ``FileNotFoundError``."""

    side: Side


@dataclass(frozen=True, slots=True)
class Head(Step):
    """Read evidence that changes with the object. Answer: ``None`` for no object."""

    side: Side


@dataclass(frozen=True, slots=True)
class Put(Step):
    """Write the whole object."""

    side: Side
    content: Any = field(repr=False)


@dataclass(frozen=True, slots=True)
class Delete(Step):
    """Delete an object. A missing one is no error, or a ``FileNotFoundError``."""

    side: Side


class UnacknowledgedError(OSError):
    """Repairs of the key ended during every attempt of a write, which may have taken effect."""


Protocol = Generator[Step, Any, Any]


def save(phase: Phase, content: Any, table: Mapping[Phase, Rule] = TABLE) -> Protocol:
    """Write an object. Each :class:`Put` has the same ``content``.

    Returns:
        The answer to the first side's :class:`Put`.

    Raises:
        UnacknowledgedError: repairs overtook it again and again.
    """
    decision = decide(phase, Operation.SAVE, table=table)
    if not decision.entry:
        return (yield Put(decision.sides[0], content))
    return (yield from _write_under_entry(phase, Operation.SAVE, partial(_put_both, content), table))


def delete(phase: Phase, table: Mapping[Phase, Rule] = TABLE) -> Protocol:
    """Delete an object.

    Raises:
        UnacknowledgedError: repairs overtook it again and again.
    """
    decision = decide(phase, Operation.DELETE, table=table)
    if not decision.entry:
        return (yield Delete(decision.sides[0]))
    return (yield from _write_under_entry(phase, Operation.DELETE, _delete_both, table))


_WriteOfBoth = Generator[Step, Any, tuple[EntryFate, Any]]
"""A write of both sides. It returns the entry's fate and the first side's answer."""


def _write_under_entry(
    phase: Phase,
    operation: Operation,
    write: Callable[[Entry, tuple[Side, ...]], _WriteOfBoth],
    table: Mapping[Phase, Rule],
) -> Protocol:
    """Open an entry and write both sides in its order; repeat if a repair closed it."""
    decision = decide(phase, operation, table=table)
    for _ in range(MAX_ATTEMPTS):
        entry: Entry = yield OpenEntry(decision.sides[0], decision.tombstone)
        fate, answer = yield from write(entry, decide(phase, operation, entry.trust, table).sides)
        if fate is not EntryFate.VANISHED:
            return answer
    raise UnacknowledgedError(
        f"repairs of the key overtook the {operation} each time; it may have happened or not: try again"
    )


def _put_both(content: Any, entry: Entry, sides: tuple[Side, ...]) -> _WriteOfBoth:
    first, second = sides
    try:
        answer = yield Put(first, content)
    except NOTHING_WRITTEN:
        yield CloseEntry(entry)
        raise
    except Exception:
        yield LeaveForRepair(entry)
        raise
    try:
        yield Put(second, content)
    except Exception:  # noqa: BLE001 - the entry leads to its repair
        return (yield LeaveForRepair(entry, first_written=True)), answer
    return (yield CloseEntry(entry, both_written=True)), answer


def _delete_both(entry: Entry, sides: tuple[Side, ...]) -> _WriteOfBoth:
    refused: list[KeyRefusedError] = []
    failed = False
    for side in sides:
        try:
            yield Delete(side)
        except FileNotFoundError:
            pass
        except KeyRefusedError as error:
            # A key that is invalid on a side has no object there, but may have one on the other side.
            refused.append(error)
        except Exception:
            if side is sides[0]:
                yield LeaveForRepair(entry)
                raise
            failed = True
    if len(refused) == len(sides):
        yield CloseEntry(entry)
        raise refused[0]
    # Where only one side is deleted now, the entry stays open until repair has deleted the other.
    return (yield LeaveForRepair(entry) if failed or len(sides) == 1 else CloseEntry(entry)), None


def read(phase: Phase, operation: Operation = Operation.READ, table: Mapping[Phase, Rule] = TABLE) -> Protocol:
    """Read an object: its content, its attributes or a URL for it.

    Returns:
        The answer to :class:`Get` of the side that has the object.

    Raises:
        FileNotFoundError: no side of the phase has the object. A side that fails raises its own error.
    """
    entry: Entry | None = (yield FindEntry()) if table[phase].entries else None
    while True:
        sides = decide(phase, operation, entry.trust if entry else None, table).sides
        try:
            return (yield Get(sides[0]))
        except (FileNotFoundError, KeyRefusedError):
            if len(sides) == 1:
                raise
            # A delete may have happened meanwhile. Then the object of the other side must not be read.
            before, entry = entry, (yield FindEntry())
            if entry != before:
                continue
            try:
                answer = yield Get(sides[1])
            except (FileNotFoundError, KeyRefusedError):
                pass
            else:
                yield RequestRepair(sides[0])
                return answer
            raise


def repair(writable: frozenset[Side], backfill: Side | None = None) -> Protocol:
    """Copy the trusted side of a key to the other side.

    Args:
        writable: the sides that no process writes without an entry. Not the source while a process may be in SOURCE,
            not the destination while one may be in DESTINATION.
        backfill: the side to trust if the key has no entry. With ``None`` such a key is left alone.

    Returns:
        A :class:`Repaired`.
    """
    if backfill is not None:
        yield RequestRepair(backfill)
    for _ in range(MAX_ATTEMPTS):
        entry: Entry | None = yield ClaimEntry()
        if entry is None:
            return Repaired.LEFT
        try:
            settled = yield from _repair_once(entry, writable)
        except Exception:
            yield Release(entry)
            raise
        if settled:
            return Repaired.SETTLED
        yield Release(entry)
        if settled is None:
            return Repaired.LEFT
    return Repaired.LEFT


def _repair_once(entry: Entry, writable: frozenset[Side]) -> Generator[Step, Any, bool | None]:
    """Return whether the key's entry is closed; ``None`` if it must write a forbidden side."""
    before = yield Head(entry.side)
    if before is None and entry.side is Side.DESTINATION and not entry.tombstone:
        # No process deleted the object, so it was never copied to the destination.
        before = yield Head(Side.SOURCE)
        if before is not None:
            if Side.DESTINATION not in writable:
                return None
            switched: Entry | None = yield SwitchTrustedSide(entry)
            if switched is None:
                return False
            entry = switched
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
