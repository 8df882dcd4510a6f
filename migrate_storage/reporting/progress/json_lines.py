"""A run for machines: one JSON object a line."""

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

__all__ = (
    "JsonLines",
    "told",
)


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


def told(event: Event) -> tuple[str, dict[str, Any]]:
    """Return an event's name and its fields, as the documentation's page on events has them."""
    if isinstance(event, ItemFinished):
        return "item", outcome_to_dict(event.outcome)
    if isinstance(event, Noted):
        return "note", asdict(event.note)
    return _EVENTS[type(event)], {each.name: getattr(event, each.name) for each in fields(event)}


class JsonLines(Periodic):
    """One JSON object a line: ``run_started``, ``pass_started``, ``item``, ``note``, ``pace``, ``progress``, ``run_finished``.

    Bytes come as ``progress``, about once a second. :meth:`report` writes the last line. The documentation's page
    on events lists every name.
    """

    def __init__(
        self, stream: IO[str], *, every: float = SECONDS_BETWEEN_JSON, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Write to ``stream``, at most one ``progress`` in ``every`` seconds of ``clock``."""
        super().__init__(stream, every, clock)

    def __call__(self, event: Event) -> None:
        """Take one event."""
        self._tally.add(event)
        if isinstance(event, RunFinished):
            self._progress()
        if not isinstance(event, BytesMoved | RangesAdvanced):
            self._write(*told(event))
        if self._is_due():
            self._progress()

    def report(self, report: Report) -> None:
        """Write the report as the last line."""
        self._write("report", report.to_dict())

    def _progress(self) -> None:
        tally = self._tally
        values = {"objects": tally.objects, "rows": tally.rows, "rows_total": tally.total, "bytes": tally.bytes}
        seconds = {"seconds": round(tally.seconds, 3), "seconds_left": tally.left and round(tally.left, 1)}
        self._write("progress", {**values, "failures": tally.failures, **seconds})

    def _write(self, event: str, values: dict[str, Any]) -> None:
        # ASCII only: whatever is in a key stays on its line and cannot speak to a terminal.
        self._stream.write(json.dumps({"event": event, **values}, default=str) + "\n")
        if event != "item":
            self._stream.flush()
