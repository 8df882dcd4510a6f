"""The passes of a run: through all rows again and again, until a pass finds nothing new."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from migrate_storage.core.model import OutcomeKind, Strategy
from migrate_storage.core.proofs import SAME_OBJECT_LISTING
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.file_json import Row
from migrate_storage.engine.rekey.batched import BatchedRekey
from migrate_storage.engine.rekey.listing import PrefixListing
from migrate_storage.engine.rekey.postgres import PostgresRekey
from migrate_storage.engine.run_limits import RunLimits
from migrate_storage.jobs.context import JobContext
from migrate_storage.jobs.distributed.shard import ShardRun
from migrate_storage.jobs.run.final_check import recheck_sources
from migrate_storage.jobs.run.options import RunOptions
from migrate_storage.jobs.run.recheck import CopyRecheck
from migrate_storage.jobs.run.row_counts import concerned
from migrate_storage.jobs.run.session import RunSession

__all__ = ("RunPasses",)

SAMPLE_WINDOWS = 50
"""Windows into which the sample of a column is spread."""
MIN_BATCHED_REKEY_ROWS = 1_000
"""With fewer rows, listing both stores first costs more than it saves."""
MAX_PASSES = 100
"""Passes after which a run ends although each found something new: rows are written to the old key faster than moved."""


class RunPasses:
    """Makes the passes of one run.

    Args:
        session: what the run works with.
        options: how.
        context: the job's pace and statistics.
        limits: what the run may do before it ends.
        share: the shard that this process does; ``None`` where it does all.
        begin_pass: announces a pass; returns its number, from 1.
        while_settling: called before each wait for late writes with its end, by the monotonic clock; works at most so long.
    """

    def __init__(
        self,
        session: RunSession,
        options: RunOptions,
        context: JobContext,
        *,
        limits: RunLimits,
        share: ShardRun | None,
        begin_pass: Callable[[], int],
        while_settling: Callable[[float], None],
    ) -> None:
        self.session = session
        self._options, self._context, self._limits, self._share = options, context, limits, share
        self._begin_pass, self._while_settling = begin_pass, while_settling
        self._scheduler, self._plan = session.scheduler, session.preflight.route
        #: Rows that the last pass left out by the patterns of filenames.
        self.rows_excluded = 0
        #: Rows that a dry run read as a sample of all.
        self.rows_sampled = 0
        #: What a recheck of earlier copies did, by word; empty where there was none.
        self.rechecked: Mapping[str, int] = {}

    @property
    def takes_sample(self) -> bool:
        """Whether a dry run reads only a sample of the rows, because there are many."""
        options = self._options
        if options.limit is not None or options.manifest is not None:
            return False
        return options.dry_run and 0 < options.sample < self.session.row_counts.expected

    def run(self) -> str:
        """Make the passes, and recheck what earlier runs copied if that is asked for.

        Returns:
            ``completed``, ``interrupted`` or ``limit_reached``.

        Raises:
            RunError: nothing works any more.
        """
        state = self._make_passes()
        if state != "completed" or not self._options.recheck:
            return state
        self._begin_pass()
        recheck = CopyRecheck(self.session, self._context, self._options.batch_size, self._is_over)
        self.rechecked = recheck.counts
        recheck.run()
        if recheck.counts["copied_again"] and not self._settle():
            recheck_sources(self.session, self._context)
        return "interrupted" if self._context.stop.is_set() else "limit_reached" if self._limits.spent else "completed"

    def _make_passes(self) -> str:
        """Make passes until one finds nothing new, recheck the sources, and make a last pass.

        Returns:
            ``completed``, ``interrupted`` or ``limit_reached``.

        Raises:
            RunError: nothing works any more.
        """
        options, outcomes, stop = self._options, self._scheduler.outcomes, self._context.stop
        rechecked, rows_allowed = False, options.limit
        self._rekey_in_batches()
        while True:
            number = self._begin_pass()
            before, outcomes.first_pass = outcomes.new_outcomes, number == 1
            rows_allowed = self._make_pass(rows_allowed)
            if stop.is_set():
                return "interrupted"
            if rows_allowed == 0 or self._limits.spent:
                return "limit_reached" if self._rows_remain() else "completed"
            again = self._share is not None and self._share.again
            if options.dry_run or (number == 1 and not again and self.session.row_counts.nothing_names()):
                return "completed"
            if outcomes.new_outcomes > before and number < MAX_PASSES:
                rechecked = False
            elif rechecked or number > MAX_PASSES:
                return "completed"
            else:
                if self._settle():
                    return "interrupted"
                if self._plan.strategy is not Strategy.IN_PLACE:
                    recheck_sources(
                        self.session, self._context, self._share.number if self._share is not None else None
                    )
                rechecked = True

    def _settle(self) -> bool:
        """Wait for late writes of those who read a row before it was re-pointed; return whether the run is to end.

        The wait begins with the last row that was written: passes since then that found nothing are a part of it.
        """
        written = self._scheduler.last_written
        until = (time.monotonic() if written is None else written) + self._options.settle_time
        self._while_settling(until)
        return self._context.stop.wait(max(0.0, until - time.monotonic()))

    def _rekey_in_batches(self) -> None:
        """Re-key many rows at a time where that is possible; the passes find the rest."""
        session, options, stats = self.session, self._options, self._context.stats
        rule, [first, *_], expected = session.preflight.rule, session.preflight.rows, session.row_counts.expected
        in_one_database = session.journal.database is first.database and expected >= MIN_BATCHED_REKEY_ROWS
        all_rows = options.limit is None and not options.dry_run and self._share is None
        if rule is None or not in_one_database or not all_rows or session.journal.rekeyed.gives_other_places(rule):
            return

        def go_on() -> bool:
            self._context.limiter.wait()
            return not self._is_over()

        def report(objects: int, rows: int) -> None:
            self._scheduler.rows_repointed += rows
            self._scheduler.mark_written()
            stats.add_outcomes(OutcomeKind.REPOINTED, SAME_OBJECT_LISTING, objects=objects, rows=rows)

        listing = PrefixListing(self._plan, rule, self._context.retry, expected, go_on)
        fitting = [rows for rows in session.preflight.rows if rows.has_unique_key]
        ranges = [
            rows for rows in fitting if rows.database.dialect.repoints_ranges and not rows.facts.intercepts_updates
        ]
        batches = [rows for rows in fitting if rows not in ranges]
        if ranges:
            PostgresRekey(listing, session.journal, session.run).run(ranges, report)
        if batches:
            BatchedRekey(listing, session.journal, session.run).run(batches, report)

    def _make_pass(self, rows_allowed: int | None) -> int | None:
        """Make one pass over all columns; return what is left of the limit of rows."""
        self.rows_excluded = 0
        self._context.limiter.wait()
        for rows, page in self._pages():
            rows_allowed = self._submit_within_limit(rows, page, rows_allowed)
            if rows_allowed == 0 or self._is_over():
                break
            self._context.limiter.wait()
        self._scheduler.finish()
        return rows_allowed

    def _pages(self) -> Iterator[tuple[FileColumn, Sequence[Row]]]:
        """Yield the rows that the run deals with, window by window."""
        first_pass, filters = self._scheduler.outcomes.first_pass, self._plan.filters
        for rows in self.session.preflight.rows:
            if first_pass and not self.session.row_counts.first[rows]:
                continue
            for window in self._windows(rows):
                page = [row for row in window if concerned(rows, row, self._plan)] if filters else window
                self.rows_excluded += len(window) - len(page)
                yield rows, page

    def _submit_within_limit(self, rows: FileColumn, page: Sequence[Row], rows_allowed: int | None) -> int | None:
        """Submit rows as far as the limit allows; return what is left of it."""
        scheduler = self._scheduler
        if rows_allowed is None:
            scheduler.submit_rows(rows, page)
            return None
        while page and rows_allowed and not self._is_over():
            taken, page = page[:rows_allowed], page[rows_allowed:]
            before = scheduler.rows_counted
            scheduler.submit_rows(rows, taken)
            if scheduler.rows_counted - before < len(taken):
                # A row that was listed before counts when it is re-pointed: that is known only when all is done.
                scheduler.finish()
            rows_allowed -= scheduler.rows_counted - before
            self._context.limiter.wait()
        return rows_allowed

    def _windows(self, rows: FileColumn) -> Iterator[list[Row]]:
        options, counts = self._options, self.session.row_counts
        if not self.takes_sample:
            yield from rows.windows(options.source, options.batch_size)
            return
        count = counts.first[rows]
        wanted = math.ceil(options.sample * count / counts.expected)
        size = math.ceil(wanted / SAMPLE_WINDOWS)
        for window in rows.sample_windows(options.source, math.ceil(wanted / size), of=count, size=size):
            self.rows_sampled += len(window)
            yield window

    def _is_over(self) -> bool:
        return self._context.stop.is_set() or self._limits.spent

    def _rows_remain(self) -> bool:
        # A dry run and a copy leave the rows where they are, so rows beyond the limit are counted.
        unmoved = self._options.dry_run or self._options.copy_only
        return self.session.row_counts.more_than((self._options.limit or 0) if unmoved else 0)
