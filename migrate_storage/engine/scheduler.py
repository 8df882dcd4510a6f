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
from migrate_storage.database.file_column import Rows
from migrate_storage.database.file_json import Row, parse_slots
from migrate_storage.engine.batched_checks import Survey
from migrate_storage.engine.concurrency import Gate
from migrate_storage.engine.in_flight import ObjectInFlight, Pointing, RowInFlight
from migrate_storage.engine.listing_evidence import Sights
from migrate_storage.engine.object_copier import Carrier
from migrate_storage.engine.outcomes import Telling, listed
from migrate_storage.engine.plan import Action, Item, Route
from migrate_storage.engine.recorder import Ledger
from migrate_storage.engine.repoint_batches import Repointer
from migrate_storage.engine.task import Carried, Job
from migrate_storage.engine.verify import Verified, certainly_unchanged
from migrate_storage.engine.worker_pool import Door, Pool
from migrate_storage.journal import Entry
from migrate_storage.stores.failures import FailureKind
from migrate_storage.stores.retry import StoreFailure

__all__ = ("Pipeline",)

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


class Pipeline:
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
        route: Route,
        carrier: Carrier,
        ledger: Ledger,
        *,
        keep_rows: bool,
        dry_run: bool,
        earlier: Callable[[Entry], Iterable[Pointing]],
        gate: Gate,
        tell: Callable[[Outcome], None],
        stopping: threading.Event,
        spent: Callable[[], bool],
        grace: float,
        sights: Sights | None = None,
    ) -> None:
        self._route, self._carrier, self._ledger = route, carrier, ledger
        self._rewrites = not keep_rows and route.way is not Way.SWAP
        self._dry_run, self._gate, self._earlier = dry_run, gate, earlier
        self._stopping, self._grace = stopping, grace
        self._pool = Pool(gate, stopping, spent)
        self._survey = Survey(sights)
        self._repoint = Repointer(ledger, _PATIENCE)
        self._objects: dict[str, ObjectInFlight] = {}
        self._ready: list[RowInFlight] = []
        self._settling: dict[str, Entry] = {}
        self._failures, self._flushed = 0, time.monotonic()
        #: What was told, and whether a pass found anything new.
        self.telling = Telling(ledger, route, tell)
        #: Rows that name another place now.
        self.rows_moved = 0
        #: Rows that count against a limit: those seen for the first time, and those listed before that were re-pointed now.
        self.rows_counted = 0

    def window(self, rows: Rows, window: Sequence[Row]) -> None:
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
            row.listed = any(listed(self._objects[id_].job.entry) for id_ in items)
            self.rows_counted += not row.listed
            self._attach(row, items)
        for id_ in wanted:
            entity = self._objects[id_]
            if entity.concluded:
                self.telling.more(entity)
                if id_ not in self._settling:
                    del self._objects[id_]
        self._take(block=False)
        most = max(8 * max(len(window), self._pool.width), self._survey.most)
        while self._pool.under_way > 4 * self._pool.width or len(self._objects) > most:
            self._take(block=True)
            if not self._pool.under_way:
                self._flush()
                self._look_around()
            if not self._pool.under_way or self._stopping.is_set():
                return

    def mend(self, entry: Entry) -> None:
        """Copy an object again whose source changed since rows were re-pointed to it, and tell those rows.

        Args:
            entry: its journal line.
        """
        rows = list(self._earlier(entry))
        slots = tuple(slot for pointing in rows for slot in pointing.slots)
        item = Item(source=entry.source, destination=entry.destination, action=Action.TRANSFER, slots=slots)
        entity = self._objects[entry.id] = ObjectInFlight(Job(entry.id, item, entry, alone=True), mends=1)
        for pointing in rows:
            slots_of_row = dict.fromkeys(pointing.indexes, entry.id)
            entity.rows.append(RowInFlight(pointing.rows, pointing.row, slots_of_row, {entry.id}))
        self._pool.submit("carry", entry.id, partial(self._carrier, entity.job), Door.BEGUN)

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
                self._look_around()
        self._survey.forget()
        self._objects.clear()

    def each(self, work: Callable[[Entry], bool], entries: Sequence[Entry]) -> list[bool]:
        """Ask something of each of a batch of journaled objects, as many at once as there are workers."""
        return self._pool.each(work, entries)

    def close(self) -> None:
        """Let the workers go."""
        self._pool.close()

    # -- rows become objects

    def _admit(self, rows: Rows, row: Row) -> tuple[RowInFlight, dict[str, Item]] | None:
        try:
            slots = [slot for slot in parse_slots(rows.column, row) if self._route.wants(slot)]
            items = self._route.items(slots)
        except ValueError as error:
            ref = RowRef(rows.column, row.pk)
            self.rows_counted += not self.telling.knew(ref)
            self.telling.broken(ref, str(error))
            return None
        if not slots:
            return None
        by_slot = {slot.ref.index: id_ for id_, item in items.items() for slot in item.slots}
        return RowInFlight(rows, row, by_slot, set(items)), items

    def _begin(self, fresh: dict[str, Item]) -> None:
        """Write the intents of objects that are new to this pass, and hand them to the pool."""
        known = self._ledger.known(list(fresh))
        jobs = {id_: Job(id_, item, known.get(id_)) for id_, item in fresh.items()}
        concluded = {id_ for id_, job in jobs.items() if self._concluded(job.entry)}
        taken = self._ledger.intend(job for id_, job in jobs.items() if id_ not in concluded)
        for id_, job in jobs.items():
            entity = self._objects[id_] = ObjectInFlight(job)
            if id_ in concluded:
                assert job.entry is not None
                reason = job.entry.reason or ""
                entity.carried = Carried(job=job, kind=OutcomeKind(str(job.entry.outcome)), reason=reason)
                entity.concluded = True
            elif id_ in taken:
                self.telling.collided(entity)
            elif id_ in self._ledger.elsewhere:
                # Its rows wait for a later pass, at the latest the run's end.
                entity.carried, entity.concluded = Carried(job=job, kind=OutcomeKind.SKIPPED), True
            else:
                self._pool.submit("carry", id_, partial(self._carrier, job), Door.FRESH)

    def _concluded(self, entry: Entry | None) -> bool:
        """Whether this very run has dealt with an object for good: rows that still name it wait for a person."""
        if entry is None or entry.run != self._ledger.run or entry.outcome is None:
            return False
        return OutcomeKind(entry.outcome) not in _AGAIN

    def _attach(self, row: RowInFlight, items: dict[str, Item]) -> None:
        for id_, item in items.items():
            entity = self._objects[id_]
            entity.refs += tuple(slot.ref for slot in item.slots)
            if entity.carried is None:
                entity.rows.append(row)
            elif entity.resolve(row, rewritten=self._rewrites):
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
            except StoreFailure as error:
                # A later look that got no answer: the copy stands, and the run's last look asks again.
                self._watch(error.failure.kind if error.failure.kind.of_the_store else None, str(error))
                self._finished(entity)
            else:
                if kind == "look":
                    self._looked(entity, changed=result)
                else:
                    self._arrived(entity, result)
            if len(self._ready) >= _BATCH or time.monotonic() - self._flushed > _LATEST:
                self._flush()
            if self._survey.due:
                self._look_around()

    # -- what one listing tells of many

    def _look_around(self) -> None:
        work = self._survey.begin()
        if work is not None:
            self._pool.submit("survey", "", work, Door.OPEN)

    def _seen(self, future: Future[Any]) -> None:
        try:
            found = self._survey.ended(future.result())
        except StoppedError:
            found = self._survey.ended(({}, {}))
        for carried in found.open:
            # It gets its looks though the run is to stop: it was under way then.
            self._pool.submit("again", carried.job.id, partial(self._carrier.look, carried), Door.LAST)
        for carried in found.confirmed:
            self._arrived(self._objects[carried.job.id], carried)
            if len(self._ready) >= _BATCH:
                self._flush()
        for id_, source in found.sources.items():
            entity = self._objects.get(id_)
            if entity is None or self._survey.waits(id_) or entity.carried is None or entity.carried.verified is None:
                continue  # gone, or more rows were found meanwhile: another look follows them
            if source is not None and certainly_unchanged(entity.carried.verified.source.evidence, source.evidence):
                self._looked(entity, changed=False)
            else:
                self._look(entity, entity.carried.verified)

    def _look(self, entity: ObjectInFlight, verified: Verified) -> None:
        """Look at a source by itself, whose rows were re-pointed."""
        look = partial(self._carrier.changed, entity.job.item.source.path, verified)
        self._pool.submit("look", entity.job.id, look, Door.BEGUN)

    def _arrived(self, entity: ObjectInFlight, carried: Carried) -> None:
        self._watch(carried.failure, carried.reason)
        if carried.unseen:
            self._survey.copied(carried)
            return
        entity.carried = carried
        waiting, entity.rows = entity.rows, []
        if carried.verified is not None and carried.copied and self._rewrites:
            waiting += self._told_too(entity, waiting)
        if carried.verified is None or not self._rewrites:
            self._conclude(entity)
        else:
            self._settling[entity.job.id] = self._ledger.line(carried, state="held", outcome=OutcomeKind.REWRITTEN)
            if not waiting:
                entity.concluded = True
        for row in waiting:
            if entity.resolve(row, rewritten=self._rewrites):
                self._ready.append(row)

    def _told_too(self, entity: ObjectInFlight, waiting: list[RowInFlight]) -> list[RowInFlight]:
        """Rows that were re-pointed to an earlier copy: what that place holds is another object now."""
        entry = entity.job.entry
        if entry is None or entry.state != "held" or self._dry_run:
            return []
        known = {(row.rows.column, row.row.pk) for row in waiting}
        return [
            RowInFlight(pointing.rows, pointing.row, dict.fromkeys(pointing.indexes, entry.id), {entry.id})
            for pointing in self._earlier(entry)
            if (pointing.rows.column, pointing.row.pk) not in known
        ]

    def _looked(self, entity: ObjectInFlight, *, changed: bool) -> None:
        if entity.unwritten:
            return  # more rows were found meanwhile: another look follows them
        if not changed:
            self._finished(entity)
        elif entity.mends < _MENDS:
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
        found = self._repoint(ready, entries)
        for row, why in found.broken:
            self.telling.broken(RowRef(row.rows.column, row.row.pk), why)
            for id_ in row.objects & self._objects.keys():
                self._objects[id_].written(row, None)
        for entry in entries:
            entity = self._objects.get(entry.id)
            if entity is not None and entity.concluded:
                del self._objects[entry.id]
        touched: dict[str, ObjectInFlight] = {}
        for row, swap, ok, refused in found.tried:
            entities = [self._objects[id_] for id_ in swap.objects if id_ in self._objects]
            self.rows_moved += ok and not any(entity.mends for entity in entities)
            self.rows_counted += ok and row.listed
            for entity in entities:
                touched[entity.job.id] = entity
                entity.written(row, swap.new_value if ok else None)
                entity.refused = refused or entity.refused
        for entity in touched.values():
            if entity.idle:
                self._swapped(entity)

    def _swapped(self, entity: ObjectInFlight) -> None:
        """All rows of an object were tried: look at its source again, or say whose write stood."""
        assert entity.carried is not None
        verified = entity.carried.verified
        assert verified is not None
        if entity.refused:
            state = "held" if self._ledger.named(entity.job.id) else "leftover"
            self._ended(entity, OutcomeKind.FAILED, entity.refused, state=state)
        elif entity.lost and not entity.swapped:
            vain = entity.carried.copied and not self._ledger.named(entity.job.id)
            reason = "the row was changed meanwhile; that write stands, and the next pass looks again"
            self._changed(entity, reason, state="leftover" if vain else "held")
        elif self._dry_run or not entity.job.item.action.moves:
            self._finished(entity)
        elif self._survey.ready:
            self._survey.swapped(entity.job.id, entity.job.item.source.path)
        else:
            self._look(entity, verified)

    def _mend(self, entity: ObjectInFlight) -> None:
        """The source moved on after the swap: copy again while the destination is exactly our copy, and tell the rows."""
        assert entity.carried is not None
        line = self._ledger.line(entity.carried, state="held", outcome=OutcomeKind.REWRITTEN)
        again = ObjectInFlight(
            Job(entity.job.id, entity.job.item, line, alone=True), refs=entity.refs, mends=entity.mends + 1
        )
        for row, value in entity.swapped:
            slots = {index: id_ for index, id_ in row.slots.items() if id_ == entity.job.id}
            again.rows.append(RowInFlight(row.rows, Row(row.row.pk, value), slots, {entity.job.id}))
        self._objects[entity.job.id] = again
        self._pool.submit("carry", again.job.id, partial(self._carrier, again.job), Door.BEGUN)

    # -- the end of an object's way

    def _finished(self, entity: ObjectInFlight) -> None:
        """Rows re-pointed, source unchanged."""
        if not entity.told:
            self.telling.ended(entity)
        if entity.idle:
            self._objects.pop(entity.job.id, None)

    def _changed(self, entity: ObjectInFlight, reason: str, *, state: str) -> None:
        """Somebody else's write stands: of the row, or of the source."""
        self._ended(entity, OutcomeKind.CHANGED, reason, state=state)

    def _ended(self, entity: ObjectInFlight, kind: OutcomeKind, reason: str, *, state: str) -> None:
        """Copied and verified, and listed all the same."""
        assert entity.carried is not None
        entity.carried = replace(entity.carried, kind=kind, reason=reason)
        self._ledger.settle(self._ledger.line(entity.carried, state=state, outcome=kind))
        self.telling.ended(entity, news=False)
        self._objects.pop(entity.job.id, None)

    def _conclude(self, entity: ObjectInFlight) -> None:
        """No row is to be re-pointed: write down how it ended, and tell it unless an earlier pass of this run did."""
        carried = entity.carried
        assert carried is not None
        if carried.verified is not None and carried.kind is OutcomeKind.REWRITTEN:
            carried = entity.carried = replace(carried, kind=OutcomeKind.COPIED)
        entity.concluded = True
        state = "held" if carried.verified is not None else "leftover" if carried.left is not None else "listed"
        before = entity.job.entry
        if before is None or before.run != self._ledger.run or before.outcome != carried.kind:
            self.telling.ended(entity)
        else:
            self.telling.more(entity)
        self._settling[entity.job.id] = self._ledger.line(carried, state=state, outcome=carried.kind)
        if len(self._settling) >= _BATCH:
            self._flush()
