"""``check``: how two stores differ."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from migrate_storage.cli.application_options import ApplicationOptions, application_options
from migrate_storage.cli.option import example, option
from migrate_storage.cli.run_job import finished
from migrate_storage.cli.shared_options import Output, attempts_option, job_options, pace_options, reports_options
from migrate_storage.cli.store_arguments import opened_stores, store_arguments
from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.filters import Filters
from migrate_storage.reporting.diff_files import Differences, written

__all__ = ("check",)


@click.command(
    short_help="Say how two stores differ, object by object.",
    epilog=example(
        "migrate-storage check old new --app myapp.storage",
        "migrate-storage check ./uploads s3://bucket/uploads --combined differences.txt",
        "migrate-storage check sftp://host/uploads s3://bucket/uploads --one-way --download",
    ),
)
@application_options
@store_arguments
@option("--size-only", is_flag=True, help="Two objects of one size are equal.")
@option("--checksum", is_flag=True, help="Read both where no digest is told by both.")
@option("--download", is_flag=True, help="Read both, whatever they tell.")
@option("--one-way", is_flag=True, help="Leave alone what only TO holds.")
@pace_options
@attempts_option
@reports_options
@job_options
def check(
    door: ApplicationOptions, texts: tuple[str, str], store_options: tuple[dict[str, Any], dict[str, Any]], filters: Filters,
    size_only: bool, checksum: bool, download: bool, one_way: bool, files: Mapping[str, Path | None], output: Output,
    **pace: Any,
) -> int:  # fmt: skip
    """Compare all objects of FROM and TO, and change nothing.

    FROM and TO are each the key of a storage backend (of --app or of the configuration file), a folder, or a URL of
    obstore or fsspec. Objects of one size are equal where a digest that both sides tell says so; where none does,
    they are listed as unverified, never counted as equal.
    """
    from migrate_storage.engine.compare import By
    from migrate_storage.jobs.check import Check, CheckOptions

    if size_only + checksum + download > 1:
        raise ConfigurationError("--size-only, --checksum and --download exclude each other")
    by = By.SIZE if size_only else By.CHECKSUM if checksum else By.DOWNLOAD if download else By.EVIDENCE
    options = CheckOptions(by=by, one_way=one_way, filters=filters, **pace)
    with opened_stores(door, texts, store_options) as ends, Differences.to(files) as differences:
        return finished(
            lambda listener: Check(ends.source, ends.destination, options, listener=written(differences, listener)),
            output,
        )
