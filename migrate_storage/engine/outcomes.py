"""Report how each object ended, once, and its problem for each row."""

from __future__ import annotations

from collections.abc import Callable

from migrate_storage.core.model import Location, Outcome, OutcomeKind, RowRef
from migrate_storage.engine.in_flight import PendingObject
from migrate_storage.engine.plan import MigrationPlan
from migrate_storage.engine.recorder import RunRecorder
from migrate_storage.engine.task import CopyResult
from migrate_storage.journal import ObjectRecord, ObjectState, digest

__all__ = ("OutcomeReporter", "is_problem")


class OutcomeReporter:
    """Reports outcomes, and counts those that an earlier pass of the run did not have.

    Args:
        recorder: records rows and objects that never had a destination.
        plan: the source and the destination.
        on_outcome: called with each outcome.
    """

    def __init__(self, recorder: RunRecorder, plan: MigrationPlan, on_outcome: Callable[[Outcome], None]) -> None:
        self._recorder, self._plan, self._on_outcome = recorder, plan, on_outcome
        #: Whether this is the first pass of the run, which has seen no row before.
        self.first_pass = True
        #: Outcomes that differ from those of earlier passes.
        self.new_outcomes = 0

    def report(self, pending: PendingObject, *, new: bool = True) -> None:
        """Report how an object ended.

        Args:
            pending: the object.
            new: whether no earlier pass had this outcome.
        """
        self.new_outcomes += new
        self._on_outcome(pending.report())

    def report_new_rows(self, pending: PendingObject) -> None:
        """Report a problem again for rows of a later window of the first pass."""
        assert pending.result is not None
        if self.first_pass and not pending.result.kind.done and pending.has_unreported_rows:
            self._on_outcome(pending.report(only_new_rows=True))

    def report_collision(self, pending: PendingObject) -> None:
        """Report a second source object for one destination. It is not copied."""
        task = pending.task
        owner = self._recorder.find_owner(task.item.destination)
        reason = f"another source object goes to {task.item.destination} already{self._describe_remedy(owner)}"
        refs = tuple(slot.ref for slot in task.item.slots)
        pending.conclude(CopyResult(task=task, kind=OutcomeKind.DESTINATION_EXISTS, reason=reason), reported=len(refs))
        self._report_rejected(task.id, task.item.source, OutcomeKind.DESTINATION_EXISTS, reason, refs)

    def _describe_remedy(self, owner: ObjectRecord | None) -> str:
        """Return whose destination it is, and what a person can do."""
        if owner is None or owner.run == self._recorder.run:
            return ": give one of them another name"
        if owner.state == ObjectState.UNREFERENCED:
            return (
                f", as a copy of {owner.source} that no row names since run {owner.run} was reverted: delete it with "
                f"'migrate-storage purge {owner.run} --unreferenced-copies --older-than 0s --yes', then run again"
            )
        if self._plan.has_id(owner):
            return f", {owner.source} by run {owner.run}: give one of them another name"
        return (
            f", {owner.source} by run {owner.run}, and {owner.source_key!r} is registered for another place now: revert that run, or "
            "move these objects to a destination with another prefix"
        )

    def report_broken_row(self, ref: RowRef, reason: str) -> None:
        """Report a row whose value cannot be parsed or written."""
        source = Location(self._plan.source.key, str(ref))
        self._report_rejected(_broken_row_id(ref), source, OutcomeKind.FAILED, reason, (ref,))

    def was_reported(self, ref: RowRef) -> bool:
        """Whether a broken row was reported before."""
        id_ = _broken_row_id(ref)
        return is_problem(self._recorder.find_records([id_]).get(id_))

    def _report_rejected(
        self, id_: str, source: Location, kind: OutcomeKind, reason: str, refs: tuple[RowRef, ...]
    ) -> None:
        """Record and report what never had a destination."""
        if self._recorder.record_rejected(id_, source, kind, reason):
            self.new_outcomes += 1
            nowhere = Location(self._plan.destination.key, "")
            self._on_outcome(Outcome(kind=kind, source=source, destination=nowhere, reason=reason, refs=refs))


def is_problem(record: ObjectRecord | None) -> bool:
    """Whether the journal records an outcome that reports list as a problem."""
    return record is not None and record.outcome is not None and not OutcomeKind(record.outcome).done


def _broken_row_id(ref: RowRef) -> str:
    """Return the journal id of a row whose value cannot be parsed."""
    return digest("row", str(ref))
