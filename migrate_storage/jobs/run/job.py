"""The main job: copy and verify every object that rows name under one backend key, and re-point the rows."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any

from migrate_storage.application.application import Application, load_application
from migrate_storage.core.census import Census
from migrate_storage.core.errors import ConfigurationError, RunError
from migrate_storage.core.events import Listener, silent
from migrate_storage.core.model import Location, Note, Outcome, OutcomeKind, Severity, Strategy
from migrate_storage.database.connection import Database
from migrate_storage.database.load_monitor import LoadMonitor
from migrate_storage.engine.existing_objects import ExistingObjects
from migrate_storage.engine.known_losses import KnownLosses
from migrate_storage.engine.object_copier import ObjectCopier
from migrate_storage.engine.plan import MigrationPlan
from migrate_storage.engine.recorder import DryRunRecorder, RunRecorder, ShardRecorder, temporary_journal
from migrate_storage.engine.recovery import recover_intents
from migrate_storage.engine.scheduler import RunControl, Scheduler, SchedulerOptions
from migrate_storage.jobs.base import Job, JobDescription
from migrate_storage.jobs.census import check_options, latest_census, search
from migrate_storage.jobs.connections import connected
from migrate_storage.jobs.context import JobPace
from migrate_storage.jobs.distributed.merge_reports import count_journaled
from migrate_storage.jobs.distributed.shard import ShardedJob, ShardRun
from migrate_storage.jobs.distributed.shards import ShardRef, cut_rows, plan_of
from migrate_storage.jobs.run.estimate import estimate
from migrate_storage.jobs.run.final_check import rows_repointed_to
from migrate_storage.jobs.run.manifest import ManifestFile
from migrate_storage.jobs.run.naming import check_names, check_same_rule
from migrate_storage.jobs.run.options import RunOptions
from migrate_storage.jobs.run.passes import RunPasses
from migrate_storage.jobs.run.preflight import RunPreflight, examine
from migrate_storage.jobs.run.row_counts import RowCounts
from migrate_storage.jobs.run.session import RunSession
from migrate_storage.journal import Journal, RunRecord, new_run_id
from migrate_storage.journal.version_tables import note_alembic
from migrate_storage.reporting import Estimate, Report
from migrate_storage.reporting.report import MAX_PROBLEMS

__all__ = ("RunJob",)

_PLAN_WORDS = {"fail": "refuse"}
"""Values of options that have another word in the plans of shards, so that a job of an earlier version is resumed."""
MIN_EARLY_CENSUS_SECONDS = 0.5
"""Seconds that a wait must have left for a census to be begun in it."""


class RunJob(Job[RunPasses]):
    """One migration of an application's rows from one backend key to another.

    Args:
        application: what to migrate: see :func:`migrate_storage.application.application.load_application`.
        options: how.
        listener: called with each event, one at a time.
        part: which shard of a run that several processes share this one does; ``None`` where it does all.
    """

    kind = "run"

    def __init__(
        self,
        application: Application,
        options: RunOptions,
        listener: Listener = silent,
        *,
        part: ShardRef | None = None,
    ) -> None:
        super().__init__(listener, JobPace.from_options(options), part=part)
        self._application, self._options = application, options
        #: Missing objects so far, and whether each row that names one is marked as a known loss.
        self._losses: dict[Location, bool] = {}
        #: What single copies did not preserve, by their source.
        self._not_preserved: dict[Location, str] = {}
        self._estimate: Estimate | None = None
        #: What a plan wrote to its manifest, and what it left out.
        self._manifest_notes: list[Note] = []
        #: The search of the whole database: of a run at its end, of a plan the latest one.
        self._census: Census | None = None
        #: The search that was made during the wait for late writes, and when the run had written last before it.
        self._early_census: tuple[Census, float | None] | None = None
        self._tried_early_census = False
        #: Whether the destination answered a request otherwise than a probe showed.
        self._contradicted = False

    @classmethod
    def for_app(
        cls, spec: str, *, source: str, destination: str | None = None, listener: Listener = silent, **options: Any
    ) -> RunJob:
        """A migration of the application that ``spec`` names, as the command line's ``--app`` does.

        Args:
            spec: ``module`` or ``module:name``.
            source: backend key that rows name now.
            destination: backend key that they shall name; left out, it migrates in place.
            listener: called with each event.
            options: fields of :class:`migrate_storage.jobs.run.options.RunOptions`.
        """
        return cls(load_application(spec), RunOptions(source=source, destination=destination, **options), listener)

    def run(self) -> Report:
        """Do it.

        Returns:
            What was done and what is left; ``exit_code`` says whether a person is needed.

        Raises:
            ConfigurationError: bad options or configuration, found before anything was touched.
            LeaseHeldError: another run is at work on this database.
        """
        options, columns, shared = self._options, self._application.columns, self.part is not None
        with (
            connected(self._application, options.journal, options.journal_schema, shared=shared) as (database, journal),
            self._monitor_load(database) as load,
        ):
            first = not journal.exists
            preflight, losses = self.examine(database, journal), KnownLosses(journal)
            if first:
                preflight = replace(preflight, notes=(*preflight.notes, *note_alembic(journal.database)))

            def execute(
                recorder: RunRecorder, journal: Journal, preflight: RunPreflight = preflight, *, resumed: bool
            ) -> Report:
                session = RunSession(
                    preflight=preflight, recorder=recorder, journal=journal, known_losses=losses, resumed=resumed,
                    row_counts=RowCounts(preflight.rows, preflight.route),
                    scheduler=self._make_scheduler(preflight, recorder, journal, losses),
                )  # fmt: skip
                passes = RunPasses(
                    session, options, self.context, limits=self.run_limits, share=self.share, begin_pass=self.begin_pass,
                    while_settling=partial(self._search_early, session),
                )  # fmt: skip
                return self.execute(passes, journal, load)

            if options.dry_run:
                self._census = self._search(database, journal if journal.exists else None)
                with temporary_journal() as temporary:
                    known = journal if journal.exists else None
                    return execute(DryRunRecorder(temporary, known, database, new_run_id()), temporary, resumed=False)
            journal.prepare()
            self._remember(journal, preflight)

            def execute_shard(share: ShardRun) -> Report:
                if share.closes:
                    recover_intents(journal, database, columns)
                recorder = ShardRecorder(journal, database, share.run, shard=share.number, check=share.check)
                mine = replace(preflight, rows=share.rows(preflight.rows))
                return execute(recorder, journal, mine, resumed=share.bytes_before > 0)

            if self.part is not None:
                return self.run_shard(journal, self._sharded(preflight, journal, database), self.part, execute_shard)
            with self.hold_lease(journal, options.lease_ttl):
                recover_intents(journal, database, columns)
                recorder = RunRecorder(journal, database, new_run_id())
                return execute(recorder, journal, resumed=_continues_earlier(journal, preflight.route))

    def begin(self, ranges: int) -> tuple[str, str]:
        """Join the run of several processes that is under way, or begin one, cut into so many shards; do none of them.

        Returns:
            Its id, and the name of the lease that its driver holds in the run's name.

        Raises:
            ConfigurationError: bad options or configuration, found before anything was touched.
            LeaseHeldError: something else is at work on this database.
        """
        options = self._options
        with connected(self._application, options.journal, options.journal_schema, shared=True) as (database, journal):
            preflight = self.examine(database, journal)
            journal.prepare()
            self._remember(journal, preflight)
            return self.begin_shards(journal, self._sharded(preflight, journal, database), ranges)

    def new_record(
        self, run: str, began: float, source: str, destination: str, strategy: Strategy = Strategy.IN_PLACE
    ) -> RunRecord:
        """See :meth:`Job.new_record`."""
        return replace(super().new_record(run, began, source, destination, strategy), renaming=self._options.rename)

    def describe(self, facts: RunPasses) -> JobDescription:
        """See :meth:`Job.describe`."""
        session, options = facts.session, self._options
        preflight, expected = session.preflight, session.row_counts.expected
        return JobDescription(
            run=session.run, source=preflight.route.source.key, destination=preflight.route.destination.key,
            strategy=preflight.route.strategy, reason=preflight.route.reason, dry_run=options.dry_run, resumed=session.resumed,
            rows=min(expected, options.limit or expected, options.sample if facts.takes_sample else expected),
            notes=(*preflight.notes, *preflight.not_preserved),
        )  # fmt: skip

    def work(self, facts: RunPasses) -> str:
        """Make the passes; after those of a dry run, estimate what the run would take."""
        session, options, finished = facts.session, self._options, False
        try:
            state = facts.run()
            if options.dry_run and state in ("completed", "limit_reached"):
                read = facts.rows_sampled / session.row_counts.expected if facts.rows_sampled else 1.0
                route = session.preflight.route
                self._estimate = estimate(route, session.journal, session.run, options, self.context, share=read)
                if options.manifest is not None:
                    self._manifest_notes = ManifestFile(route, options).write(session.journal, session.run)
            finished = state == "completed"
            if finished and not options.dry_run and (self.share is None or self.share.closes):
                # At the end: what it finds must be true when the report is read, and before the run every row names the key.
                self._census = self._reuse_census(session) or self._search(
                    session.preflight.rows[0].database, session.journal
                )
        finally:
            if not finished:
                self.context.stop.set()
            session.scheduler.close()
            self._forget_contradicted(session)
        return state

    def count_repointed_rows(self, facts: RunPasses) -> int:
        """Return how many rows were re-pointed so far."""
        return facts.session.scheduler.rows_repointed

    def complete(self, facts: RunPasses, report: Report) -> Report:
        """Add the rows that are left, the objects as the journal counts them, and what a dry run estimated."""
        session, counts = facts.session, facts.session.row_counts
        rows_remaining = counts.left() if self._counts_rows_left(session.preflight.route, report.state) else None
        narrowed = self._find_narrowing()
        if rows_remaining is not None and self._census is not None and not narrowed:
            # A row may have been written since they were counted.
            rows_remaining = max(rows_remaining, self._census.known(report.source))
        return replace(
            self._count_objects(session, report), rows_remaining=rows_remaining, rows_excluded=facts.rows_excluded,
            rows_known_missing=counts.lost(session.known_losses) if rows_remaining and session.known_losses else 0,
            not_preserved=(*session.preflight.not_preserved, *self._note_not_preserved()), notes=(*session.preflight.notes, *self._manifest_notes), estimate=self._estimate,
            sample=(facts.rows_sampled, counts.expected) if facts.rows_sampled else None,
            elsewhere=tuple(map(str, self._application.elsewhere)),
            hidden_rows=tuple(dict.fromkeys(rows.column.table for rows in session.preflight.rows if rows.hides_rows)),
            census=self._census, narrowed=narrowed, rechecked=facts.rechecked,
        )  # fmt: skip

    def next_command(self, report: Report) -> str:
        """See :meth:`Job.next_command`."""
        options = self._options
        if report.dry_run or report.exit_code:
            to = f" --to {options.destination}" if options.destination else ""
            rename = f" --rename {shlex.quote(options.rename)}" if options.rename is not None else ""
            recheck = " --recheck" if options.recheck else ""
            return f"migrate-storage run --from {options.source}{to}{rename}{recheck}"
        return "migrate-storage report"

    def _search(self, database: Database, journal: Journal | None, *, until: float | None = None) -> Census | None:
        options = self._options
        if options.dry_run and not options.census:
            return latest_census(journal, options.source)
        return search(
            database, self._application.known_columns, (options.source,), options, self.context, journal, until=until
        )

    def _search_early(self, session: RunSession, until: float) -> None:
        """Take the census during the first wait for late writes. If that is too short, it is taken at the end as well."""
        options, too_short = self._options, until - time.monotonic() < MIN_EARLY_CENSUS_SECONDS
        leaves_rows = options.copy_only or options.keep_rows or self._find_narrowing()
        if self._tried_early_census or self.share is not None or too_short or leaves_rows:
            return
        self._tried_early_census, written = True, session.scheduler.last_written
        try:
            census = self._search(session.preflight.rows[0].database, session.journal, until=until)
        except RunError:
            return  # the time is over, or the database failed: the census at the end reports it
        self._early_census = None if census is None else (census, written)

    def _reuse_census(self, session: RunSession) -> Census | None:
        """Return the early census, unless the run wrote since, or a row was found that may have been written since."""
        if self._early_census is None:
            return None
        census, written = self._early_census
        unchanged = written == session.scheduler.last_written and not census.known(self._options.source)
        return census if unchanged else None

    def _find_narrowing(self) -> tuple[str, ...]:
        """Name the options that restrict the rows."""
        options, application = self._options, self._application
        chosen = application.select(options.columns)
        left_out = set(application.known_columns) - set(chosen)
        given = {
            "--where": options.where,
            "--include": options.include,
            "--exclude": options.exclude,
            "--columns": left_out,
        }
        return tuple(name for name, value in given.items() if value)

    def examine(self, database: Database, journal: Journal, *, probe_all: bool = False) -> RunPreflight:
        """Make the pre-flight alone.

        Args:
            database: of the rows, connected.
            journal: its tables may be missing.
            probe_all: probe also what an earlier run has probed within the last hour.

        Raises:
            ConfigurationError: what would keep the run from beginning.
        """
        options, context = self._options, self.context
        check_options(database, options)
        if options.destination is not None:
            check_same_rule(journal, options)
        preflight = examine(
            self._application, options, database, journal, context.retry, context.limits, probe_all=probe_all
        )
        if preflight.route.rename is None or (self.part is not None and self.part.run):
            return preflight  # the process that began the shards has checked the names
        known = journal if journal.exists else None
        names = check_names(preflight, known, options, context.copy_resources(options.max_memory), context.stop)
        return replace(preflight, notes=(*preflight.notes, names))

    @staticmethod
    def _remember(journal: Journal, preflight: RunPreflight) -> None:
        """Write down the capabilities that were probed just now."""
        if preflight.store_id is not None and not preflight.remembered:
            journal.capabilities.save(preflight.store_id, preflight.capabilities)

    def _forget_contradicted(self, session: RunSession) -> None:
        """Let the next run probe the destination, where a request was answered otherwise than the probe showed."""
        preflight = session.preflight
        distrusts = (
            preflight.sights is not None and preflight.sights.destination.trusted != preflight.capabilities.listing
        )
        if preflight.store_id is not None and (self._contradicted or distrusts):
            # The database may be what ended the run; its record ends by itself.
            with suppress(RunError):
                session.journal.capabilities.forget(preflight.store_id)

    def _note_contradiction(self, message: str) -> None:
        self._contradicted = True
        self.context.note_contradiction(message)

    @contextmanager
    def _monitor_load(self, database: Database) -> Iterator[LoadMonitor]:
        """Monitor the load of the database and of its replicas while the block runs."""
        options = self._options
        with ExitStack() as stack:
            replicas = [stack.enter_context(closing(Database(url))) for url in options.replicas]
            load = LoadMonitor(
                database, query=options.throttle_query, max_lag=options.max_replica_lag, replicas=replicas
            )
            load.check()
            yield load

    def _sharded(self, preflight: RunPreflight, journal: Journal, database: Database) -> ShardedJob:
        options, plan = self._options, preflight.route
        if options.recheck:
            raise ConfigurationError("--recheck checks each copy once: do it with one process, after the run")
        if options.limit is not None or options.dry_run:
            flag = "--dry-run" if options.dry_run else "--limit"
            raise ConfigurationError(f"{flag} goes through the rows in order: leave it out, or do it with one process")
        digest = plan_of(
            "run", options.source, options.destination, options.columns, options.where, options.include,
            options.exclude, _PLAN_WORDS.get(options.invalid_keys, options.invalid_keys), options.copy_only,
            options.keep_rows, *(() if options.rename is None else (options.rename,)),
        )  # fmt: skip

        return ShardedJob(
            lease="engine", seconds=options.lease_ttl, plan=digest, limits=self.pace, ends=True,
            line=partial(self.new_record, source=plan.source.key, destination=plan.destination.key, strategy=plan.strategy),
            cut=partial(cut_rows, preflight.rows),
            before=partial(recover_intents, journal, database, self._application.columns),
        )  # fmt: skip

    def _make_scheduler(
        self, preflight: RunPreflight, recorder: RunRecorder, journal: Journal, losses: KnownLosses
    ) -> Scheduler:
        options, context = self._options, self.context
        capabilities = preflight.capabilities
        resources = replace(context.copy_resources(options.max_memory), on_contradiction=self._note_contradiction)
        # A dry run does not probe what the destination keeps.
        keeps = capabilities.attributes or options.dry_run
        copier = ObjectCopier(
            preflight.route, capabilities, resources, dry_run=options.dry_run, listings=preflight.sights,
            existing=ExistingObjects(preflight.route, resources, keeps_attributes=keeps),
            remembered=preflight.remembered,
        )  # fmt: skip
        keep_rows = options.copy_only or options.keep_rows
        return Scheduler(
            copier, recorder,
            options=SchedulerOptions(keep_rows=keep_rows, dry_run=options.dry_run, shutdown_seconds=options.shutdown_timeout),
            control=RunControl(limiter=context.limiter, stopping=context.stop, limit_reached=lambda: self.run_limits.spent),
            earlier_rows=partial(rows_repointed_to, preflight.rows, journal),
            on_outcome=partial(self._report_outcome, losses), on_copied=context.stats.add_copied,
        )  # fmt: skip

    def _report_outcome(self, losses: KnownLosses, outcome: Outcome) -> None:
        """Report an outcome; a missing object is known as such only where each row that names it is marked."""
        if outcome.kind is not OutcomeKind.MISSING:
            self._losses.pop(outcome.source, None)
            if outcome.kind.done and outcome.reason and len(self._not_preserved) < MAX_PROBLEMS:
                self._not_preserved[outcome.source] = outcome.reason
        elif losses:
            known, before = losses.mark_known(outcome), self._losses.get(outcome.source, True)
            all_marked = self._losses[outcome.source] = known.kind is OutcomeKind.KNOWN_MISSING and before
            outcome = known if all_marked else outcome
        self.context.stats.add_outcome(outcome)

    def _note_not_preserved(self) -> Iterator[Note]:
        todo = "set it on the copy in printable ASCII; the source keeps it until it is purged"
        for source, reason in self._not_preserved.items():
            yield Note(
                severity=Severity.WARNING, code="not-preserved.object", subject=str(source), message=reason, todo=todo
            )

    def _count_objects(self, session: RunSession, report: Report) -> Report:
        """Count objects by outcome and by evidence from the journal: there an object counts once, in however many passes."""
        shard = self.share.number if self.share is not None else None
        # A run may have failed because of the journal's database.
        with suppress(*((RunError,) if report.state == "failed" else ())):
            counts, proofs = count_journaled(session.journal, session.run, sum(self._losses.values()), shard)
            return replace(report, counts=counts, verified_by=proofs)
        return report

    def _counts_rows_left(self, plan: MigrationPlan, state: str) -> bool:
        """Whether the number of rows that still name the source means anything."""
        if self._options.dry_run or state == "failed" or plan.strategy in (Strategy.IN_PLACE, Strategy.MIRROR):
            return False
        return self.share is None or self.share.closes


def _continues_earlier(journal: Journal, plan: MigrationPlan) -> bool:
    return bool(journal.runs.between("run", plan.source.key, plan.destination.key))
