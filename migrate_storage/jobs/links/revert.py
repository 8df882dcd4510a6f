"""Put texts back in which addresses were changed, wherever they still are as they were written; list the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from sqlalchemy import Connection

from migrate_storage.application.application import Application
from migrate_storage.core.errors import ConfigurationError, RefusedError
from migrate_storage.core.events import Listener, silent
from migrate_storage.core.model import Location, Outcome, OutcomeKind, RowRef, Strategy
from migrate_storage.database.connection import Database
from migrate_storage.database.dialects.base import ValueKind
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.text_columns import open_text_column
from migrate_storage.jobs.base import Job, JobDescription
from migrate_storage.jobs.connections import connected
from migrate_storage.jobs.context import JobPace
from migrate_storage.jobs.links.job import LinksJob
from migrate_storage.jobs.revert.job import RevertOptions
from migrate_storage.jobs.rights import check_rights
from migrate_storage.journal import Journal, LinkRecord, LinkState, RunRecord, digest_text, new_run_id
from migrate_storage.reporting import Report

__all__ = ("LinksRevertJob", "kind_of_run")

BATCH_ROWS = 20
"""Texts that are read together. Each may be long."""
ROW_CHANGED = "the row was changed since its addresses were; that write stays"
ROW_GONE = "the row is gone, or has no text any more"
BROKEN = "the journal's record does not lead to the text that it was made of"


@dataclass(frozen=True, kw_only=True)
class _Facts:
    database: Database
    journal: Journal
    #: The run whose changes are undone.
    undone: RunRecord


@dataclass(kw_only=True)
class _Restore:
    """What becomes of one row."""

    kind: OutcomeKind
    rows: FileColumn | None
    record: LinkRecord
    reason: str = ""
    now: str = ""
    value: str = ""
    #: Ids of records that are undone, or were never done.
    undone: list[str] = field(default_factory=list)


class LinksRevertJob(Job[_Facts]):
    """Puts back the texts that one run of ``links --rewrite`` changed.

    Args:
        application: whose database.
        options: how; what concerns stores is not used.
        run: id of the run, or the beginning of it.
        listener: called with each event.
    """

    kind = "links-revert"

    def __init__(
        self, application: Application, options: RevertOptions | None = None, *, run: str, listener: Listener = silent
    ) -> None:
        super().__init__(listener, JobPace())
        self._application, self._options, self._wanted = application, options or RevertOptions(), run
        self._restored = 0
        self._columns: dict[tuple[str | None, str, str], FileColumn | str] = {}

    def run(self) -> Report:
        """Do it.

        Raises:
            ConfigurationError: no such run, or it changed no texts.
            PreflightError: a right on the journal is missing, or the database takes no writes.
            LeaseHeldError: a run is at work on this database.
        """
        options = self._options
        with connected(self._application, options.journal, options.journal_schema) as (database, journal):
            undone = journal.runs.find(self._wanted)
            if undone.kind != LinksJob.kind:
                raise ConfigurationError(f"{undone.id} is a {undone.kind}, and changed no addresses")
            facts = _Facts(database=database, journal=journal, undone=undone)
            if options.dry_run:
                return self.execute(facts, None)
            check_rights([], journal)
            with self.hold_lease(journal, options.lease_ttl):
                return self.execute(facts, journal)

    def describe(self, facts: _Facts) -> JobDescription:
        """See :meth:`Job.describe`."""
        undone = facts.undone
        return JobDescription(
            run=new_run_id(), source=undone.destination, destination=undone.source, strategy=Strategy(undone.way),
            reason=f"undo of {undone.id}: texts get their old addresses back", dry_run=self._options.dry_run,
        )  # fmt: skip

    def work(self, facts: _Facts) -> str:
        """Put the texts back."""
        for batch in facts.journal.links.open_rows(facts.undone.id, BATCH_ROWS):
            self.context.checkpoint()
            read = partial(self._plan_all, facts, batch)
            for restore in facts.database.transaction(read):
                self._restore(facts, restore)
        return "completed"

    def count_repointed_rows(self, facts: _Facts) -> int:
        """Return how many texts were put back so far."""
        del facts
        return self._restored

    def next_command(self, report: Report) -> str:
        """See :meth:`Job.next_command`."""
        done = report.state == "completed" or (
            report.state == "planned" and not report.counts.get(OutcomeKind.REVERTED)
        )
        return "" if done else f"migrate-storage revert {self._wanted}"

    def _open(self, facts: _Facts, record: LinkRecord) -> FileColumn | str:
        name = (record.column.schema, record.column.table, record.column.column)
        if name not in self._columns:
            update = not self._options.dry_run
            self._columns[name] = open_text_column(facts.database, record.column, ValueKind.TEXT, update=update)
        return self._columns[name]

    def _plan_all(
        self, facts: _Facts, groups: Sequence[Sequence[LinkRecord]], connection: Connection
    ) -> list[_Restore]:
        return [self._plan(facts, group, connection) for group in groups]

    def _plan(self, facts: _Facts, records: Sequence[LinkRecord], connection: Connection) -> _Restore:
        """What becomes of one row, by its records, the newest first."""
        first = records[0]
        rows = self._open(facts, first)
        if isinstance(rows, str):
            return _Restore(
                kind=OutcomeKind.FAILED, rows=None, record=first, reason=f"its column cannot be changed: {rows}"
            )
        try:
            now = rows.compare_and_swap.read(connection, first.pk)
        except RefusedError as error:
            return _Restore(kind=OutcomeKind.FAILED, rows=rows, record=first, reason=error.reason)
        if now is None:
            return _Restore(kind=OutcomeKind.MODIFIED, rows=rows, record=first, reason=ROW_GONE)
        plan = _Restore(kind=OutcomeKind.UNCHANGED, rows=rows, record=first, now=now, value=now)
        for record in records:
            if digest_text(plan.value) == record.new_digest:
                plan.value = record.restore(plan.value)
                if digest_text(plan.value) != record.old_digest:
                    return _Restore(kind=OutcomeKind.FAILED, rows=rows, record=record, reason=BROKEN)
            elif digest_text(plan.value) != record.old_digest:
                plan.kind, plan.reason = OutcomeKind.MODIFIED, ROW_CHANGED
                return plan
            plan.undone.append(record.id)
        plan.kind = OutcomeKind.REVERTED if plan.value != now else OutcomeKind.UNCHANGED
        return plan

    def _restore(self, facts: _Facts, restore: _Restore) -> None:
        if not self._options.dry_run and restore.undone:
            try:
                if not self._commit(facts, restore):
                    restore.kind, restore.reason = OutcomeKind.MODIFIED, ROW_CHANGED
            except RefusedError as error:
                restore.kind, restore.reason = OutcomeKind.FAILED, error.reason
        self._restored += restore.kind is OutcomeKind.REVERTED
        record, done = restore.record, restore.kind.done
        path = record.paths[0] if record.paths else ""
        self.context.stats.add_outcome(
            Outcome(
                kind=restore.kind, source=Location(record.backend, path), reason="" if done else restore.reason,
                destination=Location(facts.undone.source, path) if done else Location("", ""),
                refs=(RowRef(restore.rows.column if restore.rows else record.column, record.pk),),
            )
        )  # fmt: skip

    def _commit(self, facts: _Facts, restore: _Restore) -> bool:
        """Update the row and mark its records; return whether the row was as it was read."""
        database, journal, rows = facts.database, facts.journal, restore.rows
        assert rows is not None

        def swap(connection: Connection) -> bool:
            if restore.value == restore.now:
                return True
            return rows.compare_and_swap.swap(connection, restore.record.pk, restore.now, restore.value).done

        def mark(connection: Connection) -> None:
            journal.links.set_states(connection, restore.undone, LinkState.REVERTED)

        if journal.database is database:

            def swap_and_mark(connection: Connection) -> bool:
                done = swap(connection)
                if done:
                    mark(connection)
                return done

            return database.transaction(swap_and_mark)
        # After a kill between the two the text is back: the next revert reads it, and marks its records.
        done = database.transaction(swap)
        if done:
            journal.database.transaction(mark)
        return done


def kind_of_run(application: Application, options: RevertOptions, run: str) -> str:
    """Return the kind of the job with an id, or the beginning of it.

    Raises:
        ConfigurationError: there is no such job, or there are several.
    """
    with connected(application, options.journal, options.journal_schema) as (_, journal):
        return journal.runs.find(run).kind
