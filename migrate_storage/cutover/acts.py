"""What the protocol of a cutover is made of: its steps, an entry of the outbox as they see it, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from migrate_storage.cutover.phases import Side, Trust

__all__ = (
    "Claim",
    "Close",
    "Entry",
    "Erase",
    "Fate",
    "Flip",
    "Get",
    "Head",
    "Leave",
    "Look",
    "Note",
    "Open",
    "Put",
    "Release",
    "Repaired",
    "Settle",
    "Step",
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


class Fate(Enum):
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
class Look(Step):
    """The key's entry, or ``None``."""


@dataclass(frozen=True, slots=True)
class Open(Step):
    """Open an entry, or join the one that stands: its side stays, its sequence grows. Answered with the :class:`Entry`."""

    side: Side
    tombstone: bool = False


@dataclass(frozen=True, slots=True)
class Close(Step):
    """Close an entry if it is this writer's alone; else leave it. Answered with its :class:`Fate`."""

    entry: Entry
    #: Both sides hold what this writer wrote.
    wrote: bool = False


@dataclass(frozen=True, slots=True)
class Leave(Step):
    """Leave an entry to repair; the sequence grows, so that one under way looks again. Answered with its :class:`Fate`."""

    entry: Entry
    #: The side to trust holds the new content: what the other has is old, and is buried.
    held: bool = False


@dataclass(frozen=True, slots=True)
class Note(Step):
    """An entry for repair, if none stands; one that stands is not touched."""

    side: Side


@dataclass(frozen=True, slots=True)
class Claim(Step):
    """Take the key's lease; the sequence grows. Answered with the :class:`Entry`; ``None`` if none stands or another has it."""


@dataclass(frozen=True, slots=True)
class Flip(Step):
    """Trust the other side from now on, if nobody came since. Answered with the :class:`Entry`, or ``None``."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Settle(Step):
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
class Erase(Step):
    """Delete an object; one that is not there is no error, or a ``FileNotFoundError``."""

    side: Side
