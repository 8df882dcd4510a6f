"""Show a run to programs: one JSON object a line."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, fields
from typing import IO, Any

from migrate_storage.core.events import (
    Behind,
    BytesMoved,
    Event,
    ItemFinished,
    ItemsFinished,
    Listed,
    Noted,
    PaceChanged,
    PassStarted,
    RangesAdvanced,
    RunFinished,
    RunStarted,
)
from migrate_storage.reporting import Report, outcome_to_dict
from migrate_storage.reporting.progress.plain import Periodic

__all__ = ("JsonLines", "describe")


SECONDS_BETWEEN_JSON = 1.0


_EVENTS = {
    RunStarted: "run_started",
    PassStarted: "pass_started",
    PaceChanged: "pace",
    Listed: "listed",
    ItemsFinished: "items",
    Behind: "behind",
    RunFinished: "run_finished",
    BytesMoved: "bytes",
    RangesAdvanced: "ranges",
}


def describe(event: Event) -> tuple[str, dict[str, Any]]:
    """Return the name and the fields of an event, as in docs/events.md."""
    if isinstance(event, ItemFinished):
        return "item", outcome_to_dict(event.outcome)
    if isinstance(event, Noted):
        return "note", asdict(event.note)
    return _EVENTS[type(event)], {attribute.name: getattr(event, attribute.name) for attribute in fields(event)}


class JsonLines(Periodic):
    """Writes one JSON object a line. The documentation's page on events lists them.

    Bytes are written as ``progress``, about once a second. :meth:`report` writes the last line.
    """

    def __init__(
        self, stream: IO[str], *, every: float = SECONDS_BETWEEN_JSON, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Write to ``stream``, one ``progress`` in ``every`` seconds at most."""
        super().__init__(stream, every, clock)

    def __call__(self, event: Event) -> None:
        """Write one event, and ``progress`` if it is due."""
        self._state.add(event)
        if isinstance(event, RunFinished):
            self._write_progress()
        if not isinstance(event, BytesMoved | RangesAdvanced):
            self._write(*describe(event))
        if self._is_due():
            self._write_progress()

    def report(self, report: Report) -> None:
        """Write the report as the last line."""
        self._write("report", report.to_dict())

    def _write_progress(self) -> None:
        state, left = self._state, self._state.seconds_left
        values = {"objects": state.objects, "rows": state.rows, "rows_total": state.rows_total, "bytes": state.bytes}
        seconds = {"seconds": round(state.seconds, 3), "seconds_left": left and round(left, 1)}
        self._write("progress", {**values, "failures": state.failures, **seconds})

    def _write(self, event: str, values: dict[str, Any]) -> None:
        # ASCII only, so that a key cannot contain a line break or a terminal's control sequence.
        self._stream.write(json.dumps({"event": event, **values}, default=str) + "\n")
        if event != "item":
            self._stream.flush()
