"""Search every text of a database for public addresses of objects that runs moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from migrate_storage.application.application import Application
from migrate_storage.core.addresses import AddressFinder
from migrate_storage.core.events import Listener, silent
from migrate_storage.core.links import LinkColumn, LinkFindings
from migrate_storage.core.model import Strategy
from migrate_storage.database.census import CensusScope
from migrate_storage.database.connection import Database
from migrate_storage.database.link_search import FoundColumn, LinkSearch, search_links
from migrate_storage.database.text_columns import open_text_column
from migrate_storage.jobs.base import Job, JobDescription
from migrate_storage.jobs.connections import connected, find_backend
from migrate_storage.jobs.context import JobPace
from migrate_storage.jobs.links.bases import Bases, choose_bases, to_link_base
from migrate_storage.jobs.links.moved import MovedObjects, collect_moved
from migrate_storage.jobs.links.options import LinksOptions
from migrate_storage.journal import Journal, RunRecord, new_run_id
from migrate_storage.journal.schema import Tables
from migrate_storage.reporting import Report
from migrate_storage.stores.resolved_backend import ResolvedBackend

__all__ = ("LinksJob",)

_SAMPLE = 1
"""Moved objects of which the new address is read."""


@dataclass(frozen=True, kw_only=True)
class _Facts:
    database: Database
    journal: Journal
    #: The run that was asked for, or the latest one.
    first: RunRecord
    runs: Sequence[RunRecord]
    moved: MovedObjects


class LinksJob(Job[_Facts]):
    """One search for the addresses of what one run, or all runs between its two keys, moved.

    Args:
        application: its database, and the backends of the run.
        options: what is searched.
        run: id of a run, or the beginning of it; ``None`` means the latest, and every other one between its two keys.
        listener: called with each event.
    """

    kind = "links"

    def __init__(
        self, application: Application, options: LinksOptions, *, run: str | None = None, listener: Listener = silent
    ) -> None:
        super().__init__(listener, JobPace())
        self._application, self._options, self._wanted = application, options, run
        self._findings: LinkFindings | None = None

    def run(self) -> Report:
        """Do it.

        Raises:
            ConfigurationError: no such run, its keys are not registered, or no address is known to search for.
        """
        options = self._options
        with (
            connected(self._application, options.journal, options.journal_schema) as (database, journal),
            MovedObjects() as moved,
        ):
            first = journal.runs.migration_run(self._wanted)
            runs = [first] if self._wanted else journal.runs.migration_runs(first)
            facts = _Facts(database=database, journal=journal, first=first, runs=runs, moved=moved)
            return self.execute(facts, None)

    def describe(self, facts: _Facts) -> JobDescription:
        """See :meth:`Job.describe`."""
        first = facts.first
        return JobDescription(
            run=new_run_id(), source=first.source, destination=first.destination, strategy=Strategy(first.way),
            reason="public addresses of moved objects in texts", read_only=True,
        )  # fmt: skip

    def work(self, facts: _Facts) -> str:
        """Read what was moved, and search for its addresses."""
        collect_moved(facts.moved, facts.journal, facts.first, facts.runs, self.context.checkpoint)
        bases = self._choose_bases(facts)
        search = self._search(facts, bases)
        self._findings = self._make_findings(facts, bases, search, self._find_obstacles(facts, search.columns))
        return "completed"

    def complete(self, facts: _Facts, report: Report) -> Report:
        """Add what was found."""
        del facts
        return replace(report, links=self._findings, elsewhere=tuple(map(str, self._application.elsewhere)))

    def next_command(self, report: Report) -> str:
        """See :meth:`Job.next_command`."""
        run = f" {self._wanted}" if self._wanted else ""
        return "" if report.state == "completed" else f"migrate-storage links{run}"

    def _choose_bases(self, facts: _Facts) -> Bases:
        backends = self._application.backends
        source, destination = (
            ResolvedBackend(find_backend(backends, key)) for key in (facts.first.source, facts.first.destination)
        )
        given = (self._options.from_address, self._options.to_address)
        return choose_bases(source, destination, given, facts.moved.names(), facts.moved.sample(_SAMPLE))

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

    def _find_obstacles(self, facts: _Facts, columns: Sequence[FoundColumn]) -> list[str]:
        """Why the values of each column cannot be changed; empty where they can, or where none has to be."""
        obstacles = []
        for each in columns:
            opened = open_text_column(facts.database, each.table, each.column, update=False) if each.found.moved else ""
            obstacles.append(opened if isinstance(opened, str) else "")
        return obstacles

    def _make_findings(self, facts: _Facts, bases: Bases, search: LinkSearch, obstacles: Sequence[str]) -> LinkFindings:
        columns: dict[str, LinkColumn] = {}
        for each, obstacle in zip(search.columns, obstacles, strict=True):
            found = replace(each.found, obstacle=obstacle)
            columns[str(found)] = columns[str(found)].add(found) if str(found) in columns else found
        options = self._options
        return LinkFindings(
            old=bases.shown, new=None if bases.new is None else to_link_base(bases.new), objects=len(facts.moved),
            tables=search.tables, searched=search.searched, rows=search.rows,
            columns=tuple(columns[name] for name in sorted(columns)),
            narrowed=() if options.census == ("full",) else options.census, hidden=search.hidden,
            hidden_excused=options.visible_tables_only and not facts.database.visible_rows_only,
        )  # fmt: skip
