"""The load of the rows' database: a query of the user, and the replicas' lag."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from functools import partial
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from migrate_storage.core.errors import ConfigurationError, RunError
from migrate_storage.database.connection import Database, describe_failure

__all__ = ("LoadMonitor",)


class LoadMonitor:
    """Queries a database and its replicas for a reason to pause.

    Args:
        database: the database of the rows.
        query: a SELECT whose first value is true, or a number above zero, while the run must pause.
        max_lag: seconds that a replica may be behind; ``None`` measures no lag.
        replicas: databases whose lag is measured; none measures that of ``database``, which must be PostgreSQL.
    """

    def __init__(
        self,
        database: Database,
        *,
        query: str | None = None,
        max_lag: float | None = None,
        replicas: Sequence[Database] = (),
    ) -> None:
        self._database, self._query, self._max_lag, self._replicas = database, query, max_lag, tuple(replicas)
        self._lags = [(server, server.dialect.replica_lag()) for server in self._replicas or (database,)]

    def check(self) -> None:
        """Run every query once, before anything is changed.

        Raises:
            ConfigurationError: a query fails.
        """
        if self._query is not None:
            try:
                self._answer()
            except (SQLAlchemyError, RunError, ValueError) as error:
                raise ConfigurationError(
                    f"--throttle-query cannot be asked: {describe_failure(error)}; try it in a database shell as this "
                    "user"
                ) from error
        if self._max_lag is None:
            return
        for replica in self._replicas:
            replica.connect()
        for server, lag in self._lags:
            try:
                server.transaction(partial(lag.seconds, server=str(server)))
            except (SQLAlchemyError, RunError) as error:
                raise ConfigurationError(
                    f"--max-replica-lag cannot be asked of {server}: {describe_failure(error)}; "
                    "on MariaDB and MySQL grant REPLICA MONITOR (or REPLICATION CLIENT)"
                ) from error

    def ask(self) -> str:
        """Why the run should pause now, in one line; empty when it should not."""
        try:
            if self._query is not None and (answer := self._answer()):
                return f"--throttle-query answers {answer}"
        except (SQLAlchemyError, RunError, ValueError) as error:
            return f"--throttle-query fails: {describe_failure(error)}"
        if self._max_lag is None:
            return ""
        for server, lag in self._lags:
            try:
                seconds = server.transaction(partial(lag.seconds, server=str(server)))
            except (SQLAlchemyError, RunError, ConfigurationError) as error:
                return f"{server} does not report how far its replication lags: {describe_failure(error)}"
            if seconds is None:
                return f"replication to {server} has stopped"
            if seconds > self._max_lag:
                return f"a replica is {seconds:.0f} s behind, --max-replica-lag allows {self._max_lag:g} s"
        return ""

    def _answer(self) -> str:
        """The first value of the query if it means a pause, else an empty text."""

        def read(connection: Connection) -> Any:
            result = connection.execute(text(self._query or ""))
            row = result.first() if result.returns_rows else None
            # What the query wrote, if anything, is rolled back.
            connection.rollback()
            if not result.returns_rows:
                raise ValueError("it returns no rows: write it as SELECT ...")
            return row[0] if row else None

        value = self._database.transaction(read)
        if value is None or isinstance(value, bool | int | float | Decimal):
            return str(value) if value and value > 0 else ""
        raise ValueError(f"its first value is a {type(value).__name__}: write it as a number or a condition")
