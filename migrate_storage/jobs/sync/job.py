"""Make one store equal to another: copy and verify what is missing or different, and delete what is extraneous.

Two listings take the place of the rows of a run; objects are copied and verified as by ``run``.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import astuple, dataclass, replace
from functools import partial
from typing import Any

from migrate_storage.application.application import Application
from migrate_storage.core.errors import ConfigurationError, RunError
from migrate_storage.core.events import Listener, silent
from migrate_storage.core.model import OutcomeKind, Strategy
from migrate_storage.cutover.resolved import sides_of
from migrate_storage.database.connection import Database
from migrate_storage.database.load_monitor import LoadMonitor
from migrate_storage.engine.object_copier import ObjectCopier
from migrate_storage.engine.recorder import temporary_journal
from migrate_storage.engine.references import ServiceIdentity
from migrate_storage.engine.transfer import CopyResources
from migrate_storage.jobs.base import Job, JobDescription
from migrate_storage.jobs.census import refuse_where_named
from migrate_storage.jobs.connections import all_rows, journaled
from migrate_storage.jobs.context import JobPace
from migrate_storage.jobs.cutovers import refuse_unregistered_cutovers
from migrate_storage.jobs.distributed.shard import ShardedJob, ShardRun
from migrate_storage.jobs.distributed.shards import ShardRef, plan_of, uncut
from migrate_storage.jobs.sync.backup import BackupCopier
from migrate_storage.jobs.sync.options import SyncOptions
from migrate_storage.jobs.sync.preflight import SyncPreflight, between, refuse_nested
from migrate_storage.jobs.sync.reconcile import Reconciler
from migrate_storage.journal import Journal, digest, new_run_id
from migrate_storage.reporting import Report
from migrate_storage.stores.listing import IncompleteError
from migrate_storage.stores.resolved_backend import ResolvedBackend

__all__ = ("SyncJob",)


@dataclass(frozen=True, kw_only=True)
class _Facts:
    run: str
    preflight: SyncPreflight
    #: From the destination to the backup; ``None`` where there is none.
    backup: SyncPreflight | None
    #: Database of the rows; ``None`` where there is no application.
    database: Database | None
    resumed: bool
    #: Entered while objects are deleted: excludes runs and purges of the same rows.
    exclude_runs: Callable[[], AbstractContextManager[object]] = nullcontext


class SyncJob(Job[_Facts]):
    """One sync of two stores.

    Args:
        source: a storage backend, see :func:`migrate_storage.application.endpoints.backend_at`.
        destination: another one, which obstore reaches.
        options: how.
        application: its rows protect objects at the destination, and its database has the journal; ``None`` where there
            is none.
        listener: called with each event, one at a time.
        part: the shard of the keys' digests that this one does, where several processes share the sync; ``None`` does
            all.
        backup: a third storage backend, which keeps what is replaced or deleted, below the sync's id; ``None`` keeps nothing.
    """

    kind = "sync"

    def __init__(
        self,
        source: Any,
        destination: Any,
        options: SyncOptions,
        *,
        application: Application | None = None,
        listener: Listener = silent,
        part: ShardRef | None = None,
        backup: Any = None,
    ) -> None:
        super().__init__(listener, JobPace.from_options(options), part=part)
        limits = self.context.limits
        self._options, self._application = options, application
        self._source, self._destination = (
            ResolvedBackend(each, pace=limits, opaque_etags=each.key in options.opaque_etags)
            for each in (source, destination)
        )
        self._backup = ResolvedBackend(backup, pace=limits) if backup is not None else None
        if backup is not None and options.watch is not None:
            raise ConfigurationError(
                "--watch may replace an object twice, --backup-dir keeps one of each: give one of them"
            )
        self._lease = f"sync-{digest(self._source.key, self._destination.key)}"

    def run(self) -> Report:
        """Do it.

        Returns:
            What was done and what is left; ``exit_code`` says whether a person is needed.

        Raises:
            ConfigurationError: bad options or configuration, found before anything was touched.
            LeaseHeldError: another sync of the same two stores is at work.
        """
        options = self._options
        shared = self.part is not None
        with journaled(self._application, options.journal, options.journal_schema, shared=shared) as (
            database,
            journal,
        ):
            retry, dry_run = self.context.retry, options.dry_run
            facts = partial(
                _Facts, database=database, backup=self._examine_backup(),
                preflight=between(self._source, self._destination, retry, options.preservation, dry_run=dry_run),
            )  # fmt: skip
            self._refuse_unknown_rows(database)
            if options.dry_run and self.part is None:
                with temporary_journal() as temporary:
                    load = LoadMonitor(database or temporary.database)
                    return self.execute(facts(run=new_run_id(), resumed=False), temporary, load)
            journal.prepare()
            load = LoadMonitor(database or journal.database)
            exclude_runs = partial(self.hold_lease, journal, options.lease_ttl)

            def sync_shard(share: ShardRun) -> Report:
                excluding = partial(exclude_runs, owner=share.run) if self._application else nullcontext
                resumed = share.bytes_before > 0
                return self.execute(facts(run=share.run, resumed=resumed, exclude_runs=excluding), journal, load)

            if self.part is not None:
                return self.run_shard(journal, self._sharded(), self.part, sync_shard)
            with self.hold_lease(journal, options.lease_ttl, name=self._lease):
                excluding = exclude_runs if self._application else nullcontext
                resumed = self._continues_earlier(journal)
                return self.execute(facts(run=new_run_id(), resumed=resumed, exclude_runs=excluding), journal, load)

    def _examine_backup(self) -> SyncPreflight | None:
        """Check the store of the backups, which must be apart from both sides."""
        if self._backup is None:
            return None
        retry, dry_run = self.context.retry, self._options.dry_run
        refuse_nested(self._source, self._backup, retry, dry_run=dry_run)
        return between(self._destination, self._backup, retry, dry_run=dry_run)

    def _refuse_unknown_rows(self, database: Database | None) -> None:
        """Refuse to delete where rows that no model has may name an object at the destination."""
        if not self._options.delete or self._application is None or database is None:
            return
        sides = sides_of(self._application.backends)
        refuse_unregistered_cutovers([database], sides, "nothing was deleted")
        services = ServiceIdentity([*sides.values(), self._destination])
        if keys := services.keys_at([self._destination], sides):
            with all_rows(self._application, database) as everywhere:
                refuse_where_named(
                    everywhere, self._application, keys, self._options, "nothing was deleted", self.context, None
                )

    def begin(self, ranges: int) -> tuple[str, str]:
        """Join the sync of several processes that is under way, or begin one, cut into so many shards; do none of them.

        Returns:
            Its id, and the name of the lease that its driver has in its name.
        """
        options = self._options
        with journaled(self._application, options.journal, options.journal_schema, shared=True) as (_, journal):
            journal.prepare()
            return self.begin_shards(journal, self._sharded(), ranges)

    def describe(self, facts: _Facts) -> JobDescription:
        """See :meth:`Job.describe`."""
        by = self._options.by or "size, then digest or time"
        return JobDescription(
            run=facts.run, source=self._source.key, destination=self._destination.key, strategy=Strategy.MIRROR,
            reason=f"compared by {by}{', extra ones deleted' if self._options.delete else ''}",
            dry_run=self._options.dry_run, resumed=facts.resumed, notes=facts.preflight.notes,
        )  # fmt: skip

    def complete(self, facts: _Facts, report: Report) -> Report:
        """Add what copies do not take over from the source."""
        return replace(report, not_preserved=facts.preflight.not_preserved)

    def work(self, facts: _Facts) -> str:
        """Make one pass, or with ``watch`` pass after pass."""
        context, reconciler = self.context, self._make_reconciler(facts)
        try:
            while True:
                context.limiter.wait()
                number = self.begin_pass()
                context.stats.send(reconciler.run_pass(quiet=number > 1, exclude_runs=facts.exclude_runs))
                if context.stop.is_set():
                    return "interrupted"
                if self.run_limits.spent:
                    return "limit_reached"
                if self._options.watch is None:
                    return "completed"
                if context.stop.wait(self._options.watch):
                    return "interrupted"
        except IncompleteError as failure:
            raise RunError(f"{failure}; nothing was deleted: run the same command again to resume") from failure

    def next_command(self, report: Report) -> str:
        """See :meth:`Job.next_command`."""
        acts = any(report.counts.get(kind) for kind in (OutcomeKind.COPIED, OutcomeKind.DELETED))
        if report.state == "planned" and not acts:
            return ""
        command = "check" if report.state == "completed" and not self._options.dry_run else "sync"
        return f"migrate-storage {command} {self._source.key} {self._destination.key}"

    def _make_reconciler(self, facts: _Facts) -> Reconciler:
        resources = self.context.copy_resources(self._options.max_memory)
        copier = self._make_copier(facts.preflight, resources)
        backup = None if facts.backup is None else BackupCopier(self._make_copier(facts.backup, resources), facts.run)
        rows = (self._application, facts.database) if self._application and facts.database else None
        return Reconciler(
            copier, self._options, self.context, is_over=self._is_over, rows=rows,
            is_mine=None if self.share is None else self.share.has, backup=backup,
        )  # fmt: skip

    def _make_copier(self, preflight: SyncPreflight, resources: CopyResources) -> ObjectCopier:
        return ObjectCopier(preflight.route, preflight.capabilities, resources, dry_run=self._options.dry_run)

    def _is_over(self) -> bool:
        """Whether no further object is to be begun."""
        return self.context.stop.is_set() or self.run_limits.spent

    def _sharded(self) -> ShardedJob:
        options = self._options
        if options.watch is not None or options.dry_run:
            raise ConfigurationError(f"{'--watch' if options.watch else '--dry-run'} is for one process")
        if options.delete and not options.max_delete.strip().endswith("%"):
            raise ConfigurationError(
                f"--max-delete {options.max_delete} counts what one process sees: give a share, such as 10%, where several work"
            )
        plan = plan_of(
            "sync", self._source.key, self._destination.key, options.by, options.delete, options.max_delete,
            options.min_age, options.filters.given, astuple(options.bounds), self._backup and self._backup.key,
        )  # fmt: skip
        return ShardedJob(
            lease=self._lease, seconds=options.lease_ttl, plan=plan, limits=self.pace, cut=uncut, ends=False,
            line=partial(self.new_record, source=self._source.key, destination=self._destination.key, strategy=Strategy.MIRROR),
        )  # fmt: skip

    def _continues_earlier(self, journal: Journal) -> bool:
        """Whether the last sync of the same two stores did not finish."""
        runs = journal.runs.between("sync", self._source.key, self._destination.key)
        return bool(runs) and runs[0].state != "completed"
