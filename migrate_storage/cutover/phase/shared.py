"""SharedPhase: one phase for all processes of an application, each under a lease.

The process measures its lease on its own clock, from before it sent its report. The database measures a longer time on
its clock, from after the report arrived. So a process stops before the others count it as expired. The clocks need not
agree, they must only run at about the same speed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterator
from enum import StrEnum
from functools import partial

from sqlalchemy import Connection

from migrate_storage.core.errors import ConfigurationError, MigrateStorageError, PhaseLostError
from migrate_storage.cutover.decisions import MIDDLE_PHASES, Phase, adjacent_phases
from migrate_storage.cutover.outbox import Outbox
from migrate_storage.cutover.phase.lease import LimitedLease, OperationLease, PhaseLease, UnlimitedLease
from migrate_storage.cutover.phase.table import PhaseTable
from migrate_storage.database.connection import describe_failure

__all__ = ("OnLost", "SharedPhase")

_log = logging.getLogger("migrate_storage.cutover")
_read_clock = partial(time.clock_gettime, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
"""A monotonic clock in seconds, if possible one that includes suspension."""
USABLE_LEASE_SHARE = 0.95
"""The part of its lease that a process uses: its clock may be slower by the rest."""


class OnLost(StrEnum):
    """Behaviour of a process without a valid lease."""

    #: Read in the last known phase, and write nothing.
    REFUSE_WRITES = "refuse_writes"
    #: Neither read nor write.
    REFUSE = "refuse"
    #: Act in the last known phase. It does not change until the process reports again or a person forces a step.
    KEEP = "keep"


class SharedPhase:
    """The phase of all processes of an application, in a table of its database.

    Pass one to each CutoverBackend, in every process::

        outbox = Outbox(Database(engine), "documents")
        outbox.prepare()
        CutoverBackend("documents", old, new, outbox=outbox, phase=SharedPhase(outbox))

    or ``phase="shared"``, or ``MIGRATE_STORAGE_PHASE=shared`` in the environment, which both mean this with its
    defaults. ``migrate-storage cutover advance`` and ``rollback`` change the phase.

    The constructor sends no query. The first operation acquires a lease, and a thread renews it from then on, so
    further operations need no query. After a change, new operations act in the new phase as soon as the process has
    reported it. Running operations end in the old phase, and the process reports when the last of them has ended. A
    forked child does not share its parent's lease. Neither obstore nor database connections survive a fork, so use it
    only after the fork.

    Args:
        outbox: of the same backend; its database has the table.
        lease: seconds for which a process may act without having reached the database. It tries three times in that
            time, so it also reads a change within a third of it.
        drain: seconds in which a request to a store may take effect after its process lost the lease, because the
            process was suspended or disconnected. No phase two steps away is entered before that.
        on_lost: what a process does without a lease.
        name: display name of this process.
        clock: monotonic seconds, for tests.

    Raises:
        ConfigurationError: ``on_lost`` is unknown, or a time is not positive.
    """

    def __init__(
        self,
        outbox: Outbox,
        *,
        lease: float = 30.0,
        drain: float = 60.0,
        on_lost: OnLost | str = OnLost.REFUSE_WRITES,
        name: str | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        if lease <= 0 or drain < 0:
            raise ConfigurationError(f"lease={lease} must be above 0 seconds, and drain={drain} not below")
        try:
            self._on_lost = OnLost(on_lost)
        except ValueError:
            raise ConfigurationError(f"on_lost={on_lost!r}: use one of {', '.join(OnLost)}") from None
        self.table = PhaseTable(outbox.database, outbox.backend, outbox.tables)
        self._lease_seconds, self._drain_seconds = lease, drain
        self._name = name
        self._clock = clock or _read_clock
        self._reset()
        reset = weakref.WeakMethod(self._reset)
        os.register_at_fork(after_in_child=lambda: (method := reset()) and method())

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._renewal_lock = threading.Lock()
        self._wake = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None
        self._lease: PhaseLease | None = None
        self._last_phase: Phase | None = None
        self._fallbacks = 0
        self._last_attempt = float("-inf")
        self._loss_reason = "it has not asked yet"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.table.backend!r})"

    @property
    def phase(self) -> Phase:
        """The phase of an operation that starts now; without a lease it takes one query."""
        with self.acquire(writing=False) or self.renew(writing=False) as lease:
            return lease.phase

    @property
    def last_known(self) -> Phase | None:
        """The phase in which this process acted last; ``None`` before its first lease."""
        return self._last_phase

    def acquire(self, *, writing: bool) -> OperationLease | None:
        """Acquire an operation lease; ``None`` if the process lease must be renewed first."""
        with self._lock:
            lease = self._lease
            if lease is None or (self._is_expired(lease) and (writing or self._on_lost is OnLost.REFUSE)):
                return None
            lease.operations[lease.phase] += 1
            return LimitedLease(lease, self._check_lease, self._end_operation)

    def renew(self, *, writing: bool) -> OperationLease:
        """Renew the process lease in this thread, and acquire an operation lease."""
        self._start_renewing()
        # One thread at a time. A renewal that just failed in another thread is not repeated at once.
        if not self._closed and self._renewal_lock.acquire(timeout=self._lease_seconds / 10):
            try:
                if self._valid_lease() is None and self._clock() - self._last_attempt > self._lease_seconds / 10:
                    self._try_renewal()
            finally:
                self._renewal_lock.release()
        lease = self.acquire(writing=writing)
        if lease is not None:
            return lease
        if not writing and self._on_lost is OnLost.REFUSE_WRITES and self._last_phase is not None:
            return UnlimitedLease(self._last_phase)
        raise PhaseLostError(self._describe_loss())

    @contextlib.contextmanager
    def pin_phases(self) -> Iterator[tuple[frozenset[Phase], Callable[[], None]]]:
        """Return the phases in which any process may act until the block ends, for repair.

        If all processes are in the two middle phases, none can leave them until the block ends.

        Yields:
            The phases, and a function to call before each write; it raises as :meth:`OperationLease.check`.

        Raises:
            PhaseLostError: there is no lease.
        """
        with self.acquire(writing=True) or self.renew(writing=True) as lease:
            pinned = self._pin_middle_phases()
            try:
                yield (MIDDLE_PHASES if pinned else frozenset(adjacent_phases(lease.phase))), lease.check
            finally:
                if pinned is not None:
                    self._unpin_middle_phases(pinned)

    def record_fallback(self) -> None:
        """Count a read that the second side answered, for the next report."""
        with self._lock:
            self._fallbacks += 1

    def close(self) -> None:
        """Release the lease: this process acts no more.

        With running operations the row of the process is kept until it expires.
        """
        self._closed, self._loss_reason = True, "it has signed off"
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            lease, self._lease = self._lease, None
            self._last_phase = None
            idle = lease is not None and not any(lease.operations.values())
        if lease is not None and idle:
            with contextlib.suppress(MigrateStorageError):
                self.table.transaction(lambda connection: self.table.remove_process(connection, lease.process_id))

    def _is_expired(self, lease: PhaseLease) -> bool:
        return self._clock() >= lease.expires_at and self._on_lost is not OnLost.KEEP

    def _valid_lease(self) -> PhaseLease | None:
        lease = self._lease
        return None if lease is None or self._is_expired(lease) else lease

    def _check_lease(self, lease: PhaseLease) -> None:
        if self._lease is not lease or self._is_expired(lease):
            raise PhaseLostError(self._describe_loss())

    def _describe_loss(self) -> str:
        return (
            f"{self.table.backend}: this process has no valid lease on the cutover's phase ({self._loss_reason}), "
            "so it may not act; nothing more was written, try again"
        )

    def _end_operation(self, lease: PhaseLease, phase: Phase) -> None:
        with self._lock:
            lease.operations[phase] -= 1
            left = phase is not lease.phase and not lease.operations[phase]
        if left:
            self._wake.set()

    def _pin_middle_phases(self) -> PhaseLease | None:
        """Report both middle phases for this process, if all others are in them."""
        with self._lock:
            lease = self._lease
            if lease is None or lease.phase not in MIDDLE_PHASES:
                return None
            lease.operations.update(MIDDLE_PHASES)
        with self._renewal_lock:
            self._try_renewal()
        try:
            shared, processes = self.table.read_locked()
        except MigrateStorageError:
            self._unpin_middle_phases(lease)
            raise
        alive = {process.id: frozenset(process.phases) for process in processes if process.alive}
        if (
            shared.phase in MIDDLE_PHASES
            and alive.get(lease.process_id) == MIDDLE_PHASES
            and all(phases <= MIDDLE_PHASES for phases in alive.values())
        ):
            return lease
        self._unpin_middle_phases(lease)
        return None

    def _unpin_middle_phases(self, lease: PhaseLease) -> None:
        with self._lock:
            lease.operations.subtract(MIDDLE_PHASES)
        # At once: a person may be waiting for the next step.
        with self._renewal_lock:
            self._try_renewal()

    def _start_renewing(self) -> None:
        with self._lock:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(
                    target=_renew_until_closed,
                    args=(weakref.WeakMethod(self._renew_once), self._wake, self._lease_seconds / 3),
                )
                self._thread.daemon = True
                self._thread.start()

    def _renew_once(self) -> bool:
        """Renew the lease. Return whether to renew it again later."""
        with self._renewal_lock:
            self._try_renewal()
        return not self._closed

    def _try_renewal(self) -> None:
        """Renew the lease.

        After a change of the phase two reports are sent: one with both phases, one without the old phase.
        """
        self._last_attempt = self._clock()
        try:
            while not self._closed and self._report_once():
                pass
        except Exception as error:  # noqa: BLE001 - without a lease no operation acts, which is safe
            self._loss_reason = describe_failure(error)
            _log.warning("%s: the lease on the phase was not renewed: %s", self.table.backend, self._loss_reason)

    def _report_once(self) -> bool:
        """Send one report. Return whether to send another at once."""
        with self._lock:
            if self._lease is not None and self._is_expired(self._lease):
                # A new row from now on: running requests may take effect until the old row has expired.
                self._lease = None
            lease = self._lease
            acting = lease.phases_in_use() if lease is not None else frozenset()
            fallbacks = self._fallbacks
        process_id = lease.process_id if lease is not None else uuid.uuid4().hex
        keeps = self._on_lost is OnLost.KEEP
        started = 0.0

        def work(connection: Connection) -> Phase | None:
            nonlocal started
            started = self._clock()
            return self.table.report_process(
                connection,
                process_id,
                name=self._name or f"{socket.gethostname()}:{os.getpid()}",
                acting=acting,
                seconds=None if keeps else self._lease_seconds + self._drain_seconds,
                fallbacks=fallbacks,
            )

        phase = self.table.transaction(work)
        with self._lock:
            self._fallbacks -= fallbacks if phase is not None else 0
            if phase is None:
                self._loss_reason = "others had to count it as gone"
                self._lease = None
                return True
            if lease is None:
                self._lease = PhaseLease(process_id, phase, started + self._lease_seconds * USABLE_LEASE_SHARE)
                self._last_phase = phase
                _log.info("%s: this process acts in phase %s", self.table.backend, phase.name)
                return False
            # An answer that arrives after the lease expired does not revive it.
            lease.expires_at = max(lease.expires_at, started + self._lease_seconds * USABLE_LEASE_SHARE)
            if lease.phase is not phase:
                _log.info("%s: this process acts in phase %s, not %s", self.table.backend, phase.name, lease.phase.name)
            lease.phase = self._last_phase = phase
            return lease.phases_in_use() != acting | {phase}


def _renew_until_closed(
    renew_once: weakref.WeakMethod[Callable[[], bool]], wake: threading.Event, every: float
) -> None:
    """Renew the lease until the SharedPhase is closed or garbage-collected."""
    alive = True
    while alive:
        wake.wait(every)
        wake.clear()
        renew = renew_once()
        alive = renew is not None and renew()
        del renew
