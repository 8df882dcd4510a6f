"""Known losses: missing objects that were acknowledged, and those that are stale."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from migrate_storage.core.errors import KeyRefusedError
from migrate_storage.core.model import Column, Location, Note, Outcome, OutcomeKind, RowRef, Severity
from migrate_storage.database.connection import Database
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.file_json import BrokenValueError, Row, parse_slots
from migrate_storage.journal import Journal, KnownLoss
from migrate_storage.stores.find_read import find_read
from migrate_storage.stores.resolved_backend import ResolvedBackend
from migrate_storage.stores.retry import Retry

__all__ = ("KnownLosses", "find_stale", "known_loss_of", "stale_note")

MAX_STALE_NOTES = 100
"""Stale acknowledgements that one report lists."""


class KnownLosses:
    """The known losses of the journal as they were when a job began. From any thread.

    Args:
        journal: the journal; ``None`` or one without tables has none.
    """

    def __init__(self, journal: Journal | None) -> None:
        self._reasons: dict[str, str] = {}
        #: Notes on known losses whose objects were found, by id; at most ``MAX_STALE_NOTES``.
        self.stale: dict[str, Note] = {}
        if journal is not None and journal.exists:
            self._reasons = {loss.id: _describe_loss(loss) for batch in journal.known_losses.all() for loss in batch}

    def __bool__(self) -> bool:
        return bool(self._reasons)

    def is_known(self, ref: RowRef, location: Location) -> bool:
        """Whether a row's file is a known loss."""
        return bool(self) and KnownLoss.id_of(ref.column, ref.pk, location) in self._reasons

    def mark_found(self, ref: RowRef, location: Location) -> None:
        """Note that a row's object exists; a known loss of it is stale."""
        if self.is_known(ref, location) and len(self.stale) < MAX_STALE_NOTES:
            id_ = KnownLoss.id_of(ref.column, ref.pk, location)
            self.stale[id_] = _create_note(location, self._reasons[id_], "its object is there again")

    def mark_known(self, outcome: Outcome) -> Outcome:
        """Return the outcome, as ``KNOWN`` where each row of the object is a known loss."""
        if outcome.kind is not OutcomeKind.MISSING or outcome.size is not None or not outcome.refs:
            return outcome
        ids = [KnownLoss.id_of(ref.column, ref.pk, outcome.source) for ref in outcome.refs]
        if not all(id_ in self._reasons for id_ in ids):
            return outcome
        return replace(outcome, kind=OutcomeKind.KNOWN_MISSING, reason=self._reasons[ids[0]])


def known_loss_of(outcome: Outcome, reason: str) -> KnownLoss:
    """Return the known loss of a missing object, acknowledged now by this user.

    Args:
        outcome: the missing object, and the one row that names it.
        reason: why it is known to be lost.
    """
    ref, column = outcome.refs[0], outcome.refs[0].column
    return KnownLoss(
        column=(column.schema, column.table, column.column), pk=ref.pk, location=outcome.source, reason=reason.strip(),
        by=_current_user(), id=KnownLoss.id_of(column, ref.pk, outcome.source),
    )  # fmt: skip


def _current_user() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "?"
    return f"{user}@{socket.gethostname()}"[:255]


def find_stale(
    journal: Journal, database: Database, columns: Sequence[Column], sides: Mapping[str, ResolvedBackend], retry: Retry
) -> Iterator[tuple[KnownLoss, str]]:
    """Yield known losses whose row or file is gone or whose object exists, and why.

    Raises:
        StoreRequestError: a store did not answer.
    """
    tables: dict[tuple[str | None, str, str], FileColumn] = {
        (column.schema, column.table, column.column): FileColumn(database, column) for column in columns
    }
    for batch in journal.known_losses.all():
        for loss in batch:
            rows = tables.get(loss.column)
            if rows is None:
                continue
            if not _is_named(rows, loss):
                yield loss, "its row is gone, or names another file"
                continue
            side = sides.get(loss.location.backend)
            if side is not None and _object_exists(side, loss.location.path, retry):
                yield loss, "its object is there again"


def stale_note(loss: KnownLoss, reason: str) -> Note:
    """Return the note of a report on a stale known loss."""
    return _create_note(loss.location, _describe_loss(loss), reason)


def _create_note(location: Location, description: str, reason: str) -> Note:
    message = f"{description}: this known loss no longer applies, for {reason}"
    todo = "migrate-storage orphans --forget-acknowledged stale --yes"
    return Note(severity=Severity.INFO, code="mark.stale", subject=str(location), message=message, todo=todo)


def _describe_loss(loss: KnownLoss) -> str:
    return f"acknowledged as lost by {loss.by}: {loss.reason}"


def _is_named(rows: FileColumn, loss: KnownLoss) -> bool:
    value = rows.database.transaction(lambda connection: rows.compare_and_swap.read(connection, loss.pk))
    if value is None:
        return False
    try:
        slots = parse_slots(rows.column, Row(loss.pk, value))
    except BrokenValueError:
        return True  # a broken value may name it
    return any(slot.location == loss.location for slot in slots)


def _object_exists(side: ResolvedBackend, path: str, retry: Retry) -> bool:
    try:
        return bool(find_read(side, path, retry))
    except KeyRefusedError:
        return False
