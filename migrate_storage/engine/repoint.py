"""Re-point rows: only ever to a :class:`~migrate_storage.engine.verify.Verified`, only ever by compare-and-swap."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from migrate_storage.core.model import Location
from migrate_storage.database.connection import Database
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.file_json import Row, rewrite_value
from migrate_storage.engine.verify import Verified
from migrate_storage.journal import Journal, ObjectRecord, RowRecord

__all__ = ("RowUpdate", "file_fields_for", "prepare_update", "repoint_rows", "rewrite_each")


@dataclass(frozen=True, slots=True)
class RowUpdate:
    """One row whose files are verified, ready to be re-pointed."""

    rows: FileColumn
    row: Row
    new_value: str
    #: Journal ids of the objects of its re-pointed slots.
    objects: tuple[str, ...]


def file_fields_for(verified: Verified, destination: Location) -> dict[str, Any]:
    """What changes in a row's JSON: where the file is, and what its store says of it now.

    Content type, metadata and keys that we do not know stay as they are.
    """
    meta = verified.destination
    return {
        "backend": destination.backend,
        "filename": destination.path,
        "size": meta.size,
        "etag": meta.e_tag,
        "last_modified": meta.last_modified,
        "version_id": meta.version,
        "checksum": f"sha256:{verified.sha256}" if verified.sha256 else None,
    }


def prepare_update(rows: FileColumn, row: Row, slots: Mapping[int | None, tuple[str, Verified, Location]]) -> RowUpdate:
    """The swap of one row.

    Args:
        rows: its table and column.
        row: as it was read.
        slots: by slot index, the journal id, the proof and the new location of each verified file.
    """
    changes = {}
    for index, (_, verified, location) in slots.items():
        fields = file_fields_for(verified, location)
        if fields["checksum"] is None:
            del fields["checksum"]
        changes[index] = fields
    return RowUpdate(
        rows, row, rewrite_value(row.value, changes), tuple(dict.fromkeys(id_ for id_, _, _ in slots.values()))
    )


def repoint_rows(
    swaps: Sequence[RowUpdate], entries: Sequence[ObjectRecord], *, run: str, journal: Journal, database: Database
) -> list[bool]:
    """Re-point a batch of rows and settle the journal, in one short transaction where both share a database.

    Args:
        swaps: rows to re-point, in any order.
        entries: journal lines of objects to bring up to date with them.
        run: the run's id.
        journal: where it is written down.
        database: where the rows are.

    Returns:
        For each swap whether the row now holds the new value; ``False`` where somebody else's write stood.
    """
    ordered = sorted(range(len(swaps)), key=lambda i: (str(swaps[i].rows.column), i))
    if journal.database is database:

        def together(connection: Connection) -> list[bool]:
            lines = [_entry(run, swap, "swapped") for swap in swaps]
            # Who slept past its lease may find a row re-pointed just as it would have done, and written down by the other
            # run; one that came back word for word since is re-pointed again, and gets a line again.
            said = journal.rows.runs_that_recorded(connection, lines)
            there = [
                bool(runs) and swap.rows.compare_and_swap.equals(connection, swap.row.pk, swap.new_value)
                for swap, runs in zip(swaps, said, strict=True)
            ]
            done = _swap(connection, swaps, ordered)
            journal.rows.add(
                connection,
                [
                    line
                    for line, ok, was, runs in zip(lines, done, there, said, strict=True)
                    if ok and not was and run not in runs
                ],
            )
            journal.objects.record_results(connection, entries)
            return done

        return database.transaction(together)

    def first(connection: Connection) -> None:
        journal.rows.write(connection, [_entry(run, swap, "intent") for swap in swaps])
        journal.objects.record_results(connection, entries)

    journal.database.transaction(first)
    done = database.transaction(lambda connection: _swap(connection, swaps, ordered))

    def settle(connection: Connection) -> None:
        for swap, ok in zip(swaps, done, strict=True):
            journal.rows.settle(connection, _entry(run, swap, "swapped" if ok else "kept"))

    journal.database.transaction(settle)
    return done


def rewrite_each(
    connection: Connection, rows: FileColumn, swaps: Sequence[RowUpdate], *, run: str, journal: Journal
) -> bool:
    """Re-point rows of one column and journal them, in the caller's transaction.

    Args:
        connection: of the database that holds both.
        rows: the column.
        swaps: at least one; no row twice.
        run: the run's id.
        journal: where it is written down.

    Returns:
        Whether each of them still held its old value: where not, the transaction is to be rolled back.
    """
    if not rows.compare_and_swap.swap_each(
        connection, [(swap.row.pk, swap.row.value, swap.new_value) for swap in swaps]
    ):
        return False
    journal.rows.add(connection, [_entry(run, swap, "swapped") for swap in swaps])
    return True


def _swap(connection: Connection, swaps: Sequence[RowUpdate], ordered: Sequence[int]) -> list[bool]:
    done = [False] * len(swaps)
    for part in _batches(swaps, ordered):
        rows = swaps[part[0]].rows
        values = [(swaps[i].row.pk, swaps[i].row.value, swaps[i].new_value) for i in part]
        for i, ok in zip(part, rows.compare_and_swap.swap_all(connection, values), strict=True):
            done[i] = ok
    return done


def _batches(swaps: Sequence[RowUpdate], ordered: Sequence[int]) -> Iterator[list[int]]:
    """Swaps of one column that can go together: each row once."""
    part: list[int] = []
    keys: set[tuple[Any, ...]] = set()
    for i in ordered:
        swap = swaps[i]
        if part and (swaps[part[0]].rows is not swap.rows or swap.row.pk in keys):
            yield part
            part, keys = [], set()
        part.append(i)
        keys.add(swap.row.pk)
    if part:
        yield part


def _entry(run: str, swap: RowUpdate, state: str) -> RowRecord:
    return RowRecord(
        run=run,
        column=swap.rows.column,
        pk=swap.row.pk,
        objects=swap.objects,
        old_value=swap.row.value,
        new_value=swap.new_value,
        state=state,
    )
