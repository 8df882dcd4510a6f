"""Rows and objects of a pass that are not finished, and the transitions between their states. No request, no thread."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace

from migrate_storage.core.model import Location, Outcome, OutcomeKind, RowRef, Slot
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.file_json import Row
from migrate_storage.engine.plan import Item
from migrate_storage.engine.task import CopyResult, CopyTask
from migrate_storage.engine.verify import Verified
from migrate_storage.journal import ObjectRecord

__all__ = ("ObjectState", "PendingObject", "PendingRow", "Pointing")


@dataclass(frozen=True, slots=True)
class Pointing:
    """A row that was re-pointed to an object, as the journal records it."""

    rows: FileColumn
    row: Row
    slots: tuple[Slot, ...]

    @property
    def indexes(self) -> tuple[int | None, ...]:
        """The indexes of the slots that name the object."""
        return tuple(slot.ref.index for slot in self.slots)


@dataclass(slots=True, eq=False)
class PendingRow:
    """A row: the objects that it waits for, and the proofs of the others."""

    rows: FileColumn
    row: Row
    #: The id of each slot's object, by the slot's index.
    slots: dict[int | None, str]
    #: Ids of the objects that it waits for.
    waiting: set[str]
    verified: dict[int | None, tuple[str, Verified, Location]] = field(default_factory=dict)
    #: An earlier pass or run reported one of its objects as a problem.
    listed: bool = False

    @classmethod
    def pointing_to(cls, id_: str, pointing: Pointing) -> PendingRow:
        """Return a row that waits for a newer copy of the object that it names."""
        return cls(pointing.rows, pointing.row, dict.fromkeys(pointing.indexes, id_), {id_})

    @property
    def objects(self) -> set[str]:
        """Ids of the objects whose proofs it has."""
        return {id_ for id_, _, _ in self.verified.values()}


class ObjectState(enum.Enum):
    """How far an object is: each state is entered from the one before, by one method of :class:`PendingObject`."""

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


class PendingObject:
    """An object, with the rows of the open windows that name it.

    Args:
        task: how it is copied.
        recopies: how often it was copied again because its source changed after rows were updated.
        refs: slots that name it, so far.
        rows: rows that wait for it.
    """

    __slots__ = (
        "_refusal",
        "_reported",
        "_tried",
        "_unwritten",
        "_waiting",
        "recopies",
        "refs",
        "result",
        "state",
        "task",
    )

    def __init__(
        self, task: CopyTask, *, recopies: int = 0, refs: tuple[RowRef, ...] = (), rows: tuple[PendingRow, ...] = ()
    ) -> None:
        self.task, self.recopies, self.refs = task, recopies, refs
        self.state = ObjectState.QUEUED
        #: What became of it; ``None`` until it is copied and rechecked.
        self.result: CopyResult | None = None
        self._waiting = list(rows)
        #: Rows that have its proof and were not tried yet.
        self._unwritten = 0
        #: Rows that were tried, with their new value; ``None`` where another write won or the database refused.
        self._tried: list[tuple[PendingRow, str | None]] = []
        self._refusal = ""
        #: How many of ``refs`` were reported with its outcome; ``None`` until it is reported.
        self._reported: int | None = None

    @classmethod
    def of_earlier_rows(cls, record: ObjectRecord, item: Item, pointings: list[Pointing]) -> PendingObject:
        """Return an object that is copied again after the end of its run's passes, with the rows that name its copy."""
        rows = tuple(PendingRow.pointing_to(record.id, pointing) for pointing in pointings)
        return cls(CopyTask(record.id, item, record, no_batching=True), recopies=1, rows=rows)

    def recopied(self, record: ObjectRecord) -> PendingObject:
        """Return the same object to be copied again, with the rows that were re-pointed to it.

        Args:
            record: its journal record with the copy that those rows name.
        """
        id_ = self.task.id
        rows = tuple(
            PendingRow(
                row.rows,
                Row(row.row.pk, value),
                {index: id_ for index, other in row.slots.items() if other == id_},
                {id_},
            )
            for row, value in self._tried
            if value is not None
        )
        task = CopyTask(id_, self.task.item, record, no_batching=True)
        return PendingObject(task, recopies=self.recopies + 1, refs=self.refs, rows=rows)

    # -- transitions

    def start_copy(self) -> None:
        """A worker was asked to copy it."""
        self.state = ObjectState.COPYING

    def await_recheck(self) -> None:
        """It is copied, and waits for a listing."""
        self.state = ObjectState.RECHECKING

    def begin_repointing(self, result: CopyResult) -> list[PendingRow]:
        """It is verified; return the rows that waited for it."""
        self.state, self.result = ObjectState.REPOINTING, result
        return self._take_waiting()

    def conclude(self, result: CopyResult) -> list[PendingRow]:
        """No row is to be updated; return the rows that waited for it."""
        self.state, self.result = ObjectState.DONE, result
        return self._take_waiting()

    def _take_waiting(self) -> list[PendingRow]:
        waiting, self._waiting = self._waiting, []
        return waiting

    # -- rows

    def attach(self, row: PendingRow, item: Item) -> bool:
        """Add a row that names it; return whether that row is ready to be updated."""
        self.refs += tuple(slot.ref for slot in item.slots)
        if self.result is None:
            self._waiting.append(row)
            return False
        return self.resolve_row(row)

    def resolve_row(self, row: PendingRow) -> bool:
        """Give a row the proof, if there is one and rows are updated; return whether the row is ready.

        A row is ready when it waits for no object and has a proof of at least one.
        """
        result = self.result
        if self.state is ObjectState.REPOINTING and result is not None and result.verified is not None:
            for index, id_ in row.slots.items():
                if id_ == self.task.id:
                    row.verified[index] = (id_, result.verified, result.task.item.destination)
            self._unwritten += 1
        row.waiting.discard(self.task.id)
        return not row.waiting and bool(row.verified)

    def mark_tried(self, row: PendingRow, new_value: str | None, refusal: str = "") -> None:
        """Note that a row was tried.

        Args:
            row: a row that had its proof.
            new_value: the value that the row has now; ``None`` where it was not updated.
            refusal: why the database refused the row; empty where it did not.
        """
        self._unwritten -= 1
        self._tried.append((row, new_value))
        self._refusal = refusal or self._refusal

    @property
    def has_no_pending_rows(self) -> bool:
        """Whether no row waits for it, and none with its proof is still to be tried."""
        return not self._waiting and not self._unwritten

    @property
    def awaits_writes(self) -> bool:
        """Whether a row with its proof is still to be tried."""
        return self._unwritten > 0

    @property
    def needs_no_repointing(self) -> bool:
        """Whether it can be dropped once its journal record is written."""
        return self.state is ObjectState.DONE or (self.has_no_pending_rows and not self._tried)

    @property
    def lost_all_rows(self) -> bool:
        """Whether rows were tried, and another write won in each."""
        return bool(self._tried) and all(value is None for _, value in self._tried)

    @property
    def refusal(self) -> str:
        """Why the database refused one of its rows; empty where it did not."""
        return self._refusal

    # -- its outcome

    @property
    def is_reported(self) -> bool:
        """Whether its outcome was reported."""
        return self._reported is not None

    @property
    def has_unreported_rows(self) -> bool:
        """Whether slots were attached after its outcome was reported."""
        return len(self.refs) > (self._reported or 0)

    def mark_reported(self, refs: int) -> None:
        """Note that its outcome was reported with so many slots."""
        self._reported = refs

    def report(self, *, only_new_rows: bool = False) -> Outcome:
        """Return the outcome and note that it is reported.

        Args:
            only_new_rows: leave out slots that were reported before.
        """
        result = self.result
        assert result is not None
        since, verified = (self._reported or 0) if only_new_rows else 0, result.verified
        self._reported = len(self.refs)
        return Outcome(
            kind=result.kind,
            source=self.task.item.source,
            destination=self.task.item.destination,
            reason=result.reason,
            size=verified.source.size if verified else None,
            evidence=verified.evidence if verified else "",
            refs=self.refs[since:],
            seconds=result.seconds,
        )

    def fail(self, kind: OutcomeKind, reason: str) -> CopyResult:
        """Give a verified object another outcome, because its rows or its source changed; return the new result."""
        assert self.result is not None
        self.state, self.result = ObjectState.DONE, replace(self.result, kind=kind, reason=reason)
        return self.result
