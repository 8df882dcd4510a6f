"""``run``, and ``plan``, which is a run that changes nothing."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from migrate_storage.cli.application_options import ApplicationOptions, application_options
from migrate_storage.cli.distributed import Distribution, distribution_options
from migrate_storage.cli.option import example, option
from migrate_storage.cli.run_job import Job, finished
from migrate_storage.cli.run_options import RunRequest, run_options
from migrate_storage.cli.shared_options import Output, job_options
from migrate_storage.core.events import Listener
from migrate_storage.reporting import Report

if TYPE_CHECKING:
    from migrate_storage.jobs.run.job import Migration
    from migrate_storage.reporting.prices import Prices

__all__ = ("plan", "run")


@click.command(
    short_help="Move the files, verify each, re-point the rows.",
    epilog=example("migrate-storage run --app myapp.storage --from old --to new"),
)
@application_options
@run_options
@distribution_options
@option("--dry-run", in_file=False, is_flag=True, help="Say what would happen, in the same counts; change nothing.")
@job_options
def run(door: ApplicationOptions, request: RunRequest, machines: Distribution, output: Output) -> int:
    """Move every file that a row names under --from to --to, verify each, and re-point the rows.

    Which of the four ways it takes (swap, rekey, move, take over), it decides from the facts, and says. Stopped at
    any moment, the same command goes on where it was.
    """
    return _run(door, request, output, dry_run=False, machines=machines)


@click.command(
    short_help="Say what a run would do and take; change nothing.",
    epilog=example(
        "migrate-storage plan --app myapp.storage --from old --to new",
        "migrate-storage plan --app myapp.storage --from old --to new --prices prices.toml",
    ),
)
@application_options
@run_options
@option(
    "--probe",
    metavar="N",
    type=int,
    in_file=False,
    default=20,
    show_default=True,
    help="Objects to read, to see how fast that goes and whether they are archived; 0 reads none.",
)
@option(
    "--sample",
    metavar="ROWS",
    type=int,
    in_file=False,
    default=1000,
    show_default=True,
    help="Rows to look at, spread evenly, where more name --from; 0 looks at each.",
)
@option(
    "--prices",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="What requests, bytes and storage cost, in TOML: docs/prices.toml is an example.",
)
@job_options
def plan(door: ApplicationOptions, request: RunRequest, prices: Path | None, output: Output) -> int:
    """Say what `run` with the same options would do, in the same counts, and change nothing.

    Of more than --sample rows it looks at a sample, says so, and reckons from it. Where objects would be copied it also says what that takes: bytes, requests on each side, what is read twice, time at the
    rate at which a few objects are read, and with --prices what it costs.
    """  # fmt: skip
    return _run(door, request, output, dry_run=True, prices=prices)


class _Priced:
    """A migration whose report says what it would cost."""

    def __init__(self, migration: Migration, prices: Prices) -> None:
        self._migration, self._prices = migration, prices
        self.stop = migration.stop

    def run(self) -> Report:
        """Do it."""
        report = self._migration.run()
        return replace(report, estimate=report.estimate and self._prices.of(report.estimate))


def _run(
    door: ApplicationOptions,
    request: RunRequest,
    output: Output,
    *,
    dry_run: bool,
    prices: Path | None = None,
    machines: Distribution | None = None,
) -> int:
    from migrate_storage.jobs.connections import connected
    from migrate_storage.jobs.run.job import Migration
    from migrate_storage.reporting.prices import load_prices

    known = load_prices(prices) if prices is not None else None
    application = door.open()
    try:
        options = request.options(application, dry_run=dry_run)
        if machines is not None:
            return machines.finished(
                lambda listener, part: Migration(application, options, listener, part=part), output,
                journal=partial(connected, application, options.journal, options.journal_schema),
                lease=options.lease, grace=options.grace,
            )  # fmt: skip

        def make(listener: Listener) -> Job:
            migration = Migration(application, options, listener)
            return migration if known is None else _Priced(migration, known)

        return finished(make, output, options.grace)
    finally:
        application.close()
