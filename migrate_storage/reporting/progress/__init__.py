"""Listeners that show a run: a live display on a terminal, plain lines elsewhere, JSON lines for machines.

Each is a context manager that is called with every event. A call costs about a microsecond, because it only counts;
drawing happens a few times a second, on what was counted.
"""

from __future__ import annotations

from types import TracebackType
from typing import IO, Protocol, Self

from rich.console import Console

from migrate_storage.core.events import Event
from migrate_storage.reporting.progress.json_lines import JsonLines
from migrate_storage.reporting.progress.live import LiveDisplay
from migrate_storage.reporting.progress.plain import Lines, Quiet

__all__ = (
    "Shown",
    "shown_on",
)


class Shown(Protocol):
    """A listener that is open while the run goes on."""

    def __call__(self, event: Event) -> None:
        """Take one event."""

    def __enter__(self) -> Self:
        """Begin to show."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the screen as a reader wants to find it."""


def shown_on(stream: IO[str], *, as_json: bool = False, quiet: bool = False, lines: IO[str] | None = None) -> Shown:
    """Return the listener that suits a stream: live on a terminal, lines in a file or pipe.

    Args:
        stream: Where a person reads; standard error, so that standard output holds the report alone.
        as_json: Speak JSON on ``lines`` instead.
        quiet: Say nothing.
        lines: Where a machine reads; only needed with ``as_json``.
    """
    if as_json and lines is not None:
        return JsonLines(lines)
    if quiet:
        return Quiet()
    # `NO_COLOR` and `TERM=dumb` are rich's own business.
    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    return LiveDisplay(console) if console.is_terminal and not console.is_dumb_terminal else Lines(stream)
