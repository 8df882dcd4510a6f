"""What a run has to tell: events to the listener as they come, and the sums that its report needs."""

from __future__ import annotations

import threading
from dataclasses import replace

from migrate_storage.core.events import BytesMoved, Event, ItemFinished, ItemsFinished, Listener
from migrate_storage.core.model import Outcome, OutcomeKind
from migrate_storage.reporting import LISTED

__all__ = ("RunStats",)

_REFS = 1000
"""Rows that a report lists with one object."""


class RunStats:
    """Passes events on, one at a time from whatever thread, and counts.

    Args:
        listener: called with each event.
    """

    def __init__(self, listener: Listener) -> None:
        self._listener, self._lock = listener, threading.Lock()
        #: Bytes of content that passed through this process.
        self.bytes = 0
        #: Outcomes by kind, as told: an object that several passes saw counts each time.
        self.counts: dict[OutcomeKind, int] = {}
        #: Done objects by how equality was proved.
        self.evidence: dict[str, int] = {}
        self._listed: dict[tuple[str, str], Outcome] = {}

    @property
    def listed(self) -> tuple[Outcome, ...]:
        """The latest outcome of each object that is not done, at most as many as a report lists."""
        return tuple(self._listed.values())

    @property
    def totals(self) -> dict[str, int]:
        """Objects and bytes so far: ``objects``, ``bytes``, and ``listed`` of the objects."""
        with self._lock:
            done = sum(count for kind, count in self.counts.items() if kind.done)
            return {
                "objects": sum(self.counts.values()),
                "listed": sum(self.counts.values()) - done,
                "bytes": self.bytes,
            }

    def tell(self, event: Event) -> None:
        """Pass an event on."""
        with self._lock:
            self._listener(event)

    def moved(self, count: int) -> None:
        """That many bytes passed."""
        with self._lock:
            self.bytes += count
            self._listener(BytesMoved(count=count))

    def ended_alike(self, kind: OutcomeKind, evidence: str, *, objects: int, rows: int) -> None:
        """Many items ended, all done and proved in one way."""
        with self._lock:
            self.counts[kind] = self.counts.get(kind, 0) + objects
            self.evidence[evidence] = self.evidence.get(evidence, 0) + objects
            self._listener(ItemsFinished(objects=objects, rows=rows, kind=kind, evidence=evidence))

    def ended(self, outcome: Outcome) -> None:
        """An item ended."""
        with self._lock:
            if not outcome.kind.done:
                self._list(outcome)
            else:
                if self._listed:
                    self._listed.pop(_name(outcome), None)
                if outcome.evidence:
                    self.evidence[outcome.evidence] = self.evidence.get(outcome.evidence, 0) + 1
            self.counts[outcome.kind] = self.counts.get(outcome.kind, 0) + 1
            self._listener(ItemFinished(outcome=outcome))

    def _list(self, outcome: Outcome) -> None:
        name = _name(outcome)
        if (before := self._listed.get(name)) is not None:
            refs = tuple(dict.fromkeys((*before.refs, *outcome.refs)))[:_REFS]
            self._listed[name] = replace(outcome, refs=refs)
        elif len(self._listed) < LISTED:
            self._listed[name] = outcome


def _name(outcome: Outcome) -> tuple[str, str]:
    """What an object that is not done is listed under."""
    rows = ",".join(str(ref) for ref in outcome.refs[:1]) if not outcome.destination.path else ""
    return str(outcome.source), rows
