"""``purge``: delete migrated source objects, or copies that no row references."""

from __future__ import annotations

from dataclasses import dataclass

from migrate_storage.cli.application_options import JournaledApplication
from migrate_storage.cli.completion import complete_runs
from migrate_storage.cli.option import argument, command, fill, group, option
from migrate_storage.cli.param_types import Age
from migrate_storage.cli.run_job import run_and_report
from migrate_storage.cli.shared_options import CensusFlags, JobOutput, references_option

__all__ = ("purge",)


@dataclass(frozen=True, kw_only=True)
class _PurgeRequest:
    run: str | None = argument(required=False, shell_complete=complete_runs)
    application: JournaledApplication = group(JournaledApplication)
    older_than: float = option(
        type=Age(), default="7d", show_default=True, metavar="AGE", help="Only what was verified so long ago."
    )
    max_delete: int = option(
        type=int, default=1000, show_default=True, metavar="N", help="More than this, and nothing is deleted."
    )
    unreferenced_copies: bool = option(
        renamed={"leftovers": "unreferenced-copies"}, is_flag=True,
        help="Copies that no row names, at the destination, instead of source objects.",
    )  # fmt: skip
    include_deleted_rows: bool = option(
        renamed={"deleted": "include-deleted-rows"}, is_flag=True,
        help="Also objects whose rows the application has deleted since.",
    )  # fmt: skip
    references: tuple[str, ...] = references_option()
    census: CensusFlags = group(CensusFlags)
    yes: bool = option(in_file=False, is_flag=True, help="Really delete. Without it, purge shows what it would delete.")
    output: JobOutput = group(JobOutput)


@command(
    _PurgeRequest,
    "Delete source objects whose copies serve, after everything is checked again.",
    "purge --app myapp.storage --older-than 30d",
    "purge --app myapp.storage --older-than 30d --max-delete 50000 --yes",
    "purge --app myapp.storage --unreferenced-copies --older-than 1d --yes",
)
def purge(request: _PurgeRequest) -> int:
    """Delete the source objects of a run, or of all runs between its keys, where no rule prevents it.

    The journal must have its copy as verified, for longer than the soak. The copy must still be good, and elsewhere. The source
    object must be unchanged since, and named by no row under any key nor by any --references. Without --yes nothing is deleted.
    """
    from migrate_storage.jobs.purge.job import PurgeJob
    from migrate_storage.jobs.purge.rules import PurgeOptions

    with request.application.opened(all_columns=True) as application:
        how = fill(PurgeOptions, request)
        return run_and_report(
            lambda listener: PurgeJob(application, how, run=request.run, listener=listener), request.output
        )
