"""Obey control requests from the journal, and write a run's progress there.

No port is open. Everyone with the right to write the journal's tables can pause, resume, retune or stop a run, from another
terminal or another machine. The run polls the journal once a second.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from sqlalchemy.exc import SQLAlchemyError

from migrate_storage.core.errors import RunError
from migrate_storage.database.load_monitor import LoadMonitor
from migrate_storage.engine.concurrency import ConcurrencyLimiter
from migrate_storage.stores.rate_limit import StoreLimits

__all__ = ("CONTROL_POLL_SECONDS", "PAUSED", "ControlChannel", "ControlLoop")

CONTROL_POLL_SECONDS = 1.0
"""Seconds between two polls."""
LAST_POLL_TIMEOUT_SECONDS = 5.0
"""Seconds for which the last poll is waited for."""
PAUSED = "asked to pause by 'migrate-storage control'"


class ControlChannel(Protocol):
    """Where requests are read and progress is written: the journal, or a shard."""

    def control(self, run: str) -> Mapping[str, Any]:
        """Return what was requested of a run."""

    def update(self, run: str, *, progress: str) -> None:
        """Write the run's progress, as JSON."""


class ControlLoop:
    """Applies the requests for one run.

    Args:
        journal: where requests are read and progress is written.
        run: the run's id.
        limiter: paused, resumed and resized.
        limits: its bandwidth and request rate are set.
        stop: called when the run is to end.
        pressure: asked whether the load of the database requires a pause.
        state: returns the run's progress, as values for JSON.
    """

    def __init__(
        self,
        journal: ControlChannel,
        run: str,
        *,
        limiter: ConcurrencyLimiter,
        limits: StoreLimits,
        stop: Callable[[], None],
        pressure: LoadMonitor,
        state: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._journal, self._run = journal, run
        self._limiter, self._limits, self._stop = limiter, limits, stop
        self._pressure, self._state = pressure, state
        self._applied: Mapping[str, Any] = {}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Poll from another thread while the block runs."""
        over = threading.Event()

        def poll_until_over() -> None:
            while not over.wait(CONTROL_POLL_SECONDS):
                self.poll()

        self.poll()
        thread = threading.Thread(target=poll_until_over, name="control", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            # A poll of a database that does not answer takes longer; the run does not wait for its end.
            thread.join(LAST_POLL_TIMEOUT_SECONDS)

    def poll(self) -> None:
        """Apply requests and write the progress; a failed query waits for the next poll."""
        requested: Mapping[str, Any] = self._applied
        with contextlib.suppress(RunError, SQLAlchemyError):
            requested = self._journal.control(self._run)
        self._apply(requested)
        self._limiter.pause(PAUSED if requested.get("paused") else self._pressure.ask())
        with contextlib.suppress(RunError, SQLAlchemyError):
            self._journal.update(self._run, progress=json.dumps(self._describe_progress()))

    def _apply(self, requested: Mapping[str, Any]) -> None:
        new = {name: value for name, value in requested.items() if self._applied.get(name, ...) != value}
        self._applied = requested
        if "concurrency" in new:
            self._limiter.resize(int(new["concurrency"]))
        if "bandwidth" in new:
            self._limits.bandwidth.set(new["bandwidth"])
        if "requests_per_second" in new:
            self._limits.requests.set(new["requests_per_second"])
        if new.get("stop"):
            self._stop()

    def _describe_progress(self) -> dict[str, Any]:
        limiter, limits = self._limiter, self._limits
        return {
            "paused": limiter.paused, "concurrency": limiter.limit, "most_concurrency": limiter.max_limit,
            "bandwidth": limits.bandwidth.per_second, "requests_per_second": limits.requests.per_second,
            **self._state(),
        }  # fmt: skip
