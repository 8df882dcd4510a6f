"""``purge``: delete what a migration left behind, at last."""

from __future__ import annotations

from dataclasses import replace

import click

from migrate_storage.cli.application_options import ApplicationOptions, application_options, journal_options
from migrate_storage.cli.option import example, option
from migrate_storage.cli.param_types import Age
from migrate_storage.cli.run_job import finished
from migrate_storage.cli.shared_options import Output, job_options

__all__ = ("purge",)


@click.command(
    short_help="Delete source objects whose copies serve, after everything is looked at again.",
    epilog=example(
        "migrate-storage purge --app myapp.storage --older-than 30d",
        "migrate-storage purge --app myapp.storage --older-than 30d --max-delete 50000 --yes",
        "migrate-storage purge --app myapp.storage --leftovers --older-than 1d --yes",
    ),
)
@click.argument("run", required=False)
@application_options
@journal_options
@option(
    "--older-than",
    type=Age(),
    default="7d",
    show_default=True,
    metavar="AGE",
    help="Only what was verified so long ago.",
)
@option(
    "--max-delete",
    type=int,
    default=1000,
    show_default=True,
    metavar="N",
    help="More than this, and nothing is deleted.",
)
@option("--leftovers", is_flag=True, help="Copies made in vain, at the destination, instead of source objects.")
@option("--deleted", is_flag=True, help="Also objects whose rows the application has deleted since.")
@option(
    "--references",
    multiple=True,
    metavar="SQL|FILE",
    help="More filenames in use: a SELECT, or a file with one a line.",
)
@option("--yes", in_file=False, is_flag=True, help="Really delete. Without it, purge says what it would delete.")
@job_options
def purge(
    run: str | None, door: ApplicationOptions, journal: str | None, journal_schema: str | None, older_than: float, max_delete: int,
    leftovers: bool, deleted: bool, references: tuple[str, ...], yes: bool, output: Output,
) -> int:  # fmt: skip
    """Delete the source objects of a run, or of all runs between its keys, where nothing speaks against it.

    Each must be journaled as verified, soaked, named by no row under any key nor by any --references, unchanged
    since it was copied, its copy still good, and elsewhere than its copy. Without --yes nothing is deleted.
    """
    from migrate_storage.jobs.purge.job import Purge
    from migrate_storage.jobs.purge.rules import PurgeOptions

    # With --app, --columns would narrow what counts as a reference; without it, it is what tells the columns.
    application = replace(door, columns=()).open() if door.app else door.open()
    options = PurgeOptions(
        leftovers=leftovers, deleted=deleted, older_than=older_than, max_delete=max_delete, references=references, yes=yes,
        journal=journal, journal_schema=journal_schema,
    )  # fmt: skip
    try:
        return finished(lambda listener: Purge(application, options, run=run, listener=listener), output)
    finally:
        application.close()
