"""What the journal's lines of a run add up to: by outcome, proof, size, time and column, and the slowest objects.

The lines are read batch by batch and only their sums are kept, so memory does not grow with the run.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from migrate_storage.core.model import Column, Outcome, OutcomeKind
from migrate_storage.reporting.report import Report, outcome_to_dict

if TYPE_CHECKING:
    from migrate_storage.journal import Journal, ObjectRecord

__all__ = ("BANDS", "SLOWEST", "Figures", "Share", "Span", "figures")

SLOWEST = 20
"""Objects that are named as the slowest."""

BANDS = (0, *(8**power for power in range(3, 12)))
"""Largest size of each band, in bytes: nothing, half a KiB, and so on by eights; what is larger has a last band."""

_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)
_SPANS = 60
"""Spans of time at most."""

_STATES = {"swapped": "re-pointed", "kept": "kept", "reverted": "put back", "intent": "open"}
"""What the journal's states of a row are called in a report."""


@dataclass(slots=True)
class Share:
    """Some of the objects."""

    objects: int = 0
    #: Bytes of those whose size is known.
    bytes: int = 0

    def add(self, entry: ObjectRecord) -> None:
        """One more."""
        self.objects += 1
        self.bytes += entry.size or 0


@dataclass(slots=True)
class Span(Share):
    """The objects that ended in one span of time."""

    #: How many of them are listed.
    listed: int = 0


@dataclass(kw_only=True, slots=True)
class Figures:
    """The sums. What a later run took over, or what was pruned, is not among them."""

    #: Objects whose line in the journal is this run's.
    objects: int = 0
    outcomes: dict[OutcomeKind, Share] = field(default_factory=dict)
    #: By how equality was proved; only objects that are done.
    evidence: dict[str, Share] = field(default_factory=dict)
    #: One for each of :data:`BANDS`, and one for what is larger; only objects whose size is known.
    sizes: list[Share] = field(default_factory=lambda: [Share() for _ in (*BANDS, None)])
    #: Seconds of each span.
    step: float = 1.0
    #: From the run's begin to its end.
    spans: list[Span] = field(default_factory=list)
    #: Objects that were written to the journal at another time than the run's, so are in no span: by a later purge, say.
    elsewhen: int = 0
    #: Without their rows.
    slowest: list[Outcome] = field(default_factory=list)
    #: Rows by column, and by what became of them: as the journal says it, and as the report lists it.
    columns: dict[str, dict[str, int]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as values that JSON can hold; spans and bands without objects are left out."""
        bands = zip((*BANDS, None), self.sizes, strict=True)
        return {
            "objects": self.objects,
            "outcomes": {kind.value: _share(share) for kind, share in self.outcomes.items()},
            "evidence": {how: _share(share) for how, share in self.evidence.items()},
            "sizes": [{"up_to": most, **_share(share)} for most, share in bands if share.objects],
            "step": self.step,
            "spans": [
                {"from": round(number * self.step, 3), **_share(span), "listed": span.listed}
                for number, span in enumerate(self.spans)
                if span.objects
            ],
            "elsewhen": self.elsewhen,
            "slowest": [outcome_to_dict(each) for each in self.slowest],
            "columns": self.columns,
        }


def _share(share: Share) -> dict[str, int]:
    return {"objects": share.objects, "bytes": share.bytes}


def figures(report: Report, journal: Journal) -> Figures:
    """Add up the lines that the journal holds of the report's run."""
    entries = (entry for batch in journal.objects.of_run(report.run, size=2000) for entry in batch)
    found = _of_objects(report, entries)
    for column, state, count in journal.rows.count_by_column(report.run):
        _count(found.columns, column, _STATES.get(state, state), count)
    for outcome in report.listed:
        for ref in outcome.refs:
            _count(found.columns, ref.column, outcome.kind.value, 1)
    return found


def _of_objects(report: Report, entries: Iterable[ObjectRecord]) -> Figures:
    step = next((step for step in _STEPS if report.seconds / step <= _SPANS), report.seconds / _SPANS)
    found = Figures(step=step, spans=[Span() for _ in range(int(report.seconds / step) + 1)])
    slow = heapq.nlargest(SLOWEST, _counted(found, report.started, entries), key=lambda entry: entry.seconds or 0.0)
    found.slowest = [_outcome(entry) for entry in slow]
    return found


def _counted(found: Figures, began: float, entries: Iterable[ObjectRecord]) -> Iterator[ObjectRecord]:
    """Count every object, and pass on those whose time is known."""
    for entry in entries:
        if entry.outcome is None:
            continue
        kind = OutcomeKind(entry.outcome)
        found.objects += 1
        found.outcomes.setdefault(kind, Share()).add(entry)
        if kind.done and entry.evidence:
            found.evidence.setdefault(entry.evidence, Share()).add(entry)
        if entry.size is not None:
            found.sizes[bisect_left(BANDS, entry.size)].add(entry)
        number = int((entry.updated - began) // found.step)
        if 0 <= number < len(found.spans):
            found.spans[number].add(entry)
            found.spans[number].listed += not kind.done
        else:
            found.elsewhen += 1
        if entry.seconds:
            yield entry


def _outcome(entry: ObjectRecord) -> Outcome:
    assert entry.outcome is not None
    return Outcome(
        kind=OutcomeKind(entry.outcome), source=entry.source, destination=entry.destination, reason=entry.reason or "",
        size=entry.size, evidence=entry.evidence or "", seconds=entry.seconds or 0.0,
    )  # fmt: skip


def _count(columns: dict[str, dict[str, int]], column: Column, what: str, count: int) -> None:
    counts = columns.setdefault(str(column), {})
    counts[what] = counts.get(what, 0) + count
