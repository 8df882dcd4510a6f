"""Compare two stores key by key. Nothing is written, and no row is needed."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from migrate_storage.core.errors import ConfigurationError, RunError, StoppedError
from migrate_storage.core.events import Listener, SourceListed, silent
from migrate_storage.core.filters import Filters, ObjectBounds
from migrate_storage.core.model import Location, Outcome, OutcomeKind
from migrate_storage.core.parallel import parallel_map
from migrate_storage.core.proofs import describe_proof
from migrate_storage.core.timetable import Bandwidth
from migrate_storage.engine.compare import By, Compared, Pair, Relation, is_ours, judge_at, merge
from migrate_storage.engine.probe import check_source
from migrate_storage.jobs.base import Job, JobDescription
from migrate_storage.jobs.context import DEFAULT_CONCURRENCY, JobPace
from migrate_storage.journal import new_run_id
from migrate_storage.reporting import Report
from migrate_storage.stores.listing import IncompleteError, Listing
from migrate_storage.stores.resolved_backend import ResolvedBackend, refuse_own_class

__all__ = ("CheckJob", "CheckOptions")

_KINDS = {
    Relation.MATCHED: (OutcomeKind.UNCHANGED, ""),
    Relation.MISSING: (OutcomeKind.MISSING, "at the source only"),
    Relation.EXTRA: (OutcomeKind.MISSING, "at the destination only"),
    Relation.UNPROVED: (
        OutcomeKind.UNVERIFIED,
        "of one size, and no digest is reported by both: --checksum or --download reads them",
    ),
    Relation.ERROR: (OutcomeKind.FAILED, ""),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckOptions:
    """What is compared, and how closely."""

    by: By = By.EVIDENCE
    #: Ignore what only the destination has.
    one_way: bool = False
    filters: Filters = field(default_factory=Filters)
    #: Sizes and ages of the objects that are compared: of the source's, or of what only the destination has.
    bounds: ObjectBounds = field(default_factory=ObjectBounds)
    #: Objects under way at once; ``None`` means 32.
    concurrency: int | None = None
    max_attempts: int = 5
    bandwidth: Bandwidth | None = None
    max_requests_per_second: float | None = None

    def __post_init__(self) -> None:
        for name in ("concurrency", "max_attempts"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ConfigurationError(f"--{name.replace('_', '-')} must be at least 1, not {value}")


class CheckJob(Job[None]):
    """One comparison of two stores.

    Args:
        source: a storage backend, see :func:`migrate_storage.application.endpoints.backend_at`.
        destination: another one.
        options: how.
        listener: called with each event; every object is an ``ObjectFinished``, equal ones too.
    """

    kind = "check"

    def __init__(self, source: Any, destination: Any, options: CheckOptions, *, listener: Listener = silent) -> None:
        # Concurrency 1: a comparison does not pass through the limiter.
        super().__init__(listener, replace(JobPace.from_options(options), concurrency=1))
        limits = self.context.limits
        self._options = options
        self._source, self._destination = (ResolvedBackend(each, pace=limits) for each in (source, destination))

    def run(self) -> Report:
        """Do it.

        Raises:
            ConfigurationError: a side cannot be listed or reached.
        """
        for side in (self._source, self._destination):
            refuse_own_class(side)
            check_source(side, [side.root], self.context.retry)
        return self.execute(None, None)

    def describe(self, facts: None) -> JobDescription:
        """See :meth:`Job.describe`."""
        del facts
        return JobDescription(
            run=new_run_id(), source=self._source.key, destination=self._destination.key, read_only=True,
            reason=f"compared by {self._options.by}{', one way' if self._options.one_way else ''}",
        )  # fmt: skip

    def work(self, facts: None) -> str:
        """Compare the two listings, key by key."""
        del facts
        left, right = (
            Listing.of_backend(side, self.context.retry, self.context.note_fallback)
            for side in (self._source, self._destination)
        )
        left = replace(left, on_end=lambda count: self.context.stats.send(SourceListed(objects=count)))
        try:
            for compared in self._compare(merge(left, right)):
                self.context.stats.add_outcome(self._outcome(compared))
                if self.context.stop.is_set():
                    return "interrupted"
        except StoppedError:
            raise
        except (RunError, IncompleteError) as failure:
            raise RunError(f"{failure}; what was not listed is not compared: run the same command again") from failure
        return "completed"

    def _compare(self, pairs: Iterable[Pair]) -> Iterator[Compared]:
        options, now = self._options, time.time()
        wanted = (
            pair
            for pair in pairs
            if options.filters.matches(pair.key) and not is_ours(pair) and not (options.one_way and pair.source is None)
            and all(options.bounds.admits(meta, now) for meta in (pair.source or pair.destination,) if meta is not None)
        )  # fmt: skip
        if options.by in (By.SIZE, By.EVIDENCE):
            return map(self._judge, wanted)
        return (
            compared for _, compared in parallel_map(self._judge, wanted, options.concurrency or DEFAULT_CONCURRENCY)
        )

    def _judge(self, pair: Pair) -> Compared:
        return judge_at(pair, self._source, self._destination, self._options.by, self.context.retry)

    def _outcome(self, compared: Compared) -> Outcome:
        pair, relation = compared.pair, compared.relation
        kind, reason = _KINDS.get(
            relation, (OutcomeKind.MISMATCH, f"they differ ({describe_proof(compared.evidence)})")
        )
        # A size beside MISSING means that the other side has the object, see ``reporting.diff_files``.
        meta = pair.destination if relation is Relation.EXTRA else pair.source
        return Outcome(
            kind=kind,
            source=Location(self._source.key, pair.key),
            destination=Location(self._destination.key, pair.key),
            reason=compared.evidence if relation is Relation.ERROR else reason,
            verified_by=compared.evidence if kind.done else "",
            size=meta.size if meta is not None and relation is not Relation.MISSING else None,
        )
