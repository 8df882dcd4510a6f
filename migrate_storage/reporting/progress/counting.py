"""Show how many keys a command has compared or repaired so far."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import IO, Self

from rich.live import Live
from rich.text import Text

from migrate_storage.core.text import amount, duration
from migrate_storage.reporting.progress.live import REFRESHES_PER_SECOND, find_terminal
from migrate_storage.reporting.progress.plain import Periodic

__all__ = ("Counting",)


class Counting(Periodic):
    """Shows a count: in one line that changes on a terminal, else in a line every few seconds.

    Args:
        stream: the stream for a person.
        quiet: whether to show nothing.
        clock: returns the time in seconds.
    """

    def __init__(self, stream: IO[str], *, quiet: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream, clock=clock)
        self._quiet, self._count, self._started = quiet, 0, clock()
        self._live: Live | None = None
        if not quiet and (console := find_terminal(stream)) is not None:
            self._live = Live(
                console=console,
                refresh_per_second=REFRESHES_PER_SECOND,
                get_renderable=lambda: Text(self.line(), style="dim"),
                redirect_stdout=False,
                redirect_stderr=False,
                transient=True,
            )

    def add(self) -> None:
        """Count one key, and write a line if one is due."""
        self._count += 1
        if self._live is None and not self._quiet and self._is_due():
            self._stream.write(self.line() + "\n")
            self._stream.flush()

    def line(self) -> str:
        """Return the current count as text."""
        return f"{amount(self._count, 'key')} compared or repaired, {duration(self._clock() - self._started)}"

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
