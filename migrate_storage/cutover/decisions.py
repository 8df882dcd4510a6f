"""The decision table of a cutover: which side is written and read, in which order, in each phase.

Pure values. :data:`TABLE` is the whole rule, :func:`decide` reads it, ``docs/cutover.md`` is written from it, and the search in
``tests/unit/cutover/test_protocol.py`` shows that no acknowledged write is lost, stale or resurrected under it.

An *entry* is a key's open line in the outbox: its two sides may differ, and it names the one to trust. While it stands all
processes read that side and write it first, whatever their phase. So the side that repair overwrites is never the one that
holds what was acknowledged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

__all__ = (
    "MIDDLE_PHASES",
    "TABLE",
    "Decision",
    "Operation",
    "Phase",
    "Rule",
    "Side",
    "Trust",
    "adjacent_phases",
    "are_adjacent",
    "decide",
    "trusted_side",
)


class Side(StrEnum):
    """One of the two stores."""

    SOURCE = "source"
    DESTINATION = "destination"

    @property
    def other(self) -> Side:
        """The other one."""
        return Side.DESTINATION if self is Side.SOURCE else Side.SOURCE


class Phase(StrEnum):
    """How far a process has moved. Phases in force at one time are at most one step apart."""

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

    #: Sides in the order in which they are written. A save is acknowledged when the first holds it, and either the second
    #: does too or the entry stands.
    writes: tuple[Side, ...]
    #: Sides in the order in which they are asked: the second only when the first says "not found" and no tombstone stands.
    reads: tuple[Side, ...]
    #: Whether a write opens an entry before its first byte, and a read looks for one.
    entries: bool
    #: Whether a delete opens an entry although it deletes on one side only: what the other holds must not come back.
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
    """What an open entry says of its key."""

    #: The side that holds what was acknowledged.
    side: Side
    #: The key is being deleted, or was: what the other side still holds must not come back.
    tombstone: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What to do for one operation on one key."""

    #: Writes: the sides in order. Reads: the sides in order, the next only on "not found". A list: the sides to join.
    sides: tuple[Side, ...]
    #: Whether an entry is opened first (writes), or was looked for (reads).
    entry: bool
    #: Whether a tombstone is left.
    tombstone: bool = False


def decide(
    phase: Phase, operation: Operation, trust: Trust | None = None, table: Mapping[Phase, Rule] = TABLE
) -> Decision:
    """What a process in a phase does for an operation.

    Args:
        phase: the phase of this process.
        operation: what is asked.
        trust: what the key's open entry says; ``None`` where none stands. The outer phases never look.
        table: the rules.

    Returns:
        The sides to go to, in order.
    """
    rule = table[phase]
    trust = trust if rule.entries else None
    if operation in (Operation.SAVE, Operation.DELETE):
        sides = rule.writes if trust is None else (trust.side, trust.side.other)
        tombstone = operation is Operation.DELETE and (rule.entries or rule.leaves_tombstones)
        return Decision(sides=sides, entry=rule.entries or tombstone, tombstone=tombstone)
    if operation is Operation.SIGN_UPLOAD:
        # Whoever holds the URL writes one side only, behind our back: the entry stands in every phase.
        return Decision(sides=rule.writes[:1] if trust is None else (trust.side,), entry=True)
    if trust is None or operation is Operation.LIST:
        return Decision(sides=rule.reads, entry=rule.entries)
    if trust.side is Side.SOURCE or trust.tombstone:
        return Decision(sides=(trust.side,), entry=True)
    return Decision(sides=(Side.DESTINATION, Side.SOURCE), entry=True)


def are_adjacent(one: Phase, other: Phase) -> bool:
    """Whether two phases may be in force at the same time: the same, or one step apart."""
    order = list(Phase)
    return abs(order.index(one) - order.index(other)) <= 1


def adjacent_phases(phase: Phase) -> tuple[Phase, ...]:
    """The phases that other processes may be in while one is in this."""
    return tuple(other for other in Phase if are_adjacent(phase, other))


def trusted_side(phase: Phase) -> Side:
    """The side that holds the truth in a phase."""
    return Side.SOURCE if phase in (Phase.SOURCE, Phase.DUAL_WRITE) else Side.DESTINATION
