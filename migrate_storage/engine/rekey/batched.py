"""Re-key in batches, by this process: what PostgreSQL does by itself in :mod:`migrate_storage.engine.rekey.postgres`, for all other databases.

No byte moves, and one listing tells what a look at each object would. It takes only what is simple: one file in a row, a plain name,
an object that was listed, no line of an earlier run. Whatever else there is the passes deal with, one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial

from sqlalchemy import Connection

from migrate_storage.core.errors import RefusedError, RunError
from migrate_storage.core.model import Location, ObjectMeta, OutcomeKind
from migrate_storage.core.spill import NoRoomError, SpilledMap
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.file_json import Row, parse_slots
from migrate_storage.engine.rekey.listing import PrefixListing
from migrate_storage.engine.repoint import RowUpdate, prepare_update, rewrite_each
from migrate_storage.engine.verify import Verified
from migrate_storage.journal import SAME_PLACE_LISTED, Journal, ObjectRecord, object_id

__all__ = ("BatchedRekey",)

_WINDOW = 5_000
"""Rows in one transaction."""
_TRIES = 3
"""How often one transaction is tried."""
_PATIENCE = 1
"""Seconds that a statement waits for a row that somebody else has locked."""
_FEW = 20
"""Rows of which one cannot be re-pointed, and that are left to the passes all together."""


class BatchedRekey:
    """Re-points what it can of a run's rows.

    Args:
        roll: what stands where both keys lead, and the path rule between them.
        journal: in the database of the rows.
        run: the run's id.
    """

    def __init__(self, roll: PrefixListing, journal: Journal, run: str) -> None:
        self._roll, self._journal, self._run = roll, journal, run
        self._route, self._rule = roll.route, roll.rule
        # Where the rule's letters lead no link is on the way: the rest of a key stands behind them as it is.
        self._place = self._route.destination.root

    def run(
        self, rows: Sequence[FileColumn], most: int, *, turn: Callable[[], bool], told: Callable[[int, int], None]
    ) -> None:
        """Do it.

        Args:
            rows: the columns.
            most: how many rows name the source, about.
            turn: called between the steps; whether to go on.
            told: called with the objects and rows of each batch.

        Raises:
            RunError: the database fails.
        """
        # Without room for it the passes do as they do without a listing.
        with suppress(NoRoomError), closing(SpilledMap()) as seen:

            def take(batch: Sequence[tuple[str, ObjectMeta]]) -> None:
                for tail, meta in batch:
                    seen.add(tail, meta)

            if not self._roll.fetch(most, turn=turn, take=take):
                return
            for each in rows:
                for window in each.windows(self._route.source.key, _WINDOW):
                    if not turn():
                        return
                    self._repoint(each, list(self._ready(each, window, seen)), told)

    def _ready(
        self, rows: FileColumn, window: Sequence[Row], seen: SpilledMap
    ) -> Iterator[tuple[RowUpdate, ObjectRecord]]:
        """The rows of a window that name one listed file, ready to be re-pointed, each with the line of its object."""
        tails = {row.pk: tail for row in window if (tail := self._tail(rows, row)) is not None}
        metas = seen.find(list(tails.values()))
        for row in window:
            tail = tails.get(row.pk)
            meta = None if tail is None else metas.get(tail)
            if tail is None or meta is None:
                continue
            entry = self._entry(tail, meta)
            verified = Verified(source=meta, destination=meta, evidence=SAME_PLACE_LISTED)
            yield prepare_update(rows, row, {None: (entry.id, verified, entry.destination)}), entry

    def _tail(self, rows: FileColumn, row: Row) -> str | None:
        """What is behind the rule's letters in the name of a row's one file."""
        try:
            [slot] = parse_slots(rows.column, row)
        except ValueError:
            return None
        name = slot.file["filename"]
        if slot.ref.index is not None or slot.file["backend"] != self._route.source.key:
            return None
        return name[len(self._rule.old) :] if name.startswith(self._rule.old) else None

    def _entry(self, tail: str, meta: ObjectMeta) -> ObjectRecord:
        source, destination = (
            Location(self._route.source.key, self._rule.old + tail),
            Location(self._route.destination.key, self._rule.new + tail),
        )
        return ObjectRecord(
            id=object_id(replace(self._place, key=self._rule.key + tail), destination.backend), run=self._run,
            source_key=source.backend, source_path=source.path, destination_key=destination.backend, destination_path=destination.path,
            state="held", ours=False, outcome=OutcomeKind.REWRITTEN, evidence=SAME_PLACE_LISTED, size=meta.size,
            source_etag=meta.e_tag, source_modified=meta.last_modified, source_version=meta.version,
            destination_etag=meta.e_tag, destination_modified=meta.last_modified, destination_version=meta.version,
        )  # fmt: skip

    def _repoint(
        self, rows: FileColumn, ready: Sequence[tuple[RowUpdate, ObjectRecord]], told: Callable[[int, int], None]
    ) -> None:
        """All of these in one transaction; where one was written to, or is refused, the others without it."""
        if not ready:
            return
        try:
            work = partial(self._write, rows=rows, ready=ready)
            objects, moved = self._journal.database.transaction(work, attempts=_TRIES)
        except (RefusedError, _ChangedError):
            if len(ready) > _FEW:
                half = len(ready) // 2
                self._repoint(rows, ready[:half], told)
                self._repoint(rows, ready[half:], told)
            return
        except RunError:
            return  # somebody holds a row of it, or the connection: the passes have the patience
        if moved:
            told(objects, moved)

    def _write(
        self, connection: Connection, rows: FileColumn, ready: Sequence[tuple[RowUpdate, ObjectRecord]]
    ) -> tuple[int, int]:
        """How many objects came into the journal, and how many rows were re-pointed."""
        self._journal.database.dialect.limit_lock_wait(connection, _PATIENCE)
        held, fresh = self._journal.objects.insert_verified(connection, [entry for _, entry in ready])
        swaps = [swap for swap, entry in ready if entry.id in held]
        if swaps and not rewrite_each(connection, rows, swaps, run=self._run, journal=self._journal):
            raise _ChangedError
        return fresh, len(swaps)


class _ChangedError(Exception):
    """A row does not hold any more what was read."""
