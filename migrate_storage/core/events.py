"""The events of a job. Only their listeners print or log its progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from migrate_storage.core.model import Note, Outcome, OutcomeKind, Strategy

__all__ = (
    "BytesTransferred", "CensusAdvanced", "DiagnosticRaised", "Event", "Listener", "ObjectFinished", "ObjectsFinished",
    "PassStarted", "RunFinished", "RunStarted", "ShardsProgressed", "SourceListed", "SyncLag", "ThrottleChanged", "silent",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class RunStarted:
    """The pre-flight is done and the strategy is chosen; the first object comes next."""

    run: str
    source: str
    destination: str
    strategy: Strategy
    #: Why the strategy was chosen, in one line.
    reason: str
    dry_run: bool
    #: Whether earlier runs between the same two ends did a part of the work.
    resumed: bool
    #: Whether this very run, of the same id, was begun before.
    same_run: bool = False
    #: Rows that name the source key, over all columns; ``None`` when they were not counted.
    rows: int | None
    #: ``run``, ``verify``, ``sync`` and so on.
    job: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PassStarted:
    """A pass over the rows begins; ``number`` counts from 1."""

    number: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceListed:
    """The source of a sync or a check is listed, and its number of objects is known."""

    objects: int


@dataclass(frozen=True, kw_only=True, slots=True)
class BytesTransferred:
    """A worker read this many bytes of content, or finished this many copies, since its last such event."""

    count: int
    #: Objects that were copied. Their rows are re-pointed later.
    objects: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectFinished:
    """One object is finished."""

    outcome: Outcome


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectsFinished:
    """Many objects finished with one outcome, without an event for each."""

    #: Objects.
    objects: int
    #: Rows that were re-pointed to them.
    rows: int
    kind: OutcomeKind
    #: How the equality of each was proved.
    verified_by: str


@dataclass(frozen=True, kw_only=True, slots=True)
class DiagnosticRaised:
    """A diagnostic for a person."""

    note: Note


@dataclass(frozen=True, kw_only=True, slots=True)
class ThrottleChanged:
    """The run was paused or resumed, or its concurrency changed."""

    #: Objects in progress at once from now on, at most.
    concurrency: int
    #: The concurrency that was requested. It is reduced while a service asks to slow down.
    most_concurrency: int
    #: Why no object is begun, in one line; empty while the run is not paused.
    paused: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SyncLag:
    """The lag of a sync's destination behind its source, found by one pass."""

    #: Objects that had to be copied or deleted.
    objects: int
    #: The bytes of the copied ones.
    bytes: int
    #: Seconds since the oldest copied object was written at the source; 0.0 where none was copied.
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class CensusAdvanced:
    """The search of the whole database for a backend key, so far."""

    #: The table that is searched.
    table: str
    #: Rows that were searched, of all tables.
    rows: int
    #: Tables, and those that are done.
    tables: int
    done: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardsProgressed:
    """The work of all processes of a job so far, in place of an event for each object.

    A shard that is done again counts from 0.
    """

    objects: int
    #: The objects with a problem.
    problems: int
    bytes: int
    #: Rows that were re-pointed.
    rows: int
    #: Shards of the job, its last step included, and the shards that are done.
    shards: int
    done: int
    #: Shards that a worker has now.
    under_way: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFinished:
    """The run has ended. Its report has the details."""

    run: str
    #: ``completed``, ``interrupted``, ``limit_reached`` or ``failed``.
    state: str


Event = (
    RunStarted | PassStarted | SourceListed | BytesTransferred | ObjectFinished | ObjectsFinished | ShardsProgressed | DiagnosticRaised | ThrottleChanged
    | SyncLag | CensusAdvanced | RunFinished
)  # fmt: skip

Listener = Callable[[Event], None]
"""Called with each event, from any thread of the run, one call at a time."""


def silent(event: Event) -> None:
    """The default listener, which ignores the event."""
