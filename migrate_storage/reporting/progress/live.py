"""A run on a terminal: a bar that is drawn a few times a second, on what was counted; news scrolls above it."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from migrate_storage.core.events import Behind, Event, Noted, RunStarted
from migrate_storage.core.model import Severity
from migrate_storage.core.text import amount, duration, size
from migrate_storage.reporting.progress.plain import behind, noted, started
from migrate_storage.reporting.progress.state import ProgressState

__all__ = ("LiveDisplay",)


REFRESHES_PER_SECOND = 5


class LiveDisplay:
    """A bar with objects, bytes, rate, time left and failures so far; news scrolls above it."""

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Draw on ``console``, a few times a second."""
        self._console = console
        self._tally = ProgressState(clock)
        self._live = Live(
            console=console,
            refresh_per_second=REFRESHES_PER_SECOND,
            get_renderable=self.render,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __call__(self, event: Event) -> None:
        """Take one event; drawing is left to the display's own thread."""
        self._tally.add(event)
        if isinstance(event, RunStarted):
            self._console.print(Text(started(event), style="bold"))
        elif isinstance(event, Noted) and event.note.severity is not Severity.INFO:
            self._console.print(Text(noted(event.note), style="yellow"))
        elif isinstance(event, Behind):
            self._console.print(Text(behind(event)))

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def render(self) -> RenderableType:
        """Return what is drawn now."""
        tally = self._tally
        if tally.start is None:
            return Text("Looking at the stores and the rows ...", style="dim")
        share = tally.done
        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            ProgressBar(total=1.0, completed=share or 0.0, width=40, pulse=share is None),
            Text("" if share is None else f"{share:4.0%}"),
            Text(_clock_line(tally), style="dim"),
        )
        numbers = Text.assemble(
            (amount(tally.objects, "object"), "bold"),
            f" at {tally.objects / tally.seconds:,.0f}/s   ",
            (size(tally.bytes), "bold"),
            f" at {size(tally.bytes / tally.seconds)}/s   ",
            (f"{tally.failures:,} to look at", "bold red" if tally.failures else "green"),
        )
        failed = [f"{count:,} {kind.value}" for kind, count in sorted(tally.kinds.items()) if not kind.done]
        more = [Text("  " + ", ".join(failed), style="red")] if failed else []
        if tally.held:
            more.append(Text("  " + tally.held, style="yellow"))
        return Group(bar, numbers, *more)


def _clock_line(tally: ProgressState) -> str:
    number = f"pass {tally.passes}, " if tally.passes > 1 else ""
    left = "" if tally.left is None or tally.state else f", {duration(tally.left)} left"
    return f"{number}{duration(tally.seconds)}{left}"
