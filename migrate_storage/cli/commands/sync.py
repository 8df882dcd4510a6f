"""``sync``: make one store equal to another."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from migrate_storage.cli.application_options import ApplicationOptions, JournalOptions
from migrate_storage.cli.distributed import Distribution
from migrate_storage.cli.option import command, fill, group, option
from migrate_storage.cli.param_types import SECONDS
from migrate_storage.cli.shared_options import (
    BoundOptions,
    CensusFlags,
    JobOutput,
    LimitOptions,
    PaceOptions,
    PreserveOptions,
    dry_run_option,
    lease_ttl_option,
    max_attempts_option,
    max_memory_option,
    opaque_etags_option,
    shutdown_timeout_option,
)
from migrate_storage.cli.store_arguments import StoreArguments
from migrate_storage.core.errors import ConfigurationError
from migrate_storage.jobs.sync.options import SyncOptions

if TYPE_CHECKING:
    from migrate_storage.application.application import Application

__all__ = ("sync",)

_DEFAULT = SyncOptions()


@dataclass(frozen=True, kw_only=True)
class _SyncRequest:
    application: ApplicationOptions = group(ApplicationOptions)
    stores: StoreArguments = group(StoreArguments)
    checksum: bool = option(
        is_flag=True, help="Read both where no digest is reported by both, instead of asking for their times."
    )
    size_only: bool = option(is_flag=True, help="Two objects of one size are equal.")
    delete: bool = option(is_flag=True, in_file=False, help="Delete what only TO has, when all else is done.")
    max_delete: str = option(
        metavar="N|P%", default=_DEFAULT.max_delete, show_default=True,
        help="More than this, or than this share of TO's objects, and nothing is deleted.",
    )  # fmt: skip
    bounds: BoundOptions = group(BoundOptions)
    backup_dir: str | None = option(
        metavar="STORE",
        help="Copy to this store, below the id of the sync, what is replaced or deleted at TO. A key, a folder or a URL, like TO.",
    )  # fmt: skip
    preservation: PreserveOptions = group(PreserveOptions)
    watch: float | None = option(
        metavar="INTERVAL", type=SECONDS,
        help="Compare again and again, with this pause, and report how far TO was behind; ends with Ctrl-C or --max-duration.",
    )  # fmt: skip
    pace: PaceOptions = group(PaceOptions)
    limits: LimitOptions = group(LimitOptions)
    census: CensusFlags = group(CensusFlags)
    max_memory: int = max_memory_option(_DEFAULT.max_memory)
    max_attempts: int = max_attempts_option()
    opaque_etags: tuple[str, ...] = opaque_etags_option()
    shutdown_timeout: float = shutdown_timeout_option(default=_DEFAULT.shutdown_timeout)
    lease_ttl: float = lease_ttl_option(_DEFAULT.lease_ttl, "sync")
    journal: JournalOptions = group(JournalOptions)
    distribution: Distribution = group(Distribution)
    dry_run: bool = dry_run_option()
    output: JobOutput = group(JobOutput)

    def open_backup(self, application: Application | None) -> Any:
        """Return the storage backend of the backups, with TO's options where it is a URL; ``None`` where there is none.

        Raises:
            ConfigurationError: it cannot be opened.
        """
        from migrate_storage.application.endpoints import backend_at

        if self.backup_dir is None:
            return None
        backends = application.backends if application else self.application.settings.backends()
        options = dict(self.stores.to_option) if "://" in self.backup_dir else {}
        return backend_at(self.backup_dir, backends, options, "--backup-dir")


@command(
    _SyncRequest,
    "Bring one store level with another.",
    "sync old new --app myapp.storage --dry-run",
    "sync ./uploads s3://bucket/uploads --exclude '*.tmp'",
    "sync s3://bucket/uploads az://container/uploads --delete --max-delete 10%",
    "sync old new --app myapp.storage --watch 1m",
)
def sync(request: _SyncRequest) -> object:
    """Copy to TO what it lacks of FROM or has otherwise, each copy verified as by `run`. No row is changed.

    FROM and TO are each the key of a storage backend, a folder, or a URL of obstore or fsspec. A key is one of --app or
    of the configuration file. Different is: another size, else another digest where both sides report one, else a source
    that is newer. With --app, what a row names under TO is neither replaced nor deleted. Stopped at any moment, the
    same command resumes. Objects beyond --min-size, --max-size, --min-age and --max-age are neither copied nor deleted. A
    source that is beyond them leaves its copy at TO as it is.

    Without --app the journal is a file of your own: ~/.local/state/migrate-storage/journal.db.
    """
    from migrate_storage.jobs.connections import journaled
    from migrate_storage.jobs.sync.job import SyncJob

    filters = request.stores.filters()
    if request.checksum and request.size_only:
        raise ConfigurationError("--size-only and --checksum exclude each other")
    by = "checksum" if request.checksum else "size" if request.size_only else None
    bounds = request.bounds.to_bounds()
    # A younger object at TO is not deleted: its row may be under way.
    min_age = bounds.min_age if bounds.min_age is not None else _DEFAULT.min_age
    how = fill(SyncOptions, request, by=by, filters=filters, bounds=bounds, min_age=min_age)
    with request.stores.opened(request.application) as (source, destination, application):
        if not request.distribution.alone and application is None and how.journal is None:
            raise ConfigurationError(
                "several processes meet in a journal: give --journal URL, of a database that all of them reach"
            )
        backup = request.open_backup(application)
        return request.distribution.run(
            lambda listener, part: SyncJob(
                source, destination, how, application=application, listener=listener, part=part, backup=backup
            ),
            request.output,
            journal=partial(journaled, application, how.journal, how.journal_schema),
            lease=how.lease_ttl, grace=how.shutdown_timeout,
        )  # fmt: skip
