"""The events of a job for its listener, and the sums for its report."""

from __future__ import annotations

import threading
from dataclasses import replace
from operator import itemgetter

from migrate_storage.core.events import BytesTransferred, Event, Listener, ObjectFinished, ObjectsFinished
from migrate_storage.core.model import Outcome, OutcomeKind
from migrate_storage.core.proofs import SERVER_SIDE_COPY, split_proof
from migrate_storage.reporting import MAX_PROBLEMS

__all__ = ("RunStats",)

MAX_ROWS_OF_PROBLEM = 1000
"""Rows that a report names with one object."""


class RunStats:
    """Counts the events of all threads, and passes them to the listener one at a time.

    Args:
        listener: Called with each event.
    """

    def __init__(self, listener: Listener) -> None:
        self._listener, self._lock = listener, threading.Lock()
        #: Bytes of content that this process transferred.
        self.bytes = 0
        #: Bytes of the objects that the service copied. They did not pass through this process.
        self.service_bytes = 0
        #: Outcomes by kind. An object counts once in each pass.
        self.counts: dict[OutcomeKind, int] = {}
        #: Objects that are done, by how equality was proved.
        self.verified_by: dict[str, int] = {}
        #: Objects that were kept, or are in use, by the reason.
        self.reasons: dict[OutcomeKind, dict[str, int]] = {OutcomeKind.KEPT: {}, OutcomeKind.IN_USE: {}}
        self._problems: dict[tuple[str, str], Outcome] = {}

    @property
    def problems(self) -> tuple[Outcome, ...]:
        """The latest outcome of each object that is not done, at most :data:`MAX_PROBLEMS`, sorted by object."""
        with self._lock:
            return tuple(outcome for _, outcome in sorted(self._problems.items(), key=itemgetter(0)))

    @property
    def totals(self) -> dict[str, int]:
        """Counts so far: ``objects``, ``problems`` (those not done) and ``bytes``."""
        with self._lock:
            problems = sum(count for kind, count in self.counts.items() if not kind.done)
            return {"objects": sum(self.counts.values()), "problems": problems, "bytes": self.bytes}

    def send(self, event: Event) -> None:
        """Pass an event to the listener."""
        with self._lock:
            self._listener(event)

    def add_bytes(self, count: int) -> None:
        """Count transferred bytes."""
        with self._lock:
            self.bytes += count
            self._listener(BytesTransferred(count=count))

    def add_copied(self) -> None:
        """Count one object that was copied, and whose rows are not re-pointed yet."""
        with self._lock:
            self._listener(BytesTransferred(count=0, objects=1))

    def add_outcomes(self, kind: OutcomeKind, proof: str, *, objects: int, rows: int) -> None:
        """Count many objects that are done, and were proved in the same way."""
        with self._lock:
            self.counts[kind] = self.counts.get(kind, 0) + objects
            self.verified_by[proof] = self.verified_by.get(proof, 0) + objects
            self._listener(ObjectsFinished(objects=objects, rows=rows, kind=kind, verified_by=proof))

    def add_outcome(self, outcome: Outcome) -> None:
        """Count one outcome."""
        with self._lock:
            if not outcome.kind.done:
                self._add_problem(outcome)
            else:
                if self._problems:
                    self._problems.pop(_make_key(outcome), None)
                if proof := outcome.verified_by:
                    self.verified_by[proof] = self.verified_by.get(proof, 0) + 1
                    self.service_bytes += (outcome.size or 0) if SERVER_SIDE_COPY in split_proof(proof) else 0
            if (reasons := self.reasons.get(outcome.kind)) is not None:
                reasons[outcome.reason] = reasons.get(outcome.reason, 0) + 1
            self.counts[outcome.kind] = self.counts.get(outcome.kind, 0) + 1
            self._listener(ObjectFinished(outcome=outcome))

    def _add_problem(self, outcome: Outcome) -> None:
        name = _make_key(outcome)
        if (before := self._problems.get(name)) is not None:
            refs = tuple(dict.fromkeys((*before.refs, *outcome.refs)))[:MAX_ROWS_OF_PROBLEM]
            self._problems[name] = replace(outcome, refs=refs)
        elif len(self._problems) < MAX_PROBLEMS:
            self._problems[name] = outcome


def _make_key(outcome: Outcome) -> tuple[str, str]:
    """Return the key of an object in the list of outcomes that are not done."""
    rows = ",".join(str(ref) for ref in outcome.refs[:1]) if not outcome.destination.path else ""
    return str(outcome.source), rows
