"""The number of rows that name the source of a run: counted when it begins, and again at its end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.file_json import BrokenValueError, Row, parse_slots
from migrate_storage.engine.known_losses import KnownLosses
from migrate_storage.engine.plan import MigrationPlan

__all__ = ("RowCounts", "concerned")

COUNT_ALL_WINDOW_ROWS = 5000
"""Rows read in one transaction to count all of them."""
COUNT_SOME_WINDOW_ROWS = 500
"""Rows read in one transaction where the first of them may be enough."""


class RowCounts:
    """Counts the rows of a run.

    Args:
        rows: its columns.
        route: from where to where.
    """

    def __init__(self, rows: Sequence[FileColumn], route: MigrationPlan) -> None:
        self._rows, self._route, self._source = rows, route, route.source.key
        #: How many rows of each column may have named the source at first.
        self.first = {each: each.estimate(self._source) for each in rows}
        #: How many these are in all.
        self.expected = sum(self.first.values())
        self._none = False

    def nothing_names(self) -> bool:
        """Whether no row named the source at first, and none does now: no second pass and no final check is needed."""
        self._none = not self.expected and not any(each.estimate(self._source) for each in self._rows)
        return self._none

    def left(self) -> int:
        """Count the rows that still name the source, and that the run deals with."""
        return 0 if self._none else sum(self._naming(COUNT_ALL_WINDOW_ROWS))

    def more_than(self, number: int) -> bool:
        """Whether more rows than so many still name it."""
        return any(count > number for count, _ in enumerate(filter(None, self._naming(COUNT_SOME_WINDOW_ROWS)), 1))

    def lost(self, known: KnownLosses) -> int:
        """Count the rows that still name it, and whose every file there is a known loss."""
        count = 0
        for rows in self._rows:
            for window in rows.windows(self._source, COUNT_ALL_WINDOW_ROWS):
                for row in window:
                    with contextlib.suppress(BrokenValueError):
                        wanted = [slot for slot in parse_slots(rows.column, row) if self._route.includes(slot)]
                        count += bool(wanted) and all(known.is_known(slot.ref, slot.location) for slot in wanted)
        return count

    def _naming(self, size: int) -> Iterator[bool]:
        """Yield for each row that may be left whether the run deals with it."""
        for rows in self._rows:
            for window in rows.windows(self._source, size):
                yield from (concerned(rows, row, self._route) for row in window)


def concerned(rows: FileColumn, row: Row, route: MigrationPlan) -> bool:
    """Whether a run deals with a row. A row that cannot be parsed counts: the run reports it."""
    try:
        return any(route.includes(slot) for slot in parse_slots(rows.column, row))
    except BrokenValueError:
        return True
