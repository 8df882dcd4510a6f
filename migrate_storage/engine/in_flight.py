"""Rows and objects on their way through a pass: what waits for what. No request and no thread in here."""

from __future__ import annotations

from dataclasses import dataclass, field

from migrate_storage.core.model import Location, Outcome, RowRef, Slot
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.file_json import Row
from migrate_storage.engine.task import CopyResult, CopyTask
from migrate_storage.engine.verify import Verified

__all__ = ("PendingObject", "PendingRow", "Pointing")


@dataclass(frozen=True, slots=True)
class Pointing:
    """A row that was re-pointed to an object, as the journal has it."""

    rows: FileColumn
    row: Row
    slots: tuple[Slot, ...]

    @property
    def indexes(self) -> tuple[int | None, ...]:
        """The slots that name the object."""
        return tuple(slot.ref.index for slot in self.slots)


@dataclass(slots=True, eq=False)
class PendingRow:
    """A row: which of its objects it still waits for, and what the others got."""

    rows: FileColumn
    row: Row
    #: Slot index to the id of its object.
    slots: dict[int | None, str]
    waiting: set[str]
    verified: dict[int | None, tuple[str, Verified, Location]] = field(default_factory=dict)
    #: One of its objects was listed already, by an earlier pass or run.
    listed: bool = False

    @property
    def objects(self) -> set[str]:
        """Ids of the objects that it has a proof of."""
        return {id_ for id_, _, _ in self.verified.values()}


@dataclass(slots=True, eq=False)
class PendingObject:
    """An object, with the rows of the open windows that name it."""

    task: CopyTask
    #: Rows that wait for it.
    rows: list[PendingRow] = field(default_factory=list)
    #: What became of it; ``None`` while a worker has it.
    result: CopyResult | None = None
    refs: tuple[RowRef, ...] = ()
    #: Rows that have its proof and were not tried yet.
    unwritten: int = 0
    #: Rows that were re-pointed to it, with the value that they hold now.
    swapped: list[tuple[PendingRow, str]] = field(default_factory=list)
    #: Rows in which somebody else's write stood.
    lost: int = 0
    #: Why the database refuses to re-point one of its rows; empty while it does not.
    refused: str = ""
    #: How often it was copied again because its source changed after rows were re-pointed.
    recopies: int = 0
    #: No row is to be re-pointed to it: it goes when its journal line is settled.
    final: bool = False
    #: Its outcome was told.
    told: bool = False
    #: How many of its rows were told with it.
    refs_told: int = 0

    def mark_resolved(self, row: PendingRow, *, rewritten: bool) -> bool:
        """Give a row what became of this object.

        Args:
            row: one that waited for it.
            rewritten: whether rows are re-pointed at all.

        Returns:
            Whether the row is ready: it waits for nothing more, and has something to re-point.
        """
        if self.result is not None and self.result.verified is not None and rewritten:
            for index, id_ in row.slots.items():
                if id_ == self.task.id:
                    row.verified[index] = (id_, self.result.verified, self.result.task.item.destination)
            self.unwritten += 1
        row.waiting.discard(self.task.id)
        return not row.waiting and bool(row.verified)

    def mark_tried(self, row: PendingRow, value: str | None) -> None:
        """A row was tried; ``value`` is what it holds now, ``None`` where another's write stood."""
        self.unwritten -= 1
        if value is None:
            self.lost += 1
        else:
            self.swapped.append((row, value))

    @property
    def has_no_pending_rows(self) -> bool:
        """Whether no row waits for it or is to be written with it."""
        return not self.rows and not self.unwritten

    def outcome(self) -> Outcome:
        """How it ended, for the report."""
        carried = self.result
        assert carried is not None
        verified = carried.verified
        return Outcome(
            kind=carried.kind,
            source=self.task.item.source,
            destination=self.task.item.destination,
            reason=carried.reason,
            size=verified.source.size if verified else None,
            evidence=verified.evidence if verified else "",
            refs=self.refs,
            seconds=carried.seconds,
        )
