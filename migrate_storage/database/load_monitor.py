"""Asks the rows' database whether it is under stress: a query of the user's, and how far its replicas lag behind."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from migrate_storage.core.errors import ConfigurationError, RunError
from migrate_storage.database.connection import Database, describe_failure

__all__ = ("LoadMonitor",)

_PRIMARY = """
SELECT count(*), count(state), pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0'), min(pg_wal_lsn_diff(replay_lsn, '0/0')),
    EXTRACT(epoch FROM max(replay_lag) FILTER (WHERE replay_lsn < pg_current_wal_lsn()))
FROM pg_stat_replication
"""
_STANDBY = """
SELECT (SELECT count(*) FROM pg_stat_wal_receiver), 1, pg_wal_lsn_diff(pg_last_wal_receive_lsn(), '0/0'),
    pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0'), NULL
"""
_BEHIND = ("Seconds_Behind_Source", "Seconds_Behind_Master")


class LoadMonitor:
    """When the database should be left in peace.

    Args:
        database: where the rows are.
        query: its first value is true, or a number above zero, while the run is to pause; ``None`` asks nothing.
        max_lag: seconds that a replica may be behind; ``None`` asks none.
        replicas: databases to ask how far behind they are; none asks ``database``, which must be PostgreSQL.
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
        self._lags = [_Lag(each) for each in self._replicas or (database,)]

    def check(self) -> None:
        """See that everything can be asked, before anything is touched.

        Raises:
            ConfigurationError: it cannot.
        """
        if self._query is not None:
            try:
                self._answer()
            except (SQLAlchemyError, RunError, ValueError) as error:
                raise ConfigurationError(
                    f"--throttle-query cannot be asked: {describe_failure(error)}; try it in a database shell as this user"
                ) from error
        if self._max_lag is None:
            return
        for database in self._replicas:
            database.connect()
        for lag in self._lags:
            try:
                lag.seconds()
            except (SQLAlchemyError, RunError) as error:
                raise ConfigurationError(
                    f"--max-replica-lag cannot be asked of {lag.database}: {describe_failure(error)}; "
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
        for lag in self._lags:
            try:
                seconds = lag.seconds()
            except (SQLAlchemyError, RunError, ConfigurationError) as error:
                return f"{lag.database} does not say how far its replication lags: {describe_failure(error)}"
            if seconds is None:
                return f"replication to {lag.database} has stopped"
            if seconds > self._max_lag:
                return f"a replica is {seconds:.0f} s behind, --max-replica-lag allows {self._max_lag:g} s"
        return ""

    def _answer(self) -> str:
        """The first value of the query where it asks for a pause; else empty."""

        def read(connection: Connection) -> Any:
            result = connection.execute(text(self._query or ""))
            row = result.first() if result.returns_rows else None
            # A query that writes is none: whatever it did is undone with its transaction.
            connection.rollback()
            if not result.returns_rows:
                raise ValueError("it returns no rows: write it as SELECT ...")
            return row[0] if row else None

        value = self._database.transaction(read)
        if value is None or isinstance(value, bool | int | float | Decimal):
            return str(value) if value and value > 0 else ""
        raise ValueError(f"its first value is a {type(value).__name__}: write it as a number or a condition")


class _Lag:
    """How far behind the slowest replica is that one server knows of.

    PostgreSQL tells positions in its log, and a time only of what was replayed: of what was not, the time counts since
    we saw it written.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self._written: deque[tuple[float, Decimal]] = deque(maxlen=100_000)

    def seconds(self) -> float | None:
        """``None`` where replication has stopped.

        Raises:
            ConfigurationError: this server cannot tell.
        """
        if self.database.dialect == "postgresql":
            return self.database.transaction(self._postgresql)
        if self.database.dialect in ("mysql", "mariadb"):
            return self.database.transaction(lambda connection: _mysql_lag(connection, self.database))
        raise ConfigurationError(f"{self.database} has no replicas: leave --max-replica-lag out")

    def _postgresql(self, connection: Connection) -> float | None:
        standby = connection.exec_driver_sql("SELECT pg_is_in_recovery()").scalar_one()
        known, told, written, replayed, lag = connection.exec_driver_sql(_STANDBY if standby else _PRIMARY).one()
        if standby and not known:
            return None
        if not standby and known != told:
            raise ConfigurationError(
                f"this user may not see how far the replicas of {self.database} lag: GRANT pg_monitor to it, or name the replicas with --replicas"
            )
        if written is None or replayed is None:
            return 0.0
        now = time.monotonic()
        if not self._written or self._written[-1][1] < written:
            self._written.append((now, written))
        while self._written and self._written[0][1] <= replayed:
            self._written.popleft()
        return max(now - self._written[0][0] if self._written else 0.0, float(lag or 0))


def _mysql_lag(connection: Connection, database: Database) -> float | None:
    names = ("SHOW REPLICA STATUS", "SHOW SLAVE STATUS")
    for statement in names:
        try:
            rows = connection.exec_driver_sql(statement).mappings().all()
            break
        except SQLAlchemyError:
            if statement == names[-1]:
                raise
    if not rows:
        raise ConfigurationError(
            f"{database} is no replica, and a primary of this kind does not know how far its replicas lag: name them with --replicas URL"
        )
    behind = [next((row[name] for name in _BEHIND if name in row), None) for row in rows]
    return None if None in behind else max(float(seconds) for seconds in behind if seconds is not None)
