"""A hand on a run that is under way: what was asked for in the journal is done, and what is done is said there.

No port is open: whoever may write the journal's tables may pause, resume, retune or stop a run, from another terminal
or another machine. The run looks about once a second.
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

__all__ = ("BEAT", "PAUSED", "ControlChannel", "ControlLoop")

BEAT = 1.0
"""Seconds between two looks."""
_PATIENCE = 5.0
"""Seconds that the last look is waited for."""
PAUSED = "asked to pause by 'migrate-storage control'"


class ControlChannel(Protocol):
    """Where wishes are read and the state is written: the journal, or one range of a run in it."""

    def control(self, run: str) -> Mapping[str, Any]:
        """What was asked of a run while it goes on."""

    def update(self, run: str, *, doing: str) -> None:
        """Say what it is doing, as JSON."""


class ControlLoop:
    """Steers one run.

    Args:
        journal: where wishes are read and the state is written.
        run: the run's id.
        gate: paused, resumed and resized.
        pace: its bandwidth is set.
        stop: called once when the run is to end.
        pressure: asked whether the database needs peace.
        state: what the run is doing, as values that JSON can hold.
    """

    def __init__(
        self,
        journal: ControlChannel,
        run: str,
        *,
        gate: ConcurrencyLimiter,
        pace: StoreLimits,
        stop: Callable[[], None],
        pressure: LoadMonitor,
        state: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._journal, self._run = journal, run
        self._gate, self._pace, self._stop = gate, pace, stop
        self._pressure, self._state = pressure, state
        self._obeyed: Mapping[str, Any] = {}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Look again and again, from another thread, while the block runs."""
        over = threading.Event()

        def steer() -> None:
            while not over.wait(BEAT):
                self.poll()

        self.poll()
        thread = threading.Thread(target=steer, name="helm", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            # A database that is gone is asked for a while yet; the run does not wait for that to end.
            thread.join(_PATIENCE)

    def poll(self) -> None:
        """Once: do what is wanted, pause or go on, and say so. A database that does not answer is looked at again later."""
        wanted: Mapping[str, Any] = self._obeyed
        with contextlib.suppress(RunError, SQLAlchemyError):
            wanted = self._journal.control(self._run)
        self._obey(wanted)
        self._gate.pause(PAUSED if wanted.get("paused") else self._pressure.ask())
        with contextlib.suppress(RunError, SQLAlchemyError):
            self._journal.update(self._run, doing=json.dumps(self._progress()))

    def _obey(self, wanted: Mapping[str, Any]) -> None:
        new = {name: value for name, value in wanted.items() if self._obeyed.get(name, ...) != value}
        self._obeyed = wanted
        if "concurrency" in new:
            self._gate.resize(int(new["concurrency"]))
        if "bandwidth" in new:
            self._pace.bandwidth.set(new["bandwidth"])
        if "requests_per_second" in new:
            self._pace.requests.set(new["requests_per_second"])
        if new.get("stop"):
            self._stop()

    def _progress(self) -> dict[str, Any]:
        gate = self._gate
        rates = {"bandwidth": self._pace.bandwidth.per_second, "requests_per_second": self._pace.requests.per_second}
        return {
            "paused": gate.paused,
            "concurrency": gate.limit,
            "most_concurrency": gate.max_limit,
            **rates,
            **self._state(),
        }
