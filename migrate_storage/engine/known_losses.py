"""Known losses: which missing objects somebody marked, and which marks came to their end."""

from __future__ import annotations

import getpass
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from migrate_storage.core.errors import KeyRefusedError
from migrate_storage.core.model import Column, Location, Note, Outcome, OutcomeKind, RowRef, Severity
from migrate_storage.database.connection import Database
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.file_json import BrokenValueError, Row, parse_slots
from migrate_storage.journal import Journal, KnownLoss
from migrate_storage.stores.resolved_backend import ResolvedBackend
from migrate_storage.stores.retry import Retry

__all__ = ("KnownLosses", "ended", "known_loss_of", "stale_note")

_NOTES = 100


class KnownLosses:
    """The marks as they were when a job began: what counts as a known loss. From any thread.

    Args:
        journal: where they are; ``None`` or one that was never made holds none.
    """

    def __init__(self, journal: Journal | None) -> None:
        self._reasons: dict[str, str] = {}
        #: What a report says of marks whose objects were found, by the marks' ids; not all of many.
        self.stale: dict[str, Note] = {}
        if journal is not None and journal.exists:
            self._reasons = {mark.id: _said(mark) for batch in journal.known_losses.all() for mark in batch}

    def __bool__(self) -> bool:
        return bool(self._reasons)

    def marked(self, ref: RowRef, location: Location) -> bool:
        """Whether a row's file is marked as lost."""
        return bool(self) and KnownLoss.id_of(ref.column, ref.pk, location) in self._reasons

    def there(self, ref: RowRef, location: Location) -> None:
        """A row's object was found: a mark that says otherwise is stale."""
        if self.marked(ref, location) and len(self.stale) < _NOTES:
            id_ = KnownLoss.id_of(ref.column, ref.pk, location)
            self.stale[id_] = _note(location, self._reasons[id_], "its object is there again")

    def mark_known(self, outcome: Outcome) -> Outcome:
        """The same outcome; ``KNOWN`` where an object is missing and every row that it was looked at for is marked."""
        if outcome.kind is not OutcomeKind.MISSING or outcome.size is not None or not outcome.refs:
            return outcome
        ids = [KnownLoss.id_of(ref.column, ref.pk, outcome.source) for ref in outcome.refs]
        if not all(id_ in self._reasons for id_ in ids):
            return outcome
        return replace(outcome, kind=OutcomeKind.KNOWN, reason=self._reasons[ids[0]])


def known_loss_of(outcome: Outcome, reason: str) -> KnownLoss:
    """The mark of a missing object, by whoever runs this process, now.

    Args:
        outcome: what was looked for, and the one row that names it.
        reason: why it is known to be lost.
    """
    ref = outcome.refs[0]
    column = ref.column
    return KnownLoss(
        column=(column.schema, column.table, column.column),
        pk=ref.pk,
        location=outcome.source,
        reason=reason.strip(),
        by=_who(),
        at=time.time(),
        id=KnownLoss.id_of(column, ref.pk, outcome.source),
    )


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "?"
    return f"{user}@{socket.gethostname()}"[:255]


def ended(
    journal: Journal, database: Database, columns: Sequence[Column], sides: Mapping[str, ResolvedBackend], retry: Retry
) -> Iterator[tuple[KnownLoss, str]]:
    """Marks that say nothing any more, each with the reason: the row is gone or names another file, or the object is there.

    Raises:
        StoreFailure: a store did not answer.
    """
    tables: dict[tuple[str | None, str, str], FileColumn] = {
        (column.schema, column.table, column.column): FileColumn(database, column) for column in columns
    }
    for batch in journal.known_losses.all():
        for mark in batch:
            rows = tables.get(mark.column)
            if rows is None:
                continue
            if not _names(rows, mark):
                yield mark, "its row is gone, or names another file"
                continue
            side = sides.get(mark.location.backend)
            if side is not None and _there(side, mark.location.path, retry):
                yield mark, "its object is there again"


def stale_note(mark: KnownLoss, why: str) -> Note:
    """What a report says of a mark that came to its end."""
    return _note(mark.location, _said(mark), why)


def _note(location: Location, said: str, why: str) -> Note:
    return Note(
        severity=Severity.INFO,
        code="mark.stale",
        subject=str(location),
        message=f"{said}: the mark says nothing any more, for {why}",
        todo="migrate-storage orphans --unmark stale --yes",
    )


def _said(mark: KnownLoss) -> str:
    return f"marked as lost by {mark.by}: {mark.reason}"


def _names(rows: FileColumn, mark: KnownLoss) -> bool:
    value = rows.database.transaction(lambda connection: rows.compare_and_swap.read(connection, mark.pk))
    if value is None:
        return False
    try:
        slots = parse_slots(rows.column, Row(mark.pk, value))
    except BrokenValueError:
        return True  # nobody knows
    return any(Location(slot.file["backend"], slot.file["filename"]) == mark.location for slot in slots)


def _there(side: ResolvedBackend, path: str, retry: Retry) -> bool:
    try:
        at = side.resolve(path)
    except KeyRefusedError:
        return False
    return retry.or_none_if_missing(at.head) is not None
