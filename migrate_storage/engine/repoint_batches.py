"""Write ready rows and object results in batches, or row by row after a refusal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from migrate_storage.core.errors import RefusedError, WrongUpdateError
from migrate_storage.core.model import RowRef
from migrate_storage.database.compare_and_swap import SwapResult
from migrate_storage.database.file_json import BrokenValueError, same_json
from migrate_storage.engine.in_flight import PendingRow
from migrate_storage.engine.recorder import RunRecorder
from migrate_storage.engine.repoint import RowUpdate, prepare_update
from migrate_storage.journal import ObjectRecord

__all__ = ("BatchRepointer", "RepointedBatch")

REPOINT_BATCH_ROWS = 500
"""Rows that are updated in one transaction: as many as a window has.

For the tenth of a second that it takes, the application waits where it writes one of them. More would save less than a
hundredth of the time.
"""
REPOINT_INTERVAL_SECONDS = 1.0
"""Seconds after which ready rows are updated though their batch is not full: objects may come slowly."""
MAX_CONSECUTIVE_REFUSALS = 30
"""Rows that the database may refuse in a row before the run ends."""


MAX_REBASES = 5
"""How often an update is tried again on the value that its row has by then."""

_LOST = (None, "")
"""How an update ended where the row had another value than expected."""


@dataclass(slots=True)
class RepointedBatch:
    """What became of a batch."""

    #: The object results that were written with it.
    results: Sequence[ObjectRecord]
    #: Each row that was tried, its update, its value if it was re-pointed, and why the database did not do it.
    tried: list[tuple[PendingRow, RowUpdate, str | None, str]] = field(default_factory=list)
    #: Rows that cannot be updated as they are, and why.
    broken: list[tuple[PendingRow, str]] = field(default_factory=list)


class BatchRepointer:
    """Collects ready rows and object results, and writes them in one transaction.

    Args:
        recorder: updates the rows and the journal.
    """

    def __init__(self, recorder: RunRecorder) -> None:
        self._recorder = recorder
        self._ready: list[PendingRow] = []
        self._results: dict[str, ObjectRecord] = {}
        self._refusals, self._flushed = 0, time.monotonic()

    def add_row(self, row: PendingRow) -> None:
        """Add a row with the proofs of its objects."""
        self._ready.append(row)

    def add_result(self, record: ObjectRecord) -> None:
        """Add the new journal record of an object."""
        self._results[record.id] = record

    def has_result(self, id_: str) -> bool:
        """Whether the record of an object is not written yet."""
        return id_ in self._results

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be written."""
        return not self._ready and not self._results

    @property
    def is_full(self) -> bool:
        """Whether the rows fill a batch."""
        return len(self._ready) >= REPOINT_BATCH_ROWS

    @property
    def has_full_results(self) -> bool:
        """Whether the object results fill a batch."""
        return len(self._results) >= REPOINT_BATCH_ROWS

    @property
    def is_due(self) -> bool:
        """Whether the rows fill a batch, or the last one was written too long ago."""
        return self.is_full or time.monotonic() - self._flushed > REPOINT_INTERVAL_SECONDS

    def flush(self) -> RepointedBatch:
        """Write all that was added.

        Raises:
            RefusedError: the database refuses row after row.
        """
        self._flushed = time.monotonic()
        ready, self._ready = self._ready, []
        results, self._results = list(self._results.values()), {}
        batch = RepointedBatch(results)
        if not ready and not results:
            return batch
        rows, updates = [], []
        for row in ready:
            try:
                updates.append(prepare_update(row.rows, row.row, row.verified))
                rows.append(row)
            except BrokenValueError as error:
                batch.broken.append((row, str(error)))
        # A row that names the copy and has all its fields needs no UPDATE: it may be another than it was, for its other files.
        equal = [
            row.renews and same_json(row.row.value, update.new_value) for row, update in zip(rows, updates, strict=True)
        ]
        done = iter(self._write([update for update, same in zip(updates, equal, strict=True) if not same], results))
        written = [(update.row.value, "") if same else next(done) for update, same in zip(updates, equal, strict=True)]
        lost = [n for n, row in enumerate(rows) if row.renews and written[n] == _LOST]
        self._write_rebased(updates, written, lost)
        batch.tried = [
            (row, update, value, refusal) for row, update, (value, refusal) in zip(rows, updates, written, strict=True)
        ]
        return batch

    def _write(self, updates: Sequence[RowUpdate], results: Sequence[ObjectRecord]) -> list[tuple[str | None, str]]:
        """Write all in one transaction; after a refusal the results, and each half of the rows in its own."""
        try:
            done = self._recorder.repoint_rows(updates, results)
        except RefusedError:
            if results:
                self._recorder.repoint_rows((), results)
            if len(updates) < 2:
                return [self._write_row(update) for update in updates]
            half = len(updates) // 2
            return [*self._write(updates[:half], ()), *self._write(updates[half:], ())]
        self._refusals = 0
        return [(_value_of(update, result), "") for update, result in zip(updates, done, strict=True)]

    def _write_rebased(
        self, updates: Sequence[RowUpdate], written: list[tuple[str | None, str]], lost: Sequence[int]
    ) -> None:
        """Write updates that lost their compare-and-swap to the value that their row has now, all of one row at once.

        Args:
            updates: all of the batch.
            written: how each ended, which is changed here.
            lost: positions of those that lost, in rows that name the copies already: no later pass finds such rows.
        """
        rows: dict[tuple[int, tuple[object, ...]], list[int]] = {}
        for number in lost:
            rows.setdefault((id(updates[number].rows), updates[number].row.pk), []).append(number)
        for numbers in rows.values():
            for _ in range(MAX_REBASES):
                rebase = self._recorder.rebase_updates([updates[number] for number in numbers])
                if rebase is None:
                    break
                result = (rebase.value, "") if rebase.update is None else self._write_row(rebase.update)
                if result == _LOST:
                    continue  # written again just now
                for number, fits in zip(numbers, rebase.fits, strict=True):
                    written[number] = result if fits else _LOST
                break

    def _write_row(self, update: RowUpdate) -> tuple[str | None, str]:
        try:
            [done] = self._recorder.repoint_rows([update], ())
        except WrongUpdateError as error:
            return None, f"{RowRef(update.rows.column, update.row.pk)}: {error.reason}"
        except RefusedError as error:
            self._refusals += 1
            if self._refusals >= MAX_CONSECUTIVE_REFUSALS:
                raise
            return None, f"the database refuses {RowRef(update.rows.column, update.row.pk)}: {error.reason}"
        self._refusals = 0
        return _value_of(update, done), ""


def _value_of(update: RowUpdate, result: SwapResult) -> str | None:
    if not result.done:
        return None
    return update.new_value if result.value is None else result.value
