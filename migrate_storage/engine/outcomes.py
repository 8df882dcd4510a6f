"""How objects ended, told once: what is listed is told again only for rows that a first pass meets later."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from migrate_storage.core.model import Location, Outcome, OutcomeKind, RowRef
from migrate_storage.engine.in_flight import PendingObject
from migrate_storage.engine.plan import MigrationPlan
from migrate_storage.engine.recorder import RunRecorder
from migrate_storage.engine.task import CopyResult
from migrate_storage.journal import ObjectRecord, digest

__all__ = ("OutcomeReporter", "listed")


class OutcomeReporter:
    """Tells outcomes, and counts what an earlier pass of the run did not know.

    Args:
        ledger: where it is written down what never had a destination of its own.
        route: from where to where.
        tell: called with each outcome.
    """

    def __init__(self, ledger: RunRecorder, route: MigrationPlan, tell: Callable[[Outcome], None]) -> None:
        self._ledger, self._route, self._tell = ledger, route, tell
        #: Whether every row that comes is seen for the first time in this run.
        self.first_pass = True
        #: Objects that ended otherwise than an earlier pass of this run had them.
        self.news = 0

    def ended(self, entity: PendingObject, *, news: bool = True) -> None:
        """An object ended.

        Args:
            entity: the object.
            news: whether that is more than earlier passes knew.
        """
        self.news += news
        self._report(entity)

    def more(self, entity: PendingObject) -> None:
        """Rows of a later window name an object that is listed already: each of them is listed with it, once."""
        assert entity.result is not None
        if self.first_pass and not entity.result.kind.done and len(entity.refs) > entity.refs_told:
            self._report(entity, since=entity.refs_told)

    def collided(self, entity: PendingObject) -> None:
        """Two source objects would become one: the second is listed, and nothing of it is written."""
        job = entity.task
        reason = f"another source object goes to {job.item.destination} already: give one of them another name"
        entity.result, entity.final = CopyResult(task=job, kind=OutcomeKind.OCCUPIED, reason=reason), True
        entity.refs_told = len(job.item.slots)
        refs = tuple(slot.ref for slot in job.item.slots)
        self._list(job.id, job.item.source, OutcomeKind.OCCUPIED, reason, refs)

    def broken(self, ref: RowRef, reason: str) -> None:
        """A row that holds no file that could be read or written."""
        source = Location(self._route.source.key, str(ref))
        self._list(_broken_id(ref), source, OutcomeKind.FAILED, reason, (ref,))

    def knew(self, ref: RowRef) -> bool:
        """Whether a broken row is listed already."""
        id_ = _broken_id(ref)
        return listed(self._ledger.known([id_]).get(id_))

    def _report(self, entity: PendingObject, *, since: int = 0) -> None:
        entity.told, entity.refs_told = True, len(entity.refs)
        outcome = entity.outcome()
        self._tell(replace(outcome, refs=outcome.refs[since:]))

    def _list(self, id_: str, source: Location, kind: OutcomeKind, reason: str, refs: tuple[RowRef, ...]) -> None:
        """Journal and tell what never came to have a destination of its own."""
        if self._ledger.refuse(id_, source, kind, reason):
            self.news += 1
            nowhere = Location(self._route.destination.key, "")
            self._tell(Outcome(kind=kind, source=source, destination=nowhere, reason=reason, refs=refs))


def listed(entry: ObjectRecord | None) -> bool:
    """Whether the journal lists an object for a person."""
    return entry is not None and entry.outcome is not None and not OutcomeKind(entry.outcome).done


def _broken_id(ref: RowRef) -> str:
    """The journal's name for a row that holds no file that could be read."""
    return digest("row", str(ref))
