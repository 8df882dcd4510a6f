"""Re-key in batches by this process, for all databases but PostgreSQL.

It re-keys the same rows as :mod:`migrate_storage.engine.rekey.postgres`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from functools import partial
from typing import NamedTuple

from sqlalchemy import Connection

from migrate_storage.core.errors import RefusedError, RunError
from migrate_storage.core.model import Location, ObjectMeta
from migrate_storage.core.spill import NoRoomError, SpillFile
from migrate_storage.core.text import MiB
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.file_json import Row, parse_single_file
from migrate_storage.database.primary_keys import dump_key, dump_parts
from migrate_storage.engine.rekey.listing import PrefixListing
from migrate_storage.journal import Journal, ListedFacts, RekeyMember, RekeyRange, new_range_id, pack_members

__all__ = ("BatchedRekey",)

REKEY_WINDOW_ROWS = 5_000
"""Rows in one transaction."""
TRANSACTION_ATTEMPTS = 3
"""How often one transaction is tried."""
ROW_LOCK_TIMEOUT_SECONDS = 1
"""Seconds for which a statement waits for a row that another transaction has locked."""
MIN_SPLIT_ROWS = 20
"""A batch that fails is halved while it has more rows than this; fewer rows are left to the passes."""


_FIND_BATCH_TAILS = 500
"""Names in one IN list."""
MAX_RANGE_BYTES = 3 * MiB
"""Bytes of a range in the journal: an old server takes statements of at most 4 MiB."""


class _Update(NamedTuple):
    """A simple row, the object that it names, and its new value."""

    row: Row
    #: The rest of the filename, behind the prefix.
    tail: str
    #: The journal's id of the object.
    id: str
    facts: ListedFacts
    new_value: str


class BatchedRekey:
    """Re-points the simple rows of a run.

    Args:
        listing: lists the objects; has the plan and the path rule.
        journal: in the database of the rows.
        run: the run's id.
    """

    def __init__(self, listing: PrefixListing, journal: Journal, run: str) -> None:
        self._listing, self._journal, self._run = listing, journal, run
        self._rule = listing.rule

    def run(self, columns: Sequence[FileColumn], on_repointed: Callable[[int, int], None]) -> None:
        """See :meth:`migrate_storage.engine.rekey.postgres.PostgresRekey.run`."""
        # Without room for the temporary file, the passes do all rows with HEADs.
        with suppress(NoRoomError), closing(ListedTails()) as listed:
            if not self._listing.fetch(listed.add):
                return
            for rows in columns:
                for window in rows.windows(self._rule.source_key, REKEY_WINDOW_ROWS):
                    if not self._listing.may_continue():
                        return
                    self._repoint_batch(rows, list(self._prepare_updates(rows, window, listed)), on_repointed)

    def _prepare_updates(self, rows: FileColumn, window: Sequence[Row], listed: ListedTails) -> Iterator[_Update]:
        """Yield the updates of simple rows."""
        rule, files = self._rule, []
        for row in window:
            file = None if rows.column.nested else parse_single_file(row.value)
            if file is not None and file["backend"] == rule.source_key and file["filename"].startswith(rule.old):
                files.append((row, file, file["filename"][len(rule.old) :]))
        found = listed.find([tail for _, _, tail in files])
        for row, file, tail in files:
            if (facts := found.get(tail)) is not None:
                new_value = json.dumps(file | rule.file_fields(tail, facts))
                yield _Update(row, tail, rule.id_of(tail), facts, new_value)

    def _repoint_batch(
        self, rows: FileColumn, batch: Sequence[_Update], on_repointed: Callable[[int, int], None]
    ) -> None:
        """Re-point a batch in one transaction; after a change or refusal, its halves."""
        if not batch:
            return
        try:
            work = partial(self._write, rows=rows, batch=batch)
            objects, repointed = self._journal.database.transaction(work, attempts=TRANSACTION_ATTEMPTS)
        except (RefusedError, _SplitError):
            if len(batch) > MIN_SPLIT_ROWS:
                half = len(batch) // 2
                self._repoint_batch(rows, batch[:half], on_repointed)
                self._repoint_batch(rows, batch[half:], on_repointed)
            return
        except RunError:
            return  # a row is locked, or the connection is lost: the passes wait longer
        if repointed:
            on_repointed(objects, repointed)

    def _write(self, connection: Connection, rows: FileColumn, batch: Sequence[_Update]) -> tuple[int, int]:
        """Update the rows and record their range; return the number of new objects and of rows."""
        self._journal.database.dialect.limit_lock_wait(connection, ROW_LOCK_TIMEOUT_SECONDS)
        ids = list(dict.fromkeys(update.id for update in batch))
        runs = self._journal.rekeyed.find_runs(connection, ids)
        # The passes judge what an earlier run recorded.
        earlier = self._find_recorded(connection, batch) | {id_ for id_, each in runs.items() if each != {self._run}}
        batch = [update for update in batch if update.id not in earlier]
        if not batch:
            return 0, 0
        fresh = {update.id for update in batch if update.id not in runs}
        of = self._create_range(rows, batch, fresh)
        swaps = [(update.row.pk, update.row.value, update.new_value) for update in batch]
        if len(of.members) > MAX_RANGE_BYTES or not rows.compare_and_swap.swap_each(connection, swaps):
            raise _SplitError
        self._journal.rekeyed.add(connection, of, [update.id for update in batch])
        return len(fresh), len(batch)

    def _find_recorded(self, connection: Connection, batch: Sequence[_Update]) -> set[str]:
        """Ids of the objects that have a record of their own, or whose destination belongs to one."""
        rule = self._rule
        owned = {update.id: Location(rule.destination_key, rule.new + update.tail) for update in batch}
        return self._journal.objects.find_recorded(connection, owned)

    def _create_range(self, rows: FileColumn, batch: Sequence[_Update], fresh: set[str]) -> RekeyRange:
        members = [
            RekeyMember(dump_parts(row.pk), tail, *facts, row.value, int(id_ in fresh))
            for row, tail, id_, facts, _ in batch
        ]  # fmt: skip
        column = rows.column
        return RekeyRange(
            id=new_range_id(), run=self._run, table_schema=column.schema, table_name=column.table, column_name=column.column,
            first_key=dump_key(batch[0].row.pk), last_key=dump_key(batch[-1].row.pk), row_count=len(batch), object_count=len(fresh),
            rule=self._rule.dump(), members=pack_members(members),
        )  # fmt: skip


class ListedTails(SpillFile):
    """Listed objects by the rest of their names, which are plain. Of two with one name the later one stays."""

    def __init__(self) -> None:
        super().__init__("tail TEXT PRIMARY KEY, size INTEGER, e_tag TEXT, modified REAL, version TEXT")

    def add(self, batch: Sequence[tuple[str, ObjectMeta]]) -> None:
        """Add objects."""
        rows = ((tail, meta.size, meta.e_tag, meta.last_modified, meta.version) for tail, meta in batch)
        self._write("INSERT OR REPLACE INTO item VALUES (?, ?, ?, ?, ?)", rows)

    def find(self, tails: Sequence[str]) -> dict[str, ListedFacts]:
        """The objects with these names, without the names that have none."""
        found: dict[str, ListedFacts] = {}
        for start in range(0, len(tails), _FIND_BATCH_TAILS):
            batch = tails[start : start + _FIND_BATCH_TAILS]
            statement = f"SELECT * FROM item WHERE tail IN ({', '.join('?' * len(batch))})"
            found.update((tail, ListedFacts(*facts)) for tail, *facts in self._read(statement, batch))
        return found


class _SplitError(Exception):
    """A row does not have the value that was read, or the values of all take too much room."""
