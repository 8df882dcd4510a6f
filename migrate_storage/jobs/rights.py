"""Rights on rows and journal, checked before the first byte of a job."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from sqlalchemy import Connection, Table, false, select

from migrate_storage.core.errors import PreflightError
from migrate_storage.database.dialects import Dialect
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.rights import Trial, check_rows, check_tables, try_in_transaction
from migrate_storage.journal import Journal
from migrate_storage.journal.schema import PREFIX

__all__ = ("check_rights",)


def check_rights(rows: Sequence[FileColumn], journal: Journal, *, update: bool = True) -> None:
    """Check what a job needs of the database: nothing is changed, and no table is created.

    Args:
        rows: the columns that it reads.
        journal: where it writes its records; the tables may be missing.
        update: whether it updates the rows.

    Raises:
        PreflightError: a right is missing, or the database takes no writes.
    """
    check_rows(rows, update=update)
    _check_journal(journal)


def _check_journal(journal: Journal) -> None:
    database, tables = journal.database, journal.tables
    if not journal.exists:
        reason = database.transaction(partial(database.dialect.trials.find_create_refusal, schema=tables.schema))
        if reason:
            raise PreflightError(
                f"cannot create the journal's tables ({PREFIX}*): {reason}; grant CREATE, or have 'migrate-storage "
                "journal sql' run by a role that may, or keep them elsewhere with --journal URL"
            )
        return
    written = [
        tables.lease, tables.run, tables.shard, tables.object, tables.row, tables.link, tables.rekey, tables.rekey_object,
        tables.capability,
    ]  # fmt: skip
    check_tables(database, tables.schema, [table.name for table in written])
    trials = [
        Trial(
            partial(_try_writes, dialect=database.dialect, table=table), f"this role may not write {table.fullname} of the journal",
            "GRANT SELECT, INSERT, UPDATE on it",
        ) for table in written
    ]  # fmt: skip
    try_in_transaction(database, trials, writes=True)


def _try_writes(connection: Connection, dialect: Dialect, table: Table) -> None:
    """Let the server check the statements that write a table of the journal."""
    first = next(iter(table.c))
    nothing = select(table).where(false())
    dialect.trials.try_write(
        connection, table.insert().from_select(list(table.c.keys()), nothing, include_defaults=False)
    )
    dialect.trials.try_write(connection, table.update().where(false()).values({first: first}))
