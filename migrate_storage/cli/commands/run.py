"""``run``, and ``plan``, which is a run that changes nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from migrate_storage.cli.distributed import Distribution
from migrate_storage.cli.option import command, group, option
from migrate_storage.cli.run_job import Job, run_and_report, run_several
from migrate_storage.cli.run_options import RunRequest
from migrate_storage.cli.shared_options import JobOutput, dry_run_option
from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.events import Listener
from migrate_storage.jobs.run.options import MANIFEST_FORMATS
from migrate_storage.reporting import Report

if TYPE_CHECKING:
    from migrate_storage.application.application import Application
    from migrate_storage.jobs.run.job import RunJob
    from migrate_storage.jobs.run.options import RunOptions
    from migrate_storage.reporting.prices import Prices

__all__ = ("plan", "run")


@dataclass(frozen=True, kw_only=True)
class _MigrationRequest(RunRequest):
    recheck: bool = option(
        is_flag=True, in_file=False,
        help="Check each source and copy of earlier runs again; copy again what changed or is gone, and repair rows.",
    )  # fmt: skip
    distribution: Distribution = group(Distribution)
    dry_run: bool = dry_run_option()
    output: JobOutput = group(JobOutput)


@command(
    _MigrationRequest, "Move the files, verify each, re-point the rows.", "run --app myapp.storage --from old --to new"
)
def run(request: _MigrationRequest) -> object:
    """Move every file that a row names under --from to --to, verify each, and re-point the rows.

    Which of the four strategies it takes (in place, rekey, move, mirror), it decides from the facts, and says. Stopped at
    any moment, the same command goes on where it was.

    Several pairs of keys, --from old=new --from photos=pictures, are done one after the other, each by a run of its own. All are
    checked before the first one begins. The exit code is the worst of all. --limit is for each pair, --max-bytes and --max-duration are for all.

    With --recheck it then checks each copy of earlier runs that a row names, and its source. A copy whose source was replaced, or that is
    gone, is made again. A copy that another program replaced is listed, and stays.
    """
    from migrate_storage.jobs.connections import connected
    from migrate_storage.jobs.run.job import RunJob
    from migrate_storage.jobs.run.workload import measure_workload

    with request.application.opened() as application:
        each = request.options_of_each(application)
        if len(each) > 1:
            request.distribution.refuse_several()
            return run_several(application, each, RunJob, request.output)
        [how] = each
        return request.distribution.run(
            lambda listener, part: RunJob(application, how, listener, part=part), request.output,
            journal=partial(connected, application, how.journal, how.journal_schema),
            lease=how.lease_ttl, grace=how.shutdown_timeout, workload=partial(measure_workload, application, how),
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _PlanRequest(RunRequest):
    probe: int = option(
        metavar="N", type=int, in_file=False, default=20, show_default=True,
        help="Objects to read, to see how fast that goes and whether they are archived; 0 reads none.",
    )  # fmt: skip
    sample: int = option(
        metavar="ROWS", type=int, in_file=False, default=1000, show_default=True,
        help="Rows to read, spread evenly, where more name --from; 0 reads each.",
    )  # fmt: skip
    manifest: Path | None = option(
        metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), in_file=False,
        help="Write each object that would be copied to FILE, for a program that copies in bulk; reads each row.",
    )  # fmt: skip
    manifest_format: str = option(
        type=click.Choice(MANIFEST_FORMATS), default="rclone", show_default=True,
        help="The program that reads it: S3 Batch Operations (bucket,key), Storage Transfer Service, or rclone.",
    )  # fmt: skip
    prices: Path | None = option(
        metavar="FILE", type=click.Path(path_type=Path, dir_okay=False),
        help="What requests, bytes and storage cost, in TOML: docs/prices.toml is an example.",
    )  # fmt: skip
    output: JobOutput = group(JobOutput)


@command(
    _PlanRequest,
    "Show what a run would do and take; change nothing.",
    "plan --app myapp.storage --from old --to new",
    "plan --app myapp.storage --from old --to new --prices prices.toml",
    "plan --app myapp.storage --from old --to new --manifest keys.txt",
)
def plan(request: _PlanRequest) -> int:
    """Show what `run` with the same options would do, in the same counts, and change nothing.

    Of more than --sample rows it reads a sample, reports that, and estimates from it. Where objects would be copied it also shows what that takes: bytes, requests on each side, and what is read twice.
    It estimates the time from the rate at which a few objects are read, and with --prices the cost.
    """  # fmt: skip
    from migrate_storage.jobs.run.job import RunJob
    from migrate_storage.reporting.prices import load_prices

    prices = load_prices(request.prices) if request.prices is not None else None
    with request.application.opened() as application:
        each = request.options_of_each(application, dry_run=True)

        def make(application: Application, how: RunOptions, listener: Listener) -> Job:
            migration = RunJob(application, how, listener)
            return migration if prices is None else _PricedMigration(migration, prices)

        if len(each) > 1:
            if request.manifest is not None:
                raise ConfigurationError(
                    "--manifest is one file for one pair of keys: give each pair a command of its own"
                )
            return run_several(application, each, make, request.output)
        [how] = each
        return run_and_report(partial(make, application, how), request.output, how.shutdown_timeout)


class _PricedMigration:
    """A migration whose report contains the costs."""

    def __init__(self, migration: RunJob, prices: Prices) -> None:
        self._migration, self._prices = migration, prices
        self.stop = migration.stop

    def run(self) -> Report:
        """Run the migration."""
        report = self._migration.run()
        return replace(report, estimate=report.estimate and self._prices.add_costs(report.estimate))
