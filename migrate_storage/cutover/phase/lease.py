"""Holds of operations on a phase: what may act in which phase, and for how long it may."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Protocol

from migrate_storage.cutover.decisions import Phase

__all__ = ("LimitedLease", "OperationLease", "PhaseLease", "PhaseSource", "UnlimitedLease")


class OperationLease(Protocol):
    """One operation's hold on a phase; a context manager that ends it."""

    phase: Phase

    def check(self) -> None:
        """Ask before each write whether the operation may still act.

        Raises:
            PhaseLostError: it may not.
        """

    def __enter__(self) -> OperationLease: ...

    def __exit__(self, *exception: object) -> None: ...


class PhaseSource(Protocol):
    """Where a backend's phase comes from."""

    @property
    def phase(self) -> Phase:
        """The phase that an operation would act in now.

        Raises:
            PhaseLostError: none is known.
        """

    @property
    def last_known(self) -> Phase | None:
        """The phase that was known here last, at once and without a query."""

    def acquire(self, *, writing: bool) -> OperationLease | None:
        """A hold for one operation, at once and without a query.

        Args:
            writing: whether it may write.

        Returns:
            ``None`` where the lease must be renewed first.
        """

    def renew(self, *, writing: bool) -> OperationLease:
        """A hold, after the lease was renewed; this may take a query.

        Raises:
            PhaseLostError: it could not be, and the operation may not act without.
        """

    def record_fallback(self) -> None:
        """A read was answered by the second side."""

    def close(self) -> None:
        """Sign off."""


class UnlimitedLease:
    """A hold that nothing can end."""

    __slots__ = ("phase",)

    def __init__(self, phase: Phase) -> None:
        self.phase = phase

    def check(self) -> None:
        """Always."""

    def __enter__(self) -> UnlimitedLease:
        return self

    def __exit__(self, *exception: object) -> None:
        """Nothing to end."""


class PhaseLease:
    """What a process was granted, and the operations that act under it."""

    def __init__(self, line: str, phase: Phase, until: float) -> None:
        #: Its name in the table.
        self.process_id = line
        #: What new operations act in.
        self.phase = phase
        #: By the process's own clock.
        self.expires_at = until
        #: Operations at work, by the phase that they act in.
        self.operations: Counter[Phase] = Counter()

    def phases_in_use(self) -> frozenset[Phase]:
        """Where somebody may be at work."""
        return frozenset({self.phase, *(phase for phase, count in self.operations.items() if count)})


class LimitedLease:
    """One operation under a lease."""

    __slots__ = ("_check", "_end", "_lease", "phase")

    def __init__(
        self, lease: PhaseLease, check: Callable[[PhaseLease], None], ended: Callable[[PhaseLease, Phase], None]
    ) -> None:
        self._lease, self._check, self._end = lease, check, ended
        self.phase = lease.phase

    def check(self) -> None:
        """Whether the lease under which the operation began still stands.

        Raises:
            PhaseLostError: it does not.
        """
        self._check(self._lease)

    def __enter__(self) -> LimitedLease:
        return self

    def __exit__(self, *exception: object) -> None:
        self._end(self._lease, self.phase)
