"""``sync``: bring one store level with another."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from migrate_storage.cli.application_options import ApplicationOptions, application_options, journal_options
from migrate_storage.cli.distributed import Distribution, distribution_options
from migrate_storage.cli.option import example, option
from migrate_storage.cli.param_types import BYTES, SECONDS, Age
from migrate_storage.cli.shared_options import Output, allowance_options, attempts_option, job_options, pace_options
from migrate_storage.cli.store_arguments import opened_stores, store_arguments
from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.filters import Filters
from migrate_storage.core.text import MiB
from migrate_storage.jobs.sync.options import SyncOptions

__all__ = ("sync",)

_DEFAULT = SyncOptions()


@click.command(
    short_help="Bring one store level with another.",
    epilog=example(
        "migrate-storage sync old new --app myapp.storage --dry-run",
        "migrate-storage sync ./uploads s3://bucket/uploads --exclude '*.tmp'",
        "migrate-storage sync s3://bucket/uploads az://container/uploads --delete --max-delete 10%",
        "migrate-storage sync old new --app myapp.storage --watch 1m",
    ),
)
@application_options
@store_arguments
@option(
    "--checksum", is_flag=True, help="Read both where no digest is told by both, instead of asking for their times."
)
@option("--size-only", is_flag=True, help="Two objects of one size are equal.")
@option("--delete", is_flag=True, in_file=False, help="Delete what only TO holds, when all else is done.")
@option(
    "--max-delete",
    metavar="N|P%",
    default=_DEFAULT.max_delete,
    show_default=True,
    help="More than this, or than this share of TO's objects, and nothing is deleted.",
)
@option(
    "--min-age",
    metavar="AGE",
    type=Age(),
    default="1h",
    show_default=True,
    help="Never delete an object that is younger: its row may be under way.",
)
@option(
    "--watch",
    metavar="INTERVAL",
    type=SECONDS,
    help="Look again and again, with this pause, and say how far TO was behind; ends with Ctrl-C or --max-duration.",
)
@pace_options
@allowance_options
@option(
    "--memory",
    metavar="BYTES",
    type=BYTES,
    default=f"{_DEFAULT.memory // MiB}MiB",
    show_default=True,
    help="Content held in memory at once, over all objects under way.",
)
@attempts_option
@option(
    "--grace",
    metavar="SECONDS",
    type=float,
    default=_DEFAULT.grace,
    show_default=True,
    help="Time that objects in flight get after Ctrl-C.",
)
@option(
    "--lease",
    metavar="SECONDS",
    type=float,
    default=_DEFAULT.lease,
    show_default=True,
    help="Time after which a sync that died no longer holds up the next one.",
)
@journal_options
@distribution_options
@option("--dry-run", in_file=False, is_flag=True, help="Say what would happen, in the same counts; change nothing.")
@job_options
def sync(
    door: ApplicationOptions, texts: tuple[str, str], store_options: tuple[dict[str, Any], dict[str, Any]], filters: Filters,
    checksum: bool, size_only: bool, machines: Distribution, output: Output, **values: Any,
) -> int:  # fmt: skip
    """Copy to TO what it lacks of FROM or holds otherwise, each copy verified as by `run`. No row is changed.

    FROM and TO are each the key of a storage backend (of --app or of the configuration file), a folder, or a URL of
    obstore or fsspec. Different is: another size, else another digest where both sides tell one, else a source that is
    newer. With --app, what a row names under TO is neither replaced nor deleted. Stopped at any moment, the same
    command goes on. Without --app the journal is a file of your own: ~/.local/state/migrate-storage/journal.db.
    """
    from migrate_storage.jobs.connections import journaled
    from migrate_storage.jobs.sync.job import Sync

    if checksum and size_only:
        raise ConfigurationError("--size-only and --checksum exclude each other")
    by = "checksum" if checksum else "size" if size_only else None
    options = SyncOptions(by=by, filters=filters, **values)
    with opened_stores(door, texts, store_options) as ends:
        if not machines.alone and ends.application is None and options.journal is None:
            raise ConfigurationError(
                "several processes meet in a journal: say --journal URL, of a database that all of them reach"
            )
        return machines.finished(
            lambda listener, part: Sync(
                ends.source, ends.destination, options,
                application=ends.application, listener=listener, part=part,
            ),
            output,
            journal=partial(journaled, ends.application, options.journal, options.journal_schema),
            lease=options.lease, grace=options.grace,
        )  # fmt: skip
