"""Leases on a phase: of a process, and of each of its operations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from migrate_storage.cutover.decisions import Phase

__all__ = ("LimitedLease", "OperationLease", "PhaseLease", "PhaseSource", "UnlimitedLease")


class OperationLease(Protocol):
    """The right of one operation to act in a phase; its context manager ends it."""

    phase: Phase

    def check(self) -> None:
        """Check before each write that the operation may still act.

        Raises:
            PhaseLostError: it may not.
        """

    def __enter__(self) -> OperationLease: ...

    def __exit__(self, *exception: object) -> None: ...


class PhaseSource(Protocol):
    """Gives a backend its phase."""

    @property
    def phase(self) -> Phase:
        """The phase of an operation that starts now.

        Raises:
            PhaseLostError: the phase is unknown.
        """

    @property
    def last_known(self) -> Phase | None:
        """The last known phase, without a query."""

    def acquire(self, *, writing: bool) -> OperationLease | None:
        """Acquire the lease of one operation, without a query.

        Args:
            writing: whether the operation may write.

        Returns:
            ``None`` if the process lease must be renewed first.
        """

    def renew(self, *, writing: bool) -> OperationLease:
        """Renew the process lease, which may take a query, and acquire an operation lease.

        Raises:
            PhaseLostError: the renewal failed, and the operation may not act without a lease.
        """

    def record_fallback(self) -> None:
        """Count a read that the second side answered."""

    def close(self) -> None:
        """Release the process lease."""


@dataclass(slots=True)
class UnlimitedLease:
    """An operation lease that never expires."""

    phase: Phase

    def check(self) -> None:
        """Pass always."""

    def __enter__(self) -> UnlimitedLease:
        return self

    def __exit__(self, *exception: object) -> None:
        """Do nothing."""


@dataclass(slots=True, eq=False)
class PhaseLease:
    """The lease of a process, and its running operations."""

    #: The id of the process in the table.
    process_id: str
    #: The phase of new operations.
    phase: Phase
    #: Seconds on the process's own clock.
    expires_at: float
    #: Numbers of running operations, by phase.
    operations: Counter[Phase] = field(default_factory=Counter)

    def phases_in_use(self) -> frozenset[Phase]:
        """Return the phases in which this process may be acting."""
        return frozenset({self.phase, *(phase for phase, count in self.operations.items() if count)})


class LimitedLease:
    """An operation lease under a process lease."""

    __slots__ = ("_check", "_end", "_lease", "phase")

    def __init__(
        self, lease: PhaseLease, check: Callable[[PhaseLease], None], end: Callable[[PhaseLease, Phase], None]
    ) -> None:
        self._lease, self._check, self._end = lease, check, end
        self.phase = lease.phase

    def check(self) -> None:
        """Check that the process lease under which the operation began is still valid.

        Raises:
            PhaseLostError: it is not.
        """
        self._check(self._lease)

    def __enter__(self) -> LimitedLease:
        return self

    def __exit__(self, *exception: object) -> None:
        self._end(self._lease, self.phase)
