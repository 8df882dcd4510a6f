"""Show a run in a file or a pipe: notes, and a line every few seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import IO, Self

from migrate_storage.core.events import DiagnosticRaised, Event, RunFinished, RunStarted, SyncLag
from migrate_storage.core.model import Note, Severity
from migrate_storage.core.text import amount, duration, size, visible
from migrate_storage.reporting.progress.state import ProgressState

__all__ = ("Lines", "Periodic", "Shown")


class Shown:
    """A listener that is open during a job. This one shows nothing."""

    def __call__(self, event: Event) -> None:
        """Take one event."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None


class Periodic(Shown):
    """Writes to a stream, some of it every few seconds.

    Args:
        stream: The stream.
        every: The interval in seconds; by default that of the class.
        clock: Returns the time in seconds.
    """

    _EVERY_SECONDS = 5.0

    def __init__(
        self, stream: IO[str], *, every: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream, self._clock = stream, clock
        self._every = self._EVERY_SECONDS if every is None else every
        self._state = ProgressState(clock)
        self._due = clock() + self._every

    def _is_due(self) -> bool:
        """Whether the interval has passed. If so, the next interval starts."""
        if (now := self._clock()) < self._due:
            return False
        self._due = now + self._every
        return True

    def __exit__(self, *_: object) -> None:
        self._stream.flush()


_PLAIN_VERIFY = "checked"
"""The reason of a verify without ``--read-content`` and ``--compare-with``, which its first line leaves out."""


def describe_start(event: RunStarted) -> str:
    """Return the first line of a job: what it does, with which backends, and why."""
    ends = event.source if event.source == event.destination else f"{event.source} -> {event.destination}"
    resumed = event.resumed and event.same_run
    earlier = " (continues earlier runs)" if event.resumed and not event.same_run else ""
    if event.job == "run":
        what = "Plan" if event.dry_run else "Resuming run" if resumed else "Run"
        rows = "" if event.rows is None else f", {amount(event.rows, 'row')} to go"
        ends = f"{event.source} -> {event.destination}"
        return visible(f"{what} {event.run}: {ends}{rows} ({event.strategy.words}: {event.reason}){earlier}")
    if event.job == "links":
        return visible(f"Links of {ends} (run {event.run}): {event.reason}{earlier}")
    if event.job in ("verify", "orphans"):
        doing = "Verifying" if event.job == "verify" else "Orphans of"
        how = "" if event.reason == _PLAIN_VERIFY else f": {event.reason}"
        return visible(f"{doing} {event.source} (run {event.run}){how}")
    plans = event.dry_run and event.job != "check"
    what = "Plan of a" if plans else "Resuming" if resumed else "Begun"
    return visible(f"{what} {event.job} {event.run}: {ends} ({event.reason}){earlier}")


def describe_lag(event: SyncLag) -> str:
    """Return the line that reports the lag of a sync."""
    if not event.objects:
        return "The destination is level with the source."
    oldest = f", the oldest by {duration(event.seconds)}" if event.seconds else ""
    return f"The destination was behind by {amount(event.objects, 'object')}, {size(event.bytes)}{oldest}."


def describe_note(note: Note) -> str:
    """Return the line of a note."""
    subject = f"{note.subject}: " if note.subject else ""
    todo = f" - {note.todo}" if note.todo else ""
    return visible(f"{note.severity.value}: {subject}{note.message}{todo}")


class Lines(Periodic):
    """Writes a plain line every few seconds, for logs and pipes."""

    def __call__(self, event: Event) -> None:
        """Count one event, and write a line if one is due."""
        self._state.add(event)
        if isinstance(event, RunStarted):
            self._write(describe_start(event))
        elif isinstance(event, DiagnosticRaised) and event.note.severity is not Severity.INFO:
            self._write(describe_note(event.note))
        elif isinstance(event, SyncLag):
            self._write(describe_lag(event))
        elif isinstance(event, RunFinished) or self._is_due():
            self._write(self._state.line())

    def _write(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()
