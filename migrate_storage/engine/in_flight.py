"""Unfinished rows and objects of a pass, and the transitions of their states."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace

from migrate_storage.core.model import Location, Outcome, OutcomeKind, RowRef, Slot
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.file_json import Row, SlotPath
from migrate_storage.engine.plan import Item
from migrate_storage.engine.task import CopyResult, CopyTask
from migrate_storage.engine.verify import Verified
from migrate_storage.journal import ObjectRecord

__all__ = ("PendingObject", "PendingRow", "PendingState", "Pointing", "create_recopy")


@dataclass(frozen=True, slots=True)
class Pointing:
    """A row that was re-pointed to an object, as the journal records it."""

    rows: FileColumn
    row: Row
    slots: tuple[Slot, ...]

    @property
    def paths(self) -> tuple[SlotPath, ...]:
        """The paths of the slots that name the object."""
        return tuple(slot.ref.path for slot in self.slots)


@dataclass(slots=True, eq=False)
class PendingRow:
    """A row: the objects that it waits for, and the proofs of the others."""

    rows: FileColumn
    row: Row
    #: The id of each slot's object, by the slot's path.
    slots: dict[SlotPath, str]
    #: Ids of the objects that it waits for.
    waiting: set[str]
    verified: dict[SlotPath, tuple[str, Verified, Location]] = field(default_factory=dict)
    #: An earlier pass or run reported one of its objects as a problem.
    listed: bool = False
    #: It names the copies already, and gets the size and the ETag of newer ones.
    renews: bool = False

    @classmethod
    def pointing_to(cls, id_: str, pointing: Pointing) -> PendingRow:
        """Return a row that waits for a newer copy of the object that it names."""
        return cls(pointing.rows, pointing.row, dict.fromkeys(pointing.paths, id_), {id_}, renews=True)

    @property
    def objects(self) -> set[str]:
        """Ids of the objects whose proofs it has."""
        return {id_ for id_, _, _ in self.verified.values()}


class PendingState(enum.Enum):
    """How far an object is. Methods of :class:`PendingObject` change it."""

    QUEUED = "queued"
    """No worker copies it yet."""
    COPYING = "copying"
    """A worker copies and verifies it."""
    RECHECKING = "rechecking"
    """It is copied; one listing is to show of many sources that they did not change meanwhile."""
    REPOINTING = "repointing"
    """It is verified; rows are updated, and its source is checked again after their commit."""
    DONE = "done"
    """No row is to be updated; it is dropped once its journal record is written."""


@dataclass(slots=True, eq=False)
class PendingObject:
    """An object, with the rows that name it. Only its methods change it."""

    task: CopyTask
    #: How often it was copied again because its source changed after rows were updated.
    recopies: int = 0
    #: Slots that name it, so far.
    refs: tuple[RowRef, ...] = ()
    #: Rows that wait for it.
    _waiting: list[PendingRow] = field(default_factory=list)
    state: PendingState = PendingState.QUEUED
    #: What became of it; ``None`` until it is copied and rechecked.
    result: CopyResult | None = None
    #: How many rows have its proof and were not tried yet.
    _unwritten: int = 0
    #: Rows that were tried, with their new value; ``None`` where another write won or the database refused.
    _tried: list[tuple[PendingRow, str | None]] = field(default_factory=list)
    #: Why the database refused one of its rows; empty while it did not.
    refusal: str = ""
    #: How many of ``refs`` were reported with its outcome; ``None`` until it is reported.
    reported: int | None = None

    def recopied(self, record: ObjectRecord) -> PendingObject:
        """Return the object to be copied again, with the rows that were re-pointed to it.

        Args:
            record: its journal record with the copy that those rows name.
        """
        id_, rows = self.task.id, []
        for row, value in self._tried:
            if value is not None:
                slots = {path: other for path, other in row.slots.items() if other == id_}
                rows.append(PendingRow(row.rows, Row(row.row.pk, value), slots, {id_}, renews=True))
        return create_recopy(record, self.task.item, rows, recopies=self.recopies + 1, refs=self.refs)

    # -- transitions

    def start_copy(self) -> None:
        """A worker was asked to copy it."""
        self.state = PendingState.COPYING

    def await_recheck(self) -> None:
        """It is copied, and waits for a listing."""
        self.state = PendingState.RECHECKING

    def begin_repointing(self, result: CopyResult) -> list[PendingRow]:
        """It is verified; return the rows that waited for it."""
        return self._end_copy(PendingState.REPOINTING, result)

    def conclude(self, result: CopyResult, *, reported: int | None = None) -> list[PendingRow]:
        """No row is to be updated; return the rows that waited for it.

        Args:
            result: what became of it.
            reported: with how many slots that was reported; ``None`` where it was not.
        """
        self.reported = reported
        return self._end_copy(PendingState.DONE, result)

    def _end_copy(self, state: PendingState, result: CopyResult) -> list[PendingRow]:
        self.state, self.result = state, result
        waiting, self._waiting = self._waiting, []
        return waiting

    def fail(self, kind: OutcomeKind, reason: str) -> CopyResult:
        """Give a verified object another outcome; return the new result."""
        assert self.result is not None
        self.state, self.result = PendingState.DONE, replace(self.result, kind=kind, reason=reason)
        return self.result

    # -- its rows

    def attach(self, row: PendingRow, item: Item) -> bool:
        """Add a row that names it; return whether that row is ready to be updated."""
        self.refs += tuple(slot.ref for slot in item.slots)
        if self.result is None:
            self._waiting.append(row)
            return False
        return self.resolve_row(row)

    def resolve_row(self, row: PendingRow) -> bool:
        """Give a row the proof, if rows are updated; return whether the row is ready."""
        result = self.result
        if self.state is PendingState.REPOINTING and result is not None and result.verified is not None:
            for path, id_ in row.slots.items():
                if id_ == self.task.id:
                    row.verified[path] = (id_, result.verified, result.task.item.destination)
            self._unwritten += 1
        row.waiting.discard(self.task.id)
        return not row.waiting and bool(row.verified)

    def mark_tried(self, row: PendingRow, new_value: str | None, refusal: str = "") -> None:
        """Note the new value of a row, or ``None`` and the database's refusal."""
        self._unwritten -= 1
        self._tried.append((row, new_value))
        self.refusal = refusal or self.refusal

    @property
    def awaits_writes(self) -> bool:
        """Whether a row with its proof is still to be tried."""
        return self._unwritten > 0

    @property
    def has_no_pending_rows(self) -> bool:
        """Whether no row waits for it, and none with its proof is still to be tried."""
        return not self._waiting and not self._unwritten

    @property
    def needs_no_repointing(self) -> bool:
        """Whether it can be dropped once its journal record is written."""
        return self.state is PendingState.DONE or (self.has_no_pending_rows and not self._tried)

    @property
    def lost_rows_reason(self) -> str:
        """Why no row names it: rows were tried, and another write won in each; empty where one does, or none was tried."""
        if not self._tried or any(value is not None for _, value in self._tried):
            return ""
        if all(row.renews for row, _ in self._tried):
            # They named the copy already, so that no later pass finds them by the source key.
            return "no row names the copy any more: the application changed the rows meanwhile, and that write stays"
        return "the row was changed meanwhile; that write stays, and the next pass reads the row again"

    # -- its outcome

    @property
    def has_unreported_rows(self) -> bool:
        """Whether slots were attached after its outcome was reported."""
        return len(self.refs) > (self.reported or 0)

    def report(self, *, only_new_rows: bool = False) -> Outcome:
        """Return the outcome, perhaps of new slots only, and note that it is reported."""
        assert self.result is not None
        since, verified = (self.reported or 0) if only_new_rows else 0, self.result.verified
        self.reported = len(self.refs)
        return Outcome(
            kind=self.result.kind, source=self.task.item.source, destination=self.task.item.destination, reason=self.result.reason,
            size=verified.source.size if verified else None, verified_by=verified.evidence if verified else "",
            refs=self.refs[since:], seconds=self.result.seconds,
        )  # fmt: skip


def create_recopy(
    record: ObjectRecord, item: Item, rows: list[PendingRow], *, recopies: int = 1, refs: tuple[RowRef, ...] = ()
) -> PendingObject:
    """Return an object that is copied again, with the rows that name its old copy."""
    return PendingObject(CopyTask(record.id, item, record, no_batching=True), recopies, refs, rows)
