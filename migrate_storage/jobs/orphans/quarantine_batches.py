"""Move many objects to quarantine and back, in journaled batches."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice

from migrate_storage.core.errors import StoppedError
from migrate_storage.core.model import Outcome, OutcomeKind
from migrate_storage.core.parallel import parallel_map
from migrate_storage.engine.concurrency import ConcurrencyLimiter
from migrate_storage.jobs.orphans.quarantine import Quarantine, StepResult, moving_record
from migrate_storage.jobs.orphans.reachability import Reachability
from migrate_storage.journal import Journal, ObjectRecord, ObjectState
from migrate_storage.stores.listing import ListedObject
from migrate_storage.stores.resolved_backend import ResolvedBackend

__all__ = ("QuarantineBatches",)

_BATCH_OBJECTS = 1000
NAMED_MEANWHILE = "a row or list references it by now"
"""Objects of one batch. All rows are read before the first of them is deleted, and again after the last."""


class QuarantineBatches:
    """Moves objects to quarantine and back, several at once; each step is journaled.

    Args:
        quarantine: does each step for one object.
        journal: the journal.
        sides: every registered backend.
        limiter: how many objects are processed at once.
        stopping: set when no further object may be begun.
        on_outcome: called with each outcome.
    """

    def __init__(
        self,
        quarantine: Quarantine,
        journal: Journal,
        sides: Mapping[str, ResolvedBackend],
        *,
        limiter: ConcurrencyLimiter,
        stopping: threading.Event,
        on_outcome: Callable[[Outcome], None],
    ) -> None:
        self._quarantine, self._journal, self._sides = quarantine, journal, sides
        self._limiter, self._stopping, self._on_outcome = limiter, stopping, on_outcome
        self._workers = limiter.max_limit

    def move(self, reachability: Reachability, objects: Iterator[ListedObject], prefix: str, run: str) -> None:
        """Move objects to quarantine.

        Args:
            reachability: knows which objects rows name, and reads the rows again.
            objects: what to move.
            prefix: the quarantine folder below each backend's root.
            run: the run's id, which is a folder below that.

        Raises:
            StoppedError: the job was asked to stop; copies whose originals exist were deleted.
            RunError: rows cannot be read, or too many objects in a row failed. Outcomes of moved objects were reported.
        """
        self._recover()
        while batch := list(islice(objects, _BATCH_OBJECTS)):
            self._check_stop()
            self._move_batch(reachability, [moving_record(listed, prefix, run) for listed in batch])

    def put_back(self, run: str | None, *, dry_run: bool) -> None:
        """Put back what is in quarantine.

        Args:
            run: only what this run moved; ``None`` for all.
            dry_run: send HEAD requests and report, write nothing.

        Raises:
            StoppedError: the job was asked to stop between two batches.
            RunError: too many objects in a row failed.
        """
        for batch in self._journal.objects.in_states(
            ObjectState.QUARANTINE_COPYING,
            ObjectState.QUARANTINE_DELETING,
            ObjectState.QUARANTINED,
            ObjectState.RESTORING,
            run=run,
        ):
            self._check_stop()
            records = batch if dry_run else self._claim_unfinished(batch)
            for result in self._run_step(self._quarantine.put_back, records):
                if not dry_run:
                    self._record_finished(result)
                self._on_outcome(result.outcome)

    def _check_stop(self) -> None:
        if self._stopping.is_set():
            raise StoppedError("a stop was requested")

    def _move_batch(self, reachability: Reachability, records: list[ObjectRecord]) -> None:
        """Copy, read rows, delete originals, read rows again, put back what they name."""
        taken = self._journal.objects.record_intents(records)
        reason = "another object goes to its place in quarantine"
        results = {
            record.id: StepResult(record=record, kind=OutcomeKind.FAILED, reason=reason)
            for record in records
            if record.id in taken
        }
        records = [record for record in records if record.id not in taken]
        copied: dict[str, ObjectRecord] = {}
        for result in self._run_step(self._quarantine.copy_to_quarantine, self._until_stopped(records)):
            if result.kind is OutcomeKind.QUARANTINED:
                copied[result.record.id] = result.record
            else:
                results[result.record.id] = result
        if self._stopping.is_set():
            self._delete_copies([copied.get(record.id, record) for record in records])
        self._check_stop()
        # The evidence is committed before anything is deleted: after a kill the record shows what the copy must be.
        ours = self._claim(copied.values(), ObjectState.QUARANTINE_COPYING, ObjectState.QUARANTINE_COPYING)
        reachability.read_rows()
        named, free = _partition(ours, lambda record: self._is_named(reachability, record))
        for record in named:
            results[record.id] = StepResult(record=record, kind=OutcomeKind.IN_USE, reason=NAMED_MEANWHILE)
        try:
            kept = [*self._delete_originals(free, results), *named]
            reachability.read_rows()
            moved = [result.record for result in results.values() if result.kind is OutcomeKind.QUARANTINED]
            named_again, _ = _partition(moved, lambda record: self._is_named(reachability, record))
            for result in self._run_step(self._quarantine.put_back, named_again):
                self._record([result.record])
                restored = result.kind is OutcomeKind.RESTORED
                reason = f"{NAMED_MEANWHILE}, and it was put back" if restored else result.reason
                results[result.record.id] = replace(result, reason=reason)
            self._delete_copies([*kept, *(record for record in records if record.id not in copied)])
            self._recover()
        finally:
            for result in results.values():
                self._on_outcome(result.outcome)

    def _delete_originals(self, records: Sequence[ObjectRecord], results: dict[str, StepResult]) -> list[ObjectRecord]:
        """Delete objects with verified copies; return those certainly not deleted."""
        kept = []
        for result in self._run_step(
            self._quarantine.delete_original,
            self._claim(records, ObjectState.QUARANTINE_COPYING, ObjectState.QUARANTINE_DELETING),
        ):
            results[result.record.id] = result
            self._record([result.record])
            if result.kind is OutcomeKind.MODIFIED:
                kept.append(result.record)
        return kept

    def _until_stopped(self, records: Iterable[ObjectRecord]) -> Iterator[ObjectRecord]:
        for record in records:
            if self._stopping.is_set():
                return
            yield record

    def _delete_copies(self, records: Sequence[ObjectRecord]) -> None:
        """Delete the copies of objects that are at their own keys."""
        for result in self._run_step(self._quarantine.delete_copy, records):
            self._record([result.record])

    def _run_step(
        self, step: Callable[[ObjectRecord], StepResult], records: Iterable[ObjectRecord]
    ) -> Iterator[StepResult]:
        def run_one(record: ObjectRecord) -> StepResult:
            with self._limiter.acquire():
                return self._quarantine.try_step(step, record)

        for _, result in parallel_map(run_one, records, self._workers):
            yield result

    def _record_finished(self, result: StepResult) -> None:
        # A record that waits until a suspended job cannot delete any more keeps its time, so that the waiting ends.
        if result.record.state != ObjectState.QUARANTINE_DELETING:
            self._record([result.record])

    def _record(self, records: Sequence[ObjectRecord]) -> None:
        self._journal.database.transaction(partial(self._journal.objects.record_results, records=records))

    def _recover(self) -> None:
        """Finish the steps of a killed job."""
        for batch in self._journal.objects.in_states(ObjectState.QUARANTINE_COPYING, ObjectState.QUARANTINE_DELETING):
            for result in self._run_step(self._quarantine.recover, self._claim_unfinished(batch)):
                self._record_finished(result)

    def _claim_unfinished(self, batch: Sequence[ObjectRecord]) -> list[ObjectRecord]:
        """Claim records whose objects are not deleted yet; return them and the others."""
        moving, others = _partition(batch, lambda record: record.state == ObjectState.QUARANTINE_COPYING)
        return [*self._claim(moving, ObjectState.QUARANTINE_COPYING, ObjectState.RESTORING), *others]

    def _claim(self, records: Iterable[ObjectRecord], before: str, after: str) -> list[ObjectRecord]:
        """Change the state of records that still have state ``before``; return those."""
        # A job that was suspended beyond its lease loses its records so, and then deletes neither object nor copy.
        changed = [replace(record, state=after) for record in records]
        ours = self._journal.objects.claim(changed, before)
        return [record for record in changed if record.id in ours]

    def _is_named(self, reachability: Reachability, record: ObjectRecord) -> bool:
        return reachability.references.names(self._sides[record.source_key].place(record.source_path))


def _partition(
    records: Sequence[ObjectRecord], condition: Callable[[ObjectRecord], bool]
) -> tuple[list[ObjectRecord], list[ObjectRecord]]:
    yes: list[ObjectRecord] = []
    no: list[ObjectRecord] = []
    for record in records:
        (yes if condition(record) else no).append(record)
    return yes, no
