"""Listeners that show a run: a live display, plain lines or JSON lines.

Each is a context manager, and is called with every event. A call takes about 1 microsecond, because it only counts.
The counts are drawn a few times a second.
"""

from __future__ import annotations

from typing import IO

from migrate_storage.reporting.progress.json_lines import JsonLines
from migrate_storage.reporting.progress.live import LiveDisplay, find_terminal
from migrate_storage.reporting.progress.plain import Lines, Shown

__all__ = ("shown_on",)


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
        return Shown()
    console = find_terminal(stream)
    return Lines(stream) if console is None else LiveDisplay(console)
