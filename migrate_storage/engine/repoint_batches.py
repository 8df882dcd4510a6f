"""Batches of rows to their new places: together, or row by row where the database refuses one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from migrate_storage.core.errors import RefusedError
from migrate_storage.core.model import RowRef
from migrate_storage.database.file_json import BrokenValueError
from migrate_storage.engine.in_flight import PendingRow
from migrate_storage.engine.recorder import RunRecorder
from migrate_storage.engine.repoint import RowUpdate, prepare_update
from migrate_storage.journal import ObjectRecord

__all__ = ("BatchRepointer", "Repointed")


@dataclass(slots=True)
class Repointed:
    """What became of a batch."""

    #: Each row that was tried, its swap, whether it names the new place now, and why the database refuses it, if it does.
    tried: list[tuple[PendingRow, RowUpdate, bool, str]] = field(default_factory=list)
    #: Rows that cannot be written as they are, and why.
    broken: list[tuple[PendingRow, str]] = field(default_factory=list)


class BatchRepointer:
    """Re-points rows and settles the journal with them.

    Args:
        ledger: where both are written.
        patience: how many rows in a row the database may refuse before the run ends.
    """

    def __init__(self, ledger: RunRecorder, patience: int) -> None:
        self._ledger, self._patience, self._refusals = ledger, patience, 0

    def repoint(self, ready: Sequence[PendingRow], entries: Sequence[ObjectRecord]) -> Repointed:
        """One batch.

        Args:
            ready: rows with the proofs of their objects.
            entries: journal lines to settle with them.

        Raises:
            RefusedError: the database refuses row after row.
        """
        found = Repointed()
        rows, swaps = [], []
        for row in ready:
            try:
                swaps.append(prepare_update(row.rows, row.row, row.verified))
                rows.append(row)
            except BrokenValueError as error:
                found.broken.append((row, str(error)))
        found.tried = [
            (row, swap, ok, why) for row, swap, (ok, why) in zip(rows, swaps, self._write(swaps, entries), strict=True)
        ]
        return found

    def _write(self, swaps: Sequence[RowUpdate], entries: Sequence[ObjectRecord]) -> list[tuple[bool, str]]:
        """All in one transaction. Where the database refuses that, row by row: one that it refuses is an item's failure."""
        try:
            done = self._ledger.write(swaps, entries)
        except RefusedError:
            self._ledger.write((), entries)
            return [self._alone(swap) for swap in swaps]
        self._refusals = 0
        return [(ok, "") for ok in done]

    def _alone(self, swap: RowUpdate) -> tuple[bool, str]:
        try:
            [done] = self._ledger.write([swap], ())
        except RefusedError as error:
            self._refusals += 1
            if self._refusals >= self._patience:
                raise
            return False, f"the database refuses {RowRef(swap.rows.column, swap.row.pk)}: {error.reason}"
        self._refusals = 0
        return done, ""
