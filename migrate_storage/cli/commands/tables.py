"""``tables``: the journal's tables, for database administrators."""

from __future__ import annotations

import time
from dataclasses import dataclass

import click

from migrate_storage.cli.application_options import JournaledApplication, JournalRequest
from migrate_storage.cli.option import command, group, option
from migrate_storage.cli.param_types import Age
from migrate_storage.cli.shared_options import Output
from migrate_storage.core.text import amount, duration

__all__ = ("tables",)


@click.group(short_help="Create, show, prune or drop the journal's own tables.")
def tables() -> None:
    """Create, show, prune or drop the tables that the journal keeps, all named migrate_storage_*.

    `run` creates them by itself where it has the right to; these commands are for those who look after the database.
    """


@command(JournalRequest, "Create the tables.", "tables create --app myapp.storage", parent=tables)
def create(request: JournalRequest) -> None:
    """Create what is missing of the journal's tables."""
    from migrate_storage.journal.schema import Tables

    with request.application.journal_database() as database:
        database.transaction(Tables(request.application.journal_schema).create)
        request.output.print_message("created", f"The journal's tables stand in {database}.")


@dataclass(frozen=True, kw_only=True)
class _SqlRequest:
    application: JournaledApplication = group(JournaledApplication)


@command(
    _SqlRequest,
    "Print the statements that create the tables.",
    "tables sql --app myapp.storage | psql appdb",
    parent=tables,
)
def sql(request: _SqlRequest) -> None:
    """Print the statements that create the journal's tables, for someone who has the rights."""
    from migrate_storage.journal.schema import Tables

    with request.application.journal_database() as database:
        click.echo(database.transaction(Tables(request.application.journal_schema).sql), nl=False)


@dataclass(frozen=True, kw_only=True)
class _DropRequest:
    application: JournaledApplication = group(JournaledApplication)
    yes: bool = option(in_file=False, is_flag=True, help="Do not ask.")
    output: Output = group(Output)


@command(
    _DropRequest,
    "Drop the tables: the journal is gone, and every way back.",
    "tables drop --app myapp.storage --yes",
    parent=tables,
)
def drop(request: _DropRequest) -> None:
    """Drop the journal's tables. After that nothing can be resumed, reported or reverted."""
    from migrate_storage.journal.schema import Tables

    with request.application.journal_database() as database:
        if not request.yes:
            click.confirm(f"Drop the journal in {database}? No run can be reverted afterwards", abort=True, err=True)
        database.transaction(Tables(request.application.journal_schema).drop)
        request.output.print_message("dropped", f"The journal's tables are gone from {database}.")


@dataclass(frozen=True, kw_only=True)
class _PruneRequest:
    application: JournaledApplication = group(JournaledApplication)
    older_than: float = option(
        type=Age(), in_file=False, default="90d", show_default=True, metavar="AGE",
        help="Keep runs that finished within this time.",
    )  # fmt: skip
    output: Output = group(Output)


@command(
    _PruneRequest,
    "Forget the objects and rows of old runs.",
    "tables prune --app myapp.storage --older-than 90d",
    parent=tables,
)
def prune(request: _PruneRequest) -> None:
    """Forget the objects and rows of runs that finished long ago; those can no longer be reverted, verified or purged.

    Their reports stay, and so do the lines of copies made in vain, which `purge --leftovers` will need. Of a cutover whose
    phase has been DESTINATION for that long, the lines of keys that are settled go too.
    """
    from migrate_storage.journal.schema import Tables

    journal_tables = Tables(request.application.journal_schema)
    before, count = time.time() - request.older_than, 0
    with request.application.journal_database() as database:
        if database.transaction(journal_tables.exist):
            while gone := database.transaction(lambda connection: journal_tables.prune(connection, before)):
                count += gone
    when = duration(request.older_than)
    request.output.print_message("pruned", f"Forgot {amount(count, 'line')} of what was finished more than {when} ago.")
