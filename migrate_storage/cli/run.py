"""``run``, and ``plan``, which is a run that changes nothing."""

from __future__ import annotations

import click

from migrate_storage.cli.options import (
    Door,
    Output,
    Request,
    door_options,
    example,
    job_options,
    option,
    run_options,
)
from migrate_storage.cli.watching import finished

__all__ = ("plan", "run")


@click.command(
    short_help="Move the files, verify each, re-point the rows.",
    epilog=example("migrate-storage run --app myapp.storage --from old --to new"),
)
@door_options
@run_options
@option("--dry-run", in_file=False, is_flag=True, help="Say what would happen, in the same counts; change nothing.")
@job_options
def run(door: Door, request: Request, output: Output) -> int:
    """Move every file that a row names under --from to --to, verify each, and re-point the rows.

    Which of the four ways it takes (swap, rekey, move, take over), it decides from the facts, and says. Stopped at
    any moment, the same command goes on where it was.
    """
    return _run(door, request, output, dry_run=False)


@click.command(
    short_help="Say what a run would do; change nothing.",
    epilog=example("migrate-storage plan --app myapp.storage --from old --to new"),
)
@door_options
@run_options
@job_options
def plan(door: Door, request: Request, output: Output) -> int:
    """Say what `run` with the same options would do, in the same counts, and change nothing."""
    return _run(door, request, output, dry_run=True)


def _run(door: Door, request: Request, output: Output, *, dry_run: bool) -> int:
    from migrate_storage.migration import Migration

    application = door.open()
    try:
        options = request.options(application, dry_run=dry_run)
        return finished(lambda listener: Migration(application, options, listener), output, options.grace)
    finally:
        application.close()
