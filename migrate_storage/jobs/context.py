"""What a job shares with its collaborators: its pace, its statistics, and the request to stop."""

from __future__ import annotations

import threading
from dataclasses import dataclass, fields
from typing import Any, Self

from migrate_storage.core.errors import StoppedError
from migrate_storage.core.events import DiagnosticRaised
from migrate_storage.core.model import Note, Severity
from migrate_storage.core.timetable import Bandwidth
from migrate_storage.engine.concurrency import ConcurrencyLimiter
from migrate_storage.engine.transfer import CopyResources
from migrate_storage.reporting.run_stats import RunStats
from migrate_storage.stores.memory_budget import MemoryBudget
from migrate_storage.stores.rate_limit import StoreLimits
from migrate_storage.stores.retry import Retry

__all__ = ("DEFAULT_CONCURRENCY", "WIDEST_CONCURRENCY", "JobContext", "JobPace")

DEFAULT_CONCURRENCY = 32
"""Objects at once where no number was given: at the beginning, or for all processes of a job together."""
WIDEST_CONCURRENCY = 256
"""Objects at once to which a job grows by itself. Each has a thread."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobPace:
    """How fast a job may work, and after how much it ends."""

    #: Objects under way at once; 1 for a job whose work does not pass through the limiter.
    concurrency: int = 1
    #: Objects at once to which ``concurrency`` may grow while that makes the job faster; ``None`` keeps it.
    widest: int | None = None
    #: Attempts for one request, the first included.
    max_attempts: int = 5
    #: Bytes per second; ``None`` sets no limit.
    bandwidth: Bandwidth | None = None
    #: ``None`` sets no limit.
    max_requests_per_second: float | None = None
    #: Bytes of content that a store which reads objects whole may have in memory at once; ``None`` means 64 MiB.
    max_memory: int | None = None
    #: Bytes of content after which no further object is begun; ``None`` sets no limit.
    max_bytes: int | None = None
    #: Seconds after which no further object is begun; ``None`` sets no limit.
    max_duration: float | None = None

    @classmethod
    def from_options(cls, options: Any) -> Self:
        """Take the fields of the same names from a job's options; what they lack keeps its default."""
        names = (each.name for each in fields(cls))
        given = {name: getattr(options, name) for name in names if hasattr(options, name)}
        if given.get("concurrency", 1) is None:
            given |= {"concurrency": DEFAULT_CONCURRENCY, "widest": WIDEST_CONCURRENCY}
        return cls(**given)


@dataclass(frozen=True, kw_only=True)
class JobContext:
    """What each collaborator of a job may need."""

    stats: RunStats
    #: Set when the job is to end: objects under way are finished, none is begun.
    stop: threading.Event
    retry: Retry
    limiter: ConcurrencyLimiter
    limits: StoreLimits

    def checkpoint(self) -> None:
        """Raise when the job is to end; called between the pieces of a large object.

        Raises:
            StoppedError: the job was asked to stop.
        """
        if self.stop.is_set():
            raise StoppedError("a stop was requested: a large object was left half-way, its upload aborted")

    def note_fallback(self, message: str) -> None:
        """Announce that another library had to list a store."""
        todo = "a key in it is none that obstore can list; it is listed with the error that names it, if it cannot be copied"
        note = Note(severity=Severity.WARNING, code="listing.fallback", message=message, todo=todo)
        self.stats.send(DiagnosticRaised(note=note))

    def note_contradiction(self, message: str) -> None:
        """Announce that a capability of the destination is given up."""
        todo = "nothing: the object was done the other way, and so are all that follow"
        note = Note(severity=Severity.WARNING, code="destination.contradicted", message=message, todo=todo)
        self.stats.send(DiagnosticRaised(note=note))

    def copy_resources(self, memory: int) -> CopyResources:
        """Return what all copies of the job share.

        Args:
            memory: bytes of content in memory at once.
        """
        return CopyResources(
            retry=self.retry,
            memory=MemoryBudget(memory).reserve,
            on_bytes=self.stats.add_bytes,
            checkpoint=self.checkpoint,
            on_contradiction=self.note_contradiction,
        )
