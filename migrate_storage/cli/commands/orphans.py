"""``orphans``: list unreferenced objects, and rows whose object is missing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from migrate_storage.cli.application_options import JournaledApplication
from migrate_storage.cli.completion import complete_keys
from migrate_storage.cli.option import command, fill, group, option
from migrate_storage.cli.param_types import BANDWIDTH, Age
from migrate_storage.cli.run_job import run_and_report
from migrate_storage.cli.shared_options import (
    CensusFlags,
    JobOutput,
    file_option,
    opaque_etags_option,
    references_option,
)
from migrate_storage.core.timetable import Bandwidth
from migrate_storage.reporting.diff_files import Differences

__all__ = ("orphans",)


@dataclass(frozen=True, kw_only=True)
class OrphanFileOptions:
    """Report files of ``orphans``."""

    combined: Path | None = file_option(help="All objects with a sign: = - + !")
    match: Path | None = file_option(help="Objects that something keeps alive.")
    missing_on_src: Path | None = file_option(help="Objects that no row names.")
    missing_on_dst: Path | None = file_option(help="Objects that rows name and no store has.")
    error: Path | None = file_option(help="Objects that could not be checked or moved.")


@dataclass(frozen=True, kw_only=True)
class _OrphansRequest:
    application: JournaledApplication = group(JournaledApplication)
    keys: tuple[str, ...] = option(
        "--key",
        metavar="KEY",
        multiple=True,
        shell_complete=complete_keys,
        help="Backends whose objects are listed.  [default: all]",
    )
    min_age: float = option(
        type=Age(), default="24h", show_default=True, metavar="AGE",
        help="Younger objects may be uploads whose row is not committed yet: they are no orphans.",
    )  # fmt: skip
    references: tuple[str, ...] = references_option()
    quarantine: str | None = option(
        in_file=False,
        metavar="PREFIX",
        help="Move orphans to quarantine, below this prefix of their backend; --restore undoes it.",
    )
    max_quarantine: int = option(
        type=int, default=1000, show_default=True, metavar="N", help="More orphans than this, and none is moved."
    )
    restore: str | None = option(
        in_file=False, is_flag=False, flag_value="all", metavar="[RUN]",
        help="Put back what a run moved to quarantine; without RUN, what every run did.",
    )  # fmt: skip
    acknowledge_missing: str | None = option(
        renamed={"mark-missing": "acknowledge-missing"},
        in_file=False, metavar="REASON",
        help="Acknowledge the missing objects of rows as known losses: they no longer fail verify, run and orphans.",
    )  # fmt: skip
    forget_acknowledged: str | None = option(
        renamed={"unmark": "forget-acknowledged"},
        in_file=False, type=click.Choice(["stale", "all"]),
        help="Forget known losses: those that no longer apply, or all.",
    )  # fmt: skip
    yes: bool = option(
        in_file=False,
        is_flag=True,
        help="Really move, acknowledge or forget. Really move, acknowledge or forget. Without it, orphans shows what it would do.",
    )
    concurrency: int = option(metavar="N", type=int, default=16, show_default=True, help="Objects under way at once.")
    bandwidth: Bandwidth | None = option(
        metavar="BYTES|TIMETABLE",
        type=BANDWIDTH,
        help="Content read in a second: 10M, or a timetable: '08:00,2M 19:00,off'.  [default: no limit]",
    )
    max_requests_per_second: float | None = option(
        metavar="N", type=float, help="Requests to the stores in a second.  [default: no limit]"
    )
    opaque_etags: tuple[str, ...] = opaque_etags_option()
    census: CensusFlags = group(CensusFlags)
    files: OrphanFileOptions = group(OrphanFileOptions)
    output: JobOutput = group(JobOutput)


@command(
    _OrphansRequest,
    "Find objects that no row names and rows whose object is missing; quarantine the former.",
    "orphans --app myapp.storage --key uploads",
    "orphans --app myapp.storage --key uploads --quarantine .quarantine --yes",
    "orphans --app myapp.storage --restore --yes",
    "orphans --app myapp.storage --acknowledge-missing 'lost with the disk in May' --yes",
)
def orphans(request: _OrphansRequest) -> int:
    """List objects that no row names, and rows whose object is missing.

    Objects are listed first and rows are read after, under every key and in every column, so that what is saved
    meanwhile is no orphan. Where a listing or a table cannot be read to its end, nothing is called one. Nothing is ever
    deleted but an object whose copy in quarantine was proved. Without --yes nothing is changed.
    """
    from migrate_storage.jobs.orphans.job import OrphansJob, OrphansOptions

    with request.application.opened(all_columns=True) as application:
        how = fill(OrphansOptions, request)
        with Differences(vars(request.files)) as files:
            return run_and_report(
                lambda listener: OrphansJob(application, how, listener=files.beside(listener)), request.output
            )
