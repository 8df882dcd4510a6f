"""One pass over the rows of a column: the only concurrency of a run.

One thread talks to the database: it reads windows of rows, hands their objects to a pool of workers, takes back what
they carried, and re-points rows in batches. Workers talk to the stores only. Everything in between is bounded: a
window is read when the objects of earlier ones have left the pool.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from migrate_storage.carry import Carried, Carrier, Job
from migrate_storage.database import Database
from migrate_storage.errors import RunError, StoppedError
from migrate_storage.journal import Entry, Journal, digest
from migrate_storage.model import Action, Item, Location, Outcome, OutcomeKind, RowRef, Way
from migrate_storage.plan import Route
from migrate_storage.retry import StoreFailure
from migrate_storage.rewrite import Swap, prepare, rewrite
from migrate_storage.rows import BrokenValueError, Row, Rows, parse_slots
from migrate_storage.stores.failure import FailureKind
from migrate_storage.verify import Verified

__all__ = ("Pipeline",)

_BATCH = 250
"""Rows re-pointed in one transaction."""
_MENDS = 3
"""How often an object whose source changed after its rows were re-pointed is copied again in one run."""
_AGAIN = frozenset({OutcomeKind.MISSING, OutcomeKind.CHANGED})
"""Outcomes that a later pass looks at again."""
_PATIENCE = 30
"""Failures of the whole store in a row, none succeeding between, after which the run stops instead of failing each object."""


@dataclass(slots=True, eq=False)
class _Row:
    """A row on its way: which slots still wait for their object, and what the others got."""

    rows: Rows
    row: Row
    #: Slot index to the id of its object.
    slots: dict[int | None, str]
    waiting: set[str]
    verified: dict[int | None, tuple[str, Verified, Location]] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class _Object:
    """An object on its way, with the rows of the open windows that name it."""

    job: Job
    rows: list[_Row] = field(default_factory=list)
    carried: Carried | None = None
    #: Rows that were re-pointed to it in this run, as they stand now.
    swapped: list[tuple[_Row, str]] = field(default_factory=list)
    lost: int = 0
    refs: tuple[RowRef, ...] = ()
    mends: int = 0
    #: Rows that have its proof and were not tried yet.
    unwritten: int = 0
    #: No row is to be re-pointed to it (any more): it goes when its journal line is settled.
    concluded: bool = False
    told: bool = False


class Pipeline:
    """Carries the objects of rows, and re-points the rows.

    Args:
        route: from where to where.
        carrier: carries one object.
        database: where the rows are.
        journal: where it is written down; ``None`` in a dry run.
        run: the run's id.
        keep_rows: copy only: no row is re-pointed.
        concurrency: workers.
        tell: called with each outcome, on the thread that runs the pass.
        stopping: set when no further object is to be begun.
        grace: seconds that objects in flight are waited for once stopping.
    """

    def __init__(
        self,
        route: Route,
        carrier: Carrier,
        *,
        database: Database,
        journal: Journal | None,
        run: str,
        keep_rows: bool,
        concurrency: int,
        tell: Callable[[Outcome], None],
        stopping: threading.Event,
        grace: float,
    ) -> None:
        self._route, self._carrier = route, carrier
        self._database, self._journal, self._run = database, journal, run
        self._keep_rows = keep_rows or route.way is Way.SWAP
        self._concurrency = concurrency
        self._tell, self._stopping, self._grace = tell, stopping, grace
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="carry")
        self._done: queue.SimpleQueue[tuple[str, str, Future[Any]]] = queue.SimpleQueue()
        self._under_way = 0
        self._objects: dict[str, _Object] = {}
        self._ready: list[_Row] = []
        self._settling: dict[str, Entry] = {}
        self._bad_row = 0
        self._failures = 0
        #: Rows that name another place now.
        self.rows_moved = 0
        #: Objects that ended otherwise than an earlier pass of this run had them.
        self.news = 0

    def window(self, rows: Rows, window: Sequence[Row]) -> None:
        """Begin the objects that these rows name; returns when there is room for the next window.

        Raises:
            RunError: nothing works any more.
        """
        admitted = [self._admit(rows, row) for row in window]
        wanted: dict[str, Item] = {}
        for row, items in admitted:
            if row is None:
                continue
            for id_, item in items.items():
                known = wanted.get(id_)
                wanted[id_] = item if known is None else replace(known, slots=known.slots + item.slots)
        self._begin(wanted)
        for row, items in admitted:
            if row is not None:
                self._attach(row, items)
        for id_ in wanted:
            if self._objects[id_].concluded and id_ not in self._settling:
                del self._objects[id_]
        self._take(block=False)
        while self._under_way > 4 * self._concurrency or len(self._objects) > 8 * max(len(window), self._concurrency):
            self._take(block=True)
            if not self._under_way:
                self._flush()
            if not self._under_way or self._stopping.is_set():
                return

    def finish(self) -> None:
        """Wait for everything that was begun, and re-point its rows.

        Raises:
            RunError: nothing works any more.
        """
        deadline: float | None = None
        while self._under_way or self._ready or self._settling:
            if self._stopping.is_set() and deadline is None:
                deadline = time.monotonic() + self._grace
            if deadline is not None and time.monotonic() > deadline:
                break
            if self._under_way:
                self._take(block=True)
            if not self._under_way:
                self._flush()
        self._objects.clear()

    def each(self, work: Callable[[Entry], bool], entries: Sequence[Entry]) -> list[bool]:
        """Ask something of each of a batch of journaled objects, as many at once as there are workers."""
        return list(self._pool.map(work, entries))

    def close(self) -> None:
        """Let the workers go."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    # -- rows become objects

    def _admit(self, rows: Rows, row: Row) -> tuple[_Row | None, dict[str, Item]]:
        try:
            slots = [slot for slot in parse_slots(rows.column, row) if slot.file["backend"] == self._route.source.key]
            items = self._route.items(slots)
        except (BrokenValueError, ValueError) as error:
            self._broken(RowRef(rows.column, row.pk), str(error))
            return None, {}
        if not slots:
            return None, {}
        by_slot = {slot.ref.index: id_ for id_, item in items.items() for slot in item.slots}
        return _Row(rows, row, by_slot, set(items)), items

    def _begin(self, wanted: dict[str, Item]) -> None:
        """Write the intents of objects that are new to this pass, and hand them to the pool."""
        fresh = {id_: item for id_, item in wanted.items() if id_ not in self._objects}
        known = self._journal.find(list(fresh)) if self._journal and fresh else {}
        jobs = {id_: Job(id_, item, known.get(id_)) for id_, item in fresh.items()}
        concluded = {id_ for id_, job in jobs.items() if self._concluded(job.entry)}
        taken = self._intend([job for id_, job in jobs.items() if id_ not in concluded])
        for id_, job in jobs.items():
            entity = self._objects[id_] = _Object(job)
            if id_ in concluded:
                assert job.entry is not None
                entity.carried, entity.concluded = Carried(job=job, kind=OutcomeKind(str(job.entry.outcome))), True
            elif id_ in taken:
                self._collided(entity)
            else:
                self._submit("carry", entity, partial(self._carrier, job))

    def _collided(self, entity: _Object) -> None:
        """Two source objects would become one: the second is listed, and nothing of it is written."""
        job = entity.job
        reason = f"another source object goes to {job.item.destination} already: give one of them another name"
        entity.carried = Carried(job=job, kind=OutcomeKind.OCCUPIED, reason=reason)
        entity.concluded = True
        self._list(job.id, job.item.source, OutcomeKind.OCCUPIED, reason, tuple(slot.ref for slot in job.item.slots))

    def _intend(self, jobs: list[Job]) -> set[str]:
        if self._journal is None:
            return set()
        entries = [
            Entry(
                id=job.id,
                run=self._run,
                source_key=job.item.source.backend,
                source_path=job.item.source.path,
                destination_key=job.item.destination.backend,
                destination_path=job.item.destination.path,
                state="held" if job.entry is not None and job.entry.state == "held" else "intent",
            )
            for job in jobs
        ]
        return self._journal.intend(entries)

    def _concluded(self, entry: Entry | None) -> bool:
        """Whether this very run has dealt with an object for good: rows that still name it wait for a person."""
        if entry is None or entry.run != self._run or entry.outcome is None:
            return False
        if entry.outcome in (OutcomeKind.COPIED, OutcomeKind.SKIPPED):
            return True
        return entry.state == "listed" and OutcomeKind(entry.outcome) not in _AGAIN

    def _attach(self, row: _Row, items: dict[str, Item]) -> None:
        for id_, item in items.items():
            entity = self._objects[id_]
            entity.refs += tuple(slot.ref for slot in item.slots)
            if entity.carried is None:
                entity.rows.append(row)
            else:
                self._resolve(row, entity)

    def _submit(self, kind: str, entity: _Object, work: Callable[[], Any]) -> None:
        self._under_way += 1
        future: Future[Any] = self._pool.submit(self._unless_stopping, work)
        future.add_done_callback(lambda done: self._done.put((kind, entity.job.id, done)))

    def _unless_stopping(self, work: Callable[[], Any]) -> Any:
        if self._stopping.is_set():
            raise StoppedError("not begun")
        return work()

    # -- what workers bring back

    def _take(self, *, block: bool) -> None:
        """Take what is done; with ``block`` wait for at least one."""
        while self._under_way:
            try:
                kind, id_, future = self._done.get(block=block, timeout=0.2 if block else None)
            except queue.Empty:
                return
            block = False
            self._under_way -= 1
            entity = self._objects.get(id_)
            if entity is not None:
                self._arrived(kind, entity, future)
            if len(self._ready) >= _BATCH:
                self._flush()

    def _arrived(self, kind: str, entity: _Object, future: Future[Any]) -> None:
        try:
            result = future.result()
        except StoppedError:
            self._objects.pop(entity.job.id, None)
            return
        except StoreFailure as error:
            # A later look that got no answer: the copy stands, and the run's last look asks again.
            self._watch(error.failure.kind if error.failure.kind.of_the_store else None, str(error))
            self._finished(entity)
            return
        if kind == "look":
            if entity.unwritten:
                return  # more rows were found meanwhile: another look follows them
            if result and entity.mends < _MENDS:
                self._mend(entity)
            elif result:
                self._list_change(entity)
            else:
                self._finished(entity)
            return
        carried: Carried = result
        self._watch(carried.failure, carried.reason)
        entity.carried = carried
        waiting, entity.rows = entity.rows, []
        if self._keep_rows or carried.verified is None:
            self._conclude(entity)
        else:
            self._settling[entity.job.id] = self._entry(entity, state="held", outcome=OutcomeKind.REWRITTEN)
        for row in waiting:
            self._resolve(row, entity)

    def _watch(self, failure: FailureKind | None, reason: str) -> None:
        if failure is None:
            self._failures = 0
            return
        self._failures += 1
        if failure is FailureKind.NO_BUCKET or self._failures >= max(_PATIENCE, self._concurrency):
            raise RunError(
                f"{self._failures} requests in a row failed, the last one: {reason}; mend that and run the same command again, it goes on from here"
            )

    def _resolve(self, row: _Row, entity: _Object) -> None:
        """A slot's object arrived: when it was the row's last one, the row is ready."""
        carried = entity.carried
        if carried is not None and carried.verified is not None and not self._keep_rows:
            for index, id_ in row.slots.items():
                if id_ == entity.job.id:
                    row.verified[index] = (id_, carried.verified, carried.job.item.destination)
            entity.unwritten += 1
        row.waiting.discard(entity.job.id)
        if not row.waiting and row.verified:
            self._ready.append(row)

    # -- objects become rows again

    def _flush(self) -> None:
        """Re-point the rows that are ready, and settle the journal with them."""
        ready, self._ready = self._ready, []
        entries, self._settling = list(self._settling.values()), {}
        if not ready and not entries:
            return
        kept, swaps = self._prepare(ready)
        done = self._write(swaps, entries)
        for entry in entries:
            entity = self._objects.get(entry.id)
            if entity is not None and entity.concluded:
                del self._objects[entry.id]
        touched: dict[str, _Object] = {}
        for row, swap, ok in zip(kept, swaps, done, strict=True):
            entities = [self._objects[id_] for id_ in swap.objects if id_ in self._objects]
            self.rows_moved += ok and not any(entity.mends for entity in entities)
            for entity in entities:
                touched[entity.job.id] = entity
                entity.unwritten -= 1
                if ok:
                    entity.swapped.append((row, swap.new_value))
                else:
                    entity.lost += 1
        for entity in touched.values():
            if not entity.unwritten and not entity.rows:
                self._swapped(entity)

    def _prepare(self, ready: list[_Row]) -> tuple[list[_Row], list[Swap]]:
        kept, swaps = [], []
        for row in ready:
            try:
                swaps.append(prepare(row.rows, row.row, row.verified))
                kept.append(row)
            except BrokenValueError as error:
                self._refused(row, str(error))
        return kept, swaps

    def _write(self, swaps: list[Swap], entries: Sequence[Entry]) -> list[bool]:
        if self._journal is None:
            return [True] * len(swaps)
        return rewrite(swaps, entries, run=self._run, journal=self._journal, database=self._database)

    def _refused(self, row: _Row, reason: str) -> None:
        """A row that cannot be written: its objects are done with it."""
        self._broken(RowRef(row.rows.column, row.row.pk), reason)
        for id_ in {id_ for id_, _, _ in row.verified.values()}:
            entity = self._objects.get(id_)
            if entity is not None:
                entity.unwritten -= 1
                entity.lost += 1

    def _swapped(self, entity: _Object) -> None:
        """All waiting rows of an object were tried: look at its source again, or say whose write stood."""
        assert entity.carried is not None
        if entity.lost and not entity.swapped:
            self._lost(entity)
        elif self._journal is None or entity.job.item.action is not Action.TRANSFER:
            self._finished(entity)
        else:
            verified, filename = entity.carried.verified, entity.job.item.source.path
            assert verified is not None
            self._submit("look", entity, partial(self._carrier.changed, filename, verified))

    def _lost(self, entity: _Object) -> None:
        """Somebody else's write stood in every row: what was copied in vain is a leftover."""
        carried = entity.carried
        assert carried is not None
        assert self._journal is not None
        entity.carried = replace(
            carried,
            kind=OutcomeKind.CHANGED,
            reason="the row was changed meanwhile; that write stands, and the next pass looks again",
        )
        entry = self._entry(entity, state="held", outcome=OutcomeKind.CHANGED)
        entity.told = False
        if carried.copied and not self._named(entity.job.id):
            entry = replace(entry, state="leftover")
        self._settle([entry])
        self._report(entity)
        self._objects.pop(entity.job.id, None)

    def _named(self, id_: str) -> bool:
        """Whether a row was ever re-pointed to this object."""
        return self._journal is not None and bool(self._journal.rows_of(id_))

    def _mend(self, entity: _Object) -> None:
        """The source moved on after the swap: copy again while the destination is exactly our copy, and tell the rows."""
        assert entity.carried is not None
        entity.mends += 1
        entry = self._entry(entity, state="held", outcome=OutcomeKind.REWRITTEN)
        entity.job = Job(entity.job.id, entity.job.item, entry)
        rows, entity.swapped, entity.carried, entity.lost = entity.swapped, [], None, 0
        for row, value in rows:
            slots = {index: id_ for index, id_ in row.slots.items() if id_ == entity.job.id}
            entity.rows.append(_Row(row.rows, Row(row.row.pk, value), slots, {entity.job.id}))
        self._submit("carry", entity, partial(self._carrier, entity.job))

    def mend(self, entry: Entry, item: Item, rows: Iterable[tuple[Rows, Row, tuple[int | None, ...]]]) -> None:
        """Copy an object again whose source changed since this run re-pointed rows to it.

        Args:
            entry: its journal line.
            item: what it was.
            rows: the rows that name it, as they were written, with the slots.
        """
        entity = self._objects[entry.id] = _Object(Job(entry.id, item, entry), mends=1)
        for table, row, indexes in rows:
            entity.rows.append(_Row(table, row, dict.fromkeys(indexes, entry.id), {entry.id}))
        self._submit("carry", entity, partial(self._carrier, entity.job))

    def _list_change(self, entity: _Object) -> None:
        assert entity.carried is not None
        entity.carried = replace(
            entity.carried,
            kind=OutcomeKind.CHANGED,
            reason="the source keeps being replaced under its old key: put a CutoverBackend there or pause writes, then run again",
        )
        self._settle([self._entry(entity, state="held", outcome=OutcomeKind.CHANGED)])
        self._report(entity)
        self._objects.pop(entity.job.id, None)

    # -- the end of an object's way

    def _finished(self, entity: _Object) -> None:
        """Rows re-pointed, source unchanged."""
        if not entity.told:
            self.news += 1
            self._report(entity)
        if not entity.rows and not entity.unwritten:
            self._objects.pop(entity.job.id, None)

    def _report(self, entity: _Object) -> None:
        entity.told = True
        self._tell(self._outcome(entity))

    def _conclude(self, entity: _Object) -> None:
        """No row is to be re-pointed: write down how it ended, and tell it unless an earlier pass of this run did."""
        carried = entity.carried
        assert carried is not None
        if carried.verified is not None and carried.kind is OutcomeKind.REWRITTEN:
            carried = entity.carried = replace(carried, kind=OutcomeKind.COPIED)
        entity.concluded = True
        state = "held" if carried.verified is not None else "leftover" if carried.left is not None else "listed"
        before = entity.job.entry
        if before is None or before.run != self._run or before.outcome != carried.kind:
            self.news += 1
            self._report(entity)
        self._settling[entity.job.id] = self._entry(entity, state=state, outcome=carried.kind)
        if len(self._settling) >= _BATCH:
            self._flush()

    def _settle(self, entries: Sequence[Entry]) -> None:
        journal = self._journal
        if journal is not None:
            journal.database.transaction(lambda connection: journal.settle(connection, entries))

    def _broken(self, ref: RowRef, reason: str) -> None:
        """A row that holds no file that could be read or written."""
        self._list(
            digest("row", str(ref)), Location(self._route.source.key, str(ref)), OutcomeKind.FAILED, reason, (ref,)
        )

    def _list(self, id_: str, source: Location, kind: OutcomeKind, reason: str, refs: tuple[RowRef, ...]) -> None:
        """Journal and tell what never came to have a destination of its own."""
        if self._journal is not None:
            known = self._journal.find([id_]).get(id_)
            if known is not None and known.run == self._run and known.outcome == kind:
                return
            entry = Entry(
                id=id_,
                run=self._run,
                source_key=source.backend,
                source_path=source.path,
                destination_key="",
                destination_path=id_,
                state="listed",
                outcome=kind,
                reason=reason,
            )
            self._journal.intend([entry])
            self._settle([entry])
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

    def _entry(self, entity: _Object, *, state: str, outcome: OutcomeKind) -> Entry:
        carried, item, before = entity.carried, entity.job.item, entity.job.entry
        assert carried is not None
        entry = Entry(
            id=entity.job.id,
            run=self._run,
            source_key=item.source.backend,
            source_path=item.source.path,
            destination_key=item.destination.backend,
            destination_path=item.destination.path,
            state=state,
            outcome=outcome,
            reason=carried.reason or None,
            seconds=carried.seconds,
        )
        verified, left = carried.verified, carried.left
        if verified is None and left is None:
            return entry
        if verified is None:
            assert left is not None
            return replace(
                entry,
                ours=True,
                size=left.size,
                destination_etag=left.e_tag,
                destination_modified=left.last_modified,
                destination_version=left.version,
            )
        ours = verified.ours
        if not carried.copied and before is not None and before.state == "intent":
            # A killed run may have written what we found equal now; nothing tells, so it is never removed.
            ours = None
        return replace(
            entry,
            ours=ours,
            evidence=verified.evidence[:32],
            size=verified.source.size,
            sha256=verified.sha256,
            source_etag=verified.source.e_tag,
            source_modified=verified.source.last_modified,
            source_version=verified.source.version,
            destination_etag=verified.destination.e_tag,
            destination_modified=verified.destination.last_modified,
            destination_version=verified.destination.version,
        )

    def _outcome(self, entity: _Object) -> Outcome:
        carried = entity.carried
        assert carried is not None
        return Outcome(
            kind=carried.kind,
            source=entity.job.item.source,
            destination=entity.job.item.destination,
            reason=carried.reason,
            size=carried.verified.source.size if carried.verified else None,
            evidence=carried.verified.evidence if carried.verified else "",
            refs=entity.refs,
            seconds=carried.seconds,
        )
