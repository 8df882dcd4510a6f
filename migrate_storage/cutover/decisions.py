"""The decision table of a cutover: the sides of each operation in each phase.

All are pure values. :data:`TABLE` has the rules, :func:`decide` applies them, and ``docs/cutover.md`` is generated from
them. The search in ``tests/unit/cutover/test_protocol.py`` proves that under them no acknowledged write is lost, stale
or resurrected.

An *entry* is a key's open row in the outbox. It means that the two sides of the key may differ, and names the side to
trust. While it is open, all processes read that side and write it first, in every phase. So repair never overwrites the
side that has the acknowledged object.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

__all__ = (
    "MIDDLE_PHASES", "TABLE", "Decision", "Operation", "Phase", "Rule", "Side", "Trust", "adjacent_phases",
    "are_adjacent", "decide", "trusted_side",
)  # fmt: skip


class Side(StrEnum):
    """One of the two stores."""

    SOURCE = "source"
    DESTINATION = "destination"

    @property
    def other(self) -> Side:
        """The other one."""
        return Side.DESTINATION if self is Side.SOURCE else Side.SOURCE


class Phase(StrEnum):
    """The progress of a process. Phases in use at one time are at most one step apart."""

    SOURCE = "source"
    DUAL_WRITE = "dual_write"
    DESTINATION_FIRST = "destination_first"
    DESTINATION = "destination"


class Operation(StrEnum):
    """What an application asks of a backend."""

    SAVE = "save"
    DELETE = "delete"
    READ = "read"
    HEAD = "head"
    SIGN = "sign"
    SIGN_UPLOAD = "sign_upload"
    LIST = "list"


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """What one phase does with a key that has no entry."""

    #: Sides in the order of the writes. A save is acknowledged when the first side has the object, and either the
    #: second side has it or the entry is open.
    writes: tuple[Side, ...]
    #: Sides in the order of the reads. The second is read only if the first answers "not found" and there is no
    #: tombstone.
    reads: tuple[Side, ...]
    #: Whether a write opens an entry before its first request, and a read queries for one.
    entries: bool
    #: Whether a delete of one side opens an entry: the object of the other side must not be read again.
    leaves_tombstones: bool = False


MIDDLE_PHASES = frozenset({Phase.DUAL_WRITE, Phase.DESTINATION_FIRST})
"""The phases in which every write opens an entry."""

_S, _D = Side.SOURCE, Side.DESTINATION

TABLE: Mapping[Phase, Rule] = MappingProxyType(
    {
        Phase.SOURCE: Rule(writes=(_S,), reads=(_S,), entries=False),
        Phase.DUAL_WRITE: Rule(writes=(_S, _D), reads=(_S,), entries=True),
        Phase.DESTINATION_FIRST: Rule(writes=(_D, _S), reads=(_D, _S), entries=True),
        Phase.DESTINATION: Rule(writes=(_D,), reads=(_D,), entries=False, leaves_tombstones=True),
    }
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trust:
    """The rule that an open entry sets for its key."""

    #: The side that has the acknowledged object.
    side: Side
    #: The key is or was deleted: the object of the other side must not be read again.
    tombstone: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """The sides of one operation on one key."""

    #: Writes: the sides in order. Reads: the sides in order, the next only on "not found". A list: the sides to join.
    sides: tuple[Side, ...]
    #: Whether an entry is opened first (writes) or queried first (reads).
    entry: bool
    #: Whether a tombstone is left.
    tombstone: bool = False


def decide(
    phase: Phase, operation: Operation, trust: Trust | None = None, table: Mapping[Phase, Rule] = TABLE
) -> Decision:
    """Decide the sides of an operation.

    Args:
        phase: the phase of this process.
        operation: of the application.
        trust: of the key's open entry; ``None`` if there is none. SOURCE and DESTINATION never query for one.
        table: the rules.

    Returns:
        The sides in order.
    """
    rule = table[phase]
    trust = trust if rule.entries else None
    if operation in (Operation.SAVE, Operation.DELETE):
        sides = rule.writes if trust is None else (trust.side, trust.side.other)
        tombstone = operation is Operation.DELETE and (rule.entries or rule.leaves_tombstones)
        return Decision(sides=sides, entry=rule.entries or tombstone, tombstone=tombstone)
    if operation is Operation.SIGN_UPLOAD:
        # An upload by URL writes one side only, without this process, so every phase needs the entry.
        return Decision(sides=rule.writes[:1] if trust is None else (trust.side,), entry=True)
    if trust is None or operation is Operation.LIST:
        return Decision(sides=rule.reads, entry=rule.entries)
    if trust.side is Side.SOURCE or trust.tombstone:
        return Decision(sides=(trust.side,), entry=True)
    return Decision(sides=(Side.DESTINATION, Side.SOURCE), entry=True)


def are_adjacent(one: Phase, other: Phase) -> bool:
    """Return whether two phases may be in use at the same time."""
    order = list(Phase)
    return abs(order.index(one) - order.index(other)) <= 1


def adjacent_phases(phase: Phase) -> tuple[Phase, ...]:
    """Return the phases that other processes may be in while one is in this."""
    return tuple(other for other in Phase if are_adjacent(phase, other))


def trusted_side(phase: Phase) -> Side:
    """Return the side to trust in a phase, for keys without an entry."""
    return Side.SOURCE if phase in (Phase.SOURCE, Phase.DUAL_WRITE) else Side.DESTINATION
