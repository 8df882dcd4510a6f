"""What a run, a shard of a run, or a dry run records in the journal."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from sqlalchemy import create_engine, event

from migrate_storage.core.model import Location, OutcomeKind
from migrate_storage.database.compare_and_swap import SWAPPED, SwapResult
from migrate_storage.database.connection import Database
from migrate_storage.engine.repoint import Rebase, RowUpdate, rebase_updates, repoint_rows
from migrate_storage.engine.task import CopyResult, CopyTask, object_values
from migrate_storage.journal import Journal, ObjectRecord, ObjectState

__all__ = ("DryRunRecorder", "RunRecorder", "ShardRecorder", "temporary_journal")


class RunRecorder:
    """The journal of one run, and the rows that it updates.

    Args:
        journal: the journal.
        database: where the rows are.
        run: the run's id.
    """

    #: Ids of the latest intents that another shard of the same run copies.
    elsewhere: frozenset[str] = frozenset()

    def __init__(self, journal: Journal, database: Database, run: str) -> None:
        self._journal, self._database, self.run = journal, database, run
        self.shard: int | None = None

    def find_records(self, ids: Sequence[str]) -> dict[str, ObjectRecord]:
        """Return the records of these objects, where they have one."""
        return self._journal.objects.find(ids) if ids else {}

    def record_intents(self, tasks: Iterable[CopyTask]) -> set[str]:
        """Record that these objects are to be copied.

        Returns:
            Ids of those that are not recorded, because their destination belongs to another source object.
        """
        return self._write_intents(
            [
                self._create_record(task, state=ObjectState.VERIFIED if _is_verified(task) else ObjectState.INTENT)
                for task in tasks
            ]
        )

    def _write_intents(self, records: list[ObjectRecord]) -> set[str]:
        return self._journal.objects.record_intents(records)

    def find_owner(self, destination: Location) -> ObjectRecord | None:
        """Return the record to which a destination belongs."""
        return self._journal.objects.at_destinations([destination]).get(destination)

    def free_destinations(self, gone: Sequence[ObjectRecord], left: Sequence[ObjectRecord]) -> None:
        """Record that other objects may go where earlier runs made copies.

        Args:
            gone: records whose copies are gone.
            left: records of copies that no row names and no run makes again.
        """
        freed = [(owner, replace(owner, state=ObjectState.COPY_DELETED)) for owner in gone]
        freed += [(owner, replace(owner, state=ObjectState.COMPARED, written_by_us=None)) for owner in left]
        for owner, record in freed:
            self._journal.objects.claim([record], owner.state)

    def repoint_rows(self, updates: Sequence[RowUpdate], results: Sequence[ObjectRecord]) -> list[SwapResult]:
        """Update rows and record object results; return how each update ended."""
        return repoint_rows(updates, results, run=self.run, journal=self._journal, database=self._database)

    def rebase_updates(self, updates: Sequence[RowUpdate]) -> Rebase | None:
        """Apply lost updates of one row to its value now, see :func:`migrate_storage.engine.repoint.rebase_updates`."""
        return self._database.transaction(lambda connection: rebase_updates(connection, updates))

    def record_results(self, *records: ObjectRecord) -> None:
        """Record results of objects, without rows."""
        self._journal.database.transaction(lambda connection: self._journal.objects.record_results(connection, records))

    def record_rejected(self, id_: str, source: Location, kind: OutcomeKind, reason: str) -> bool:
        """Record a problem without a destination; return whether it is new to the run."""
        known = self._journal.objects.find([id_]).get(id_)
        if known is not None and known.run == self.run and known.outcome == kind:
            return False
        record = ObjectRecord(
            id=id_, run=self.run, source_key=source.backend, source_path=source.path, destination_key="", destination_path=id_,
            state=ObjectState.UNRESOLVED, outcome=kind, reason=reason,
        )  # fmt: skip
        self._journal.objects.record_intents([record])
        self.record_results(record)
        return True

    def was_repointed(self, id_: str) -> bool:
        """Whether a row was ever re-pointed to this object."""
        return bool(self._journal.rows.of_object(id_))

    def result_record(self, result: CopyResult, *, state: str, outcome: OutcomeKind) -> ObjectRecord:
        """Return the new record of an object."""
        task, reason = result.task, result.reason or None
        verified, left, before = result.verified, result.left, task.record
        if (
            verified is None
            and left is None
            and before is not None
            and before.state in (ObjectState.VERIFIED, ObjectState.UNREFERENCED)
        ):
            # The object of an earlier copy is still there. A revert needs its record, and so does the next copy.
            return replace(before, run=self.run, shard=self.shard, outcome=outcome, reason=reason)
        found: dict[str, Any] = {}
        if verified is not None:
            found = object_values(verified.source, verified.destination, verified.sha256)
            found |= {"written_by_us": _written_by_us(result), "evidence": verified.evidence[:64]}
        elif left is not None:
            found = {
                "written_by_us": True, "size": left.size, "destination_etag": left.e_tag, "destination_modified": left.last_modified,
                "destination_version": left.version,
            }  # fmt: skip
        return self._create_record(task, state=state, outcome=outcome, reason=reason, seconds=result.seconds, **found)

    def _create_record(self, task: CopyTask, **values: Any) -> ObjectRecord:
        item = task.item
        return ObjectRecord(
            id=task.id, run=self.run, shard=self.shard, source_key=item.source.backend, source_path=item.source.path,
            destination_key=item.destination.backend, destination_path=item.destination.path, **values,
        )  # fmt: skip


class ShardRecorder(RunRecorder):
    """The journal of one shard of a run that several processes do.

    Rows of two shards may name one object. The shard whose intent is recorded first copies it; the other one skips it.

    Args:
        journal: the journal.
        database: where the rows are.
        run: the run's id.
        shard: the shard's number.
        check: called before each write; raises where another process has the shard by now.
    """

    def __init__(
        self, journal: Journal, database: Database, run: str, *, shard: int, check: Callable[[], None]
    ) -> None:
        super().__init__(journal, database, run)
        self.shard, self._check = shard, check

    def repoint_rows(self, updates: Sequence[RowUpdate], results: Sequence[ObjectRecord]) -> list[SwapResult]:
        """See :meth:`RunRecorder.repoint_rows`."""
        self._check()
        return super().repoint_rows(updates, results)

    def record_results(self, *records: ObjectRecord) -> None:
        """See :meth:`RunRecorder.record_results`."""
        self._check()
        super().record_results(*records)

    def _write_intents(self, records: list[ObjectRecord]) -> set[str]:
        self._check()
        taken = super()._write_intents(records)
        found = self._journal.objects.find([record.id for record in records if record.id not in taken])
        others = [
            record for record in found.values() if record.state == ObjectState.INTENT and record.shard != self.shard
        ]
        leased = self._journal.shards.leased(self.run) if others else ()
        self.elsewhere = frozenset(
            record.id
            for record in others
            if record.run == self.run
            and (record.shard in leased or not self._journal.objects.take_over_intent(record, int(self.shard or 0)))
        )
        return taken


class DryRunRecorder(RunRecorder):
    """Reads the journal, writes to a temporary one, and leaves the rows.

    Args:
        temporary: the journal to write, see :func:`temporary_journal`.
        journal: the real one, which is only read; ``None`` where there is none yet.
        database: where the rows are.
        run: the run's id.
    """

    def __init__(self, temporary: Journal, journal: Journal | None, database: Database, run: str) -> None:
        super().__init__(temporary, database, run)
        self._real = journal
        self._freed: set[str] = set()

    def find_records(self, ids: Sequence[str]) -> dict[str, ObjectRecord]:
        """Return records of this dry run, else those of the real journal."""
        noted = super().find_records(ids)
        if self._real is None:
            return noted
        return {**self._real.objects.find([id_ for id_ in ids if id_ not in noted]), **noted}

    def find_owner(self, destination: Location) -> ObjectRecord | None:
        """See :meth:`RunRecorder.find_owner`."""
        found = None if self._real is None else self._real.objects.at_destinations([destination]).get(destination)
        return super().find_owner(destination) if found is None or found.id in self._freed else found

    def free_destinations(self, gone: Sequence[ObjectRecord], left: Sequence[ObjectRecord]) -> None:
        """Remember it in this dry run only."""
        self._freed.update(owner.id for owner in (*gone, *left))

    def was_repointed(self, id_: str) -> bool:
        """See :meth:`RunRecorder.was_repointed`."""
        return super().was_repointed(id_) or (self._real is not None and bool(self._real.rows.of_object(id_)))

    def repoint_rows(self, updates: Sequence[RowUpdate], results: Sequence[ObjectRecord]) -> list[SwapResult]:
        """Record the results; every row would be updated."""
        self.record_results(*results)
        return [SWAPPED] * len(updates)

    def _write_intents(self, records: list[ObjectRecord]) -> set[str]:
        taken = super()._write_intents(records)
        if self._real is None:
            return taken
        return taken | self._real.objects.owned_by_others(records, without=self._freed)


@contextmanager
def temporary_journal() -> Iterator[Journal]:
    """Yield a journal in a temporary file, which bounds the memory of a dry run."""
    with tempfile.TemporaryDirectory(prefix="migrate-storage-") as folder:
        engine = create_engine(f"sqlite:///{folder}/rehearsal.db")
        # The file need not survive a crash.
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF"))
        database = Database(engine)
        try:
            journal = Journal(database)
            journal.prepare()
            yield journal
        finally:
            database.close()


def _is_verified(task: CopyTask) -> bool:
    return task.record is not None and task.record.state == ObjectState.VERIFIED


def _written_by_us(result: CopyResult) -> bool | None:
    """Whether this tool wrote the destination; ``None`` if a killed run may have."""
    before, verified = result.task.record, result.verified
    if not result.copied and before is not None and before.state == ObjectState.INTENT:
        return None
    return verified.written_by_us if verified is not None else None
