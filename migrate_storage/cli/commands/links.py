"""``links``: find the public addresses of moved objects in texts, and change them."""

from __future__ import annotations

from dataclasses import dataclass

from migrate_storage.cli.application_options import JournaledApplication
from migrate_storage.cli.completion import complete_runs
from migrate_storage.cli.option import argument, command, fill, group, option
from migrate_storage.cli.run_job import run_and_report
from migrate_storage.cli.shared_options import CensusFlags, JobOutput, dry_run_option

__all__ = ("links",)


@dataclass(frozen=True, kw_only=True)
class _LinksRequest:
    run: str | None = argument(required=False, shell_complete=complete_runs)
    application: JournaledApplication = group(JournaledApplication)
    from_address: tuple[str, ...] = option(
        metavar="URL", multiple=True, default=(),
        help="What the old addresses begin with: https://HOST/PATH/, or /PATH/. A filename follows it; with URL=FOLDER, what "
        "follows FOLDER in a filename.  [default: as the source's store is asked]",
    )  # fmt: skip
    to_address: str | None = option(
        metavar="URL",
        help="What the new addresses begin with, in the same form.  [default: as the destination's store is asked]",
    )
    rewrite: bool = option(
        in_file=False,
        is_flag=True,
        help="Change the addresses to the new place. Without --yes, show what would be changed.",
    )
    yes: bool = option(in_file=False, is_flag=True, help="Really change them. `revert RUN` undoes it.")
    dry_run: bool = dry_run_option()
    concurrency: int = option(
        metavar="N",
        type=int,
        default=16,
        show_default=True,
        help="Objects of the destination that are requested at once.",
    )
    census: CensusFlags = group(CensusFlags)
    output: JobOutput = group(JobOutput)


@command(
    _LinksRequest,
    "Find public addresses of moved objects in texts, and change them.",
    "links --app myapp.storage",
    "links --app myapp.storage --from-address https://old-bucket.s3.amazonaws.com/ --to-address https://files.example.com/",
    "links --app myapp.storage --rewrite --yes",
)
def links(request: _LinksRequest) -> int:
    """Search every text that this role sees for public addresses of objects that a run moved.

    All columns of all tables are searched, also those of HTML and JSON, and those that no model has. RUN is the id of one
    run; left out, every run between the keys of the latest one counts. Columns of files and the journal are left out.

    With --rewrite each address is written anew in its own spelling, if its object is at the destination. A row that another
    program writes meanwhile is read again, and its write stays. Signed addresses and other spellings are only reported.
    """
    from migrate_storage.jobs.links.job import LinksJob
    from migrate_storage.jobs.links.options import LinksOptions

    with request.application.opened(all_columns=True) as application:
        how = fill(LinksOptions, request)
        return run_and_report(
            lambda listener: LinksJob(application, how, run=request.run, listener=listener), request.output
        )
