"""Listeners that show a run: a live display on a terminal, plain lines elsewhere, JSON lines for machines.

Each is a context manager that is called with every event. A call costs about a microsecond, because it only counts;
drawing happens a few times a second, on what was counted.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from types import TracebackType
from typing import IO, Any, Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from migrate_storage.events import (
    Behind,
    BytesMoved,
    Event,
    ItemFinished,
    ItemsFinished,
    Listed,
    Noted,
    PaceChanged,
    PassStarted,
    RangesAdvanced,
    RunFinished,
    RunStarted,
)
from migrate_storage.model import Note, OutcomeKind, Severity
from migrate_storage.report import Report, outcome_to_dict
from migrate_storage.text import amount, duration, size, visible

__all__ = ("JsonLines", "Lines", "LiveDisplay", "Quiet", "Seen", "Shown", "shown_on", "told")

REFRESHES_PER_SECOND = 5
SECONDS_BETWEEN_LINES = 5.0
SECONDS_BETWEEN_JSON = 1.0


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


@dataclass
class Seen:
    """What was seen so far. Plain additions, no lock: events come one call at a time."""

    clock: Callable[[], float] = time.monotonic
    began: float = 0.0
    start: RunStarted | None = None
    passes: int = 0
    objects: int = 0
    rows: int = 0
    bytes: int = 0
    failures: int = 0
    state: str = ""
    listed: int | None = None
    #: How many ranges are done, of how many.
    ranges: tuple[int, int] | None = None
    pace: PaceChanged | None = None
    kinds: Counter[OutcomeKind] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.began = self.clock()

    def add(self, event: Event) -> None:
        """Count one event."""
        if isinstance(event, BytesMoved):
            self.bytes += event.count
        elif isinstance(event, ItemFinished):
            outcome = event.outcome
            self.objects += 1
            self.kinds[outcome.kind] += 1
            if not outcome.kind.done:
                self.failures += 1
            for ref in outcome.refs:
                if not ref.index:  # a list of files is one row: its first slot stands for it
                    self.rows += 1
        elif isinstance(event, ItemsFinished):
            self.objects += event.objects
            self.rows += event.rows
            self.kinds[event.kind] += event.objects
        elif isinstance(event, RangesAdvanced):
            self.objects, self.bytes, self.failures, self.rows = event.objects, event.bytes, event.listed, event.rows
            self.ranges = (event.done, event.ranges)
        elif isinstance(event, PassStarted):
            self.passes = event.number
        elif isinstance(event, RunStarted):
            self.start = event
        elif isinstance(event, Listed):
            self.listed = event.objects
        elif isinstance(event, PaceChanged):
            self.pace = event
        elif isinstance(event, RunFinished):
            self.state = event.state

    @property
    def seconds(self) -> float:
        """Since the display began."""
        return max(self.clock() - self.began, 1e-9)

    @property
    def total(self) -> int | None:
        """Rows to go through, where they were counted."""
        return self.start.rows if self.start else None

    @property
    def done(self) -> float | None:
        """The share that is done, from 0 to 1; ``None`` where the total is unknown."""
        if self.state == "finished":
            return 1.0
        if self.ranges is not None:
            return self.ranges[0] / max(self.ranges[1], 1)
        gone, whole = (self.rows, self.total) if self.total is not None else (self.objects, self.listed)
        if whole is None:
            return None
        return min(gone / whole, 1.0) if whole else 1.0

    @property
    def left(self) -> float | None:
        """Seconds that the rest will take at the speed so far; ``None`` while nobody can know."""
        share = self.done
        if not share or not (self.rows or self.objects) or self.seconds < 1:
            return None
        return self.seconds * (1 - share) / share

    @property
    def held(self) -> str:
        """Why the run is slower than asked for, in a few words; empty where it is not."""
        if self.pace is None or self.state:
            return ""
        if self.pace.paused:
            return visible(f"paused: {self.pace.paused}")
        if self.pace.concurrency < self.pace.most_concurrency:
            return f"slowed down to {self.pace.concurrency:,} of {self.pace.most_concurrency:,} at once"
        return ""

    def line(self) -> str:
        """Return the state as one line of plain text."""
        share = "" if self.done is None else f"{self.done:.0%}, "
        left = "" if self.left is None or self.state else f", {duration(self.left)} left"
        failures = f", {amount(self.failures, 'object')} to look at" if self.failures else ""
        held = f", {self.held}" if self.held else ""
        return (
            f"{share}{amount(self.objects, 'object')}, {size(self.bytes)}, {self.objects / self.seconds:,.0f} objects/s, "
            f"{size(self.bytes / self.seconds)}/s{failures}{left}{held}"
        )


def _started(event: RunStarted) -> str:
    if event.kind in ("check", "sync"):
        what = "Plan of a" if event.dry_run and event.kind == "sync" else "Resuming" if event.resumed else "Begun"
        return visible(f"{what} {event.kind} {event.run}: {event.source} -> {event.destination} ({event.reason})")
    what = "Plan" if event.dry_run else "Resuming run" if event.resumed else "Run"
    rows = "" if event.rows is None else f", {amount(event.rows, 'row')} to go"
    return visible(
        f"{what} {event.run}: {event.source} -> {event.destination}{rows} ({event.way.value}: {event.reason})"
    )


def _behind(event: Behind) -> str:
    if not event.objects:
        return "The destination is level with the source."
    oldest = f", the oldest by {duration(event.seconds)}" if event.seconds else ""
    return f"The destination was behind by {amount(event.objects, 'object')}, {size(event.bytes)}{oldest}."


def _noted(note: Note) -> str:
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


class Lines:
    """A plain line every few seconds, for logs and pipes."""

    def __init__(
        self,
        stream: IO[str],
        *,
        every: float = SECONDS_BETWEEN_LINES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Write to ``stream``, at most one line of progress in ``every`` seconds of ``clock``."""
        self._stream = stream
        self._every = every
        self._clock = clock
        self._tally = Seen(clock)
        self._due = clock() + every

    def __call__(self, event: Event) -> None:
        """Take one event; write only when a line is due."""
        self._tally.add(event)
        if isinstance(event, RunStarted):
            self._write(_started(event))
        elif isinstance(event, Noted) and event.note.severity is not Severity.INFO:
            self._write(_noted(event.note))
        elif isinstance(event, Behind):
            self._write(_behind(event))
        elif isinstance(event, RunFinished):
            self._write(self._tally.line())
        elif (now := self._clock()) >= self._due:
            self._due = now + self._every
            self._write(self._tally.line())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.flush()

    def _write(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()


_EVENTS = {
    RunStarted: "run_started",
    PassStarted: "pass_started",
    PaceChanged: "pace",
    Listed: "listed",
    ItemsFinished: "items",
    Behind: "behind",
    RunFinished: "run_finished",
    BytesMoved: "bytes",
    RangesAdvanced: "ranges",
}


def told(event: Event) -> tuple[str, dict[str, Any]]:
    """Return an event's name and its fields, as the documentation's page on events has them."""
    if isinstance(event, ItemFinished):
        return "item", outcome_to_dict(event.outcome)
    if isinstance(event, Noted):
        return "note", asdict(event.note)
    return _EVENTS[type(event)], {each.name: getattr(event, each.name) for each in fields(event)}


class JsonLines:
    """One JSON object a line: ``run_started``, ``pass_started``, ``item``, ``note``, ``pace``, ``progress``, ``run_finished``.

    Bytes come as ``progress``, about once a second. :meth:`report` writes the last line. The documentation's page
    on events lists every name.
    """

    def __init__(
        self,
        stream: IO[str],
        *,
        every: float = SECONDS_BETWEEN_JSON,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Write to ``stream``, at most one ``progress`` in ``every`` seconds of ``clock``."""
        self._stream = stream
        self._every = every
        self._clock = clock
        self._tally = Seen(clock)
        self._due = clock() + every

    def __call__(self, event: Event) -> None:
        """Take one event."""
        self._tally.add(event)
        if isinstance(event, RunFinished):
            self._progress()
        if not isinstance(event, BytesMoved | RangesAdvanced):
            self._write(*told(event))
        if (now := self._clock()) >= self._due:
            self._due = now + self._every
            self._progress()

    def report(self, report: Report) -> None:
        """Write the report as the last line."""
        self._write("report", report.to_dict())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.flush()

    def _progress(self) -> None:
        tally = self._tally
        values = {"objects": tally.objects, "rows": tally.rows, "rows_total": tally.total, "bytes": tally.bytes}
        seconds = {"seconds": round(tally.seconds, 3), "seconds_left": tally.left and round(tally.left, 1)}
        self._write("progress", {**values, "failures": tally.failures, **seconds})

    def _write(self, event: str, values: dict[str, Any]) -> None:
        # ASCII only: whatever is in a key stays on its line and cannot speak to a terminal.
        self._stream.write(json.dumps({"event": event, **values}, default=str) + "\n")
        if event != "item":
            self._stream.flush()


class LiveDisplay:
    """A bar with objects, bytes, rate, time left and failures so far; news scrolls above it."""

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Draw on ``console``, a few times a second."""
        self._console = console
        self._tally = Seen(clock)
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
            self._console.print(Text(_started(event), style="bold"))
        elif isinstance(event, Noted) and event.note.severity is not Severity.INFO:
            self._console.print(Text(_noted(event.note), style="yellow"))
        elif isinstance(event, Behind):
            self._console.print(Text(_behind(event)))

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


def _clock_line(tally: Seen) -> str:
    number = f"pass {tally.passes}, " if tally.passes > 1 else ""
    left = "" if tally.left is None or tally.state else f", {duration(tally.left)} left"
    return f"{number}{duration(tally.seconds)}{left}"
