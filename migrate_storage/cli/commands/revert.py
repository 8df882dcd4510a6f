"""``revert``: put rows back as they were before a run."""

from __future__ import annotations

from dataclasses import dataclass

from migrate_storage.cli.application_options import JournaledApplication
from migrate_storage.cli.completion import complete_runs
from migrate_storage.cli.option import argument, command, fill, group, option
from migrate_storage.cli.run_job import run_and_report
from migrate_storage.cli.shared_options import JobOutput, dry_run_option, opaque_etags_option

__all__ = ("revert",)


@dataclass(frozen=True, kw_only=True)
class _RevertRequest:
    run: str | None = argument(required=False, shell_complete=complete_runs)
    application: JournaledApplication = group(JournaledApplication)
    concurrency: int = option(metavar="N", type=int, default=32, show_default=True, help="Rows under way at once.")
    settle_time: float = option(
        renamed={"settle": "settle-time"},
        metavar="SECONDS", type=float, default=5.0, show_default=True,
        help="Time to let late writes arrive before the last HEADs at the destination.",
    )  # fmt: skip
    opaque_etags: tuple[str, ...] = opaque_etags_option()
    dry_run: bool = dry_run_option()
    output: JobOutput = group(JobOutput)


@command(
    _RevertRequest,
    "Undo: put rows back as they were.",
    "revert --app myapp.storage --dry-run",
    "revert --app myapp.storage",
)
def revert(request: _RevertRequest) -> int:
    """Put rows back to the key that they named before, wherever that is still right; list the others.

    RUN is the id of one run, or the beginning of it; left out, every run between the keys of the latest one is undone.
    Content that changed since, or that is gone from the source, is copied back first, and verified. RUN may also be one of
    `links --rewrite`: then its texts get their old addresses back.
    """
    from migrate_storage.jobs.links.revert import LinksRevertJob, kind_of_run
    from migrate_storage.jobs.revert.job import RevertJob, RevertOptions

    with request.application.opened() as application:
        how, run = fill(RevertOptions, request), request.run
        if run is not None and kind_of_run(application, how, run) == "links":
            return run_and_report(
                lambda listener: LinksRevertJob(application, how, run=run, listener=listener), request.output
            )
        return run_and_report(
            lambda listener: RevertJob(application, how, run=request.run, listener=listener), request.output
        )
