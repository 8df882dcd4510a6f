"""What one run writes down of its objects, in the journal's terms; and the same for a run that is only rehearsed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from sqlalchemy import create_engine, event

from migrate_storage.core.model import Location, OutcomeKind
from migrate_storage.database.connection import Database
from migrate_storage.engine.repoint import RowUpdate, repoint_rows
from migrate_storage.engine.task import CopyResult, CopyTask
from migrate_storage.journal import Journal, ObjectRecord

__all__ = ("DryRunRecorder", "RunRecorder", "ShardRecorder", "temporary_journal")


class RunRecorder:
    """The journal, for one run.

    Args:
        journal: where it is written down.
        database: where the rows are.
        run: the run's id.
    """

    #: Ids of the latest intents that another range of the same run has in hand.
    elsewhere: frozenset[str] = frozenset()

    def __init__(self, journal: Journal, database: Database, run: str) -> None:
        self._journal, self._database, self.run = journal, database, run
        self.part: int | None = None

    def known(self, ids: Sequence[str]) -> dict[str, ObjectRecord]:
        """The lines of these objects, where they have one."""
        return self._journal.objects.find(ids) if ids else {}

    def intend(self, jobs: Iterable[CopyTask]) -> set[str]:
        """Write the intents of these jobs; returns those whose destination belongs to another source object."""
        return self._intend([self._line(job, state="held" if _held(job) else "intent") for job in jobs])

    def _intend(self, entries: list[ObjectRecord]) -> set[str]:
        return self._journal.objects.record_intents(entries)

    def write(self, swaps: Sequence[RowUpdate], entries: Sequence[ObjectRecord]) -> list[bool]:
        """Re-point rows and settle lines together; for each row whether it now names the new place."""
        return repoint_rows(swaps, entries, run=self.run, journal=self._journal, database=self._database)

    def settle(self, *entries: ObjectRecord) -> None:
        """Settle lines by themselves."""
        self._journal.database.transaction(lambda connection: self._journal.objects.record_results(connection, entries))

    def refuse(self, id_: str, source: Location, kind: OutcomeKind, reason: str) -> bool:
        """List what never came to have a destination of its own; whether it is news to this run."""
        known = self._journal.objects.find([id_]).get(id_)
        if known is not None and known.run == self.run and known.outcome == kind:
            return False
        entry = ObjectRecord(
            id=id_, run=self.run, source_key=source.backend, source_path=source.path, destination_key="", destination_path=id_,
            state="listed", outcome=kind, reason=reason,
        )  # fmt: skip
        self._journal.objects.record_intents([entry])
        self.settle(entry)
        return True

    def named(self, id_: str) -> bool:
        """Whether a row was ever re-pointed to this object."""
        return bool(self._journal.rows.of_object(id_))

    def line(self, carried: CopyResult, *, state: str, outcome: OutcomeKind) -> ObjectRecord:
        """An object's line as it is to be settled."""
        entry = replace(
            self._line(carried.task, state=state),
            outcome=outcome,
            reason=carried.reason or None,
            seconds=carried.seconds,
        )
        verified, left, before = carried.verified, carried.left, carried.task.record
        if verified is None and left is None and before is not None and before.state in ("held", "leftover"):
            # What an earlier copy left behind is still there: an undo needs to know it, and so does who copies it again.
            return replace(
                before,
                run=self.run,
                part=self.part,
                outcome=outcome,
                reason=carried.reason or None,
                updated=entry.updated,
            )
        if verified is not None:
            return replace(
                entry,
                ours=_ours(carried),
                evidence=verified.evidence[:64],
                size=verified.source.size,
                sha256=verified.sha256,
                source_etag=verified.source.e_tag,
                source_modified=verified.source.last_modified,
                source_version=verified.source.version,
                destination_etag=verified.destination.e_tag,
                destination_modified=verified.destination.last_modified,
                destination_version=verified.destination.version,
            )
        if left is not None:
            return replace(
                entry,
                ours=True,
                size=left.size,
                destination_etag=left.e_tag,
                destination_modified=left.last_modified,
                destination_version=left.version,
            )
        return entry

    def _line(self, job: CopyTask, *, state: str) -> ObjectRecord:
        item = job.item
        return ObjectRecord(
            id=job.id,
            run=self.run,
            part=self.part,
            source_key=item.source.backend,
            source_path=item.source.path,
            destination_key=item.destination.backend,
            destination_path=item.destination.path,
            state=state,
        )


class ShardRecorder(RunRecorder):
    """The journal, for one range of a run that several processes share.

    Rows of two ranges may name one object: whose intent stands first carries it, and the other leaves it alone.

    Args:
        journal: where it is written down.
        database: where the rows are.
        run: the run's id.
        part: the range's number.
        check: called right before something is written; raises where the range is another's by now.
    """

    def __init__(self, journal: Journal, database: Database, run: str, *, part: int, check: Callable[[], None]) -> None:
        super().__init__(journal, database, run)
        self.part, self._check = part, check

    def write(self, swaps: Sequence[RowUpdate], entries: Sequence[ObjectRecord]) -> list[bool]:
        """See :meth:`RunRecorder.write`."""
        self._check()
        return super().write(swaps, entries)

    def settle(self, *entries: ObjectRecord) -> None:
        """See :meth:`RunRecorder.settle`."""
        self._check()
        super().settle(*entries)

    def _intend(self, entries: list[ObjectRecord]) -> set[str]:
        self._check()
        taken = super()._intend(entries)
        found = self._journal.objects.find([entry.id for entry in entries if entry.id not in taken])
        apart = [each for each in found.values() if each.state == "intent" and each.part != self.part]
        at_work = self._journal.shards.leased(self.run) if apart else ()
        self.elsewhere = frozenset(
            each.id
            for each in apart
            if each.run == self.run
            and (each.part in at_work or not self._journal.objects.take_over(each, int(self.part or 0)))
        )
        return taken


class DryRunRecorder(RunRecorder):
    """A ledger for a dry run: it knows what the journal knows, writes to a journal of its own, and leaves the rows.

    Args:
        notes: a journal that is thrown away, see :func:`scratch`.
        journal: the real one, which is only read; ``None`` where there is none yet.
        database: where the rows are.
        run: the run's id.
    """

    def __init__(self, notes: Journal, journal: Journal | None, database: Database, run: str) -> None:
        super().__init__(notes, database, run)
        self._real = journal

    def known(self, ids: Sequence[str]) -> dict[str, ObjectRecord]:
        """What this rehearsal noted, else what the real journal knows."""
        noted = super().known(ids)
        if self._real is None:
            return noted
        return {**self._real.objects.find([id_ for id_ in ids if id_ not in noted]), **noted}

    def write(self, swaps: Sequence[RowUpdate], entries: Sequence[ObjectRecord]) -> list[bool]:
        """Note what would be; every row would be re-pointed."""
        self.settle(*entries)
        return [True] * len(swaps)

    def _intend(self, entries: list[ObjectRecord]) -> set[str]:
        taken = super()._intend(entries)
        return taken if self._real is None else taken | self._real.objects.owned_by_others(entries)


@contextmanager
def temporary_journal() -> Iterator[Journal]:
    """A journal in a temporary file, gone at the end: a rehearsal's memory stays bounded however many rows there are."""
    with tempfile.TemporaryDirectory(prefix="migrate-storage-") as folder:
        engine = create_engine(f"sqlite:///{folder}/rehearsal.db")
        # Nobody needs it after a crash.
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF"))
        database = Database(engine)
        try:
            journal = Journal(database)
            journal.prepare()
            yield journal
        finally:
            database.close()


def _held(job: CopyTask) -> bool:
    return job.record is not None and job.record.state == "held"


def _ours(carried: CopyResult) -> bool | None:
    """Whether we wrote what stands there. A killed run may have written what is found equal now: then nobody knows."""
    before, verified = carried.task.record, carried.verified
    if not carried.copied and before is not None and before.state == "intent":
        return None
    return verified.ours if verified is not None else None
