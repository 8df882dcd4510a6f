"""Rows to objects, objects to workers, and back to rows.

One thread talks to the database: it reads windows of rows, hands their objects to a pool of workers, takes back what
they carried, and re-points rows in batches. Workers talk to the stores only. Everything in between is bounded: the
next window is read when most objects of the earlier ones have come back.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import Any

from migrate_storage.core.errors import RunError, StoppedError
from migrate_storage.core.model import Outcome, OutcomeKind, RowRef, Way
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.file_json import Row, parse_slots
from migrate_storage.engine.batched_checks import BatchedRechecks
from migrate_storage.engine.concurrency import ConcurrencyLimiter
from migrate_storage.engine.in_flight import PendingObject, PendingRow, Pointing
from migrate_storage.engine.listing_evidence import SideListings
from migrate_storage.engine.object_copier import ObjectCopier
from migrate_storage.engine.outcomes import OutcomeReporter, listed
from migrate_storage.engine.plan import Action, Item, MigrationPlan
from migrate_storage.engine.recorder import RunRecorder
from migrate_storage.engine.repoint_batches import BatchRepointer
from migrate_storage.engine.task import CopyResult, CopyTask
from migrate_storage.engine.verify import Verified, proven_unchanged
from migrate_storage.engine.worker_pool import Admission, WorkerPool
from migrate_storage.journal import ObjectRecord
from migrate_storage.stores.failures import FailureKind
from migrate_storage.stores.retry import StoreRequestError

__all__ = ("Scheduler",)

_BATCH = 250
"""Rows re-pointed in one transaction."""
_LATEST = 1.0
"""Seconds after which rows that are ready are re-pointed though their batch is not full: objects may come slowly."""
_MENDS = 3
"""How often an object whose source changed after its rows were re-pointed is copied again."""
_AGAIN = frozenset({OutcomeKind.MISSING, OutcomeKind.CHANGED, OutcomeKind.REWRITTEN})
"""Outcomes of objects that a later pass looks at again when a row still, or again, names them."""
_PATIENCE = 30
"""Failures of a whole store in a row, none succeeding between, after which the run stops rather than fail each object."""


class Scheduler:
    """Carries the objects of rows, and re-points the rows.

    Args:
        route: from where to where.
        carrier: carries one object.
        ledger: where it is written down.
        keep_rows: copy only: no row is re-pointed.
        dry_run: nothing is written; what would be is told.
        earlier: the rows that were re-pointed to an object, by whichever run.
        gate: how many workers may be at it at once; while it is paused, rows are left alone too.
        tell: called with each outcome, on the thread that runs the pass.
        stopping: set when no further object is to be begun.
        spent: whether a limit is reached, so that none is to be begun either.
        grace: seconds that objects in flight are waited for once stopping.
        sights: what listings may tell in place of looks; ``None`` looks at each.
    """

    def __init__(
        self,
        route: MigrationPlan,
        carrier: ObjectCopier,
        ledger: RunRecorder,
        *,
        keep_rows: bool,
        dry_run: bool,
        earlier: Callable[[ObjectRecord], Iterable[Pointing]],
        gate: ConcurrencyLimiter,
        tell: Callable[[Outcome], None],
        stopping: threading.Event,
        spent: Callable[[], bool],
        grace: float,
        sights: SideListings | None = None,
    ) -> None:
        self._route, self._carrier, self._ledger = route, carrier, ledger
        self._rewrites = not keep_rows and route.way is not Way.SWAP
        self._dry_run, self._gate, self._earlier = dry_run, gate, earlier
        self._stopping, self._grace = stopping, grace
        self._pool = WorkerPool(gate, stopping, spent)
        self._survey = BatchedRechecks(sights)
        self._repoint = BatchRepointer(ledger, _PATIENCE)
        self._objects: dict[str, PendingObject] = {}
        self._ready: list[PendingRow] = []
        self._settling: dict[str, ObjectRecord] = {}
        self._failures, self._flushed = 0, time.monotonic()
        #: What was told, and whether a pass found anything new.
        self.telling = OutcomeReporter(ledger, route, tell)
        #: Rows that name another place now.
        self.rows_moved = 0
        #: Rows that count against a limit: those seen for the first time, and those listed before that were re-pointed now.
        self.rows_counted = 0

    def submit_rows(self, rows: FileColumn, window: Sequence[Row]) -> None:
        """Begin the objects that these rows name; returns when there is room for the next window.

        Raises:
            RunError: nothing works any more.
        """
        admitted = [entry for row in window if (entry := self._admit(rows, row)) is not None]
        wanted: dict[str, Item] = {}
        for _, items in admitted:
            for id_, item in items.items():
                known = wanted.get(id_)
                wanted[id_] = item if known is None else replace(known, slots=known.slots + item.slots)
        self._begin({id_: item for id_, item in wanted.items() if id_ not in self._objects})
        for row, items in admitted:
            row.listed = any(listed(self._objects[id_].task.record) for id_ in items)
            self.rows_counted += not row.listed
            self._attach(row, items)
        for id_ in wanted:
            entity = self._objects[id_]
            if entity.final:
                self.telling.more(entity)
                if id_ not in self._settling:
                    del self._objects[id_]
        self._take(block=False)
        most = max(8 * max(len(window), self._pool.width), self._survey.most)
        while self._pool.under_way > 4 * self._pool.width or len(self._objects) > most:
            self._take(block=True)
            if not self._pool.under_way:
                self._flush()
                self._start_listing()
            if not self._pool.under_way or self._stopping.is_set():
                return

    def recopy(self, entry: ObjectRecord) -> None:
        """Copy an object again whose source changed since rows were re-pointed to it, and tell those rows.

        Args:
            entry: its journal line.
        """
        rows = list(self._earlier(entry))
        slots = tuple(slot for pointing in rows for slot in pointing.slots)
        item = Item(source=entry.source, destination=entry.destination, action=Action.TRANSFER, slots=slots)
        entity = self._objects[entry.id] = PendingObject(CopyTask(entry.id, item, entry, no_batching=True), recopies=1)
        for pointing in rows:
            slots_of_row = dict.fromkeys(pointing.indexes, entry.id)
            entity.rows.append(PendingRow(pointing.rows, pointing.row, slots_of_row, {entry.id}))
        self._pool.submit("carry", entry.id, partial(self._carrier.copy, entity.task), Admission.CONTINUATION)

    def finish(self) -> None:
        """Wait for everything that was begun, and re-point its rows.

        Raises:
            RunError: nothing works any more.
        """
        deadline: float | None = None
        while self._pool.under_way or self._ready or self._settling or self._survey.waiting:
            if self._stopping.is_set() and deadline is None:
                deadline = time.monotonic() + self._grace
            if deadline is not None and time.monotonic() > deadline:
                break
            if self._pool.under_way:
                self._take(block=True)
            if not self._pool.under_way:
                self._flush()
                self._start_listing()
        self._survey.forget()
        self._objects.clear()

    def each(self, work: Callable[[ObjectRecord], bool], entries: Sequence[ObjectRecord]) -> list[bool]:
        """Ask something of each of a batch of journaled objects, as many at once as there are workers."""
        return self._pool.each(work, entries)

    def close(self) -> None:
        """Let the workers go."""
        self._pool.close()

    # -- rows become objects

    def _admit(self, rows: FileColumn, row: Row) -> tuple[PendingRow, dict[str, Item]] | None:
        try:
            slots = [slot for slot in parse_slots(rows.column, row) if self._route.includes(slot)]
            items = self._route.items(slots)
        except ValueError as error:
            ref = RowRef(rows.column, row.pk)
            self.rows_counted += not self.telling.knew(ref)
            self.telling.broken(ref, str(error))
            return None
        if not slots:
            return None
        by_slot = {slot.ref.index: id_ for id_, item in items.items() for slot in item.slots}
        return PendingRow(rows, row, by_slot, set(items)), items

    def _begin(self, fresh: dict[str, Item]) -> None:
        """Write the intents of objects that are new to this pass, and hand them to the pool."""
        known = self._ledger.known(list(fresh))
        jobs = {id_: CopyTask(id_, item, known.get(id_)) for id_, item in fresh.items()}
        concluded = {id_ for id_, job in jobs.items() if self._concluded(job.record)}
        taken = self._ledger.intend(job for id_, job in jobs.items() if id_ not in concluded)
        for id_, job in jobs.items():
            entity = self._objects[id_] = PendingObject(job)
            if id_ in concluded:
                assert job.record is not None
                reason = job.record.reason or ""
                entity.result = CopyResult(task=job, kind=OutcomeKind(str(job.record.outcome)), reason=reason)
                entity.final = True
            elif id_ in taken:
                self.telling.collided(entity)
            elif id_ in self._ledger.elsewhere:
                # Its rows wait for a later pass, at the latest the run's end.
                entity.result, entity.final = CopyResult(task=job, kind=OutcomeKind.SKIPPED), True
            else:
                self._pool.submit("carry", id_, partial(self._carrier.copy, job), Admission.NEW)

    def _concluded(self, entry: ObjectRecord | None) -> bool:
        """Whether this very run has dealt with an object for good: rows that still name it wait for a person."""
        if entry is None or entry.run != self._ledger.run or entry.outcome is None:
            return False
        return OutcomeKind(entry.outcome) not in _AGAIN

    def _attach(self, row: PendingRow, items: dict[str, Item]) -> None:
        for id_, item in items.items():
            entity = self._objects[id_]
            entity.refs += tuple(slot.ref for slot in item.slots)
            if entity.result is None:
                entity.rows.append(row)
            elif entity.mark_resolved(row, rewritten=self._rewrites):
                self._ready.append(row)

    # -- what workers bring back

    def _take(self, *, block: bool) -> None:
        """Take what is done; with ``block`` wait a little for at least one."""
        while (done := self._pool.take(block=block)) is not None:
            block = False
            kind, id_, future = done
            if kind == "survey":
                self._seen(future)
                continue
            entity = self._objects.get(id_)
            if entity is None:
                continue
            try:
                result = future.result()
            except StoppedError:
                self._objects.pop(id_, None)
            except StoreRequestError as error:
                # A later look that got no answer: the copy stands, and the run's last look asks again.
                self._watch(error.failure.kind if error.failure.kind.is_store_wide else None, str(error))
                self._finished(entity)
            else:
                if kind == "look":
                    self._looked(entity, changed=result)
                else:
                    self._arrived(entity, result)
            if len(self._ready) >= _BATCH or time.monotonic() - self._flushed > _LATEST:
                self._flush()
            if self._survey.due:
                self._start_listing()

    # -- what one listing tells of many

    def _start_listing(self) -> None:
        work = self._survey.begin()
        if work is not None:
            self._pool.submit("survey", "", work, Admission.UNGATED)

    def _seen(self, future: Future[Any]) -> None:
        try:
            found = self._survey.ended(future.result())
        except StoppedError:
            found = self._survey.ended(({}, {}))
        for carried in found.open:
            # It gets its looks though the run is to stop: it was under way then.
            self._pool.submit("again", carried.task.id, partial(self._carrier.recheck, carried), Admission.FINAL)
        for carried in found.confirmed:
            self._arrived(self._objects[carried.task.id], carried)
            if len(self._ready) >= _BATCH:
                self._flush()
        for id_, source in found.sources.items():
            entity = self._objects.get(id_)
            if entity is None or self._survey.waits(id_) or entity.result is None or entity.result.verified is None:
                continue  # gone, or more rows were found meanwhile: another look follows them
            if source is not None and proven_unchanged(entity.result.verified.source.evidence, source.evidence):
                self._looked(entity, changed=False)
            else:
                self._look(entity, entity.result.verified)

    def _look(self, entity: PendingObject, verified: Verified) -> None:
        """Look at a source by itself, whose rows were re-pointed."""
        look = partial(self._carrier.source_changed, entity.task.item.source.path, verified)
        self._pool.submit("look", entity.task.id, look, Admission.CONTINUATION)

    def _arrived(self, entity: PendingObject, carried: CopyResult) -> None:
        self._watch(carried.failure, carried.reason)
        if carried.recheck_pending:
            self._survey.copied(carried)
            return
        entity.result = carried
        waiting, entity.rows = entity.rows, []
        if carried.verified is not None and carried.copied and self._rewrites:
            waiting += self._repoint_earlier_rows(entity, waiting)
        if carried.verified is None or not self._rewrites:
            self._conclude(entity)
        else:
            self._settling[entity.task.id] = self._ledger.line(carried, state="held", outcome=OutcomeKind.REWRITTEN)
            if not waiting:
                entity.final = True
        for row in waiting:
            if entity.mark_resolved(row, rewritten=self._rewrites):
                self._ready.append(row)

    def _repoint_earlier_rows(self, entity: PendingObject, waiting: list[PendingRow]) -> list[PendingRow]:
        """Rows that were re-pointed to an earlier copy: what that place holds is another object now."""
        entry = entity.task.record
        if entry is None or entry.state != "held" or self._dry_run:
            return []
        known = {(row.rows.column, row.row.pk) for row in waiting}
        return [
            PendingRow(pointing.rows, pointing.row, dict.fromkeys(pointing.indexes, entry.id), {entry.id})
            for pointing in self._earlier(entry)
            if (pointing.rows.column, pointing.row.pk) not in known
        ]

    def _looked(self, entity: PendingObject, *, changed: bool) -> None:
        if entity.unwritten:
            return  # more rows were found meanwhile: another look follows them
        if not changed:
            self._finished(entity)
        elif entity.recopies < _MENDS:
            self._mend(entity)
        else:
            reason = "the source keeps being replaced under its old key: put a CutoverBackend there or pause writes, then run again"
            self._changed(entity, reason, state="held")

    def _watch(self, failure: FailureKind | None, reason: str) -> None:
        """Count failures that speak of a whole store: when nothing works any more, stop."""
        if failure is None:
            self._failures = 0
            return
        self._failures += 1
        if failure is FailureKind.NO_BUCKET or self._failures >= max(_PATIENCE, self._pool.width):
            times = f"{self._failures} objects in a row" if self._failures > 1 else "an object"
            raise RunError(
                f"{times} failed for a reason that concerns all: {reason}; mend that and run the same command again, it goes on from here"
            )

    # -- objects become rows again

    def _flush(self) -> None:
        """Re-point the rows that are ready, and settle the journal with them."""
        self._gate.wait()
        self._flushed = time.monotonic()
        ready, self._ready = self._ready, []
        entries, self._settling = list(self._settling.values()), {}
        if not ready and not entries:
            return
        found = self._repoint.repoint(ready, entries)
        for row, why in found.broken:
            self.telling.broken(RowRef(row.rows.column, row.row.pk), why)
            for id_ in row.objects & self._objects.keys():
                self._objects[id_].mark_tried(row, None)
        for entry in entries:
            entity = self._objects.get(entry.id)
            if entity is not None and entity.final:
                del self._objects[entry.id]
        touched: dict[str, PendingObject] = {}
        for row, swap, ok, refused in found.tried:
            entities = [self._objects[id_] for id_ in swap.objects if id_ in self._objects]
            self.rows_moved += ok and not any(entity.recopies for entity in entities)
            self.rows_counted += ok and row.listed
            for entity in entities:
                touched[entity.task.id] = entity
                entity.mark_tried(row, swap.new_value if ok else None)
                entity.refused = refused or entity.refused
        for entity in touched.values():
            if entity.has_no_pending_rows:
                self._swapped(entity)

    def _swapped(self, entity: PendingObject) -> None:
        """All rows of an object were tried: look at its source again, or say whose write stood."""
        assert entity.result is not None
        verified = entity.result.verified
        assert verified is not None
        if entity.refused:
            state = "held" if self._ledger.named(entity.task.id) else "leftover"
            self._ended(entity, OutcomeKind.FAILED, entity.refused, state=state)
        elif entity.lost and not entity.swapped:
            vain = entity.result.copied and not self._ledger.named(entity.task.id)
            reason = "the row was changed meanwhile; that write stands, and the next pass looks again"
            self._changed(entity, reason, state="leftover" if vain else "held")
        elif self._dry_run or not entity.task.item.action.moves:
            self._finished(entity)
        elif self._survey.ready:
            self._survey.swapped(entity.task.id, entity.task.item.source.path)
        else:
            self._look(entity, verified)

    def _mend(self, entity: PendingObject) -> None:
        """The source moved on after the swap: copy again while the destination is exactly our copy, and tell the rows."""
        assert entity.result is not None
        line = self._ledger.line(entity.result, state="held", outcome=OutcomeKind.REWRITTEN)
        again = PendingObject(
            CopyTask(entity.task.id, entity.task.item, line, no_batching=True),
            refs=entity.refs,
            recopies=entity.recopies + 1,
        )
        for row, value in entity.swapped:
            slots = {index: id_ for index, id_ in row.slots.items() if id_ == entity.task.id}
            again.rows.append(PendingRow(row.rows, Row(row.row.pk, value), slots, {entity.task.id}))
        self._objects[entity.task.id] = again
        self._pool.submit("carry", again.task.id, partial(self._carrier.copy, again.task), Admission.CONTINUATION)

    # -- the end of an object's way

    def _finished(self, entity: PendingObject) -> None:
        """Rows re-pointed, source unchanged."""
        if not entity.told:
            self.telling.ended(entity)
        if entity.has_no_pending_rows:
            self._objects.pop(entity.task.id, None)

    def _changed(self, entity: PendingObject, reason: str, *, state: str) -> None:
        """Somebody else's write stands: of the row, or of the source."""
        self._ended(entity, OutcomeKind.CHANGED, reason, state=state)

    def _ended(self, entity: PendingObject, kind: OutcomeKind, reason: str, *, state: str) -> None:
        """Copied and verified, and listed all the same."""
        assert entity.result is not None
        entity.result = replace(entity.result, kind=kind, reason=reason)
        self._ledger.settle(self._ledger.line(entity.result, state=state, outcome=kind))
        self.telling.ended(entity, news=False)
        self._objects.pop(entity.task.id, None)

    def _conclude(self, entity: PendingObject) -> None:
        """No row is to be re-pointed: write down how it ended, and tell it unless an earlier pass of this run did."""
        carried = entity.result
        assert carried is not None
        if carried.verified is not None and carried.kind is OutcomeKind.REWRITTEN:
            carried = entity.result = replace(carried, kind=OutcomeKind.COPIED)
        entity.final = True
        state = "held" if carried.verified is not None else "leftover" if carried.left is not None else "listed"
        before = entity.task.record
        if before is None or before.run != self._ledger.run or before.outcome != carried.kind:
            self.telling.ended(entity)
        else:
            self.telling.more(entity)
        self._settling[entity.task.id] = self._ledger.line(carried, state=state, outcome=carried.kind)
        if len(self._settling) >= _BATCH:
            self._flush()
