"""Take a census of a backend key, record it, and refuse what its findings forbid."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from migrate_storage.core.census import Census, CensusColumn
from migrate_storage.core.errors import PreflightError
from migrate_storage.core.events import silent
from migrate_storage.core.model import Column
from migrate_storage.core.text import amount
from migrate_storage.database.census import CensusScope, check_tables, take_census
from migrate_storage.database.connection import Database
from migrate_storage.jobs.census_options import CensusOptions
from migrate_storage.journal import Journal, RunRecord, new_run_id
from migrate_storage.journal.schema import Tables

if TYPE_CHECKING:
    from migrate_storage.application.application import Application
    from migrate_storage.jobs.context import JobContext

__all__ = (
    "check_options",
    "find_censuses",
    "latest_census",
    "reason_to_refuse",
    "refuse_where_named",
    "search",
    "search_all",
)

_NAMED = 5
"""Columns that a refusal names at most. All are counted."""


def search(
    database: Database,
    known_columns: Sequence[Column],
    keys: Sequence[str],
    options: CensusOptions,
    context: JobContext | None = None,
    journal: Journal | None = None,
    *,
    until: float | None = None,
) -> Census | None:
    """Search a database for backend keys.

    Args:
        database: of the rows, connected.
        known_columns: the columns of files that the application has there.
        keys: the backend keys.
        options: what is searched.
        context: the job's listener, and its request to stop; ``None`` reports nothing and goes to the end.
        journal: where the census is recorded; ``None`` records it nowhere.
        until: when it must be whole, by the monotonic clock; ``None`` sets no limit.

    Returns:
        What was found; ``None`` where the options leave the census out.

    Raises:
        ConfigurationError: the options name a table that does not exist.
        RunError: the database cannot be reached any more.
        StoppedError: the job was asked to stop, or the time is over.
    """
    if options.census == ("none",):
        return None
    known = [(each.schema, each.table, each.column) for each in known_columns]
    translated = [(database.schema(schema), table, column) for schema, table, column in known]
    scope = CensusScope(
        keys=tuple(dict.fromkeys(keys)), known=frozenset((*known, *translated)),
        leave_out=frozenset(table.name for table in Tables().metadata.tables.values()),
        tables=() if options.census == ("full",) else options.census, excused=options.excused,
        hidden_excused=options.visible_tables_only, rate=options.census_rate,
    )  # fmt: skip

    def wait(seconds: float) -> bool:
        over = until is not None and time.monotonic() + seconds > until
        return over or (context is not None and context.stop.wait(seconds))

    found = take_census(database, scope, wait=wait, send=context.stats.send if context else silent)
    if journal is not None:
        # The journal may be in another database, which has its own clock.
        now = journal.database.time()
        journal.runs.begin(
            RunRecord(
                id=new_run_id(), kind="census", state="completed", source=found.keys[0][:255], destination="", way="",
                started=now - (found.finished - found.started), updated=now, finished=now,
                report=json.dumps(found.to_dict()),
            )
        )  # fmt: skip
    return found


def check_options(database: Database, options: CensusOptions) -> None:
    """Check what can be checked before a job whose census comes last.

    Raises:
        ConfigurationError: the options name a table that does not exist.
    """
    if options.census not in ((), ("full",), ("none",)):
        check_tables(database, options.census)


def find_censuses(
    database: Database, journal: Journal, application: Application, keys: Sequence[str], options: CensusOptions
) -> dict[str, Census | None]:
    """Return a census of each key, for a command that shows it: a new one if the options ask for it, else the latest."""
    book = journal if journal.exists else None
    if not options.census:
        recorded = list(_read_recorded(book))
        return {key: next((census for census in recorded if key in census.keys), None) for key in keys}
    return dict.fromkeys(
        keys, search(database, application.known_columns, keys, options, journal=book) if keys else None
    )


def latest_census(journal: Journal | None, key: str) -> Census | None:
    """The latest census of a key that the journal has."""
    return next((census for census in _read_recorded(journal) if key in census.keys), None)


def _read_recorded(journal: Journal | None) -> Iterator[Census]:
    """Read the censuses that the journal has, the latest first."""
    if journal is not None and journal.exists:
        now = journal.database.time()
        for record in journal.runs.censuses():
            if record.report:
                census = Census.from_dict(json.loads(record.report))
                yield replace(census, age=max(0.0, now - record.updated))


def search_all(
    everywhere: Sequence[tuple[Database, Sequence[Column]]],
    application: Application,
    keys: Sequence[str],
    options: CensusOptions,
    context: JobContext | None = None,
    journal: Journal | None = None,
) -> Iterator[tuple[Database, Census | None]]:
    """Search each database of an application, the chosen one first; see :func:`search`.

    Args:
        everywhere: the databases with their columns.
        application: the application.
        keys: the backend keys.
        options: what is searched.
        context: the job's listener, and its request to stop.
        journal: where the census of the chosen database is recorded.
    """
    for number, (database, columns) in enumerate(everywhere):
        known = columns if number else application.known_columns
        yield database, search(database, known, keys, options, context, None if number else journal)


def refuse_where_named(
    everywhere: Sequence[tuple[Database, Sequence[Column]]],
    application: Application,
    keys: Sequence[str],
    options: CensusOptions,
    what: str,
    context: JobContext,
    journal: Journal | None,
) -> Census | None:
    """Refuse a job that deletes, unless each database was searched whole and nothing unknown names a key.

    Args:
        everywhere: the databases with their columns, the chosen one first.
        application: the application.
        keys: the backend keys under which the objects may be named.
        options: what is searched, and what is excused.
        what: what is not done, for the message.
        context: the job's listener, and its request to stop.
        journal: where the census is recorded; ``None`` records it nowhere.

    Returns:
        The census of the chosen database.

    Raises:
        PreflightError: something names a key, or may name it unseen.
    """
    found: list[Census | None] = []
    for database, census in search_all(everywhere, application, keys, options, context, journal):
        if reason := reason_to_refuse(census, keys):
            raise PreflightError(f"{reason}: {what}{f' ({database})' if found else ''}")
        found.append(census)
    return found[0]


def reason_to_refuse(census: Census | None, keys: Collection[str]) -> str:
    """Why nothing may rest on a census, with the remedy, in one line; empty where everything may."""
    if census is None or census.narrowed:
        return "not every table was searched for rows that name the key: use --census full"
    unknown = [
        f"{each} ({amount(sum(each.rows.get(key, 0) for key in keys), 'row')})" for each in census.unknown(*keys)
    ]
    shown = ", ".join(map(repr, keys))
    if unknown:
        return (
            f"columns that no model has name {shown}: {_join(unknown)}; move them with --columns, or excuse each with "
            "--excused TABLE.COLUMN"
        )
    if unseen := census.unseen:
        first: CensusColumn = unseen[0]
        return (
            f"{amount(len(unseen), 'column')} cannot be searched for {shown}: {_join(list(map(str, unseen)))} "
            f"({first.unreadable}); grant SELECT, or excuse each with --excused TABLE.COLUMN"
        )
    if not census.whole:
        return (
            f"the server hides from this role {census.hidden}, and they may name {shown}: use a role that may SELECT "
            "everything, or --visible-tables-only where no other table matters"
        )
    return ""


def _join(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
