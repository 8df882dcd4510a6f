"""A run in a file or a pipe: news as they come, and a line of progress every few seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import IO, Self

from migrate_storage.core.events import Behind, Event, Noted, RunFinished, RunStarted
from migrate_storage.core.model import Note, Severity
from migrate_storage.core.text import amount, duration, size, visible
from migrate_storage.reporting.progress.state import ProgressState

__all__ = (
    "Lines",
    "Periodic",
    "Quiet",
)


class Periodic:
    """Writes to a stream, what is due every few seconds among it.

    Args:
        stream: where to.
        every: seconds.
        clock: seconds, for tests.
    """

    def __init__(self, stream: IO[str], every: float, clock: Callable[[], float]) -> None:
        self._stream, self._every, self._clock = stream, every, clock
        self._tally = ProgressState(clock)
        self._due = clock() + every

    def _is_due(self) -> bool:
        """Whether it is time again; asked once for each time."""
        if (now := self._clock()) < self._due:
            return False
        self._due = now + self._every
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.flush()


SECONDS_BETWEEN_LINES = 5.0


_PLAIN_VERIFY = "looked at"
"""The reason of a verify that neither reads both sides nor opens a second backend: not worth a word."""


def started(event: RunStarted) -> str:
    """Return the line that announces a job: what it does to what, and why so."""
    ends = event.source if event.source == event.destination else f"{event.source} -> {event.destination}"
    resumed = event.resumed and event.same_run
    earlier = " (continues earlier runs)" if event.resumed and not event.same_run else ""
    if event.kind == "run":
        what = "Plan" if event.dry_run else "Resuming run" if resumed else "Run"
        rows = "" if event.rows is None else f", {amount(event.rows, 'row')} to go"
        ends = f"{event.source} -> {event.destination}"
        return visible(f"{what} {event.run}: {ends}{rows} ({event.way.value}: {event.reason}){earlier}")
    if event.kind in ("verify", "orphans"):
        doing = "Verifying" if event.kind == "verify" else "Orphans of"
        how = "" if event.reason == _PLAIN_VERIFY else f": {event.reason}"
        return visible(f"{doing} {event.source} (run {event.run}){how}")
    plans = event.dry_run and event.kind != "check"
    what = "Plan of a" if plans else "Resuming" if resumed else "Begun"
    return visible(f"{what} {event.kind} {event.run}: {ends} ({event.reason}){earlier}")


def behind(event: Behind) -> str:
    if not event.objects:
        return "The destination is level with the source."
    oldest = f", the oldest by {duration(event.seconds)}" if event.seconds else ""
    return f"The destination was behind by {amount(event.objects, 'object')}, {size(event.bytes)}{oldest}."


def noted(note: Note) -> str:
    subject = f"{note.subject}: " if note.subject else ""
    todo = f" - {note.todo}" if note.todo else ""
    return visible(f"{note.severity.value}: {subject}{note.message}{todo}")


class Quiet:
    """Shows nothing."""

    def __call__(self, event: Event) -> None:
        """Take one event, and say nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None


class Lines(Periodic):
    """A plain line every few seconds, for logs and pipes."""

    def __init__(
        self, stream: IO[str], *, every: float = SECONDS_BETWEEN_LINES, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Write to ``stream``, at most one line of progress in ``every`` seconds of ``clock``."""
        super().__init__(stream, every, clock)

    def __call__(self, event: Event) -> None:
        """Take one event; write only when a line is due."""
        self._tally.add(event)
        if isinstance(event, RunStarted):
            self._write(started(event))
        elif isinstance(event, Noted) and event.note.severity is not Severity.INFO:
            self._write(noted(event.note))
        elif isinstance(event, Behind):
            self._write(behind(event))
        elif isinstance(event, RunFinished) or self._is_due():
            self._write(self._tally.line())

    def _write(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()
