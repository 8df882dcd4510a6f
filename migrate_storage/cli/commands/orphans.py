"""``orphans``: objects that no row names, and rows whose object is missing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from migrate_storage.cli.application_options import ApplicationOptions, application_options, journal_options
from migrate_storage.cli.option import example, option
from migrate_storage.cli.param_types import BYTES, Age
from migrate_storage.cli.run_job import finished
from migrate_storage.cli.shared_options import Output, job_options
from migrate_storage.core.events import Listener
from migrate_storage.reporting.diff_files import Differences, written

if TYPE_CHECKING:
    from migrate_storage.jobs.orphans.job import Orphans

__all__ = ("orphans",)


@click.command(
    short_help="Find objects that no row names and rows whose object is missing; move the former aside.",
    epilog=example(
        "migrate-storage orphans --app myapp.storage --key uploads",
        "migrate-storage orphans --app myapp.storage --key uploads --quarantine .quarantine --yes",
        "migrate-storage orphans --app myapp.storage --restore --yes",
        "migrate-storage orphans --app myapp.storage --mark-missing 'lost with the disk in May' --yes",
    ),
)
@application_options
@journal_options
@option("--key", "keys", metavar="KEY", multiple=True, help="Backends whose objects are listed.  [default: all]")
@option(
    "--min-age",
    type=Age(),
    default="24h",
    show_default=True,
    metavar="AGE",
    help="Younger objects may be uploads whose row is not committed yet: they are no orphans.",
)
@option(
    "--references",
    multiple=True,
    metavar="SQL|FILE",
    help="More filenames in use: a SELECT, or a file with one a line.",
)
@option(
    "--quarantine",
    in_file=False,
    metavar="PREFIX",
    help="Move orphans aside, below this prefix of their backend; --restore undoes it.",
)
@option(
    "--max-quarantine",
    type=int,
    default=1000,
    show_default=True,
    metavar="N",
    help="More orphans than this, and none is moved.",
)
@option(
    "--restore",
    in_file=False,
    is_flag=False,
    flag_value="all",
    metavar="[RUN]",
    help="Put back what a run moved aside; without RUN, what every run did.",
)
@option(
    "--mark-missing",
    in_file=False,
    metavar="REASON",
    help="Mark the missing objects of rows as known losses: they no longer fail verify, run and orphans.",
)
@option(
    "--unmark",
    in_file=False,
    type=click.Choice(["stale", "all"]),
    help="Take marks away: those that say nothing any more, or all.",
)
@option("--yes", in_file=False, is_flag=True, help="Really move or mark. Without it, orphans says what it would do.")
@option("--concurrency", metavar="N", type=int, default=16, show_default=True, help="Objects under way at once.")
@option("--bandwidth", metavar="BYTES", type=BYTES, help="Content read in a second: 10M.  [default: no limit]")
@option(
    "--max-requests-per-second",
    metavar="N",
    type=float,
    help="Requests to the stores in a second.  [default: no limit]",
)
@option("--combined", type=click.Path(path_type=Path), metavar="FILE", help="All objects with a sign: = - + !")
@option("--match", type=click.Path(path_type=Path), metavar="FILE", help="Objects that something keeps alive.")
@option("--missing-on-src", type=click.Path(path_type=Path), metavar="FILE", help="Objects that no row names.")
@option(
    "--missing-on-dst",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Objects that rows name and no store holds.",
)
@option(
    "--error", type=click.Path(path_type=Path), metavar="FILE", help="Objects that could not be looked at or moved."
)
@job_options
def orphans(
    door: ApplicationOptions, journal: str | None, journal_schema: str | None, keys: tuple[str, ...], min_age: float,
    references: tuple[str, ...], quarantine: str | None, max_quarantine: int, restore: str | None,
    mark_missing: str | None, unmark: str | None, yes: bool, concurrency: int, bandwidth: int | None,
    max_requests_per_second: float | None, output: Output, **files: Path | None,
) -> int:  # fmt: skip
    """Find what no row names, and what rows name in vain.

    Objects are listed first and rows are read after, under every key and in every column, so that what is saved
    meanwhile is no orphan. Where a listing or a table cannot be read to its end, nothing is called one. Nothing is ever
    deleted but an object whose copy in quarantine was proved. Without --yes nothing is changed.
    """
    # With --app, --columns would narrow what counts as a reference; without it, it is what tells the columns.
    from migrate_storage.jobs.orphans.job import Orphans, OrphansOptions

    application = replace(door, columns=()).open() if door.app else door.open()
    try:
        options = OrphansOptions(
            keys=keys, min_age=min_age, references=references, quarantine=quarantine, max_quarantine=max_quarantine,
            restore=restore, mark_missing=mark_missing, unmark=unmark, yes=yes, concurrency=concurrency,
            bandwidth=bandwidth, max_requests_per_second=max_requests_per_second, journal=journal,
            journal_schema=journal_schema,
        )  # fmt: skip
        with Differences.to(files) as differences:

            def make(listener: Listener) -> Orphans:
                return Orphans(application, options, listener=written(differences, listener))

            return finished(make, output)
    finally:
        application.close()
