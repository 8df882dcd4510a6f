"""What the engine tells while it works. The only way out for news: below the face nothing prints or logs progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from migrate_storage.core.model import Note, Outcome, OutcomeKind, Way

__all__ = (
    "Behind",
    "BytesMoved",
    "Event",
    "ItemFinished",
    "ItemsFinished",
    "Listed",
    "Listener",
    "Noted",
    "PaceChanged",
    "PassStarted",
    "RangesAdvanced",
    "RunFinished",
    "RunStarted",
    "silent",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunStarted:
    """The facts are in and the way is chosen; the first object comes next."""

    run: str
    source: str
    destination: str
    way: Way
    #: Why this way, in one line.
    reason: str
    dry_run: bool
    #: Whether earlier runs between the same two ends did a part of the work.
    resumed: bool
    #: Whether this very run, of the same id, was begun before.
    same_run: bool = False
    #: Rows that name the source key, over all columns; ``None`` when they were not counted.
    rows: int | None
    #: The job: ``run``, ``verify``, ``sync`` and so on.
    kind: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PassStarted:
    """A pass over the rows begins; ``number`` counts from 1."""

    number: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """The source of a sync or a check was listed to its end, so that it is known how much there is to go through."""

    objects: int


@dataclass(frozen=True, kw_only=True, slots=True)
class BytesMoved:
    """That many bytes of an object's content were read since the last such event of its worker."""

    count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemFinished:
    """One item ended."""

    outcome: Outcome


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemsFinished:
    """Many items ended alike, and are not told one by one."""

    #: Objects.
    objects: int
    #: Rows that were re-pointed to them.
    rows: int
    kind: OutcomeKind
    #: How each was proved.
    evidence: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Noted:
    """Something a person should know."""

    note: Note


@dataclass(frozen=True, kw_only=True, slots=True)
class PaceChanged:
    """The run was paused or resumed, or lets another number of objects be under way at once."""

    #: How many may be under way at once from here on.
    concurrency: int
    #: How many were asked for; fewer are let through while a service asks to slow down.
    most_concurrency: int
    #: Why nothing is begun, in one line; empty while the run goes on.
    paused: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Behind:
    """How far the destination of a sync was behind its source when a pass looked."""

    #: Objects that had to be copied or deleted.
    objects: int
    #: Their bytes, of those that were copied.
    bytes: int
    #: Seconds since the oldest of the copied ones was written at the source; 0.0 where nothing was behind.
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class RangesAdvanced:
    """What all processes of a job did so far: they tell no single object. A range that is done again counts from anew."""

    objects: int
    #: Those of the objects that a person must look at.
    listed: int
    bytes: int
    #: Rows that were re-pointed.
    rows: int
    #: Into how many the job was cut, its end included, and how many are done.
    ranges: int
    done: int
    #: How many are given to a worker now.
    under_way: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFinished:
    """The run is over; the report tells the rest."""

    run: str
    #: ``finished``, ``stopped``, ``limited`` or ``failed``.
    state: str


Event = (
    RunStarted
    | PassStarted
    | Listed
    | BytesMoved
    | ItemFinished
    | ItemsFinished
    | RangesAdvanced
    | Noted
    | PaceChanged
    | Behind
    | RunFinished
)

Listener = Callable[[Event], None]
"""Called with each event, from any thread of the run, one call at a time."""


def silent(event: Event) -> None:
    """The default listener: says nothing."""
