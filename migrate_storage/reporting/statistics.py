"""Sums over the journal records of a run, and its slowest objects.

The records are read in batches and only the sums are kept, so memory does not grow with the run.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from migrate_storage.core.model import Column, Outcome, OutcomeKind
from migrate_storage.reporting.move import MoveRun, find_move
from migrate_storage.reporting.report import Report, outcome_to_dict

if TYPE_CHECKING:
    from migrate_storage.journal import Journal, ObjectRecord

__all__ = ("BANDS", "SLOWEST", "Figures", "Share", "Span", "figures")

SLOWEST = 20
"""Number of slowest objects in the figures."""

BANDS = (0, *(8**power for power in range(3, 12)))
"""Largest size of each band in bytes: 0, 512, and so on, each 8 times the one before. Larger objects have a last band."""

_SPAN_SECONDS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)
_MAX_SPANS = 60


@dataclass(slots=True)
class Share:
    """Some of the objects."""

    objects: int = 0
    #: Bytes of the objects whose size is known.
    bytes: int = 0

    def add(self, record: ObjectRecord) -> None:
        """Count one object."""
        self.objects += 1
        self.bytes += record.size or 0

    def to_dict(self) -> dict[str, int]:
        """Return the share as values that JSON can represent."""
        return {"objects": self.objects, "bytes": self.bytes}


@dataclass(slots=True)
class Span(Share):
    """The objects that ended in one span of time."""

    #: Objects among them that are problems.
    problems: int = 0


@dataclass(kw_only=True, slots=True)
class Figures:
    """The sums, which only the ``add`` methods change."""

    #: Objects with a journal record of this run.
    objects: int = 0
    outcomes: dict[OutcomeKind, Share] = field(default_factory=dict)
    #: Objects that are done, by how equality was proved.
    verified_by: dict[str, Share] = field(default_factory=dict)
    #: Objects with a known size, one share for each of :data:`BANDS` and one for larger objects.
    sizes: list[Share] = field(default_factory=lambda: [Share() for _ in (*BANDS, None)])
    #: Start of the run, in seconds since the epoch.
    began: float = 0.0
    #: Seconds of each span.
    step: float = 1.0
    #: The spans from the start of the run to its end.
    spans: list[Span] = field(default_factory=list)
    #: Objects in no span, because their record was written after the run, for example by a purge.
    elsewhen: int = 0
    #: The slowest objects, without their rows.
    slowest: tuple[Outcome, ...] = ()
    #: Rows by column, and by their state in the journal or their outcome in the report.
    columns: dict[str, dict[str, int]] = field(default_factory=dict)
    #: The runs of the same move, this one the last; empty where it is the only one.
    move: tuple[MoveRun, ...] = ()

    def add_object(self, record: ObjectRecord, kind: OutcomeKind) -> None:
        """Count an object with this outcome."""
        self.objects += 1
        self.outcomes.setdefault(kind, Share()).add(record)
        if kind.done and record.evidence:
            self.verified_by.setdefault(record.evidence, Share()).add(record)
        if record.size is not None:
            self.sizes[bisect_left(BANDS, record.size)].add(record)
        number = int((record.updated - self.began) // self.step)
        if 0 <= number < len(self.spans):
            self.spans[number].add(record)
            self.spans[number].problems += not kind.done
        else:
            self.elsewhen += 1

    def add_rows(self, column: Column, state: str, count: int) -> None:
        """Count rows of a column in this state."""
        counts = self.columns.setdefault(str(column), {})
        counts[state] = counts.get(state, 0) + count

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values of the figures, without empty spans and bands."""
        bands = zip((*BANDS, None), self.sizes, strict=True)
        return {
            "objects": self.objects,
            "outcomes": {kind.value: share.to_dict() for kind, share in self.outcomes.items()},
            "verified_by": {how: share.to_dict() for how, share in self.verified_by.items()},
            "sizes": [{"up_to": most, **share.to_dict()} for most, share in bands if share.objects],
            "step": self.step,
            "spans": [
                {"from": round(number * self.step, 3), **span.to_dict(), "problems": span.problems}
                for number, span in enumerate(self.spans)
                if span.objects
            ],
            "elsewhen": self.elsewhen,
            "slowest": [outcome_to_dict(outcome) for outcome in self.slowest],
            "columns": self.columns,
            "move": [each.to_dict() for each in self.move],
        }


def figures(report: Report, journal: Journal) -> Figures:
    """Add up the journal records of the report's run."""
    step = next((step for step in _SPAN_SECONDS if report.seconds / step <= _MAX_SPANS), report.seconds / _MAX_SPANS)
    spans = [Span() for _ in range(int(report.seconds / step) + 1)]
    sums = Figures(began=report.started, step=step, spans=spans)

    def add_objects() -> Iterator[ObjectRecord]:
        """Count every object, and yield those whose time is known."""
        for batch in journal.objects.of_run(report.run, size=2000):
            for record in batch:
                if record.outcome is not None:
                    sums.add_object(record, OutcomeKind(record.outcome))
                    if record.seconds:
                        yield record

    slowest = heapq.nlargest(SLOWEST, add_objects(), key=lambda record: record.seconds or 0.0)
    for column, state, count in journal.rows.count_by_column(report.run):
        sums.add_rows(column, state, count)
    for outcome in report.problems:
        for ref in outcome.refs:
            sums.add_rows(ref.column, outcome.kind.value, 1)
    return replace(sums, slowest=tuple(map(_make_outcome, slowest)), move=find_move(report, journal))


def _make_outcome(record: ObjectRecord) -> Outcome:
    assert record.outcome is not None
    return Outcome(
        kind=OutcomeKind(record.outcome), source=record.source, destination=record.destination,
        reason=record.reason or "", size=record.size, verified_by=record.evidence or "", seconds=record.seconds or 0.0,
    )  # fmt: skip
