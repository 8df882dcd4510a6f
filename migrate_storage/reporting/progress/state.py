"""What a run told so far, counted: the numbers that every display shows."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from migrate_storage.core.events import (
    BytesMoved,
    Event,
    ItemFinished,
    ItemsFinished,
    Listed,
    PaceChanged,
    PassStarted,
    RangesAdvanced,
    RunFinished,
    RunStarted,
)
from migrate_storage.core.model import OutcomeKind
from migrate_storage.core.text import amount, duration, size, visible

__all__ = ("ProgressState",)


@dataclass
class ProgressState:
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
