"""Rows to objects, objects to workers, and back to rows: the only concurrency of a run.

One thread talks to the database: it reads windows of rows, hands their objects to a pool of workers, takes back what
they carried, and re-points rows in batches. Workers talk to the stores only. Everything in between is bounded: the
next window is read when most objects of the earlier ones have come back.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from migrate_storage.carry import Carried, Carrier, Job, confirmed
from migrate_storage.errors import RefusedError, RunError, StoppedError
from migrate_storage.flight import ObjectInFlight, Pointing, RowInFlight
from migrate_storage.gate import Gate
from migrate_storage.journal import Entry, digest
from migrate_storage.ledger import Ledger
from migrate_storage.model import Action, Item, Location, ObjectMeta, Outcome, OutcomeKind, RowRef, Way
from migrate_storage.plan import Route
from migrate_storage.retry import StoreFailure
from migrate_storage.rewrite import Swap, prepare
from migrate_storage.rows import Rows
from migrate_storage.sightings import Sights
from migrate_storage.stores.failure import FailureKind
from migrate_storage.values import BrokenValueError, Row, parse_slots
from migrate_storage.verify import certainly_unchanged

__all__ = ("Pipeline",)

T = TypeVar("T")

_BATCH = 250
"""Rows re-pointed in one transaction."""
_LATEST = 1.0
"""Seconds after which rows that are ready are re-pointed though their batch is not full: objects may come slowly."""
_GROUP = 5000
"""Copies and re-pointed objects that wait for one listing, at most."""
_LONGEST = 2.0
"""Seconds after which they are looked at though they are fewer."""
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
        self._tell, self._stopping, self._spent, self._grace = tell, stopping, spent, grace
        self._workers = gate.widest
        self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="carry")
        self._done: queue.SimpleQueue[tuple[str, str, Future[Any]]] = queue.SimpleQueue()
        self._under_way = 0
        self._objects: dict[str, ObjectInFlight] = {}
        self._ready: list[RowInFlight] = []
        self._settling: dict[str, Entry] = {}
        self._failures = self._refusals = 0
        self._flushed = self._surveyed = time.monotonic()
        self._sights = sights
        #: Copies, and objects whose rows were re-pointed, that wait for a listing; and those of the listing that is under way.
        self._unseen: dict[str, Carried] = {}
        self._unlooked: dict[str, None] = {}
        self._survey: tuple[dict[str, Carried], dict[str, None]] | None = None
        #: Whether every row that comes is seen for the first time in this run.
        self.first_pass = True
        #: Rows that name another place now.
        self.rows_moved = 0
        #: Rows that count against a limit: those seen for the first time, and those listed before that were re-pointed now.
        self.rows_counted = 0
        #: Objects that ended otherwise than an earlier pass of this run had them.
        self.news = 0

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
            row.listed = any(_listed(self._objects[id_].job.entry) for id_ in items)
            self.rows_counted += not row.listed
            self._attach(row, items)
        for id_ in wanted:
            entity = self._objects[id_]
            if entity.concluded:
                self._tell_more(entity)
                if id_ not in self._settling:
                    del self._objects[id_]
        self._take(block=False)
        most = max(8 * max(len(window), self._workers), 2 * _GROUP if self._listed else 0)
        while self._under_way > 4 * self._workers or len(self._objects) > most:
            self._take(block=True)
            if not self._under_way:
                self._flush()
                self._look_around()
            if not self._under_way or self._stopping.is_set():
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
        self._submit("carry", entity, partial(self._carrier, entity.job))

    def finish(self) -> None:
        """Wait for everything that was begun, and re-point its rows.

        Raises:
            RunError: nothing works any more.
        """
        deadline: float | None = None
        while self._under_way or self._ready or self._settling or self._unseen or self._unlooked:
            if self._stopping.is_set() and deadline is None:
                deadline = time.monotonic() + self._grace
            if deadline is not None and time.monotonic() > deadline:
                break
            if self._under_way:
                self._take(block=True)
            if not self._under_way:
                self._flush()
                self._look_around()
        self._unseen.clear()
        self._unlooked.clear()
        self._objects.clear()

    def each(self, work: Callable[[Entry], bool], entries: Sequence[Entry]) -> list[bool]:
        """Ask something of each of a batch of journaled objects, as many at once as there are workers."""
        return list(self._pool.map(lambda entry: self._let_in(partial(work, entry), fresh=False), entries))

    def close(self) -> None:
        """Let the workers go."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    # -- rows become objects

    def _admit(self, rows: Rows, row: Row) -> tuple[RowInFlight, dict[str, Item]] | None:
        try:
            slots = [slot for slot in parse_slots(rows.column, row) if self._route.wants(slot)]
            items = self._route.items(slots)
        except ValueError as error:
            ref = RowRef(rows.column, row.pk)
            id_ = _broken_id(ref)
            self.rows_counted += not _listed(self._ledger.known([id_]).get(id_))
            self._broken(ref, str(error))
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
                self._collided(entity)
            elif id_ in self._ledger.elsewhere:
                # Its rows wait for a later pass, at the latest the run's end.
                entity.carried, entity.concluded = Carried(job=job, kind=OutcomeKind.SKIPPED), True
            else:
                self._submit("carry", entity, partial(self._carrier, job))

    def _concluded(self, entry: Entry | None) -> bool:
        """Whether this very run has dealt with an object for good: rows that still name it wait for a person."""
        if entry is None or entry.run != self._ledger.run or entry.outcome is None:
            return False
        return OutcomeKind(entry.outcome) not in _AGAIN

    def _collided(self, entity: ObjectInFlight) -> None:
        """Two source objects would become one: the second is listed, and nothing of it is written."""
        job = entity.job
        reason = f"another source object goes to {job.item.destination} already: give one of them another name"
        entity.carried, entity.concluded = Carried(job=job, kind=OutcomeKind.OCCUPIED, reason=reason), True
        entity.refs_told = len(job.item.slots)
        self._list(job.id, job.item.source, OutcomeKind.OCCUPIED, reason, tuple(slot.ref for slot in job.item.slots))

    def _attach(self, row: RowInFlight, items: dict[str, Item]) -> None:
        for id_, item in items.items():
            entity = self._objects[id_]
            entity.refs += tuple(slot.ref for slot in item.slots)
            if entity.carried is None:
                entity.rows.append(row)
            elif entity.resolve(row, rewritten=self._rewrites):
                self._ready.append(row)

    # -- what workers bring back

    def _submit(self, kind: str, entity: ObjectInFlight, work: Callable[[], Any]) -> None:
        if self._gate.widest > self._workers:
            # A pool does not grow: what the old one has it finishes, and the gate counts the workers of both.
            self._pool.shutdown(wait=False)
            self._workers = self._gate.widest
            self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="carry")
        self._under_way += 1
        fresh = kind == "carry" and not entity.mends
        # A copy that only lacks its last looks gets them though the run is to stop: it was under way then.
        enter = self._finish if kind == "again" else partial(self._let_in, fresh=fresh)
        future: Future[Any] = self._pool.submit(enter, work)
        future.add_done_callback(lambda done: self._done.put((kind, entity.job.id, done)))

    def _let_in(self, work: Callable[[], T], *, fresh: bool) -> T:
        """Do a piece of work when its turn comes. A limit keeps fresh objects out; those begun are brought to their end."""
        with self._gate():
            if self._stopping.is_set() or (fresh and self._spent()):
                raise StoppedError("not begun")
            return work()

    def _finish(self, work: Callable[[], T]) -> T:
        with nullcontext() if self._stopping.is_set() else self._gate():
            return work()

    def _take(self, *, block: bool) -> None:
        """Take what is done; with ``block`` wait a little for at least one."""
        while self._under_way:
            try:
                kind, id_, future = self._done.get(block=block, timeout=0.2 if block else None)
            except queue.Empty:
                return
            block = False
            self._under_way -= 1
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
            waiting = len(self._unseen) + len(self._unlooked)
            if waiting >= _GROUP or (waiting and time.monotonic() - self._surveyed > _LONGEST):
                self._look_around()

    # -- what one listing tells of many

    @property
    def _listed(self) -> bool:
        return self._sights is not None and self._sights.source.ready

    def _look_around(self) -> None:
        """List both sides for all that waits for it: the copies are made, and the rows' transactions committed."""
        if self._survey is not None or not (self._unseen or self._unlooked):
            return
        self._surveyed = time.monotonic()
        unseen, self._unseen = self._unseen, {}
        unlooked, self._unlooked = self._unlooked, {}
        self._survey = (unseen, unlooked)
        here = [each.job.item.source.path for each in unseen.values()]
        here += [self._objects[id_].job.item.source.path for id_ in unlooked if id_ in self._objects]
        there = [each.job.item.destination.path for each in unseen.values() if _undated(each)]
        sights = self._sights
        assert sights is not None
        self._under_way += 1
        # Not held up at the gate: what is begun is brought to its end.
        future: Future[Any] = self._pool.submit(lambda: (sights.source(here), sights.destination(there)))
        future.add_done_callback(lambda done: self._done.put(("survey", "", done)))

    def _seen(self, future: Future[tuple[dict[str, ObjectMeta], dict[str, ObjectMeta]]]) -> None:
        """What the listings confirm is done; all else is looked at by itself."""
        assert self._survey is not None
        (unseen, unlooked), self._survey = self._survey, None
        try:
            here, there = future.result()
        except StoppedError:
            here, there = {}, {}
        for id_, carried in unseen.items():
            item = carried.job.item
            known = confirmed(carried, here.get(item.source.path), there.get(item.destination.path))
            if known is None:
                self._submit("again", self._objects[id_], partial(self._carrier.look, carried))
                continue
            self._arrived(self._objects[id_], known)
            if len(self._ready) >= _BATCH:
                self._flush()
        for id_ in unlooked:
            entity = self._objects.get(id_)
            if entity is None or id_ in self._unlooked or entity.carried is None or entity.carried.verified is None:
                continue  # gone, or more rows were found meanwhile: another look follows them
            path, verified = entity.job.item.source.path, entity.carried.verified
            if path in here and certainly_unchanged(verified.source.evidence, here[path].evidence):
                self._looked(entity, changed=False)
            else:
                self._submit("look", entity, partial(self._carrier.changed, path, verified))

    def _arrived(self, entity: ObjectInFlight, carried: Carried) -> None:
        self._watch(carried.failure, carried.reason)
        if carried.unseen:
            self._unseen[entity.job.id] = carried
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
        if failure is FailureKind.NO_BUCKET or self._failures >= max(_PATIENCE, self._workers):
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
        kept, swaps = self._prepare(ready)
        done, refused = self._write(swaps, entries)
        for entry in entries:
            entity = self._objects.get(entry.id)
            if entity is not None and entity.concluded:
                del self._objects[entry.id]
        touched: dict[str, ObjectInFlight] = {}
        for number, (row, swap, ok) in enumerate(zip(kept, swaps, done, strict=True)):
            entities = [self._objects[id_] for id_ in swap.objects if id_ in self._objects]
            self.rows_moved += ok and not any(entity.mends for entity in entities)
            self.rows_counted += ok and row.listed
            for entity in entities:
                touched[entity.job.id] = entity
                entity.written(row, swap.new_value if ok else None)
                entity.refused = refused.get(number, entity.refused)
        for entity in touched.values():
            if entity.idle:
                self._swapped(entity)

    def _write(self, swaps: list[Swap], entries: list[Entry]) -> tuple[list[bool], dict[int, str]]:
        """All in one transaction. Where the database refuses that, row by row: one that it refuses is an item's failure.

        Returns:
            For each swap whether it was done, and by number why the database refuses it.
        """
        try:
            done = self._ledger.write(swaps, entries)
        except RefusedError:
            self._ledger.write((), entries)
        else:
            self._refusals = 0
            return done, {}
        done, refused = [False] * len(swaps), {}
        for number, swap in enumerate(swaps):
            try:
                [done[number]] = self._ledger.write([swap], ())
                self._refusals = 0
            except RefusedError as error:
                refused[number] = f"the database refuses {RowRef(swap.rows.column, swap.row.pk)}: {error.reason}"
                self._refusals += 1
                if self._refusals >= _PATIENCE:
                    raise
        return done, refused

    def _prepare(self, ready: list[RowInFlight]) -> tuple[list[RowInFlight], list[Swap]]:
        kept, swaps = [], []
        for row in ready:
            try:
                swaps.append(prepare(row.rows, row.row, row.verified))
                kept.append(row)
            except BrokenValueError as error:
                self._broken(RowRef(row.rows.column, row.row.pk), str(error))
                for id_ in row.objects & self._objects.keys():
                    self._objects[id_].written(row, None)
        return kept, swaps

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
        elif self._listed:
            self._unlooked[entity.job.id] = None
        else:
            self._submit("look", entity, partial(self._carrier.changed, entity.job.item.source.path, verified))

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
        self._submit("carry", again, partial(self._carrier, again.job))

    # -- the end of an object's way

    def _finished(self, entity: ObjectInFlight) -> None:
        """Rows re-pointed, source unchanged."""
        if not entity.told:
            self.news += 1
            self._report(entity)
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
        self._report(entity)
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
            self.news += 1
            self._report(entity)
        else:
            self._tell_more(entity)
        self._settling[entity.job.id] = self._ledger.line(carried, state=state, outcome=carried.kind)
        if len(self._settling) >= _BATCH:
            self._flush()

    def _tell_more(self, entity: ObjectInFlight) -> None:
        """Rows of a later window name an object that is listed already: each of them is listed with it, once."""
        assert entity.carried is not None
        if self.first_pass and not entity.carried.kind.done and len(entity.refs) > entity.refs_told:
            self._report(entity, since=entity.refs_told)

    def _report(self, entity: ObjectInFlight, *, since: int = 0) -> None:
        entity.told, entity.refs_told = True, len(entity.refs)
        outcome = entity.outcome()
        self._tell(replace(outcome, refs=outcome.refs[since:]))

    def _broken(self, ref: RowRef, reason: str) -> None:
        """A row that holds no file that could be read or written."""
        source = Location(self._route.source.key, str(ref))
        self._list(_broken_id(ref), source, OutcomeKind.FAILED, reason, (ref,))

    def _list(self, id_: str, source: Location, kind: OutcomeKind, reason: str, refs: tuple[RowRef, ...]) -> None:
        """Journal and tell what never came to have a destination of its own."""
        if self._ledger.refuse(id_, source, kind, reason):
            self.news += 1
            self._tell(
                Outcome(
                    kind=kind,
                    source=source,
                    destination=Location(self._route.destination.key, ""),
                    reason=reason,
                    refs=refs,
                )
            )


def _undated(carried: Carried) -> bool:
    return carried.verified is not None and carried.verified.destination.last_modified is None


def _listed(entry: Entry | None) -> bool:
    """Whether the journal lists an object for a person."""
    return entry is not None and entry.outcome is not None and not OutcomeKind(entry.outcome).done


def _broken_id(ref: RowRef) -> str:
    """The journal's name for a row that holds no file that could be read."""
    return digest("row", str(ref))
