"""Schedule a migration: rows to objects, objects to workers, results to rows.

One thread talks to the database. It reads windows of rows, gives their objects to a pool of workers, collects their results, and
updates rows in batches. Workers talk to the stores only. All queues are bounded: the next window is read when most objects of the
earlier ones are finished.
"""

from __future__ import annotations

import enum
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from migrate_storage.core.errors import StoppedError
from migrate_storage.core.model import Outcome, OutcomeKind, RowRef, Strategy
from migrate_storage.core.parallel import parallel_map
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.file_json import Row, parse_slots
from migrate_storage.engine.batched_checks import BatchedRechecks
from migrate_storage.engine.concurrency import ConcurrencyLimiter
from migrate_storage.engine.in_flight import PendingObject, PendingRow, PendingState, Pointing, create_recopy
from migrate_storage.engine.object_copier import ObjectCopier
from migrate_storage.engine.outcomes import OutcomeReporter, is_problem
from migrate_storage.engine.plan import Action, Item
from migrate_storage.engine.recorder import RunRecorder
from migrate_storage.engine.repoint_batches import BatchRepointer
from migrate_storage.engine.task import CopyResult, CopyTask
from migrate_storage.engine.verify import Verified, proven_unchanged
from migrate_storage.engine.worker_pool import Admission, Finished, WorkerPool
from migrate_storage.journal import ObjectRecord, ObjectState
from migrate_storage.stores.failures import Failure
from migrate_storage.stores.retry import CircuitBreaker, StoreRequestError

__all__ = ("RunControl", "Scheduler", "SchedulerOptions")

T = TypeVar("T")

MAX_RECOPIES = 3
"""How often an object is copied again because its source changed after its rows were updated."""
_QUEUED_OBJECTS = 1000
"""Objects that wait for a worker before the next window is read: none is idle while a batch of rows is written."""
_OWNER_CHECKS_AT_ONCE = 16
"""HEADs that are in progress at once to find out whether the copies of earlier runs are gone."""
_RETRIED_OUTCOMES = frozenset({OutcomeKind.MISSING, OutcomeKind.MODIFIED, OutcomeKind.REPOINTED})
"""Outcomes after which a later pass processes an object again where a row still, or again, names it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SchedulerOptions:
    """What a scheduler may write, and how long it waits at the end."""

    #: Copy objects, update no row.
    keep_rows: bool
    #: Write nothing; report what would be written.
    dry_run: bool
    #: Seconds for which objects under way are waited for after a request to stop.
    shutdown_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class RunControl:
    """What slows a run down, and what ends it."""

    #: How many objects are processed at once. While it is paused, no rows are updated either.
    limiter: ConcurrencyLimiter
    #: Set when no further object may be begun.
    stopping: threading.Event
    #: Whether a limit of the run is reached, so that no further object may be begun.
    limit_reached: Callable[[], bool]


class _Work(enum.Enum):
    """What a worker did; its result is handled accordingly."""

    COPY = "copy"
    SOURCE_CHECK = "source check"
    LISTING = "listing"


class Scheduler:
    """Copies the objects of rows, and updates the rows.

    Args:
        copier: copies one object.
        recorder: reads and writes the journal, and updates rows.
        options: what may be written.
        control: what slows the run down, and what ends it.
        earlier_rows: finds the rows that were re-pointed to an object, by any run.
        on_outcome: called with each outcome, on the thread that runs the pass.
        on_copied: called for each object that was copied, before its rows are re-pointed.
    """

    def __init__(
        self,
        copier: ObjectCopier,
        recorder: RunRecorder,
        *,
        options: SchedulerOptions,
        control: RunControl,
        earlier_rows: Callable[[ObjectRecord], Iterable[Pointing]],
        on_outcome: Callable[[Outcome], None],
        on_copied: Callable[[], None],
    ) -> None:
        self._plan, self._copier, self._recorder = copier.plan, copier, recorder
        self._repoints_rows = not options.keep_rows and self._plan.strategy is not Strategy.IN_PLACE
        self._options, self._control, self._earlier_rows = options, control, earlier_rows
        self._on_copied = on_copied
        self._pool = WorkerPool(control.limiter, control.stopping, control.limit_reached)
        self._rechecks = BatchedRechecks(copier.listings)
        self._repointer = BatchRepointer(recorder)
        self._breaker = CircuitBreaker(advice=", it resumes from here")
        self._objects: dict[str, PendingObject] = {}
        #: Reports outcomes, and counts those that earlier passes did not have.
        self.outcomes = OutcomeReporter(recorder, self._plan, on_outcome)
        #: Rows that were re-pointed.
        self.rows_repointed = 0
        #: When a row or the result of an object was last written, by the monotonic clock; ``None`` where none was.
        self.last_written: float | None = None
        #: Rows that count against a limit: those that are new to the run, and problems of before that were re-pointed.
        self.rows_counted = 0

    def submit_rows(self, rows: FileColumn, window: Sequence[Row]) -> None:
        """Begin the objects that these rows name; return when the next window may be read.

        Raises:
            RunError: too many objects in a row failed for a reason that concerns all.
        """
        admitted = [found for row in window if (found := self._admit_row(rows, row)) is not None]
        wanted: dict[str, Item] = {}
        for _, items in admitted:
            for id_, item in items.items():
                known = wanted.get(id_)
                wanted[id_] = item if known is None else replace(known, slots=known.slots + item.slots)
        self._begin_objects({id_: item for id_, item in wanted.items() if id_ not in self._objects})
        for row, items in admitted:
            row.listed = any(is_problem(self._objects[id_].task.record) for id_ in items)
            self.rows_counted += not row.listed
            for id_, item in items.items():
                if self._objects[id_].attach(row, item):
                    self._repointer.add_row(row)
        for id_ in wanted:
            pending = self._objects[id_]
            if pending.state is PendingState.DONE:
                self.outcomes.report_new_rows(pending)
                if not self._repointer.has_result(id_):
                    del self._objects[id_]
        self._collect(block=False)
        self._wait_for_room(len(window))

    def _wait_for_room(self, window: int) -> None:
        limit = max(8 * max(window, self._pool.width), self._rechecks.max_objects)
        queued = max(4 * self._pool.width, _QUEUED_OBJECTS)
        while self._pool.under_way > queued or len(self._objects) > limit:
            self._collect(block=True)
            if not self._pool.under_way and len(self._objects) > limit:
                self._flush()
                self._start_listing()
            if not self._pool.under_way or self._control.stopping.is_set():
                return

    def recopy(self, record: ObjectRecord, pointings: Sequence[Pointing] | None = None) -> None:
        """Copy an object again, by its journal record, and update the rows that name it.

        Args:
            record: of its earlier copy.
            pointings: rows that name the copy now; ``None`` means those that the journal knows.
        """
        pointings = list(self._earlier_rows(record)) if pointings is None else pointings
        slots = tuple(slot for pointing in pointings for slot in pointing.slots)
        item = Item(source=record.source, destination=record.destination, action=Action.TRANSFER, slots=slots)
        rows = [PendingRow.pointing_to(record.id, pointing) for pointing in pointings]
        self._copy_again(create_recopy(record, item, rows))

    def finish(self) -> None:
        """Wait for everything that was begun, and update its rows.

        Raises:
            RunError: too many objects in a row failed for a reason that concerns all.
        """
        deadline: float | None = None
        while self._pool.under_way or not self._repointer.is_empty or self._rechecks.waiting_count:
            if self._control.stopping.is_set() and deadline is None:
                deadline = time.monotonic() + self._options.shutdown_seconds
            if deadline is not None and time.monotonic() > deadline:
                break
            if self._pool.under_way:
                self._collect(block=True)
            if not self._pool.under_way:
                self._flush()
                self._start_listing()
        self._rechecks.clear()
        self._objects.clear()

    def mark_written(self) -> None:
        """Note that rows or results were committed just now."""
        self.last_written = time.monotonic()

    def check_each(self, check: Callable[[ObjectRecord], T], records: Sequence[ObjectRecord]) -> list[T]:
        """Check each object of a batch, as many at once as there are workers."""
        return self._pool.run_each(check, records)

    def close(self) -> None:
        """End the workers."""
        self._pool.close()

    # -- rows become objects

    def _admit_row(self, rows: FileColumn, row: Row) -> tuple[PendingRow, dict[str, Item]] | None:
        try:
            slots = [slot for slot in parse_slots(rows.column, row) if self._plan.includes(slot)]
            if slots and self._repoints_rows and None in row.pk:
                raise ValueError("a part of its key is NULL, so that no UPDATE finds it")
            items = self._plan.items(slots)
        except ValueError as error:
            ref = RowRef(rows.column, row.pk)
            self.rows_counted += not self.outcomes.was_reported(ref)
            self.outcomes.report_broken_row(ref, str(error))
            return None
        if not slots:
            return None
        by_slot = {slot.ref.path: id_ for id_, item in items.items() for slot in item.slots}
        return PendingRow(rows, row, by_slot, set(items)), items

    def _begin_objects(self, items: dict[str, Item]) -> None:
        """Record the intents of objects new to this pass, and give them to the pool."""
        records = self._recorder.find_records(list(items))
        tasks = {id_: CopyTask(id_, item, records.get(id_)) for id_, item in items.items()}
        final = {id_ for id_, task in tasks.items() if self._has_final_outcome(task.record)}
        taken = self._recorder.record_intents(task for id_, task in tasks.items() if id_ not in final)
        if taken:
            taken = self._free_destinations([tasks[id_] for id_ in taken])
        for id_, task in tasks.items():
            pending = self._objects[id_] = PendingObject(task)
            if id_ in final:
                assert task.record is not None
                kind, reason = OutcomeKind(str(task.record.outcome)), task.record.reason or ""
                pending.conclude(CopyResult(task=task, kind=kind, reason=reason))
            elif id_ in taken:
                self.outcomes.report_collision(pending)
            elif id_ in self._recorder.elsewhere:
                # Another process copies it. Its rows wait for a later pass, at the latest for the one at the run's end.
                pending.conclude(CopyResult(task=task, kind=OutcomeKind.UNCHANGED))
            else:
                self._start_copy(pending, Admission.NEW)

    def _free_destinations(self, tasks: Sequence[CopyTask]) -> set[str]:
        """Free the destinations of these objects where others no longer need them; return the ids of those that stay."""
        owners = [self._recorder.find_owner(task.item.destination) for task in tasks]
        earlier = [owner for owner in owners if owner is not None and owner.run != self._recorder.run]
        left = [owner for owner in earlier if self._is_left_behind(owner)]
        others = [owner for owner in earlier if owner not in left]
        checked = parallel_map(self._copier.owns_nothing, others, _OWNER_CHECKS_AT_ONCE) if others else ()
        gone = [owner for owner, owns_nothing in checked if owns_nothing]
        if not (gone or left):
            return {task.id for task in tasks}
        self._recorder.free_destinations(gone, left)
        return self._recorder.record_intents(tasks)

    def _is_left_behind(self, owner: ObjectRecord) -> bool:
        """Whether no row was re-pointed to a copy, and its source key is registered for another place by now.

        Then no run copies it again. What is at its destination is compared, as any object there.
        """
        if owner.state != ObjectState.VERIFIED or owner.outcome != OutcomeKind.COPIED or self._plan.has_id(owner):
            return False
        return not self._recorder.was_repointed(owner.id)

    def _has_final_outcome(self, record: ObjectRecord | None) -> bool:
        """Whether an earlier pass of this run finished an object for good."""
        if record is None or record.run != self._recorder.run or record.outcome is None:
            return False
        return OutcomeKind(record.outcome) not in _RETRIED_OUTCOMES

    def _start_copy(self, pending: PendingObject, admission: Admission) -> None:
        pending.start_copy()
        self._pool.submit(_Work.COPY, pending.task.id, partial(self._copier.copy, pending.task), admission)

    def _copy_again(self, pending: PendingObject) -> None:
        self._objects[pending.task.id] = pending
        self._start_copy(pending, Admission.CONTINUATION)

    # -- results of workers

    def _collect(self, *, block: bool) -> None:
        """Handle results of workers; with ``block`` wait up to 0.2 seconds for one."""
        while (done := self._pool.take(block=block)) is not None:
            block = False
            if done.kind is _Work.LISTING:
                self._handle_listing(done)
                continue
            pending = self._objects.get(done.id)
            if pending is None:
                continue
            try:
                result = done.result()
            except StoppedError:
                self._objects.pop(done.id, None)
            except StoreRequestError as error:
                # A source check without an answer: the copy is kept, and the recheck at the run's end asks again.
                self._breaker.record(error.failure, workers=self._pool.width)
                self._report_finished(pending)
            else:
                if done.kind is _Work.SOURCE_CHECK:
                    self._handle_source_check(pending, changed=result)
                else:
                    if result.copied:
                        self._on_copied()
                    self._handle_copy(pending, result)
            if self._repointer.is_due:
                self._flush()
            if self._rechecks.is_due:
                self._start_listing()

    def _handle_copy(self, pending: PendingObject, result: CopyResult) -> None:
        failure = Failure(result.failure, result.reason) if result.failure is not None else None
        self._breaker.record(failure, workers=self._pool.width)
        if result.recheck_pending:
            pending.await_recheck()
            self._rechecks.add_copy(result)
            return
        if result.verified is None or not self._repoints_rows:
            rows = self._conclude(pending, result)
        else:
            rows = pending.begin_repointing(result)
            if result.copied:
                rows += self._find_earlier_rows(pending, rows)
            record = self._recorder.result_record(result, state=ObjectState.VERIFIED, outcome=OutcomeKind.REPOINTED)
            self._repointer.add_result(record)
        for row in rows:
            if pending.resolve_row(row):
                self._repointer.add_row(row)

    def _find_earlier_rows(self, pending: PendingObject, rows: list[PendingRow]) -> list[PendingRow]:
        """Find rows that name an earlier copy: its place has another object now."""
        record = pending.task.record
        if record is None or record.state != ObjectState.VERIFIED or self._options.dry_run:
            return []
        known = {(row.rows.column, row.row.pk) for row in rows}
        return [
            PendingRow.pointing_to(record.id, pointing)
            for pointing in self._earlier_rows(record)
            if (pointing.rows.column, pointing.row.pk) not in known
        ]

    # -- checks of sources, by listings and by HEAD

    def _start_listing(self) -> None:
        if (work := self._rechecks.begin()) is not None:
            self._pool.submit(_Work.LISTING, "", work, Admission.UNGATED)

    def _handle_listing(self, listed: Finished) -> None:
        try:
            findings = self._rechecks.conclude(listed.result())
        except StoppedError:
            findings = self._rechecks.conclude(({}, {}))
        for result in findings.open:
            # These copies were under way before a request to stop, so they are rechecked all the same.
            work = partial(self._copier.recheck, result)
            self._pool.submit(_Work.COPY, result.task.id, work, Admission.FINAL)
        for result in findings.confirmed:
            self._handle_copy(self._objects[result.task.id], result)
            if self._repointer.is_full:
                self._flush()
        for id_, source in findings.sources.items():
            pending = self._objects.get(id_)
            verified = pending.result.verified if pending is not None and pending.result is not None else None
            if pending is None or verified is None or self._rechecks.is_waiting(id_):
                continue  # it is finished, or more rows were attached, whose commit another check follows
            if source is not None and proven_unchanged(verified.source.evidence, source.evidence):
                self._handle_source_check(pending, changed=False)
            else:
                self._check_source(pending, verified)

    def _check_source(self, pending: PendingObject, verified: Verified) -> None:
        """Send a HEAD for the source of an object whose rows were updated."""
        work = partial(self._copier.source_changed, pending.task.item.source.path, verified)
        self._pool.submit(_Work.SOURCE_CHECK, pending.task.id, work, Admission.CONTINUATION)

    def _handle_source_check(self, pending: PendingObject, *, changed: bool) -> None:
        if pending.awaits_writes:
            return  # more rows were attached; another check follows their commit
        if not changed:
            self._report_finished(pending)
        elif pending.recopies < MAX_RECOPIES:
            assert pending.result is not None
            record = self._recorder.result_record(
                pending.result, state=ObjectState.VERIFIED, outcome=OutcomeKind.REPOINTED
            )
            self._copy_again(pending.recopied(record))
        else:
            reason = "the source keeps being replaced under its old key: put a CutoverBackend there or pause writes, then run again"
            self._fail(pending, OutcomeKind.MODIFIED, reason, state=ObjectState.VERIFIED)

    # -- objects become rows again

    def _flush(self) -> None:
        """Update the rows that are ready, and write the results of objects with them."""
        self._control.limiter.wait()
        batch = self._repointer.flush()
        if batch.tried or batch.results or batch.broken:
            self.mark_written()
        for row, reason in batch.broken:
            self.outcomes.report_broken_row(RowRef(row.rows.column, row.row.pk), reason)
            for id_ in row.objects & self._objects.keys():
                self._objects[id_].mark_tried(row, None)
        for record in batch.results:
            pending = self._objects.get(record.id)
            if pending is not None and pending.needs_no_repointing:
                del self._objects[record.id]
        touched: dict[str, PendingObject] = {}
        for row, update, value, refusal in batch.tried:
            named = [self._objects[id_] for id_ in update.objects if id_ in self._objects]
            self.rows_repointed += value is not None and not any(pending.recopies for pending in named)
            self.rows_counted += value is not None and row.listed
            for pending in named:
                touched[pending.task.id] = pending
                pending.mark_tried(row, value, refusal)
        for pending in touched.values():
            if pending.has_no_pending_rows:
                self._handle_repointed(pending)

    def _handle_repointed(self, pending: PendingObject) -> None:
        """Check the source again after all rows were tried, or report their problem."""
        assert pending.result is not None
        verified, id_ = pending.result.verified, pending.task.id
        assert verified is not None
        if pending.refusal:
            state = ObjectState.VERIFIED if self._recorder.was_repointed(id_) else ObjectState.UNREFERENCED
            self._fail(pending, OutcomeKind.FAILED, pending.refusal, state=state)
        elif reason := pending.lost_rows_reason:
            unused = pending.result.copied and not self._recorder.was_repointed(id_)
            self._fail(
                pending,
                OutcomeKind.MODIFIED,
                reason,
                state=ObjectState.UNREFERENCED if unused else ObjectState.VERIFIED,
            )
        elif self._options.dry_run or not pending.task.item.action.moves:
            self._report_finished(pending)
        elif self._rechecks.lists_sources:
            self._rechecks.add_repointed(id_, pending.task.item)
        else:
            self._check_source(pending, verified)

    # -- finished objects

    def _report_finished(self, pending: PendingObject) -> None:
        """Report an object whose rows were updated and whose source is unchanged."""
        if pending.reported is None:
            self.outcomes.report(pending)
        if pending.has_no_pending_rows:
            self._objects.pop(pending.task.id, None)

    def _fail(self, pending: PendingObject, kind: OutcomeKind, reason: str, *, state: str) -> None:
        """Record and report a problem of an object that was copied and verified."""
        result = pending.fail(kind, reason)
        self._recorder.record_results(self._recorder.result_record(result, state=state, outcome=kind))
        self.mark_written()
        self.outcomes.report(pending, new=False)
        self._objects.pop(pending.task.id, None)

    def _conclude(self, pending: PendingObject, result: CopyResult) -> list[PendingRow]:
        """Record and perhaps report an object without row updates; return the rows that waited for it."""
        if result.verified is not None and result.kind is OutcomeKind.REPOINTED:
            result = replace(result, kind=OutcomeKind.COPIED)
        rows = pending.conclude(result)
        failed = ObjectState.UNRESOLVED if result.left is None else ObjectState.UNREFERENCED
        state = ObjectState.VERIFIED if result.verified is not None else failed
        before = pending.task.record
        if before is None or before.run != self._recorder.run or before.outcome != result.kind:
            self.outcomes.report(pending)
        else:
            self.outcomes.report_new_rows(pending)
        self._repointer.add_result(self._recorder.result_record(result, state=state, outcome=result.kind))
        if self._repointer.has_full_results:
            self._flush()
        return rows
