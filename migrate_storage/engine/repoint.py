"""Update rows: only to a verified object, and only by compare-and-swap."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection

from migrate_storage.core.errors import WrongUpdateError
from migrate_storage.core.model import Location
from migrate_storage.database.compare_and_swap import WRITTEN_BY_ANOTHER, SwapResult
from migrate_storage.database.connection import Database
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.file_json import (
    BrokenValueError,
    Row,
    SlotPath,
    exchange_files,
    rewrite_value,
    same_json,
)
from migrate_storage.engine.verify import Verified
from migrate_storage.journal import Journal, ObjectRecord, RowRecord, RowState

__all__ = (
    "Rebase",
    "RowUpdate",
    "file_fields_for",
    "prepare_update",
    "rebase_updates",
    "repoint_rows",
)


@dataclass(frozen=True, slots=True)
class RowUpdate:
    """One row whose files are verified, and its new value."""

    rows: FileColumn
    row: Row
    new_value: str
    #: Journal ids of the objects of its re-pointed slots.
    objects: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rebase:
    """Updates of one row that lost their compare-and-swap, on the value that it has now."""

    #: Writes all of them at once; ``None`` where the row has their new files already.
    update: RowUpdate | None
    #: Whether the row has the files of each of the updates.
    fits: tuple[bool, ...]
    #: The value of the row.
    value: str


def file_fields_for(verified: Verified, destination: Location) -> dict[str, Any]:
    """Return the fields of a file's JSON that change: place and store metadata.

    Content type, metadata and unknown fields stay as they are.
    """
    meta = verified.destination
    return {
        "backend": destination.backend, "filename": destination.path, "size": meta.size, "etag": meta.e_tag,
        "last_modified": meta.last_modified, "version_id": meta.version,
        "checksum": f"sha256:{verified.sha256}" if verified.sha256 else None,
    }  # fmt: skip


def prepare_update(rows: FileColumn, row: Row, slots: Mapping[SlotPath, tuple[str, Verified, Location]]) -> RowUpdate:
    """Compute the new value of one row.

    Args:
        rows: its table and column.
        row: the row as it was read.
        slots: by slot path, the journal id, the proof and the new location of each verified file.

    Raises:
        BrokenValueError: the value cannot be rewritten.
    """
    changes = {}
    for path, (_, verified, location) in slots.items():
        fields = file_fields_for(verified, location)
        if fields["checksum"] is None:
            del fields["checksum"]
        changes[path] = fields
    objects = tuple(dict.fromkeys(id_ for id_, _, _ in slots.values()))
    return RowUpdate(rows, row, rewrite_value(row.value, changes), objects)


def rebase_updates(connection: Connection, updates: Sequence[RowUpdate]) -> Rebase | None:
    """Apply updates of one row, which names the copies already, to the value that the row has now.

    The row may have been changed by our own update of another of its files, or by the application elsewhere in it. Both writes
    stand. An update fits where its files are in the row as it expects them, or as it writes them.

    Returns:
        ``None`` where none fits: the application has other files there.
    """
    rows, pk = updates[0].rows, updates[0].row.pk
    try:
        now = rows.compare_and_swap.read(connection, pk)
        if now is None:
            return None
        value, fits = now, list[bool]()
        for update in updates:
            exchanged = exchange_files(value, update.row.value, update.new_value)
            written = exchanged is not None or exchange_files(value, update.new_value, update.row.value) is not None
            value = value if exchanged is None else exchanged
            fits.append(written)
    except (BrokenValueError, WrongUpdateError):
        return None
    if not any(fits):
        return None
    objects = [id_ for update, fit in zip(updates, fits, strict=True) if fit for id_ in update.objects]
    update = RowUpdate(rows, Row(pk, now), value, tuple(dict.fromkeys(objects)))
    return Rebase(None if same_json(now, value) else update, tuple(fits), value)


def repoint_rows(
    updates: Sequence[RowUpdate], results: Sequence[ObjectRecord], *, run: str, journal: Journal, database: Database
) -> list[SwapResult]:
    """Update rows and record object results, in one transaction where possible.

    Where they do not, each update is recorded as an intent first, and completed after the commit of the rows.

    Args:
        updates: rows to update, in any order.
        results: new journal records of objects.
        run: the run's id.
        journal: the journal.
        database: where the rows are.

    Returns:
        For each update how it ended.

    Raises:
        WrongUpdateError: an UPDATE changed more than its row, or leaves it as it is. Nothing is written then.
    """
    if journal.database is database:
        return database.transaction(lambda connection: _update_and_record(connection, updates, results, run, journal))

    def record_intents(connection: Connection) -> None:
        journal.rows.add_missing(connection, [_row_record(run, update, RowState.INTENT) for update in updates])
        journal.objects.record_results(connection, results)

    def settle_intents(connection: Connection) -> None:
        ended = [
            _row_record(run, update, RowState.REPOINTED if result.done else RowState.SUPERSEDED, result.value)
            for update, result in zip(updates, done, strict=True)
        ]
        journal.rows.complete_intents(connection, ended)

    journal.database.transaction(record_intents)
    done = database.transaction(lambda connection: _update_rows(connection, updates))
    journal.database.transaction(settle_intents)
    return done


def _update_and_record(
    connection: Connection, updates: Sequence[RowUpdate], results: Sequence[ObjectRecord], run: str, journal: Journal
) -> list[SwapResult]:
    records = [_row_record(run, update, RowState.REPOINTED) for update in updates]
    # A process that was suspended beyond its lease may find a row updated and recorded by another run just as it would have
    # done. Such a row gets no second record. A row that got its old value back since is updated and recorded again.
    runs_of = journal.rows.runs_that_recorded(connection, records)
    had_new_value = [
        bool(runs) and update.rows.compare_and_swap.equals(connection, update.row.pk, update.new_value)
        for update, runs in zip(updates, runs_of, strict=True)
    ]
    done = _update_rows(connection, updates)
    new_records = [
        record if result.value is None else replace(record, new_value=result.value)
        for record, result, had, runs in zip(records, done, had_new_value, runs_of, strict=True)
        if result.done and not had and run not in runs
    ]
    journal.rows.add(connection, new_records)
    journal.objects.record_results(connection, results)
    return done


def _update_rows(connection: Connection, updates: Sequence[RowUpdate]) -> list[SwapResult]:
    done = [WRITTEN_BY_ANOTHER] * len(updates)
    for batch in _split_batches(updates):
        rows = updates[batch[0]].rows
        values = [(updates[i].row.pk, updates[i].row.value, updates[i].new_value) for i in batch]
        for i, result in zip(batch, rows.compare_and_swap.swap_all(connection, values), strict=True):
            done[i] = result
    return done


def _split_batches(updates: Sequence[RowUpdate]) -> Iterator[list[int]]:
    """Split updates into batches of one column, in which each row occurs once."""
    batch: list[int] = []
    keys: set[tuple[Any, ...]] = set()
    names = {id(update.rows): str(update.rows.column) for update in updates}
    for i in sorted(range(len(updates)), key=lambda i: (names[id(updates[i].rows)], i)):
        update = updates[i]
        if batch and (updates[batch[0]].rows is not update.rows or update.row.pk in keys):
            yield batch
            batch, keys = [], set()
        batch.append(i)
        keys.add(update.row.pk)
    if batch:
        yield batch


def _row_record(run: str, update: RowUpdate, state: str, new_value: str | None = None) -> RowRecord:
    return RowRecord(
        run=run, column=update.rows.column, pk=update.row.pk, objects=update.objects, old_value=update.row.value,
        new_value=update.new_value if new_value is None else new_value, state=state,
    )  # fmt: skip
