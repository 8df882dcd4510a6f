"""``verify``: look at what rows name, any time."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from migrate_storage.cli.application_options import ApplicationOptions, application_options, journal_options
from migrate_storage.cli.distributed import Distribution, distribution_options
from migrate_storage.cli.option import example, option
from migrate_storage.cli.shared_options import Output, job_options, reports_options
from migrate_storage.core.events import Listener
from migrate_storage.reporting.diff_files import Differences, written

if TYPE_CHECKING:
    from migrate_storage.jobs.distributed.shards import ShardRef
    from migrate_storage.jobs.verify.job import Audit

__all__ = ("verify",)


class _Percent(click.ParamType):  # type: ignore[type-arg]
    name = "percent"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return float(str(value).removesuffix("%"))
        except ValueError:
            self.fail(f"{value!r} is no percentage: write 5 or 5%", param, ctx)


@click.command(
    short_help="Look at what rows name: is it there, and is it what it should be?",
    epilog=example(
        "migrate-storage verify --app myapp.storage",
        "migrate-storage verify --app myapp.storage --deep --sample 5% --combined differences.txt",
        "migrate-storage verify --app myapp.storage --key old --with new",
    ),
)
@application_options
@journal_options
@option("--key", metavar="KEY", help="Only rows that name this backend.  [default: all]")
@option("--where", metavar="SQL", help="Only rows that meet this condition.")
@option("--deep", is_flag=True, help="Read both sides of what was copied, and compare the bytes.")
@option("--with", "through", metavar="KEY", help="Open every row through this registration too, and compare.")
@option(
    "--sample", type=_Percent(), default=100.0, metavar="N%", help="Only this share of the objects, always the same."
)
@option("--concurrency", metavar="N", type=int, default=32, show_default=True, help="Objects looked at at once.")
@distribution_options
@reports_options
@job_options
def verify(
    door: ApplicationOptions, journal: str | None, journal_schema: str | None, key: str | None, where: str | None, deep: bool,
    through: str | None, sample: float, concurrency: int, files: Mapping[str, Path | None],
    machines: Distribution, output: Output,
) -> int:  # fmt: skip
    """Look at every object that a row names: it exists, and is what the row and the journal say.

    Nothing is changed. What nothing proves equal is `unverified`, never counted as equal: --deep and --with read the
    bytes.
    """
    from migrate_storage.jobs.connections import connected
    from migrate_storage.jobs.verify.check_object import AuditOptions
    from migrate_storage.jobs.verify.job import LEASE, Audit

    application = door.open()
    options = AuditOptions(
        key=key, columns=door.columns, where=where, deep=deep, through=through, sample=sample, concurrency=concurrency,
        journal=journal, journal_schema=journal_schema,
    )  # fmt: skip
    try:
        with Differences.to(files) as differences:

            def make(listener: Listener, part: ShardRef | None) -> Audit:
                return Audit(application, options, listener=written(differences, listener), part=part)

            return machines.finished(
                make, output, journal=partial(connected, application, journal, journal_schema), lease=LEASE
            )
    finally:
        application.close()
