"""``journal``: the journal's tables, for database administrators."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial

import click

from migrate_storage.cli.application_options import JournaledApplication, JournalRequest
from migrate_storage.cli.option import command, group, option, taking_earlier_words
from migrate_storage.cli.output import render_note
from migrate_storage.cli.param_types import Age
from migrate_storage.cli.shared_options import Output
from migrate_storage.cli.standard_output import echo
from migrate_storage.core.text import amount, duration

__all__ = ("journal",)


@click.group(
    short_help="Create, change, show, prune or drop the journal's own tables.",
    context_settings=taking_earlier_words({}),
)
def journal() -> None:
    """Create, change, show, prune or drop the tables that the journal keeps, all named migrate_storage_*.

    `run` creates them by itself where it has the right to; these commands are for database administrators.
    """


@command(JournalRequest, "Create the tables.", "journal create --app myapp.storage", parent=journal)
def create(request: JournalRequest) -> None:
    """Create what is missing of the journal's tables. A table that was dropped is made anew, and is empty."""
    from migrate_storage.journal.version_tables import note_alembic

    with request.application.opened_tables() as (database, journal_tables):
        database.transaction(partial(journal_tables.create, again=True))
        request.output.print_message("created", f"The journal's tables are in {database}.")
        for note in note_alembic(database):
            request.output.print({"event": "diagnostic", **asdict(note)}, render_note(note))


@dataclass(frozen=True, kw_only=True)
class _SqlRequest:
    application: JournaledApplication = group(JournaledApplication)
    application_role: str | None = option(
        in_file=False, metavar="NAME",
        help="A role of PostgreSQL that is to act in a cutover, where the application has another one than this command.",
    )  # fmt: skip


@command(
    _SqlRequest,
    "Print the statements that create the tables.",
    "journal sql --app myapp.storage | psql appdb",
    parent=journal,
)
def sql(request: _SqlRequest) -> None:
    """Print the statements that create the journal's tables, for a role that has the rights.

    In PostgreSQL they grant to the role of this command what every job needs. For tables of an older version the
    statements of `journal migrate` are printed; end all jobs and the processes of a cutover before you run those.
    """
    from migrate_storage.journal.statements import write_sql

    with request.application.opened_tables() as (database, journal_tables):
        work = partial(write_sql, tables=journal_tables, application_role=request.application_role)
        echo(database.transaction(work), nl=False)


@command(
    JournalRequest,
    "Bring tables of an older version to this one.",
    "journal migrate --app myapp.storage",
    parent=journal,
)
def migrate(request: JournalRequest) -> None:
    """Apply the steps that tables of an older version lack, while no job runs and no cutover is under way.

    It is refused while a job has a lease, a process may act in a cutover's phase, or a key has an open entry.
    Runs of the older version can be resumed, reverted and purged afterwards.
    """
    from migrate_storage.journal.migrate import migrate_tables

    with request.application.opened_tables() as (database, journal_tables):
        steps = migrate_tables(database, journal_tables)
        event = {"event": "migrated", "steps": steps}
        request.output.print(event, steps or ["The journal's tables are of this version already."])


@dataclass(frozen=True, kw_only=True)
class _DropRequest:
    application: JournaledApplication = group(JournaledApplication)
    yes: bool = option(in_file=False, is_flag=True, help="Do not ask.")
    output: Output = group(Output)


@command(
    _DropRequest,
    "Drop the tables: the journal is gone, and every way back.",
    "journal drop --app myapp.storage --yes",
    parent=journal,
)
def drop(request: _DropRequest) -> None:
    """Drop the journal's tables. After that nothing can be resumed, reported or reverted."""
    with request.application.opened_tables() as (database, journal_tables):
        if not request.yes:
            click.confirm(f"Drop the journal in {database}? No run can be reverted afterwards", abort=True, err=True)
        database.transaction(journal_tables.drop)
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
    "journal prune --app myapp.storage --older-than 90d",
    parent=journal,
)
def prune(request: _PruneRequest) -> None:
    """Forget the objects and rows of runs that finished long ago; those can no longer be reverted, verified or purged.

    Their reports stay, and so do the records of unreferenced copies, which `purge --unreferenced-copies` will need. Of a cutover
    whose phase has been DESTINATION for that long, the closed entries go too.
    """
    count = 0
    with request.application.opened_tables() as (database, journal_tables):
        before = database.time() - request.older_than
        if database.transaction(journal_tables.exist):
            while gone := database.transaction(lambda connection: journal_tables.prune(connection, before)):
                count += gone
    when = duration(request.older_than)
    request.output.print_message(
        "pruned", f"Deleted {amount(count, 'record')} of what was finished more than {when} ago."
    )
