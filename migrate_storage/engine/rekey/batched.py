"""Re-key in batches by this process, for all databases but PostgreSQL.

It re-keys the same rows as :mod:`migrate_storage.engine.rekey.postgres`.
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
from migrate_storage.engine.repoint import RowUpdate, prepare_update, repoint_all_or_none
from migrate_storage.engine.verify import Verified
from migrate_storage.journal import SAME_PLACE_LISTED, Journal, ObjectRecord, object_id

__all__ = ("BatchedRekey",)

REKEY_WINDOW_ROWS = 5_000
"""Rows in one transaction."""
TRANSACTION_ATTEMPTS = 3
"""How often one transaction is tried."""
ROW_LOCK_TIMEOUT_SECONDS = 1
"""Seconds for which a statement waits for a row that another transaction has locked."""
MIN_SPLIT_ROWS = 20
"""A batch that fails is halved while it has more rows than this; fewer rows are left to the passes."""

_Batch = Sequence[tuple[RowUpdate, ObjectRecord]]


class BatchedRekey:
    """Re-points the simple rows of a run.

    Args:
        listing: lists the objects; has the plan and the path rule.
        journal: in the database of the rows.
        run: the run's id.
    """

    def __init__(self, listing: PrefixListing, journal: Journal, run: str) -> None:
        self._listing, self._journal, self._run = listing, journal, run
        self._plan, self._rule = listing.plan, listing.rule
        # No link leads to the prefix of the rule, so the place of a key is the prefix and the rest of the key.
        self._place = self._plan.destination.root

    def run(self, columns: Sequence[FileColumn], on_repointed: Callable[[int, int], None]) -> None:
        """See :meth:`migrate_storage.engine.rekey.postgres.PostgresRekey.run`."""
        # Without room for the temporary file, the passes do all rows with HEADs.
        with suppress(NoRoomError), closing(SpilledMap()) as listed:

            def add_batch(batch: Sequence[tuple[str, ObjectMeta]]) -> None:
                for tail, meta in batch:
                    listed.add(tail, meta)

            if not self._listing.fetch(add_batch):
                return
            for rows in columns:
                for window in rows.windows(self._plan.source.key, REKEY_WINDOW_ROWS):
                    if not self._listing.may_continue():
                        return
                    self._repoint_batch(rows, list(self._prepare_updates(rows, window, listed)), on_repointed)

    def _prepare_updates(
        self, rows: FileColumn, window: Sequence[Row], listed: SpilledMap
    ) -> Iterator[tuple[RowUpdate, ObjectRecord]]:
        """Yield the updates of simple rows, each with the journal record of its object."""
        tails = {row.pk: tail for row in window if (tail := self._find_tail(rows, row)) is not None}
        metas = listed.find(list(tails.values()))
        for row in window:
            tail = tails.get(row.pk)
            meta = None if tail is None else metas.get(tail)
            if tail is None or meta is None:
                continue
            record = self._create_record(tail, meta)
            verified = Verified(source=meta, destination=meta, evidence=SAME_PLACE_LISTED)
            yield prepare_update(rows, row, {(): (record.id, verified, record.destination)}), record

    def _find_tail(self, rows: FileColumn, row: Row) -> str | None:
        """Return a row's one filename without the prefix; ``None`` if it is not simple."""
        try:
            [slot] = parse_slots(rows.column, row)
        except ValueError:
            return None
        name = slot.file["filename"]
        if slot.ref.path or slot.file["backend"] != self._plan.source.key:
            return None
        return name[len(self._rule.old) :] if name.startswith(self._rule.old) else None

    def _create_record(self, tail: str, meta: ObjectMeta) -> ObjectRecord:
        source = Location(self._plan.source.key, self._rule.old + tail)
        destination = Location(self._plan.destination.key, self._rule.new + tail)
        return ObjectRecord(
            id=object_id(replace(self._place, key=self._rule.key + tail), destination.backend), run=self._run,
            source_key=source.backend, source_path=source.path, destination_key=destination.backend, destination_path=destination.path,
            state="held", ours=False, outcome=OutcomeKind.REWRITTEN, evidence=SAME_PLACE_LISTED, size=meta.size,
            source_etag=meta.e_tag, source_modified=meta.last_modified, source_version=meta.version,
            destination_etag=meta.e_tag, destination_modified=meta.last_modified, destination_version=meta.version,
        )  # fmt: skip

    def _repoint_batch(self, rows: FileColumn, batch: _Batch, on_repointed: Callable[[int, int], None]) -> None:
        """Re-point a batch in one transaction; after a change or refusal, its halves."""
        if not batch:
            return
        try:
            work = partial(self._write, rows=rows, batch=batch)
            objects, repointed = self._journal.database.transaction(work, attempts=TRANSACTION_ATTEMPTS)
        except (RefusedError, _ChangedError):
            if len(batch) > MIN_SPLIT_ROWS:
                half = len(batch) // 2
                self._repoint_batch(rows, batch[:half], on_repointed)
                self._repoint_batch(rows, batch[half:], on_repointed)
            return
        except RunError:
            return  # a row is locked, or the connection is lost: the passes wait longer
        if repointed:
            on_repointed(objects, repointed)

    def _write(self, connection: Connection, rows: FileColumn, batch: _Batch) -> tuple[int, int]:
        """Update and record the rows; return the number of new objects and of rows."""
        self._journal.database.dialect.limit_lock_wait(connection, ROW_LOCK_TIMEOUT_SECONDS)
        recorded, fresh = self._journal.objects.insert_verified(connection, [record for _, record in batch])
        updates = [update for update, record in batch if record.id in recorded]
        if updates and not repoint_all_or_none(connection, rows, updates, run=self._run, journal=self._journal):
            raise _ChangedError
        return fresh, len(updates)


class _ChangedError(Exception):
    """A row does not have the value that was read."""
