"""Write the addresses of moved objects anew in one column, each row by a compare-and-swap with its journal record."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from sqlalchemy import Connection, and_, case, func, or_

from migrate_storage.core.addresses import Address, AddressBase, AddressFinder, AddressKind, Edit, apply_edits, edit_of
from migrate_storage.core.errors import KeyRefusedError, RefusedError, WrongUpdateError
from migrate_storage.core.model import Location, Outcome, OutcomeKind, RowRef
from migrate_storage.core.parallel import parallel_map
from migrate_storage.database.compare_and_swap import WRITTEN_OTHERWISE
from migrate_storage.database.dialects.base import ValueKind, as_text
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.link_search import may_have_address
from migrate_storage.database.primary_keys import dump_key
from migrate_storage.database.row_sets import fitting_batches
from migrate_storage.database.row_statements import key_equals
from migrate_storage.jobs.links.moved import MovedObjects
from migrate_storage.journal import Journal, LinkRecord, LinkState, digest_text
from migrate_storage.stores.find_read import find_read
from migrate_storage.stores.resolved_backend import ResolvedBackend
from migrate_storage.stores.retry import Retry

__all__ = ("LinkRewriter", "RewriteTarget")

WINDOW_ROWS = 2_000
"""Rows among which one statement searches."""
BATCH_ROWS = 50
"""Texts that are changed in one transaction."""
BATCH_CHARACTERS = 4_000_000
"""Characters of all texts of a batch. A longer text is a batch of its own."""
MAX_READS = 3
"""How often a row is read that another program changes meanwhile."""
MAX_REMEMBERED_OBJECTS = 100_000
"""Objects of the destination whose existence is remembered."""
WRITTEN_MEANWHILE = "another program wrote the row each time that it was read; its write stays"
NO_UTF_8 = "its text is no valid UTF-8"
NO_TEXT = "its value is no text, but bytes"
NO_ADDRESS = "the filename at the destination is not below the folder of --to-address"
_JSON_TYPES = ("JSON", "JSONB")
"""Types that a server may spell in another way than what was written."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RewriteTarget:
    """What a job changes addresses to."""

    run: str
    bases: Sequence[AddressBase]
    #: What new addresses begin with.
    new: AddressBase
    source_key: str
    destination: ResolvedBackend
    dry_run: bool
    #: Objects of the destination that are requested at once.
    concurrency: int


@dataclass(frozen=True, slots=True)
class _Change:
    """What becomes of one row."""

    pk: tuple[Any, ...]
    old: str
    new: str
    edits: tuple[Edit, ...]
    #: Filenames at the source and at the destination.
    names: tuple[tuple[str, str], ...]


class LinkRewriter:
    """Changes the texts of columns.

    Args:
        target: what addresses are changed to.
        moved: the moved objects.
        journal: where the records are written.
        retry: repeats failed requests to the destination.
        report: called with the outcome of each row.
        checkpoint: called between two batches; an exception from it ends the work.
    """

    def __init__(
        self,
        target: RewriteTarget,
        moved: MovedObjects,
        journal: Journal,
        retry: Retry,
        report: Callable[[Outcome], None],
        checkpoint: Callable[[], None],
    ) -> None:
        self._target, self._moved, self._journal, self._retry = target, moved, journal, retry
        self._report, self._checkpoint = report, checkpoint
        self._finder = AddressFinder(target.bases, moved)
        self._exist: dict[str, str] = {}
        #: Rows and addresses that were changed, or would be.
        self.rows = self.addresses = 0

    def rewrite(self, rows: FileColumn, kind: ValueKind) -> None:
        """Change the texts of one column.

        Args:
            rows: the column.
            kind: of its values.

        Raises:
            RunError: the database or the destination cannot be reached any more.
            StoppedError: the job was asked to stop.
        """
        read = partial(self._read_candidates, rows, kind)
        for found in rows.in_ranges(WINDOW_ROWS, read):
            for start, end in fitting_batches([size for _, size, _ in found], BATCH_ROWS, BATCH_CHARACTERS):
                self._checkpoint()
                self._rewrite_rows(rows, {pk: is_text for pk, _, is_text in found[start:end]})

    def _read_candidates(
        self, rows: FileColumn, kind: ValueKind, connection: Connection, part: FileColumn
    ) -> list[tuple[tuple[Any, ...], int, bool]]:
        """The keys of the rows that may have an address, with the size of each text, and whether it is one."""
        dialect = rows.database.dialect
        size = func.length(dialect.searchable(part.raw, kind))
        statement = part.select(size, case((dialect.catalog.is_text(part.raw), 1), else_=0))
        statement = statement.where(may_have_address(dialect, part.raw, kind, self._target.bases))
        return [(tuple(pk), int(length), bool(is_text)) for *pk, length, is_text in connection.execute(statement)]

    def _rewrite_rows(self, rows: FileColumn, pks: dict[tuple[Any, ...], bool]) -> None:
        """Change some rows. One that another program writes meanwhile is read again."""
        waiting = list(pks)
        for _ in range(MAX_READS):
            values = rows.database.transaction(partial(_read_values, rows, pks=waiting))
            changes = [change for pk, value in values if (change := self._plan(rows, pk, value, is_text=pks[pk]))]
            waiting = self._change(rows, changes) if changes else []
            if not waiting:
                return
        for pk in waiting:
            self._report_problem(rows, pk, OutcomeKind.MODIFIED, WRITTEN_MEANWHILE)

    def _plan(self, rows: FileColumn, pk: tuple[Any, ...], value: str, *, is_text: bool) -> _Change | None:
        """What is to be changed of a text; ``None`` where nothing is, or where the row is a problem."""
        addresses = [each for each in self._finder.find(value) if each.kind is AddressKind.MOVED]
        if not addresses:
            return None
        if not is_text or not _is_utf8(value):
            self._report_problem(rows, pk, OutcomeKind.FAILED, NO_UTF_8 if is_text else NO_TEXT, addresses[0].name)
            return None
        paths = self._moved.find({each.name for each in addresses})
        refusals = self._find_refusals(sorted(set(paths.values())))
        edits = [
            (each, self._edit(value, each, paths[each.name])) for each in addresses if not refusals[paths[each.name]]
        ]
        edits = [(each, edit) for each, edit in edits if edit.old != edit.new]
        for name in dict.fromkeys(each.name for each in addresses if refusals[paths[each.name]]):
            self._report_problem(rows, pk, OutcomeKind.MISSING, refusals[paths[name]], name)
        if not edits:
            return None
        chosen = tuple(edit for _, edit in edits)
        names = tuple(dict.fromkeys((each.name, paths[each.name]) for each, _ in edits))
        return _Change(pk, value, apply_edits(value, chosen), chosen, names)

    def _edit(self, value: str, address: Address, path: str) -> Edit:
        return edit_of(value, address, str(self._target.new), path, self._target.new.folder)

    def _find_refusals(self, paths: Sequence[str]) -> dict[str, str]:
        """Why no address may name each object of the destination; empty where one may."""
        if len(self._exist) > MAX_REMEMBERED_OBJECTS:
            self._exist.clear()
        unknown = [path for path in paths if path not in self._exist]
        for path, refusal in parallel_map(
            self._find_refusal, unknown, min(self._target.concurrency, len(unknown) or 1)
        ):
            self._exist[path] = refusal
        return {path: self._exist[path] for path in paths}

    def _find_refusal(self, path: str) -> str:
        if not path.startswith(self._target.new.folder):
            return NO_ADDRESS
        try:
            is_there = find_read(self._target.destination, path, self._retry)
        except KeyRefusedError as error:
            return str(error)
        return "" if is_there else "its copy is not at the destination any more: the address stays"

    def _change(self, rows: FileColumn, changes: Sequence[_Change]) -> list[tuple[Any, ...]]:
        """Change rows in one transaction, or each by itself where the database refuses one; return the keys of changed ones."""
        if self._target.dry_run:
            for change in changes:
                self._report_done(rows, change)
            return []
        ids = [uuid.uuid4().hex for _ in changes]
        try:
            done = self._commit(rows, changes, ids)
        except RefusedError as error:
            if len(changes) > 1:
                return [pk for change in changes for pk in self._change(rows, [change])]
            [change] = changes
            if isinstance(error, WrongUpdateError) and self._was_written(rows, change):
                return [change.pk]
            self._report_problem(rows, change.pk, OutcomeKind.FAILED, error.reason, change.names[0][0])
            return []
        for change, ok in zip(changes, done, strict=True):
            if ok:
                self._report_done(rows, change)
        return [change.pk for change, ok in zip(changes, done, strict=True) if not ok]

    def _commit(self, rows: FileColumn, changes: Sequence[_Change], ids: Sequence[str]) -> list[bool]:
        """Update the rows and write their records; return which were updated."""
        database, journal = rows.database, self._journal
        planned = [self._record(rows, change, id_) for change, id_ in zip(changes, ids, strict=True)]

        def swap(connection: Connection) -> list[LinkRecord | None]:
            return [_swap(connection, rows, change, record) for change, record in zip(changes, planned, strict=True)]

        if journal.database is database:

            def swap_and_record(connection: Connection) -> list[bool]:
                swapped = swap(connection)
                journal.links.add(connection, [record for record in swapped if record is not None])
                return [record is not None for record in swapped]

            return database.transaction(swap_and_record)
        intents = [replace(record, state=LinkState.INTENT) for record in planned]
        journal.database.transaction(lambda connection: journal.links.add(connection, intents))
        try:
            swapped = database.transaction(swap)
        except RefusedError:
            journal.database.transaction(lambda connection: journal.links.remove(connection, ids))
            raise
        done = [record for record in swapped if record is not None]
        lost = [id_ for id_, record in zip(ids, swapped, strict=True) if record is None]

        def complete(connection: Connection) -> None:
            journal.links.remove(connection, [*lost, *(record.id for record in done)])
            journal.links.add(connection, done)

        journal.database.transaction(complete)
        return [record is not None for record in swapped]

    def _record(self, rows: FileColumn, change: _Change, id_: str) -> LinkRecord:
        return LinkRecord(
            id=id_, run=self._target.run, column=rows.column, pk=change.pk, backend=self._target.destination.key,
            paths=tuple(path for _, path in change.names), edits=change.edits,
            old_digest=digest_text(change.old), new_digest=digest_text(change.new),
        )  # fmt: skip

    def _was_written(self, rows: FileColumn, change: _Change) -> bool:
        """Whether the row has another text than the one that was read."""
        now = rows.database.transaction(partial(_read_values, rows, pks=[change.pk]))
        return not now or now[0][1] != change.old

    def _report_done(self, rows: FileColumn, change: _Change) -> None:
        self.rows += 1
        self.addresses += len(change.edits)
        [name, path] = change.names[0]
        self._report(
            Outcome(
                kind=OutcomeKind.REPOINTED, source=Location(self._target.source_key, name),
                destination=Location(self._target.destination.key, path), refs=(RowRef(rows.column, change.pk),),
            )
        )  # fmt: skip

    def _report_problem(
        self, rows: FileColumn, pk: tuple[Any, ...], kind: OutcomeKind, reason: str, name: str = ""
    ) -> None:
        source = Location(self._target.source_key, name) if name else Location("", "")
        outcome = Outcome(
            kind=kind, source=source, destination=Location("", ""), reason=reason, refs=(RowRef(rows.column, pk),)
        )
        self._report(outcome)


def _swap(connection: Connection, rows: FileColumn, change: _Change, record: LinkRecord) -> LinkRecord | None:
    """Update one row; return its record, ``None`` where another program wrote the row first."""
    result = rows.compare_and_swap.swap(connection, change.pk, change.old, change.new)
    if not result.done:
        return None
    if result.value is not None and result.value != change.new:
        raise WrongUpdateError(WRITTEN_OTHERWISE)
    if rows.type in _JSON_TYPES:
        now = rows.compare_and_swap.read(connection, change.pk)
        if now is not None and now != change.new:
            # The server orders the names of an object by their length.
            return replace(record, edits=None, old_value=change.old, new_digest=digest_text(now))
    return record


def _read_values(
    rows: FileColumn, connection: Connection, *, pks: Sequence[tuple[Any, ...]]
) -> list[tuple[tuple[Any, ...], str]]:
    """The texts of rows that are there and have one, as they are stored."""
    by_name = {dump_key(pk): pk for pk in pks}
    keys = [and_(*key_equals(rows.key, pk, f"key{number}_")) for number, pk in enumerate(pks)]
    statement = rows.select(rows.database.dialect.read_text(rows.raw, rows.type)).where(or_(*keys))
    found = ((by_name.get(dump_key(pk)), value) for *pk, value in connection.execute(statement))
    return [(pk, as_text(value)) for pk, value in found if pk is not None and value is not None]


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
