"""The main job: every object that a row names under one backend key is moved, verified, and the row re-pointed."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from migrate_storage.application.application import Application, load_application
from migrate_storage.core.errors import ConfigurationError, RunError, StoppedError
from migrate_storage.core.events import Listener, Noted, PassStarted, RunFinished, RunStarted, silent
from migrate_storage.core.model import Location, Outcome, OutcomeKind, Way
from migrate_storage.database.connection import Database
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.file_json import Row
from migrate_storage.database.load_monitor import LoadMonitor
from migrate_storage.engine.known_losses import KnownLosses
from migrate_storage.engine.memory_budget import MemoryBudget
from migrate_storage.engine.object_copier import ObjectCopier
from migrate_storage.engine.plan import MigrationPlan
from migrate_storage.engine.recorder import DryRunRecorder, RunRecorder, ShardRecorder, temporary_journal
from migrate_storage.engine.recovery import recover_intents
from migrate_storage.engine.rekey.batched import BatchedRekey
from migrate_storage.engine.rekey.listing import PrefixListing
from migrate_storage.engine.rekey.postgres import PostgresRekey
from migrate_storage.engine.scheduler import RunControl, Scheduler, SchedulerOptions
from migrate_storage.engine.transfer import CopyResources
from migrate_storage.jobs.connections import connected
from migrate_storage.jobs.context import JobPace
from migrate_storage.jobs.distributed.shard import ShardedJob
from migrate_storage.jobs.distributed.shards import ShardRef, cut_rows, plan_of
from migrate_storage.jobs.old_base import SharedJob
from migrate_storage.jobs.run.estimate import estimate
from migrate_storage.jobs.run.final_check import recheck_sources, rows_repointed_to
from migrate_storage.jobs.run.options import RunOptions
from migrate_storage.jobs.run.preflight import Facts, examine
from migrate_storage.jobs.run.row_counts import RowCounts, concerned
from migrate_storage.journal import SAME_PLACE_LISTED, Journal, RunRecord, new_run_id
from migrate_storage.reporting import LISTED, Report

__all__ = ("Migration",)

_PARTS = 50
"""Windows into which the sample of a column is spread."""
_MANY = 1_000
"""Rows from which on it is worth while to list everything first."""
_PASSES = 100
"""Passes after which a run ends although each found something new: rows are written to the old key faster than moved."""


class Migration(SharedJob):
    """One migration of an application's rows from one backend key to another.

    Args:
        application: what to migrate: see :func:`migrate_storage.application.application.load_application`.
        options: how.
        listener: called with each event, one at a time.
        part: which range of a run that several processes share this one does; ``None`` where it does all.
    """

    def __init__(
        self,
        application: Application,
        options: RunOptions,
        listener: Listener = silent,
        *,
        part: ShardRef | None = None,
    ) -> None:
        super().__init__(
            listener, part=part, duration=options.max_duration, most=options.max_bytes, concurrency=options.concurrency,
            attempts=options.attempts, bandwidth=options.bandwidth, requests=options.max_requests_per_second,
        )  # fmt: skip
        self._application, self._options = application, options
        self._filtered = 0
        self._known = KnownLosses(None)
        #: Missing objects so far, and whether every row that names one is marked.
        self._losses: dict[Location, bool] = {}
        self._sampled = 0

    @classmethod
    def for_app(
        cls, spec: str, *, source: str, destination: str | None = None, listener: Listener = silent, **options: Any
    ) -> Migration:
        """A migration of the application that ``spec`` names, as the command line's ``--app`` does.

        Args:
            spec: ``module`` or ``module:name``.
            source: backend key that rows name now.
            destination: backend key that they shall name; left out, the swap.
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
        options = self._options
        with (
            connected(self._application, options.journal, options.journal_schema) as (database, journal),
            self._asked(database) as pressure,
        ):
            facts = examine(self._application, options, database, self._retry, self._pace)
            run = new_run_id()
            self._known = KnownLosses(journal)
            if options.dry_run:
                with temporary_journal() as notes:
                    rehearsal = DryRunRecorder(notes, journal if journal.exists else None, database, run)
                    return self._job(facts, rehearsal, notes, pressure, resumed=False)
            journal.prepare()
            if self._part is not None:
                return self._in_part(facts, journal, database, pressure, self._part)
            with self._hold(journal, options.lease):
                recover_intents(journal, database, self._application.columns)
                ledger = RunRecorder(journal, database, run)
                return self._job(facts, ledger, journal, pressure, resumed=_resumes(journal, facts))

    def begin(self, ranges: int) -> tuple[str, str]:
        """Join the run of several processes that is under way, or begin one, cut into so many ranges; do none of them.

        Returns:
            Its id, and the name of the lease that whoever sees to it is to hold in the run's name.

        Raises:
            ConfigurationError: bad options or configuration, found before anything was touched.
            LeaseHeldError: something else is at work on this database.
        """
        options = self._options
        with connected(self._application, options.journal, options.journal_schema) as (database, journal):
            facts = examine(self._application, options, database, self._retry, self._pace)
            journal.prepare()
            return self._begin(journal, self._work(facts, journal, database), ranges)

    def _work(self, facts: Facts, journal: Journal, database: Database) -> ShardedJob:
        """What several processes share."""
        options, route = self._options, facts.route
        if options.limit is not None or options.dry_run:
            what = "--dry-run" if options.dry_run else "--limit"
            raise ConfigurationError(f"{what} goes through the rows in order: leave it out, or do it with one process")
        plan = plan_of(
            "run", options.source, options.destination, options.columns, options.where, options.include,
            options.exclude, options.key_rule, options.copy_only, options.keep_rows,
        )  # fmt: skip
        return ShardedJob(
            lease="engine", seconds=options.lease, plan=plan, limits=JobPace.from_options(options), line=partial(_line, route),
            cut=partial(cut_rows, facts.rows), ends=True,
            before=partial(recover_intents, journal, database, self._application.columns),
        )  # fmt: skip

    def _in_part(
        self, facts: Facts, journal: Journal, database: Database, pressure: LoadMonitor, part: ShardRef
    ) -> Report:
        """Do one range, or what is left to do when all are done."""
        with self._taken(journal, self._work(facts, journal, database), part) as share:
            if share.done:
                return share.found()
            if share.closes:
                recover_intents(journal, database, self._application.columns)
            ledger = ShardRecorder(journal, database, share.run, part=part.number, check=share.check)
            mine = replace(facts, rows=share.rows(facts.rows))
            return self._job(mine, ledger, journal, pressure, resumed=share.bytes_before > 0)

    @contextlib.contextmanager
    def _asked(self, database: Database) -> Iterator[LoadMonitor]:
        """What is asked whether the database needs peace."""
        options = self._options
        with contextlib.ExitStack() as stack:
            replicas = [stack.enter_context(contextlib.closing(Database(url))) for url in options.replicas]
            pressure = LoadMonitor(
                database, query=options.throttle_query, max_lag=options.max_replica_lag, replicas=replicas
            )
            pressure.check()
            yield pressure

    def _ended(self, outcome: Outcome) -> None:
        """Tell an outcome, a loss that is known as such. One that a row names without a mark is a loss like any other."""
        if outcome.kind is not OutcomeKind.MISSING:
            self._losses.pop(outcome.source, None)
        elif self._known:
            known = self._known.mark_known(outcome)
            told = self._losses[outcome.source] = known.kind is OutcomeKind.KNOWN and self._losses.get(
                outcome.source, True
            )
            outcome = known if told else outcome
        self._tally.ended(outcome)

    # -- the job

    def _job(
        self, facts: Facts, ledger: RunRecorder, journal: Journal, pressure: LoadMonitor, *, resumed: bool
    ) -> Report:
        options, route, run, began = self._options, facts.route, ledger.run, time.time()
        census = self._census = RowCounts(facts.rows, route)
        expected = census.expected
        named: dict[str, Any] = {"source": route.source.key, "destination": route.destination.key, "way": route.way}
        share = self._share
        if share is None:
            journal.runs.begin(_line(route, run, began))
        self._tally.tell(
            RunStarted(
                kind="run", run=run, reason=route.reason, dry_run=options.dry_run, resumed=resumed,
                rows=min(expected, options.limit or expected, options.sample if self._takes_sample else expected), **named,
            )
        )  # fmt: skip
        for note in (*facts.notes, *facts.not_carried):
            self._tally.tell(Noted(note=note))
        pipeline = self._pipeline(facts, ledger, journal)
        helm = self._helm(share or journal.runs, run, pressure, lambda: pipeline.rows_repointed)
        state, error, passes = "finished", "", 0
        try:
            with helm.running():
                state, passes = self._passes(pipeline, facts, journal, run)
        except (StoppedError, KeyboardInterrupt):
            state = "stopped"
        except RunError as failure:
            state, error = "failed", str(failure)
        finally:
            if state != "finished":
                self._stopping.set()
            pipeline.close()
        state, error = self._final_state(state, error)
        taking = None
        if options.dry_run and state in ("finished", "limited"):
            try:
                looked_at = self._sampled / expected if self._sampled else 1.0
                taking = estimate(route, journal, run, options, self._retry, self._checkpoint, share=looked_at)
            except StoppedError:
                state = "stopped"
        report = Report(
            run=run, way_reason=route.reason, state="planned" if options.dry_run and state == "finished" else state,
            error=error, dry_run=options.dry_run, resumed=resumed, started=began, finished=time.time(), passes=passes,
            rows_moved=pipeline.rows_repointed, rows_left=census.left() if self._tells_left(route, state) else None, rows_filtered=self._filtered,
            bytes_moved=self._tally.bytes,
            not_carried=facts.not_carried, notes=facts.notes, estimate=taking, evidence=self._tally.evidence,
            listed=self._tally.listed[:LISTED], sample=(self._sampled, expected) if self._sampled else None, counts=self._counts(journal, run, state), **named,
        )  # fmt: skip
        report = replace(report, rows_known=census.lost(self._known) if report.rows_left and self._known else 0)
        report = replace(report, next_command=_next_command(report, options))
        # Where the database itself failed, the run's line says "running" until the next run looks.
        with _forgiving(state):
            if share is not None:
                report = share.finish(report)
            else:
                journal.runs.update(run, state=state, report=json.dumps(report.to_dict()), finished=report.finished)
        self._tally.tell(RunFinished(run=run, state=report.state))
        return report

    def _pipeline(self, facts: Facts, ledger: RunRecorder, journal: Journal) -> Scheduler:
        options = self._options
        resources = CopyResources(
            retry=self._retry, memory=MemoryBudget(options.memory).reserve, on_bytes=self._tally.moved,
            checkpoint=self._checkpoint,
        )  # fmt: skip
        carrier = ObjectCopier(
            facts.route, facts.capabilities, resources, dry_run=options.dry_run, listings=facts.sights
        )
        return Scheduler(
            carrier,
            ledger,
            options=SchedulerOptions(
                keep_rows=options.copy_only or options.keep_rows,
                dry_run=options.dry_run,
                shutdown_seconds=options.grace,
            ),
            control=RunControl(
                limiter=self._gate, stopping=self._stopping, limit_reached=lambda: self._allowance.spent
            ),
            earlier_rows=partial(rows_repointed_to, facts.rows, journal),
            on_outcome=self._ended,
        )

    def _passes(self, pipeline: Scheduler, facts: Facts, journal: Journal, run: str) -> tuple[str, int]:
        """Pass after pass until one finds nothing new; then the last looks, and a last pass after them.

        Returns:
            How it ended, and the number of passes.
        """
        number, settled, left = 0, False, self._options.limit
        self._in_bulk(pipeline, facts, journal, run)
        while True:
            number += 1
            self._tally.tell(PassStarted(number=number))
            before, pipeline.outcomes.first_pass = pipeline.outcomes.new_outcomes, number == 1
            left = self._pass(pipeline, facts, left)
            if self._stopping.is_set():
                return "stopped", number
            if left == 0 or self._allowance.spent:
                return "limited" if self._remain() else "finished", number
            again = self._share is not None and self._share.again
            if self._options.dry_run or (number == 1 and not again and self._census.nothing_names()):
                return "finished", number
            if pipeline.outcomes.new_outcomes > before and number < _PASSES:
                settled = False
            elif settled or number > _PASSES:
                return "finished", number
            else:
                if self._stopping.wait(self._options.settle):
                    return "stopped", number
                if facts.route.way is not Way.SWAP:
                    recheck_sources(
                        pipeline, facts.route, facts.sights, journal, run, self._retry, self._stopping, self._number
                    )
                settled = True

    def _in_bulk(self, pipeline: Scheduler, facts: Facts, journal: Journal, run: str) -> None:
        """What goes many rows at a time comes first; the passes find the rest."""
        options, (rows, *_), expected = self._options, facts.rows, self._census.expected
        together = journal.database is rows.database and expected >= _MANY
        whole = options.limit is None and not options.dry_run and self._share is None
        if facts.rule is None or not together or not whole:
            return

        def turn() -> bool:
            self._gate.wait()
            return not (self._stopping.is_set() or self._allowance.spent)

        def told(objects: int, moved: int) -> None:
            pipeline.rows_repointed += moved
            self._tally.ended_alike(OutcomeKind.REWRITTEN, SAME_PLACE_LISTED, objects=objects, rows=moved)

        way = PostgresRekey if rows.database.dialect.repoints_ranges else BatchedRekey
        roll = PrefixListing(facts.route, facts.rule, self._retry)
        way(roll, journal, run).run(facts.rows, expected, may_continue=turn, on_repointed=told)

    def _pass(self, pipeline: Scheduler, facts: Facts, left: int | None) -> int | None:
        """One pass over all columns; returns what is left of the limit."""
        self._filtered = 0
        self._gate.wait()
        for rows in facts.rows:
            if pipeline.outcomes.first_pass and not self._census.first[rows]:
                continue
            for window in self._windows(rows):
                wanted = [row for row in window if concerned(rows, row, facts.route)] if facts.route.filters else window
                self._filtered += len(window) - len(wanted)
                while True:
                    taken, wanted = (wanted, []) if left is None else (wanted[:left], wanted[left:])
                    counted = pipeline.rows_counted
                    pipeline.submit_rows(rows, taken)
                    if left is not None:
                        if pipeline.rows_counted - counted < len(taken):
                            # Those listed before count when they are re-pointed: known only when all is done.
                            pipeline.finish()
                        left -= pipeline.rows_counted - counted
                    if left == 0 or self._stopping.is_set() or self._allowance.spent:
                        pipeline.finish()
                        return left
                    self._gate.wait()
                    if not wanted:
                        break
        pipeline.finish()
        return left

    @property
    def _takes_sample(self) -> bool:
        """Whether a dry run looks at some of the rows only, for there are many."""
        options = self._options
        return options.dry_run and options.limit is None and 0 < options.sample < self._census.expected

    def _windows(self, rows: FileColumn) -> Iterator[list[Row]]:
        options = self._options
        if not self._takes_sample:
            yield from rows.windows(options.source, options.window)
            return
        count = self._census.first[rows]
        share = math.ceil(options.sample * count / self._census.expected)
        size = math.ceil(share / _PARTS)
        for window in rows.sample_windows(options.source, math.ceil(share / size), of=count, size=size):
            self._sampled += len(window)
            yield window

    @property
    def _number(self) -> int | None:
        """The range that this process does; ``None`` where it does all."""
        return self._share.number if self._share is not None else None

    # -- the report

    def _counts(self, journal: Journal, run: str, state: str) -> Mapping[OutcomeKind, int]:
        """Objects by outcome, from the journal: there an object counts once, however many passes saw it."""
        counts = self._tally.counts
        with _forgiving(state):
            counts = {OutcomeKind(kind): count for kind, count in journal.objects.count(run, self._number).items()}
            if known := sum(self._losses.values()):
                # The journal says what was found; that it was known is the mark's to say.
                counts = {
                    **counts,
                    OutcomeKind.MISSING: counts.get(OutcomeKind.MISSING, 0) - known,
                    OutcomeKind.KNOWN: known,
                }
        return counts

    def _tells_left(self, route: MigrationPlan, state: str) -> bool:
        """Whether the number of rows that still name the source says anything."""
        if self._options.dry_run or state == "failed" or route.way in (Way.SWAP, Way.TAKE_OVER):
            return False
        return self._share is None or self._share.closes

    def _remain(self) -> bool:
        # Of a dry run and of a copy the rows stay where they are: whether there are more is a matter of counting.
        stay = self._options.dry_run or self._options.copy_only
        return self._census.more_than((self._options.limit or 0) if stay else 0)


def _forgiving(state: str) -> contextlib.AbstractContextManager[None]:
    """A run that failed may have failed because of the very database that is to be told."""
    return contextlib.suppress(RunError) if state == "failed" else contextlib.nullcontext()


def _line(route: MigrationPlan, run: str, began: float | None = None) -> RunRecord:
    """The line of a run that begins."""
    began = time.time() if began is None else began
    return RunRecord(
        id=run, kind="run", state="running", started=began, updated=began,
        source=route.source.key, destination=route.destination.key, way=route.way,
    )  # fmt: skip


def _resumes(journal: Journal, facts: Facts) -> bool:
    keys = (facts.route.source.key, facts.route.destination.key)
    return any(run.kind == "run" and (run.source, run.destination) == keys for run in journal.runs.latest())


def _next_command(report: Report, options: RunOptions) -> str:
    to = f" --to {options.destination}" if options.destination else ""
    if report.dry_run or report.exit_code:
        return f"migrate-storage run --from {options.source}{to}"
    return "migrate-storage report"
