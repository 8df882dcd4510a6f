"""The counts and rates of a run so far, which every display shows."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from migrate_storage.core import events
from migrate_storage.core.model import OutcomeKind
from migrate_storage.core.text import amount, duration, size, visible

__all__ = ("ProgressState",)

_COPY_SHARE = 0.9
"""The share of the work on an object that is done when it is copied."""


class ProgressState:
    """The sum of all events so far, which only :meth:`add` changes.

    Args:
        clock: Returns the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._began = clock, clock()
        self.start: events.RunStarted | None = None
        self.passes = self.objects = self.rows = self.bytes = self.failures = 0
        self.kinds: Counter[OutcomeKind] = Counter()
        #: How the run ended; empty until then.
        self.state = ""
        self._listed: int | None = None
        #: Objects that were copied, whether their rows are re-pointed or not.
        self._copied = 0
        #: Shards that are done, and all shards.
        self._shards: tuple[int, int] | None = None
        self._pace: events.ThrottleChanged | None = None
        self._census: events.CensusAdvanced | None = None

    def add(self, event: events.Event) -> None:
        """Count one event."""
        match event:
            case events.BytesTransferred():
                self.bytes += event.count
                self._copied += event.objects
            case events.ObjectFinished(outcome=outcome):
                self.objects += 1
                self.kinds[outcome.kind] += 1
                self.failures += not outcome.kind.done
                # A list of files is one row, which its first file counts for.
                self.rows += sum(not any(isinstance(part, int) and part for part in ref.path) for ref in outcome.refs)
            case events.ObjectsFinished():
                self.objects += event.objects
                self.rows += event.rows
                self.kinds[event.kind] += event.objects
            case events.ShardsProgressed():
                self.objects, self.bytes, self.failures = event.objects, event.bytes, event.problems
                self.rows, self._shards = event.rows, (event.done, event.shards)
            case events.PassStarted():
                self.passes = event.number
            case events.RunStarted():
                self.start = event
            case events.SourceListed():
                self._listed = event.objects
            case events.ThrottleChanged():
                self._pace = event
            case events.CensusAdvanced():
                self._census = event
            case events.RunFinished():
                self.state = event.state

    @property
    def seconds(self) -> float:
        """Seconds since the display began."""
        return max(self._clock() - self._began, 1e-9)

    @property
    def rows_total(self) -> int | None:
        """Rows to process, if they were counted."""
        return self.start.rows if self.start else None

    @property
    def share(self) -> float | None:
        """The share that is done, from 0 to 1; ``None`` if the total is unknown."""
        if self.state == "completed":
            return 1.0
        if self._shards is not None:
            return self._shards[0] / max(self._shards[1], 1)
        done, total = (self.rows, self.rows_total) if self.rows_total is not None else (self.objects, self._listed)
        if total is None:
            return None
        if not total:
            return 1.0
        # Rows are re-pointed in batches, some time after their objects were copied.
        rows, copied = min(done / total, 1.0), min(self._copied / total, 1.0)
        return rows + max(copied - rows, 0.0) * _COPY_SHARE

    @property
    def seconds_left(self) -> float | None:
        """Seconds for the rest at the rate so far; ``None`` without a rate."""
        share = self.share
        if not share or not (self.rows or self.objects or self._copied) or self.seconds < 1:
            return None
        return self.seconds * (1 - share) / share

    @property
    def slowdown(self) -> str:
        """Why the run is slower than requested, in a few words; empty if it is not."""
        if self._pace is None or self.state:
            return ""
        if self._pace.paused:
            return visible(f"paused: {self._pace.paused}")
        if self._pace.concurrency < self._pace.most_concurrency:
            return f"slowed down to {self._pace.concurrency:,} of {self._pace.most_concurrency:,} at once"
        return ""

    @property
    def searched(self) -> str:
        """How far the census is, in a few words; empty before it and after it."""
        event = self._census
        if event is None or self.state or event.done == event.tables:
            return ""
        tables = f"{event.done:,} of {amount(event.tables, 'table')}"
        return visible(f"searching {event.table}, {tables} and {amount(event.rows, 'row')} done")

    def line(self) -> str:
        """Return the state as one line of plain text."""
        share = "" if self.share is None else f"{self.share:.0%}, "
        left = "" if self.seconds_left is None or self.state else f", {duration(self.seconds_left)} left"
        failures = f", {amount(self.failures, 'problem')}" if self.failures else ""
        more = "".join(f", {words}" for words in (self.slowdown, self.searched) if words)
        return (
            f"{share}{amount(self.objects, 'object')}, {size(self.bytes)}, {self.objects / self.seconds:,.0f} objects/s, "
            f"{size(self.bytes / self.seconds)}/s{failures}{left}{more}"
        )
