"""Rights, read-only servers and transactions, tried before the first row is changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from migrate_storage.core.errors import PreflightError, RefusedError
from migrate_storage.database.connection import Database, error_code
from migrate_storage.database.file_column import FileColumn

__all__ = ("check_rows", "check_tables", "try_in_transaction")


def check_rows(rows: Sequence[FileColumn], *, update: bool) -> None:
    """Check that this role may read columns of files, and update them in transactions that can be rolled back.

    Args:
        rows: the columns.
        update: whether they will be updated.

    Raises:
        PreflightError: a right is missing, the server takes no writes, or a table has no transactions.
    """
    for each in rows:
        column, database = each.column, each.database
        try_in_transaction(
            database,
            lambda connection, each=each: connection.execute(each.select(each.raw).limit(0)),  # type: ignore[misc]
            f"this role may not SELECT {column}",
            f"GRANT SELECT on its key ({', '.join(column.key)}) and on the column",
        )
        if update:
            if each.generated:
                raise PreflightError(
                    f"the database generates {column} from other columns, so that no UPDATE sets it: leave it out of "
                    "--columns, and name the column from which it is generated"
                )
            check_tables(database, column.schema, [column.table])
            try_in_transaction(
                database, each.statements.try_update, f"this role may not UPDATE {column}",
                "GRANT UPDATE on the column", writes=True,
            )  # fmt: skip


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


def try_in_transaction(
    database: Database, work: Callable[[Connection], object], what: str, remedy: str, *, writes: bool = False
) -> None:
    """Do something that changes no row, to see whether the database lets this role do it.

    Args:
        database: the database.
        work: what is tried.
        what: what is forbidden if the database refuses.
        remedy: what to do then.
        writes: whether it is a write, for which the server must take writes, and in a transaction.

    Raises:
        PreflightError: the database refuses.
    """

    def attempt(connection: Connection) -> None:
        reason = database.dialect.trials.find_read_only(connection) if writes else ""
        if reason:
            raise _make_read_only_error(database, reason)
        try:
            work(connection)
        except DBAPIError as error:
            if writes and error_code(error) in database.dialect.read_only_codes:
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
        raise PreflightError(f"{what}: {error.reason}; {remedy}") from error


def _make_read_only_error(database: Database, reason: str) -> PreflightError:
    return PreflightError(
        f"the database {database} takes no writes: {reason}; connect to the primary, as a role that may write"
    )
