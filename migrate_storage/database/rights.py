"""Rights, read-only servers and transactions, tried before the first row is changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from migrate_storage.core.errors import PreflightError, RefusedError
from migrate_storage.database.connection import Database, error_code
from migrate_storage.database.file_column import FileColumn

__all__ = ("Trial", "check_rows", "check_tables", "try_in_transaction")


def check_rows(rows: Sequence[FileColumn], *, update: bool) -> None:
    """Check that this role may read columns of files, and update them in transactions that can be rolled back.

    Args:
        rows: the columns.
        update: whether they will be updated.

    Raises:
        PreflightError: a right is missing, the server takes no writes, or a table has no transactions.
    """
    for database in {id(each.database): each.database for each in rows}.values():
        _check_rows(database, [each for each in rows if each.database is database], update=update)


def _check_rows(database: Database, rows: Sequence[FileColumn], *, update: bool) -> None:
    """Check columns of one database, with the errors of :func:`check_rows`."""
    reads = [
        Trial(
            lambda connection, each=each: connection.execute(each.select(each.raw).limit(0)),  # type: ignore[misc]
            f"this role may not SELECT {each.column}",
            f"GRANT SELECT on its key ({', '.join(each.column.key)}) and on the column",
        )
        for each in rows
    ]
    try_in_transaction(database, reads)
    if not update:
        return
    for each in rows:
        if each.generated:
            raise PreflightError(
                f"the database generates {each.column} from other columns, so that no UPDATE sets it: leave it out of "
                "--columns, and name the column from which it is generated"
            )
    for schema in dict.fromkeys(each.column.schema for each in rows):
        tables = dict.fromkeys(each.column.table for each in rows if each.column.schema == schema)
        check_tables(database, schema, list(tables))
    check, remedy = database.dialect.trials.check_update, "GRANT UPDATE on the column"
    writes = [
        Trial(work, f"this role may not UPDATE {each.column}", remedy)
        for each in rows
        for work in (partial(check, table=each.table, column=each.column.column), each.statements.try_update)
    ]
    try_in_transaction(database, writes, writes=True)


def check_tables(database: Database, schema: str | None, tables: Sequence[str]) -> None:
    """Check that tables have transactions.

    Raises:
        PreflightError: one has none.
    """
    dialect = database.dialect
    found = database.transaction(lambda connection: dialect.trials.find_untransactional(connection, schema, tables))
    for table, engine in found:
        raise PreflightError(
            f"table {table} is kept by {engine}, which has no transactions: a row and its journal record could not be "
            f"committed together; ALTER TABLE {table} ENGINE=InnoDB first"
        )


class Trial(NamedTuple):
    """Something that changes no row, and that the database may refuse."""

    work: Callable[[Connection], object]
    #: What is forbidden if the database refuses.
    what: str
    #: What to do then.
    remedy: str


def try_in_transaction(database: Database, trials: Sequence[Trial], *, writes: bool = False) -> None:
    """Try in one transaction whether the database lets this role do something.

    Args:
        database: the database.
        trials: what is tried, in this order.
        writes: whether these are writes, for which the server must take writes, and in a transaction.

    Raises:
        PreflightError: the database refuses one of them.
    """
    current = trials[0]

    def attempt(connection: Connection) -> None:
        nonlocal current
        reason = database.dialect.trials.find_read_only(connection) if writes else ""
        if reason:
            raise _make_read_only_error(database, reason)
        try:
            for current in trials:
                current.work(connection)
        except DBAPIError as error:
            if writes and {error_code(error), str(error.orig).lower()} & database.dialect.read_only_codes:
                raise _make_read_only_error(database, str(error.orig)) from error
            raise
        if writes and not database.dialect.trials.in_transaction(connection):
            raise PreflightError(
                f"transactions of {database} are none: a ROLLBACK would not undo an UPDATE, and a killed run could not "
                "be reverted; leave AUTOCOMMIT out of the engine and its events"
            )

    try:
        database.transaction(attempt)
    except RefusedError as error:
        raise PreflightError(f"{current.what}: {error.reason}; {current.remedy}") from error


def _make_read_only_error(database: Database, reason: str) -> PreflightError:
    return PreflightError(f"the database {database} takes no writes: {reason}; {database.dialect.read_only_remedy}")
