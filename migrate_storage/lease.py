"""The lease by which run, revert and purge exclude each other: a heartbeat in the journal's database, never a pid."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from migrate_storage.errors import LeaseHeldError, RunError, StoppedError
from migrate_storage.journal import Journal

__all__ = ("hold",)


@contextmanager
def hold(
    journal: Journal,
    seconds: float,
    *,
    stopping: threading.Event,
    lost: Callable[[RunError], None],
    name: str = "engine",
) -> Iterator[None]:
    """Hold the lease while the block runs.

    One whose holder died is waited out: it is not renewed. One that is renewed belongs to somebody at work.

    Args:
        journal: where it is kept.
        seconds: how long it is good for without a heartbeat; it is renewed three times in that time.
        stopping: set to give up waiting.
        lost: called, from another thread, when it could not be renewed: whatever runs must stop.
        name: which lease; run, revert and purge share one.

    Raises:
        LeaseHeldError: somebody else holds it.
        StoppedError: told to stop while waiting.
    """
    owner = uuid.uuid4().hex
    _take(journal, owner, seconds, stopping, name)
    over = threading.Event()
    alive = True

    def beat() -> None:
        nonlocal alive
        while not over.wait(seconds / 3):
            try:
                journal.renew(owner, name=name, seconds=seconds)
            except RunError as error:
                alive = False
                lost(error)
                return

    thread = threading.Thread(target=beat, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        if alive:
            # Where the database is gone, the lease ends by itself.
            with contextlib.suppress(RunError):
                journal.release(owner, name=name)


def _take(journal: Journal, owner: str, seconds: float, stopping: threading.Event, name: str) -> None:
    until: float | None = None
    while left := journal.acquire(owner, name=name, seconds=seconds):
        # Whoever holds it may have asked for longer than we do.
        until = until or time.monotonic() + max(seconds, left) + 1
        if time.monotonic() > until:
            what = "run, revert or purge" if name == "engine" else "sync of these two stores"
            raise LeaseHeldError(
                f"another {what} is at work on {journal.database}: see 'migrate-storage status', then wait for it or stop it"
            )
        if stopping.wait(min(left, 0.5)):
            raise StoppedError("stopped while waiting for the lease")
