"""A lease with its renewals. One lease excludes run, revert and purge."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from migrate_storage.core.errors import LeaseHeldError, RunError, StoppedError
from migrate_storage.journal import Journal

__all__ = ("Lease", "hold_lease")

RENEWALS_PER_TERM = 3
"""Renewals in the time for which a lease is valid."""
ACQUIRE_POLL_SECONDS = 0.5
"""Seconds between two attempts to acquire the lease of another process."""


class Lease:
    """An acquired lease, which expires by the monotonic clock of this process.

    Args:
        renew: renews the lease in the database; raises where another process has it.
        seconds: how long it is valid without a renewal.
        lost: called once, when it could not be renewed.
    """

    def __init__(self, renew: Callable[[], None], seconds: float, lost: Callable[[RunError], None]) -> None:
        self._renew, self._seconds, self._lost = renew, seconds, lost
        self._lock = threading.Lock()
        self._until = time.monotonic() + seconds
        #: Whether it could not be renewed.
        self.lost = False

    def beat(self) -> bool:
        """Renew it; return whether that succeeded."""
        with self._lock:
            return self._renew_once()

    def check(self) -> None:
        """Make sure right before a write that the lease is valid; renew it if expired.

        Raises:
            StoppedError: another process has it now.
        """
        if time.monotonic() < self._until:
            return
        with self._lock:
            if time.monotonic() < self._until or self._renew_once():
                return
        raise StoppedError("another process took the lease meanwhile")

    def _renew_once(self) -> bool:
        if self.lost:
            return False
        # The time before the request counts, so that it expires here no later than in the database.
        began = time.monotonic()
        try:
            self._renew()
        except RunError as error:
            self.lost, self._until = True, 0.0
            self._lost(error)
            return False
        self._until = began + self._seconds
        return True


@contextmanager
def hold_lease(
    journal: Journal,
    seconds: float,
    *,
    stopping: threading.Event,
    lost: Callable[[RunError], None],
    name: str = "engine",
    owner: str | None = None,
) -> Iterator[Lease]:
    """Acquire a lease, and renew it while the block runs.

    The lease of a process that died is not renewed, so it is acquired once it expires. A lease that is renewed for
    longer belongs to a process at work.

    Args:
        journal: the journal with the lease.
        seconds: how long it is valid without a renewal; it is renewed three times in that time.
        stopping: set to end the wait.
        lost: called in another thread when it could not be renewed; the job must stop.
        name: which lease; run, revert and purge share one.
        owner: processes with one owner share the lease. It is not released at the end but expires, for the others may
            be at work.

    Raises:
        LeaseHeldError: another process has it.
        StoppedError: ``stopping`` was set during the wait.
    """
    mine = owner or uuid.uuid4().hex
    _acquire(journal, mine, seconds, stopping, name)
    over = threading.Event()
    lease = Lease(lambda: journal.leases.renew(mine, name=name, seconds=seconds), seconds, lost)

    def beat() -> None:
        while not over.wait(seconds / RENEWALS_PER_TERM):
            if not lease.beat():
                return

    thread = threading.Thread(target=beat, name="lease", daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        over.set()
        thread.join()
        if not lease.lost and owner is None:
            # Without the database the lease expires.
            with contextlib.suppress(RunError):
                journal.leases.release(mine, name=name)


def _acquire(journal: Journal, owner: str, seconds: float, stopping: threading.Event, name: str) -> None:
    until: float | None = None
    while left := journal.leases.acquire(owner, name=name, seconds=seconds):
        # The other process may have acquired it for longer than we would.
        until = until or time.monotonic() + max(seconds, left) + 1
        if time.monotonic() > until:
            raise LeaseHeldError(
                f"another {_JOBS.get(name.partition('-')[0], name)} is at work on {journal.database}: see "
                "'migrate-storage status', then wait for it or stop it"
            )
        if stopping.wait(min(left, ACQUIRE_POLL_SECONDS)):
            raise StoppedError("stopped while waiting for the lease")


_JOBS = {
    "engine": "run, revert or purge",
    "sync": "sync of these two stores",
    "verify": "verify of the same",
    "range": "process that does this very range",
}
