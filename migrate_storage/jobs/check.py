"""Say how two stores differ, key by key and both ways. Nothing is written, and no row is needed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from migrate_storage.core.errors import ConfigurationError, RunError, StoppedError
from migrate_storage.core.events import Listed, Listener, Noted, RunFinished, RunStarted, silent
from migrate_storage.core.filters import Filters
from migrate_storage.core.model import Location, Note, Outcome, OutcomeKind, Severity, Way
from migrate_storage.core.parallel import parallel_map
from migrate_storage.engine.compare import By, Compared, Pair, Relation, is_ours, judge_at, merge
from migrate_storage.engine.probe import check_source
from migrate_storage.journal import new_run_id
from migrate_storage.reporting import LISTED, Report
from migrate_storage.reporting.run_stats import RunStats
from migrate_storage.stores.listing import IncompleteError, listing
from migrate_storage.stores.rate_limit import StoreLimits
from migrate_storage.stores.resolved_backend import ResolvedBackend
from migrate_storage.stores.retry import Retry

__all__ = ("Check", "CheckOptions", "note_of_fallback")

_KINDS = {
    Relation.MATCHED: (OutcomeKind.SKIPPED, ""),
    Relation.MISSING: (OutcomeKind.MISSING, "at the source only"),
    Relation.EXTRA: (OutcomeKind.MISSING, "at the destination only"),
    Relation.UNPROVED: (
        OutcomeKind.UNVERIFIED,
        "of one size, and no digest is told by both: --checksum or --download reads them",
    ),
    Relation.ERROR: (OutcomeKind.FAILED, ""),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckOptions:
    """What is compared, and how closely."""

    by: By = By.EVIDENCE
    #: Leave alone what only the destination holds.
    one_way: bool = False
    filters: Filters = field(default_factory=Filters)
    concurrency: int = 32
    attempts: int = 5
    bandwidth: int | None = None
    max_requests_per_second: float | None = None

    def __post_init__(self) -> None:
        for name in ("concurrency", "attempts"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"--{name} must be at least 1, not {getattr(self, name)}")


class Check:
    """One comparison of two stores.

    Args:
        source: a storage backend, see :func:`migrate_storage.application.endpoints.backend_at`.
        destination: another one.
        options: how.
        listener: called with each event; every object is an ``ItemFinished``, equal ones too.
    """

    def __init__(self, source: Any, destination: Any, options: CheckOptions, *, listener: Listener = silent) -> None:
        self._options, self._tally, self._stopping = options, RunStats(listener), threading.Event()
        self._retry = Retry(options.attempts, self._stopping)
        pace = StoreLimits(options.bandwidth, options.max_requests_per_second, self._stopping)
        self._source, self._destination = (ResolvedBackend(each, pace=pace) for each in (source, destination))

    def stop(self) -> None:
        """End soon."""
        self._stopping.set()

    def run(self) -> Report:
        """Do it.

        Raises:
            ConfigurationError: a side cannot be listed or reached.
        """
        options, began = self._options, time.time()
        sides = (self._source, self._destination)
        left, right = (listing(side, self._retry, self._told) for side in sides)
        left = replace(left, count=lambda count: self._tally.tell(Listed(objects=count)))
        for side in sides:
            check_source(side, [side.root], self._retry)
        named: dict[str, Any] = {"source": sides[0].key, "destination": sides[1].key, "way": Way.SWAP}
        how = f"compared by {options.by}{', one way' if options.one_way else ''}"
        name = new_run_id()
        self._tally.tell(
            RunStarted(run=name, reason=how, dry_run=True, resumed=False, rows=None, kind="check", **named)
        )
        state, error = "finished", ""
        try:
            for compared in self._compared(merge(left, right)):
                self._tally.ended(self._outcome(compared))
                if self._stopping.is_set():
                    state = "stopped"
                    break
        except (StoppedError, KeyboardInterrupt):
            state = "stopped"
        except (RunError, IncompleteError) as failure:
            state, error = "failed", f"{failure}; what was not listed is not compared: run the same command again"
        counts = dict(self._tally.counts)
        report = Report(
            kind="check", run=name, way_reason=how, state=state, error=error, started=began, finished=time.time(),
            counts=counts, evidence=self._tally.evidence, listed=self._tally.listed[:LISTED],
            **named,
        )  # fmt: skip
        self._tally.tell(RunFinished(run=name, state=report.state))
        return report

    def _compared(self, pairs: Iterable[Pair]) -> Iterator[Compared]:
        options = self._options
        wanted = (
            pair
            for pair in pairs
            if options.filters.matches(pair.key) and not is_ours(pair) and not (options.one_way and pair.source is None)
        )
        if options.by in (By.SIZE, By.EVIDENCE):
            return map(self._judge, wanted)
        return (compared for _, compared in parallel_map(self._judge, wanted, options.concurrency))

    def _judge(self, pair: Pair) -> Compared:
        return judge_at(pair, self._source, self._destination, self._options.by, self._retry)

    def _outcome(self, compared: Compared) -> Outcome:
        pair, relation = compared.pair, compared.relation
        kind, reason = _KINDS.get(relation, (OutcomeKind.DIFFERS, f"they differ ({compared.evidence})"))
        # A size told with MISSING says that the other side holds it, see ``differences``.
        meta = pair.destination if relation is Relation.EXTRA else pair.source
        return Outcome(
            kind=kind,
            source=Location(self._source.key, pair.key),
            destination=Location(self._destination.key, pair.key),
            reason=compared.evidence if relation is Relation.ERROR else reason,
            evidence=compared.evidence if kind.done else "",
            size=meta.size if meta is not None and relation is not Relation.MISSING else None,
        )

    def _told(self, message: str) -> None:
        self._tally.tell(Noted(note=note_of_fallback(message)))


def note_of_fallback(message: str) -> Note:
    """A note that another library had to list a store."""
    return Note(
        severity=Severity.WARNING,
        code="listing.fallback",
        message=message,
        todo="a key in it is none that obstore can list; it is listed with the error that names it, if it cannot be copied",
    )
