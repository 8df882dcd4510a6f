"""The phase that all processes of an application share, each under a lease.

A lease is good for a time by the process's own clock, counted from before its report was sent; by the database's clock it
counts for that time and a little more, from after the report arrived. So a process has stopped before others count it as gone,
whatever the two clocks show; they only have to run at about the same speed.
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
_now = partial(time.clock_gettime, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
"""Seconds that never jump; where the system has such a clock, one that goes on while the machine sleeps."""
_SPEEDS = 0.95
"""How much slower than the database's a process's clock may run: what part of its lease a process uses."""


class OnLost(StrEnum):
    """What a process does whose lease is over, or that never had one."""

    #: Reads in the phase that it last knew, and writes nothing.
    REFUSE_WRITES = "refuse_writes"
    #: Neither reads nor writes.
    REFUSE = "refuse"
    #: Goes on in the phase that it last knew. No further step is taken until it is heard of again, or a person forces it.
    KEEP = "keep"


class SharedPhase:
    """The phase that a table in the application's database says, for all processes of the application.

    Give one to each CutoverBackend, in every process::

        outbox = Outbox(Database(engine), "documents")
        outbox.prepare()
        CutoverBackend("documents", old, new, outbox=outbox, phase=SharedPhase(outbox))

    or ``phase="shared"``, or ``MIGRATE_STORAGE_PHASE=shared`` in the environment, which both mean this with its defaults.
    ``migrate-storage cutover advance`` and ``retreat`` change it.

    Making one asks nothing of the database. The first operation takes a lease, and a thread renews it from then on, so an
    operation costs no query. After a change new operations act in the new phase as soon as the process has reported it, those
    at work end in the old one, and the process reports when the last of them has ended. A forked child has no part in its
    parent's lease; as neither obstore nor a database's connections survive a fork, use it first after the fork.

    Args:
        outbox: of the same backend; its database holds the table.
        lease: seconds for which a process may act without having reached the database. It tries three times in that time,
            so it also hears of a change within a third of it.
        drain: seconds that a request to a store may take effect after the process that sent it lost its lease, having been
            stopped or cut off. No phase two steps away is entered before.
        on_lost: what to do without a lease.
        name: what a person would call this process.
        clock: seconds that never jump, for tests.

    Raises:
        ConfigurationError: no such ``on_lost``, or times that are not positive.
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
        self._clock = clock or _now
        self._reset()
        again = weakref.WeakMethod(self._reset)
        os.register_at_fork(after_in_child=lambda: (begin := again()) and begin())

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
        """The phase that an operation would act in now; one query where no lease stands.

        Raises:
            PhaseLostError: it cannot be learned.
        """
        held = self.acquire(writing=False) or self.renew(writing=False)
        with held:
            return held.phase

    @property
    def last_known(self) -> Phase | None:
        """The phase that this process acted in last; ``None`` before it ever did."""
        return self._last_phase

    def acquire(self, *, writing: bool) -> OperationLease | None:
        """A hold for one operation, or ``None`` where the lease must be renewed first."""
        with self._lock:
            lease = self._lease
            if lease is None or (self._is_expired(lease) and (writing or self._on_lost is OnLost.REFUSE)):
                return None
            lease.operations[lease.phase] += 1
            return LimitedLease(lease, self._check_lease, self._end_operation)

    def renew(self, *, writing: bool) -> OperationLease:
        """A hold, after a renewal by this very thread.

        Raises:
            PhaseLostError: there is no lease, and ``on_lost`` does not let the operation act without one.
        """
        self._start_renewing()
        # One at a time; what another one has just tried in vain is not tried again at once.
        if not self._closed and self._renewal_lock.acquire(timeout=self._lease_seconds / 10):
            try:
                if self._valid_lease() is None and self._clock() - self._last_attempt > self._lease_seconds / 10:
                    self._try_renewal()
            finally:
                self._renewal_lock.release()
        held = self.acquire(writing=writing)
        if held is not None:
            return held
        if not writing and self._on_lost is OnLost.REFUSE_WRITES and self._last_phase is not None:
            return UnlimitedLease(self._last_phase)
        raise PhaseLostError(self._describe_loss())

    @contextlib.contextmanager
    def pin_phases(self) -> Iterator[tuple[frozenset[Phase], Callable[[], None]]]:
        """For who writes what others may be writing: which phases any process may be in, until the block ends.

        Where all are in the two middle phases, none leaves them meanwhile.

        Yields:
            The phases, and what to call before each write; it raises as :meth:`OperationLease.check`.

        Raises:
            PhaseLostError: there is no lease.
        """
        with self.acquire(writing=True) or self.renew(writing=True) as held:
            pinned = self._pin_middle_phases()
            try:
                yield (MIDDLE_PHASES if pinned else frozenset(adjacent_phases(held.phase))), held.check
            finally:
                if pinned is not None:
                    self._unpin_middle_phases(pinned)

    def record_fallback(self) -> None:
        """A read was answered by the second side: told with the next report."""
        with self._lock:
            self._fallbacks += 1

    def close(self) -> None:
        """Sign off: from now on this process acts no more. With operations at work its line stays until it expires."""
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

    # Within

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
        """Be in both middle phases, where all others are in them."""
        with self._lock:
            lease = self._lease
            if lease is None or lease.phase not in MIDDLE_PHASES:
                return None
            lease.operations.update(MIDDLE_PHASES)
        with self._renewal_lock:
            self._try_renewal()
        try:
            shared, members = self.table.read_locked()
        except MigrateStorageError:
            self._unpin_middle_phases(lease)
            raise
        living = {each.id: frozenset(each.phases) for each in members if each.alive}
        if (
            shared.phase in MIDDLE_PHASES
            and living.get(lease.process_id) == MIDDLE_PHASES
            and all(each <= MIDDLE_PHASES for each in living.values())
        ):
            return lease
        self._unpin_middle_phases(lease)
        return None

    def _unpin_middle_phases(self, lease: PhaseLease) -> None:
        with self._lock:
            lease.operations.subtract(MIDDLE_PHASES)
        # At once: somebody may be waiting to take a step.
        with self._renewal_lock:
            self._try_renewal()

    def _start_renewing(self) -> None:
        with self._lock:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(
                    target=_beat, args=(weakref.WeakMethod(self._renew_once), self._wake, self._lease_seconds / 3)
                )
                self._thread.daemon = True
                self._thread.start()

    def _renew_once(self) -> bool:
        """Renew; whether to go on."""
        with self._renewal_lock:
            self._try_renewal()
        return not self._closed

    def _try_renewal(self) -> None:
        """Renew the lease, twice where the phase changed: once to be in both, and once more to have left the old one."""
        self._last_attempt = self._clock()
        try:
            while not self._closed and self._report_once():
                pass
        except Exception as error:  # noqa: BLE001 - without a lease nothing is done, which is safe
            self._loss_reason = describe_failure(error)
            _log.warning("%s: the lease on the phase was not renewed: %s", self.table.backend, self._loss_reason)

    def _report_once(self) -> bool:
        """Report once; whether to do so again at once."""
        with self._lock:
            if self._lease is not None and self._is_expired(self._lease):
                # Another line from now on: what it had under way may take effect until the old one has expired.
                self._lease = None
            lease = self._lease
            acting = lease.phases_in_use() if lease is not None else frozenset()
            fallbacks = self._fallbacks
        line = lease.process_id if lease is not None else uuid.uuid4().hex
        keeps = self._on_lost is OnLost.KEEP
        started = 0.0

        def work(connection: Connection) -> Phase | None:
            nonlocal started
            started = self._clock()
            return self.table.report_process(
                connection,
                line,
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
                self._lease = PhaseLease(line, phase, started + self._lease_seconds * _SPEEDS)
                self._last_phase = phase
                _log.info("%s: this process acts in phase %s", self.table.backend, phase.name)
                return False
            # Too late by our own clock: what was refused meanwhile stays refused.
            lease.expires_at = max(lease.expires_at, started + self._lease_seconds * _SPEEDS)
            if lease.phase is not phase:
                _log.info("%s: this process acts in phase %s, not %s", self.table.backend, phase.name, lease.phase.name)
            lease.phase = self._last_phase = phase
            return lease.phases_in_use() != acting | {phase}


def _beat(renewed: weakref.WeakMethod[Callable[[], bool]], wake: threading.Event, every: float) -> None:
    """Renew until the switch is closed, or nobody has it any more."""
    going = True
    while going:
        wake.wait(every)
        wake.clear()
        renew = renewed()
        going = renew is not None and renew()
        del renew
