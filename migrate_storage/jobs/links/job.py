"""Search every text of a database for public addresses of objects that runs moved, and write them anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from migrate_storage.application.application import Application
from migrate_storage.core.addresses import AddressFinder
from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.events import Listener, silent
from migrate_storage.core.links import LinkColumn, LinkFindings
from migrate_storage.core.model import Column, OutcomeKind, Strategy
from migrate_storage.database.census import CensusScope
from migrate_storage.database.connection import Database
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.link_search import FoundColumn, LinkSearch, search_links
from migrate_storage.database.text_columns import open_text_column
from migrate_storage.jobs.base import Job, JobDescription
from migrate_storage.jobs.connections import connected, find_backend
from migrate_storage.jobs.context import JobPace
from migrate_storage.jobs.links.bases import Bases, check_addresses, choose_bases, to_link_base
from migrate_storage.jobs.links.moved import MovedObjects, collect_moved
from migrate_storage.jobs.links.options import LinksOptions
from migrate_storage.jobs.links.rewrite import LinkRewriter, RewriteTarget
from migrate_storage.jobs.rights import check_rights
from migrate_storage.journal import Journal, RunRecord, new_run_id
from migrate_storage.journal.schema import Tables
from migrate_storage.reporting import Report
from migrate_storage.stores.resolved_backend import ResolvedBackend

__all__ = ("LinksJob",)

_SAMPLE = 1
"""Moved objects of which the new address is read."""


@dataclass(frozen=True, kw_only=True)
class _Facts:
    run: str
    #: Whether an earlier process of this run was killed or stopped.
    resumed: bool
    database: Database
    journal: Journal
    #: The run that was asked for, or the latest one.
    first: RunRecord
    runs: Sequence[RunRecord]
    source: ResolvedBackend
    destination: ResolvedBackend
    moved: MovedObjects


class LinksJob(Job[_Facts]):
    """One search for the addresses of what one run, or all runs between its two keys, moved.

    Args:
        application: its database, and the backends of the run.
        options: what is searched, and whether it is changed.
        run: id of a run, or the beginning of it; ``None`` means the latest, and every other one between its two keys.
        listener: called with each event. Each row that is changed is an ``ObjectFinished``.
    """

    kind = "links"

    def __init__(
        self, application: Application, options: LinksOptions, *, run: str | None = None, listener: Listener = silent
    ) -> None:
        super().__init__(listener, JobPace())
        self._application, self._options, self._wanted = application, options, run
        self._search_found: LinkSearch | None = None
        self._bases: Bases | None = None
        self._obstacles: list[str] = []
        self._rewriter: LinkRewriter | None = None

    def run(self) -> Report:
        """Do it.

        Raises:
            ConfigurationError: no such run, its keys are not registered, or no address is known: nothing was changed.
            PreflightError: a right on the journal is missing, or the database takes no writes.
            LeaseHeldError: a run is at work on this database.
        """
        options = self._options
        with (
            connected(self._application, options.journal, options.journal_schema) as (database, journal),
            MovedObjects() as moved,
        ):
            first = journal.runs.migration_run(self._wanted)
            runs = [first] if self._wanted else journal.runs.migration_runs(first)
            source, destination = self._side(first.source), self._side(first.destination)
            if not options.from_address:
                check_addresses(source, "--from-address")
            if options.rewrite and options.to_address is None:
                check_addresses(destination, "--to-address")
            facts = _Facts(
                run=new_run_id(), resumed=False, database=database, journal=journal, first=first, runs=runs, source=source,
                destination=destination, moved=moved,
            )  # fmt: skip
            if not options.acts:
                return self.execute(facts, None)
            _refuse_unfinished(runs[0])
            check_rights([], journal)
            with self.hold_lease(journal, options.lease_ttl):
                return self.execute(_resume(facts), journal)

    def _side(self, key: str) -> ResolvedBackend:
        return ResolvedBackend(find_backend(self._application.backends, key))

    def describe(self, facts: _Facts) -> JobDescription:
        """See :meth:`Job.describe`."""
        first, options = facts.first, self._options
        reason = "public addresses of moved objects in texts"
        if options.rewrite:
            reason = f"{'changes' if options.acts else 'a plan to change'} {reason}"
        return JobDescription(
            run=facts.run, source=first.source, destination=first.destination, strategy=Strategy(first.way),
            reason=reason, resumed=facts.resumed,
            dry_run=options.rewrite and not options.acts, read_only=not options.rewrite,
        )  # fmt: skip

    def work(self, facts: _Facts) -> str:
        """Read what was moved, search for its addresses, and change them where the options ask for it."""
        collect_moved(facts.moved, facts.journal, facts.first, facts.runs, self.context.checkpoint)
        bases = self._bases = self._choose_bases(facts)
        if self._options.rewrite and bases.new is None:
            raise ConfigurationError(
                f"the public address of {facts.destination.key!r} is not known ({bases.reason}): give it with --to-address "
                "https://HOST/PATH/"
            )
        search = self._search_found = self._search(facts, bases)
        opened = [self._open(facts, each) for each in search.columns]
        self._obstacles = [each if isinstance(each, str) else "" for each in opened]
        if self._options.rewrite:
            self._rewrite(
                facts,
                bases,
                [
                    (each, rows)
                    for each, rows in zip(search.columns, opened, strict=True)
                    if isinstance(rows, FileColumn)
                ],
            )
        return "completed"

    def _rewrite(self, facts: _Facts, bases: Bases, columns: Sequence[tuple[FoundColumn, FileColumn]]) -> None:
        assert bases.new is not None
        options, context = self._options, self.context
        target = RewriteTarget(
            run=facts.run, bases=bases.old, new=bases.new, source_key=facts.source.key, destination=facts.destination,
            dry_run=not options.acts, concurrency=options.concurrency,
        )  # fmt: skip
        self._rewriter = LinkRewriter(
            target, facts.moved, facts.journal, context.retry, context.stats.add_outcome, context.checkpoint
        )
        for each, rows in columns:
            if not each.found.excused:
                self._rewriter.rewrite(rows, each.column.kind)

    def count_repointed_rows(self, facts: _Facts) -> int:
        """Return how many rows were changed so far."""
        del facts
        return self._rewriter.rows if self._rewriter is not None and self._options.acts else 0

    def complete(self, facts: _Facts, report: Report) -> Report:
        """Add what was found."""
        elsewhere = tuple(map(str, self._application.elsewhere))
        return replace(report, links=self._make_findings(facts), elsewhere=elsewhere)

    def next_command(self, report: Report) -> str:
        """See :meth:`Job.next_command`."""
        run = f" {self._wanted}" if self._wanted else ""
        rewrite = " --rewrite" if self._options.rewrite else ""
        yes = " --yes" if self._options.acts else ""
        if report.state not in ("completed", "planned"):
            return f"migrate-storage links{run}{rewrite}{yes}"
        if self._options.acts:
            return f"migrate-storage links{run}"
        if report.links is None or not any(
            each.moved and not each.obstacle and not each.excused for each in report.links.columns
        ):
            return ""
        if self._options.rewrite:
            changes = report.counts.get(OutcomeKind.REPOINTED)
            return f"migrate-storage links{run} --rewrite --yes" if changes else ""
        return f"migrate-storage links{run} --rewrite"

    def _choose_bases(self, facts: _Facts) -> Bases:
        given = (self._options.from_address, self._options.to_address)
        return choose_bases(facts.source, facts.destination, given, facts.moved.names(), facts.moved.sample(_SAMPLE))

    def _search(self, facts: _Facts, bases: Bases) -> LinkSearch:
        options, database = self._options, facts.database
        known = [(each.schema, each.table, each.column) for each in self._application.known_columns]
        translated = [(database.schema(schema), table, column) for schema, table, column in known]
        scope = CensusScope(
            keys=(), known=frozenset((*known, *translated)),
            leave_out=frozenset(table.name for table in Tables().metadata.tables.values()),
            tables=() if options.census == ("full",) else options.census, excused=options.excused,
            hidden_excused=options.visible_tables_only, rate=options.census_rate,
        )  # fmt: skip
        finder = AddressFinder(bases.old, facts.moved)
        return search_links(
            database, scope, bases.old, finder, wait=self.context.stop.wait, send=self.context.stats.send
        )

    def _open(self, facts: _Facts, found: FoundColumn) -> FileColumn | str:
        """Open a column that has to be changed; else the reason why it cannot be, which is empty where nothing has to."""
        if not found.found.moved:
            return ""
        column = Column(table=found.table.table, column=found.column.name, schema=found.table.schema, key=())
        update = self._options.acts and not found.found.excused
        return open_text_column(facts.database, column, found.column.kind, update=update)

    def _make_findings(self, facts: _Facts) -> LinkFindings | None:
        search, bases, options = self._search_found, self._bases, self._options
        if search is None or bases is None:
            return None
        columns: dict[str, LinkColumn] = {}
        obstacles = self._obstacles or [""] * len(search.columns)
        for each, obstacle in zip(search.columns, obstacles, strict=True):
            found = replace(each.found, obstacle=obstacle)
            columns[str(found)] = columns[str(found)].add(found) if str(found) in columns else found
        return LinkFindings(
            old=bases.shown, new=None if bases.new is None else to_link_base(bases.new), objects=len(facts.moved),
            tables=search.tables, searched=search.searched, rows=search.rows,
            columns=tuple(columns[name] for name in sorted(columns)), rewrites=options.rewrite,
            rewritten=self._rewriter.addresses if self._rewriter is not None else 0,
            narrowed=() if options.census == ("full",) else options.census, hidden=search.hidden,
            hidden_excused=options.visible_tables_only and not facts.database.visible_rows_only,
        )  # fmt: skip


def _refuse_unfinished(latest: RunRecord) -> None:
    """Refuse to change addresses while a part of the objects may not be moved."""
    if latest.state != "completed":
        raise ConfigurationError(
            f"run {latest.id} is {latest.state.replace('_', ' ')}: finish it with 'migrate-storage run --from {latest.source} --to "
            f"{latest.destination}', so that each address is changed once"
        )


def _resume(facts: _Facts) -> _Facts:
    """Continue the latest job of this kind between the two keys, where it did not end, under its id."""
    runs = facts.journal.runs
    latest = next(iter(runs.between(LinksJob.kind, facts.first.source, facts.first.destination)), None)
    if latest is None or latest.state == "completed":
        return facts
    runs.update(latest.id, state="running", finished=None)
    return replace(facts, run=latest.id, resumed=True)
