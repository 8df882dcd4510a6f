"""Listeners that show a run: a live display, plain lines or JSON lines.

Each is a context manager, and is called with every event. A call takes about 1 microsecond, because it only counts.
The counts are drawn a few times a second.
"""

from __future__ import annotations

from typing import IO

from migrate_storage.reporting.progress.json_lines import JsonLines
from migrate_storage.reporting.progress.live import LiveDisplay, find_terminal
from migrate_storage.reporting.progress.plain import Lines, Shown
from migrate_storage.reporting.progress.several import EachShown

__all__ = ("shown_on",)


def shown_on(
    stream: IO[str], *, as_json: bool = False, quiet: bool = False, lines: IO[str] | None = None, several: bool = False
) -> Shown:
    """Return the listener for a stream: a live display on a terminal, or lines.

    Args:
        stream: The stream for a person. It is standard error, because standard output is for the report.
        as_json: Write JSON to ``lines`` instead.
        quiet: Write nothing.
        lines: The stream for a program; only needed with ``as_json``.
        several: Whether several runs follow each other. Each has a display of its own, and each line of JSON has its key.
    """
    if as_json and lines is not None and several:
        return JsonLines(lines, keyed=True)
    if several and not quiet:
        return EachShown(lambda: shown_on(stream))
    if as_json and lines is not None:
        return JsonLines(lines)
    if quiet:
        return Shown()
    console = find_terminal(stream)
    return Lines(stream) if console is None else LiveDisplay(console)
