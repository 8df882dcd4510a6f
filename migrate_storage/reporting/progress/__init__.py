"""Listeners that show a run: a live display, plain lines or JSON lines.

Each is a context manager, and is called with every event. A call takes about 1 microsecond, because it only counts.
The counts are drawn a few times a second.
"""

from __future__ import annotations

from types import TracebackType
from typing import IO, Protocol, Self

from rich.console import Console

from migrate_storage.core.events import Event
from migrate_storage.reporting.progress.json_lines import JsonLines
from migrate_storage.reporting.progress.live import LiveDisplay
from migrate_storage.reporting.progress.plain import Lines, Quiet

__all__ = ("Shown", "shown_on")


class Shown(Protocol):
    """A listener that is open during the run."""

    def __call__(self, event: Event) -> None:
        """Count one event."""

    def __enter__(self) -> Self:
        """Start to show the run."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restore the terminal."""


def shown_on(stream: IO[str], *, as_json: bool = False, quiet: bool = False, lines: IO[str] | None = None) -> Shown:
    """Return the listener for a stream: a live display on a terminal, or lines.

    Args:
        stream: The stream for a person. It is standard error, because standard output is for the report.
        as_json: Write JSON to ``lines`` instead.
        quiet: Write nothing.
        lines: The stream for a program; only needed with ``as_json``.
    """
    if as_json and lines is not None:
        return JsonLines(lines)
    if quiet:
        return Quiet()
    # rich itself obeys `NO_COLOR` and `TERM=dumb`.
    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    return LiveDisplay(console) if console.is_terminal and not console.is_dumb_terminal else Lines(stream)
