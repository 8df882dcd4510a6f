"""Show a run to programs: one JSON object a line."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, fields
from typing import IO, Any

from migrate_storage.core import events
from migrate_storage.reporting import Report, outcome_to_dict
from migrate_storage.reporting.combined import CombinedReport
from migrate_storage.reporting.progress.plain import Periodic
from migrate_storage.reporting.progress.state import ProgressState

__all__ = ("JsonLines", "describe")


_EVENTS = {
    events.RunStarted: "run_started",
    events.PassStarted: "pass_started",
    events.ThrottleChanged: "throttle",
    events.SourceListed: "source_listed",
    events.ObjectsFinished: "objects_finished",
    events.SyncLag: "sync_lag",
    events.RunFinished: "run_finished",
    events.BytesTransferred: "bytes",
    events.CensusAdvanced: "census",
    events.ShardsProgressed: "shards",
}


def describe(event: events.Event) -> tuple[str, dict[str, Any]]:
    """Return the name and the fields of an event, as in docs/events.md."""
    if isinstance(event, events.ObjectFinished):
        return "object_finished", outcome_to_dict(event.outcome)
    if isinstance(event, events.DiagnosticRaised):
        return "diagnostic", asdict(event.note)
    return _EVENTS[type(event)], {attribute.name: getattr(event, attribute.name) for attribute in fields(event)}


class JsonLines(Periodic):
    """Writes one JSON object a line. The documentation's page on events lists them.

    Bytes are written as ``progress``, about once a second. :meth:`report` writes the last line.

    Args:
        stream: The stream.
        every: The interval in seconds.
        clock: Returns the time in seconds.
        keyed: Whether several runs follow each other. Then each line has the ``key`` that its run leaves.
    """

    _EVERY_SECONDS = 1.0

    def __init__(
        self,
        stream: IO[str],
        *,
        every: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        keyed: bool = False,
    ) -> None:
        super().__init__(stream, every=every, clock=clock)
        self._keyed, self._key = keyed, ""

    def __call__(self, event: events.Event) -> None:
        """Write one event, and ``progress`` if it is due."""
        if isinstance(event, events.RunStarted) and self._keyed:
            self._key, self._state = event.source, ProgressState(self._clock)
        self._state.add(event)
        if isinstance(event, events.RunFinished):
            self._write_progress()
        due = self._is_due()
        periodic = events.BytesTransferred | events.ShardsProgressed | events.CensusAdvanced
        if not isinstance(event, periodic) or (due and isinstance(event, events.CensusAdvanced)):
            self._write(*describe(event))
        if due:
            self._write_progress()

    def report(self, report: Report | CombinedReport) -> None:
        """Write the report as the last line; those of several runs one by one, and then how each of them ended."""
        if isinstance(report, Report):
            self._write("report", report.to_dict())
            return
        for each in report.reports:
            self._key = each.source
            self._write("report", each.to_dict())
        self._key = ""
        self._write("reports", report.to_dict())

    def _write_progress(self) -> None:
        state, left = self._state, self._state.seconds_left
        values = {"objects": state.objects, "rows": state.rows, "rows_total": state.rows_total, "bytes": state.bytes}
        seconds = {"seconds": round(state.seconds, 3), "seconds_left": left and round(left, 1)}
        self._write("progress", {**values, "failures": state.failures, **seconds})

    def _write(self, event: str, values: dict[str, Any]) -> None:
        # ASCII only, so that a key cannot contain a line break or a terminal's control sequence.
        key = {"key": self._key} if self._key else {}
        self._stream.write(json.dumps({"event": event, **key, **values}, default=str) + "\n")
        if event != "object_finished":
            self._stream.flush()
