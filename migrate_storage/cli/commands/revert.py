"""``revert``: rows back to the old key."""

from __future__ import annotations

import click

from migrate_storage.cli.application_options import ApplicationOptions, application_options, journal_options
from migrate_storage.cli.option import example, option
from migrate_storage.cli.run_job import finished
from migrate_storage.cli.shared_options import Output, job_options

__all__ = ("revert",)


@click.command(
    short_help="Undo: put rows back as they were.",
    epilog=example(
        "migrate-storage revert --app myapp.storage --dry-run", "migrate-storage revert --app myapp.storage"
    ),
)
@click.argument("run", required=False)
@application_options
@journal_options
@option("--concurrency", metavar="N", type=int, default=32, show_default=True, help="Rows looked at at once.")
@option(
    "--settle", metavar="SECONDS", type=float, default=5.0, show_default=True,
    help="Time to let late writes arrive before the last look at the destination.",
)  # fmt: skip
@option("--dry-run", in_file=False, is_flag=True, help="Say what would happen, in the same counts; change nothing.")
@job_options
def revert(
    run: str | None,
    door: ApplicationOptions,
    journal: str | None,
    journal_schema: str | None,
    concurrency: int,
    settle: float,
    dry_run: bool,
    output: Output,
) -> int:
    """Put rows back to the key that they named before, wherever that is still right; list the others.

    RUN is the id of one run, or the beginning of it; left out, every run between the keys of the latest one is undone.
    Content that changed since, or that is gone from the source, is copied back first, and verified.
    """
    from migrate_storage.jobs.revert.job import Revert, RevertOptions

    application = door.open()
    options = RevertOptions(
        dry_run=dry_run, concurrency=concurrency, settle=settle, journal=journal, journal_schema=journal_schema
    )
    try:
        return finished(lambda listener: Revert(application, options, run=run, listener=listener), output)
    finally:
        application.close()
