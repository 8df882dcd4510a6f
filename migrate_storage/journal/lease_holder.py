"""The lease by which run, revert and purge exclude each other: a heartbeat in the journal's database, never a pid."""

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


class Lease:
    """A lease that is held, as its holder knows it by its own clock.

    Args:
        renew: the heartbeat; raises where somebody else took the lease.
        seconds: how long it is good for.
        lost: called once, when it could not be renewed.
    """

    def __init__(self, renew: Callable[[], None], seconds: float, lost: Callable[[RunError], None]) -> None:
        self._renew, self._seconds, self._lost = renew, seconds, lost
        self._lock = threading.Lock()
        self._until = time.monotonic() + seconds
        self._over = False

    @property
    def lost(self) -> bool:
        """Whether it is lost for good."""
        return self._over

    def beat(self) -> bool:
        """Renew it; whether it still is held."""
        with self._lock:
            return self._again()

    def check(self) -> None:
        """Make sure, right before something is written, that it is held: whoever slept past it asks first.

        Raises:
            StoppedError: somebody else has it now.
        """
        if time.monotonic() < self._until:
            return
        with self._lock:
            if time.monotonic() < self._until or self._again():
                return
        raise StoppedError("somebody else took the lease meanwhile")

    def _again(self) -> bool:
        if self._over:
            return False
        # From before it was sent: it ends for us no later than in the database.
        began = time.monotonic()
        try:
            self._renew()
        except RunError as error:
            self._over, self._until = True, 0.0
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
    """Hold the lease while the block runs.

    One whose holder died is waited out: it is not renewed. One that is renewed belongs to somebody at work.

    Args:
        journal: where it is kept.
        seconds: how long it is good for without a heartbeat; it is renewed three times in that time.
        stopping: set to give up waiting.
        lost: called, from another thread, when it could not be renewed: whatever runs must stop.
        name: which lease; run, revert and purge share one.
        owner: held together with everybody who gives the same name; then it is not given back at the end, for others may
            be at work, but ends by itself.

    Raises:
        LeaseHeldError: somebody else holds it.
        StoppedError: told to stop while waiting.
    """
    mine = owner or uuid.uuid4().hex
    _take(journal, mine, seconds, stopping, name)
    over = threading.Event()
    held = Lease(lambda: journal.leases.renew(mine, name=name, seconds=seconds), seconds, lost)

    def beat() -> None:
        while not over.wait(seconds / 3):
            if not held.beat():
                return

    thread = threading.Thread(target=beat, name="lease", daemon=True)
    thread.start()
    try:
        yield held
    finally:
        over.set()
        thread.join()
        if not held.lost and owner is None:
            # Where the database is gone, the lease ends by itself.
            with contextlib.suppress(RunError):
                journal.leases.release(mine, name=name)


def _take(journal: Journal, owner: str, seconds: float, stopping: threading.Event, name: str) -> None:
    until: float | None = None
    while left := journal.leases.acquire(owner, name=name, seconds=seconds):
        # Whoever holds it may have asked for longer than we do.
        until = until or time.monotonic() + max(seconds, left) + 1
        if time.monotonic() > until:
            raise LeaseHeldError(
                f"another {_WHO.get(name.partition('-')[0], name)} is at work on {journal.database}: see 'migrate-storage status', then wait for it or stop it"
            )
        if stopping.wait(min(left, 0.5)):
            raise StoppedError("stopped while waiting for the lease")


_WHO = {
    "engine": "run, revert or purge",
    "sync": "sync of these two stores",
    "verify": "verify of the same",
    "range": "process that does this very range",
}
