"""``tables``: the journal's own tables, for people who look after the database."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import click

from migrate_storage.cli.application_options import ApplicationOptions, application_options, journal_options
from migrate_storage.cli.option import example, option
from migrate_storage.cli.param_types import Age
from migrate_storage.cli.shared_options import Output, output_options
from migrate_storage.core.text import amount, duration

if TYPE_CHECKING:
    from migrate_storage.database.connection import Database

__all__ = ("tables",)


@click.group(short_help="Create, show, prune or drop the journal's own tables.")
def tables() -> None:
    """Create, show, prune or drop the tables that the journal keeps, all named migrate_storage_*.

    `run` creates them by itself where it has the right to; these commands are for those who look after the database.
    """


@tables.command(short_help="Create the tables.", epilog=example("migrate-storage tables create --app myapp.storage"))
@application_options
@journal_options
@output_options
def create(door: ApplicationOptions, journal: str | None, journal_schema: str | None, output: Output) -> None:
    """Create what is missing of the journal's tables."""
    from migrate_storage.journal.schema import Tables

    database = _database(door, journal)
    try:
        database.transaction(Tables(journal_schema).create)
    finally:
        database.close()
    _say(output, "created", f"The journal's tables stand in {database}.")


@tables.command(
    short_help="Print the statements that create the tables.",
    epilog=example("migrate-storage tables sql --app myapp.storage | psql appdb"),
)
@application_options
@journal_options
def sql(door: ApplicationOptions, journal: str | None, journal_schema: str | None) -> None:
    """Print the statements that create the journal's tables, for someone who has the rights."""
    from migrate_storage.journal.schema import Tables

    database = _database(door, journal)
    try:
        click.echo(database.transaction(Tables(journal_schema).sql), nl=False)
    finally:
        database.close()


@tables.command(
    short_help="Drop the tables: the journal is gone, and every way back.",
    epilog=example("migrate-storage tables drop --app myapp.storage --yes"),
)
@application_options
@journal_options
@option("--yes", in_file=False, is_flag=True, help="Do not ask.")
@output_options
def drop(door: ApplicationOptions, journal: str | None, journal_schema: str | None, yes: bool, output: Output) -> None:
    """Drop the journal's tables. After that nothing can be resumed, reported or reverted."""
    from migrate_storage.journal.schema import Tables

    database = _database(door, journal)
    try:
        if not yes:
            click.confirm(f"Drop the journal in {database}? No run can be reverted afterwards", abort=True, err=True)
        database.transaction(Tables(journal_schema).drop)
    finally:
        database.close()
    _say(output, "dropped", f"The journal's tables are gone from {database}.")


@tables.command(
    short_help="Forget the objects and rows of old runs.",
    epilog=example("migrate-storage tables prune --app myapp.storage --older-than 90d"),
)
@application_options
@journal_options
@option(
    "--older-than", type=Age(), in_file=False, default="90d", show_default=True, metavar="AGE",
    help="Keep runs that finished within this time.",
)  # fmt: skip
@output_options
def prune(
    door: ApplicationOptions, journal: str | None, journal_schema: str | None, older_than: float, output: Output
) -> None:
    """Forget the objects and rows of runs that finished long ago; those can no longer be reverted, verified or purged.

    Their reports stay, and so do the lines of copies made in vain, which `purge --leftovers` will need. Of a cutover whose
    phase has been DESTINATION for that long, the lines of keys that are settled go too.
    """
    from migrate_storage.journal.schema import Tables

    database = _database(door, journal)
    count = 0
    try:
        owned = Tables(journal_schema)
        before = time.time() - older_than
        if database.transaction(owned.exist):
            while gone := database.transaction(lambda connection: owned.prune(connection, before)):
                count += gone
    finally:
        database.close()
    when = duration(older_than)
    _say(output, "pruned", f"Forgot {amount(count, 'line')} of what was finished more than {when} ago.")


def _database(door: ApplicationOptions, journal: str | None) -> Database:
    from migrate_storage.database.connection import Database

    database = Database(journal or door.engine())
    database.connect()
    return database


def _say(output: Output, event: str, message: str) -> None:
    if output.json:
        click.echo(json.dumps({"event": event, "message": message}))
    elif not output.quiet:
        click.echo(message)
