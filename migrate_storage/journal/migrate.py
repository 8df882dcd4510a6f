"""Apply the steps that a journal lacks, while no process uses its tables."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import dropwhile

from sqlalchemy import Connection, func, select, update

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.text import amount, duration
from migrate_storage.database.connection import Database
from migrate_storage.journal.schema import Tables, check_not_newer
from migrate_storage.journal.steps import Statement, Step, needed_statements, steps_after
from migrate_storage.journal.table_names import TableNames

__all__ = ("list_statements", "migrate_tables")


def migrate_tables(database: Database, tables: Tables) -> list[str]:
    """Bring the tables to the current version.

    A database with transactional DDL (PostgreSQL, SQLite) applies all steps or none. In MariaDB and MySQL an interrupted
    step is marked in the version's row: every other command refuses the tables then, and the next call continues the step.

    Returns:
        The steps that were applied, one line each.

    Raises:
        ConfigurationError: there are no tables, or they are newer than this program, or a process uses them.
        RefusedError: the database refuses a statement.
    """

    def work(connection: Connection) -> list[str]:
        version = tables.read_version(connection)
        if version is None:
            raise ConfigurationError(f"{database} has no journal here, so there is nothing to change")
        check_not_newer(version)
        steps, names = _pending_steps(version), tables.names(connection)
        if steps:
            _refuse_while_in_use(connection, database, tables)
        for number, step in steps.items():
            # Before the first change of a table, so that a program of neither version uses a half-changed one.
            connection.execute(update(tables.version).values(version=-number))
            for statement in _remaining_statements(step, connection, names):
                connection.exec_driver_sql(statement.sql(connection, names))
            connection.execute(update(tables.version).values(version=number))
        return [f"{number}: {step.summary}" for number, step in steps.items()]

    return database.transaction(work)


def list_statements(connection: Connection, tables: Tables) -> Iterator[str]:
    """Yield the statements of the steps that existing tables lack, with a comment in front of each step."""
    version, names = tables.read_version(connection), tables.names(connection)
    assert version is not None
    check_not_newer(version)
    for number, step in _pending_steps(version).items():
        comment = f"-- {number}: {step.summary}\n"
        for statement in _remaining_statements(step, connection, names):
            yield comment + statement.sql(connection, names)
            comment = ""
        yield f"{comment}UPDATE {names.qualify('version')} SET version = {number}"


def _pending_steps(version: int) -> dict[int, Step]:
    return steps_after(version if version > 0 else -version - 1)


def _remaining_statements(step: Step, connection: Connection, names: TableNames) -> Iterator[Statement]:
    """Yield the statements from the first one that is not done."""
    return dropwhile(lambda statement: statement.done(connection, names), needed_statements(step, connection))


def _refuse_while_in_use(connection: Connection, database: Database, tables: Tables) -> None:
    """Refuse while a lease is valid, a process may act in a cutover's phase, or a key of a cutover has an open entry."""
    lease, process, outbox, now = tables.lease.c, tables.process.c, tables.outbox.c, database.now(connection)
    left = connection.execute(select(func.max(lease.expires))).scalar() or 0.0
    names = list(connection.execute(select(process.name).where(process.expires > now).order_by(process.name)).scalars())
    keys = connection.execute(select(func.count()).select_from(tables.outbox).where(outbox.open)).scalar_one()
    reasons = [f"a job has a lease for {duration(left - now)} more"] if left > now else []
    if names:
        reasons.append(
            f"{amount(len(names), 'process', 'processes')} may act in a cutover's phase ({', '.join(names[:5])})"
        )
    if keys:
        reasons.append(f"{amount(keys, 'key')} of a cutover with an open entry ('migrate-storage cutover repair')")
    if reasons:
        raise ConfigurationError(
            f"the journal's tables are in use: {'; '.join(reasons)}; end that, then run the same command again"
        )
