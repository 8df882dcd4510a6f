"""Show a run on a terminal: a bar, with notes that scroll above it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import IO, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from migrate_storage.core.events import DiagnosticRaised, Event, RunStarted, SyncLag
from migrate_storage.core.model import Severity
from migrate_storage.core.text import amount, duration, size
from migrate_storage.reporting.progress.plain import Shown, describe_lag, describe_note, describe_start
from migrate_storage.reporting.progress.state import ProgressState

__all__ = ("LiveDisplay", "find_terminal")


REFRESHES_PER_SECOND = 5


def find_terminal(stream: IO[str]) -> Console | None:
    """Return the terminal that a stream writes to; ``None`` where it is none, or shows lines only."""
    # rich itself obeys `NO_COLOR` and `TERM=dumb`.
    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    return console if console.is_terminal and not console.is_dumb_terminal else None


class LiveDisplay(Shown):
    """A bar with objects, bytes, rate, time left and failures so far."""

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Draw on ``console`` :data:`REFRESHES_PER_SECOND` times a second."""
        self._console = console
        self._state = ProgressState(clock)
        self._live = Live(
            console=console,
            refresh_per_second=REFRESHES_PER_SECOND,
            get_renderable=self.render,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __call__(self, event: Event) -> None:
        """Count one event. The display's own thread draws."""
        self._state.add(event)
        if isinstance(event, RunStarted):
            self._console.print(Text(describe_start(event), style="bold"))
        elif isinstance(event, DiagnosticRaised) and event.note.severity is not Severity.INFO:
            self._console.print(Text(describe_note(event.note), style="yellow"))
        elif isinstance(event, SyncLag):
            self._console.print(Text(describe_lag(event)))

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def render(self) -> RenderableType:
        """Return the current picture."""
        state = self._state
        if state.start is None:
            return Text("Reading the stores and the rows ...", style="dim")
        share = state.share
        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            ProgressBar(total=1.0, completed=share or 0.0, width=40, pulse=share is None),
            Text("" if share is None else f"{share:4.0%}"),
            Text(_render_clock(state), style="dim"),
        )
        numbers = Text.assemble(
            (amount(state.objects, "object"), "bold"),
            f" at {state.objects / state.seconds:,.0f}/s   ",
            (size(state.bytes), "bold"),
            f" at {size(state.bytes / state.seconds)}/s   ",
            (amount(state.failures, "problem"), "bold red" if state.failures else "green"),
        )
        failed = [f"{count:,} {kind.words}" for kind, count in sorted(state.kinds.items()) if not kind.done]
        more = [Text("  " + ", ".join(failed), style="red")] if failed else []
        if state.slowdown:
            more.append(Text("  " + state.slowdown, style="yellow"))
        if state.searched:
            more.append(Text("  " + state.searched, style="dim"))
        return Group(bar, numbers, *more)


def _render_clock(state: ProgressState) -> str:
    number = f"pass {state.passes}, " if state.passes > 1 else ""
    left = "" if state.seconds_left is None or state.state else f", {duration(state.seconds_left)} left"
    return f"{number}{duration(state.seconds)}{left}"
