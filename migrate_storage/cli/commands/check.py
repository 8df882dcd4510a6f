"""``check``: compare two stores."""

from __future__ import annotations

from dataclasses import dataclass

from migrate_storage.cli.application_options import ApplicationOptions
from migrate_storage.cli.option import command, fill, group, option
from migrate_storage.cli.run_job import run_and_report
from migrate_storage.cli.shared_options import (
    BoundOptions,
    DiffFileOptions,
    JobOutput,
    PaceOptions,
    max_attempts_option,
)
from migrate_storage.cli.store_arguments import StoreArguments
from migrate_storage.core.errors import ConfigurationError
from migrate_storage.reporting.diff_files import Differences

__all__ = ("check",)


@dataclass(frozen=True, kw_only=True)
class _CheckRequest:
    application: ApplicationOptions = group(ApplicationOptions)
    stores: StoreArguments = group(StoreArguments)
    size_only: bool = option(is_flag=True, help="Two objects of one size are equal.")
    checksum: bool = option(is_flag=True, help="Read both where no digest is reported by both.")
    download: bool = option(is_flag=True, help="Read both, whatever they report.")
    one_way: bool = option(is_flag=True, help="Leave alone what only TO has.")
    bounds: BoundOptions = group(BoundOptions)
    pace: PaceOptions = group(PaceOptions)
    max_attempts: int = max_attempts_option()
    files: DiffFileOptions = group(DiffFileOptions)
    output: JobOutput = group(JobOutput)


@command(
    _CheckRequest,
    "Show how two stores differ, object by object.",
    "check old new --app myapp.storage",
    "check ./uploads s3://bucket/uploads --combined differences.txt",
    "check sftp://host/uploads s3://bucket/uploads --one-way --download",
)
def check(request: _CheckRequest) -> int:
    """Compare all objects of FROM and TO, and change nothing.

    FROM and TO are each the key of a storage backend, a folder, or a URL of obstore or fsspec. A key is one of --app or
    of the configuration file. Objects of one size are equal where both sides report the same digest. Where they report
    none, the objects are listed as unverified, never counted as equal.
    """
    from migrate_storage.engine.compare import By
    from migrate_storage.jobs.check import CheckJob, CheckOptions

    filters = request.stores.filters()
    ways = {By.SIZE: request.size_only, By.CHECKSUM: request.checksum, By.DOWNLOAD: request.download}
    chosen = [by for by, given in ways.items() if given]
    if len(chosen) > 1:
        raise ConfigurationError("--size-only, --checksum and --download exclude each other")
    how = fill(
        CheckOptions,
        request,
        by=chosen[0] if chosen else By.EVIDENCE,
        filters=filters,
        bounds=request.bounds.to_bounds(),
    )
    with (
        request.stores.opened(request.application) as (source, destination, _),
        Differences(vars(request.files)) as files,
    ):
        return run_and_report(
            lambda listener: CheckJob(source, destination, how, listener=files.beside(listener)), request.output
        )
