"""``verify``: check the objects that rows reference."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import click

from migrate_storage.cli.application_options import JournaledApplication
from migrate_storage.cli.completion import complete_keys
from migrate_storage.cli.distributed import Distribution
from migrate_storage.cli.option import command, fill, group, option
from migrate_storage.cli.shared_options import DiffFileOptions, JobOutput
from migrate_storage.reporting.diff_files import Differences

__all__ = ("verify",)


class _Percent(click.ParamType):  # type: ignore[type-arg]
    name = "percent"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return float(str(value).removesuffix("%"))
        except ValueError:
            self.fail(f"{value!r} is no percentage: write 5 or 5%", param, ctx)


@dataclass(frozen=True, kw_only=True)
class _VerifyRequest:
    application: JournaledApplication = group(JournaledApplication)
    key: str | None = option(
        metavar="KEY", shell_complete=complete_keys, help="Only rows that name this backend.  [default: all]"
    )
    where: str | None = option(metavar="SQL", help="Only rows that meet this condition.")
    read_content: bool = option(
        renamed={"deep": "read-content"},
        is_flag=True,
        help="Read both sides of what was copied, and compare the bytes.",
    )
    compare_with: str | None = option(
        renamed={"with": "compare-with"},
        metavar="KEY",
        shell_complete=complete_keys,
        help="Open every row through this registration too, and compare.",
    )
    sample: float = option(
        type=_Percent(), default=100.0, metavar="N%", help="Only this share of the objects, always the same."
    )
    concurrency: int = option(metavar="N", type=int, default=32, show_default=True, help="Objects under way at once.")
    distribution: Distribution = group(Distribution)
    files: DiffFileOptions = group(DiffFileOptions)
    output: JobOutput = group(JobOutput)


@command(
    _VerifyRequest,
    "Check what rows name: is it there, and is it what it should be?",
    "verify --app myapp.storage",
    "verify --app myapp.storage --read-content --sample 5% --combined differences.txt",
    "verify --app myapp.storage --key old --compare-with new",
)
def verify(request: _VerifyRequest) -> object:
    """Check every object that a row names: it exists, and is what the row and the journal record.

    Nothing is changed. What nothing proves equal is `unverified`, never counted as equal: --read-content and --compare-with read the
    bytes.
    """
    from migrate_storage.jobs.connections import connected
    from migrate_storage.jobs.verify.check_object import VerifyOptions
    from migrate_storage.jobs.verify.job import LEASE, VerifyJob

    with request.application.opened() as application:
        how = fill(VerifyOptions, request)
        with Differences(vars(request.files)) as files:
            return request.distribution.run(
                lambda listener, part: VerifyJob(application, how, listener=files.beside(listener), part=part),
                request.output,
                journal=partial(connected, application, how.journal, how.journal_schema),
                lease=LEASE,
            )
