"""The application's database, on connections of our own: short transactions, tried again when that is safe.

Async engines enter here, by one bridge (:meth:`Database.transaction` runs the same function either way), so that
everything above is written once, against SQLAlchemy Core's synchronous :class:`~sqlalchemy.engine.Connection`.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import (
    DBAPIError,
    InterfaceError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import SingletonThreadPool, StaticPool

from migrate_storage.core.errors import ConfigurationError, RefusedError, RunError
from migrate_storage.database.urls import engine_from_url

__all__ = ("Database", "describe_failure")

T = TypeVar("T")

LOCK_TIMEOUT = 10
"""Seconds that one statement waits for a lock that the application holds."""
IDLE_TIMEOUT = 10
"""Seconds after which PostgreSQL and MariaDB end a transaction of ours that says nothing: its process was stopped or cut
off, and it must not keep its locks on rows and lease until it comes back."""

_TRANSIENT_STATES = frozenset(
    {"40001", "40P01", "40003", "55P03", "57014", "57P01", "57P02", "57P03", "57P05", "25P03", "53300"}
    | {"08000", "08001", "08003", "08004", "08006", "08007"}
)
"""PostgreSQL SQLSTATEs after which the same transaction may succeed: serialization, deadlock, lock timeout, restart."""
_TRANSIENT_CODES = frozenset(
    {1020, 1040, 1053, 1203, 1205, 1213, 1226, 1317, 1412, 1927, 1969, 2002, 2003, 2006, 2013, 2055, 4031}
)
"""MySQL and MariaDB error numbers of the same meaning."""
_READ_ONLY = ("25006", 1290, 1792, 1836)
"""A server that answers as a read-only replica: a failover in progress, worth the same wait."""
_NO_ROOM = ("53100", 3, 1021, 1026, 1114)
"""No room on the disk, or a write to it that failed: no row is to blame, and waiting makes no room."""


def describe_failure(error: BaseException) -> str:
    """One line about a database error, without the statement, its parameters or a password."""
    original = getattr(error, "orig", None) or error
    lines = str(original).strip().splitlines() or [type(original).__name__]
    return f"{type(original).__name__}: {' '.join(line.strip() for line in lines[:2])[:300]}"


def is_transient(error: BaseException) -> bool:
    """Whether the whole transaction may simply be tried again."""
    if not isinstance(error, DBAPIError):
        return isinstance(error, (ConnectionError, TimeoutError, OSError))
    if error.connection_invalidated:
        return True
    code = _code(error)
    if isinstance(code, int):
        return code in _TRANSIENT_CODES or code in _READ_ONLY
    if code is not None:
        return code in _TRANSIENT_STATES or code in _READ_ONLY
    message = str(error.orig).lower()
    if "locked" in message or "busy" in message:
        return True
    return isinstance(error, (OperationalError, InterfaceError)) and any(
        words in message
        for words in ("connection", "server closed", "timeout", "timed out", "starting up", "shutting down")
    )


def is_full(error: BaseException) -> bool:
    """Whether the database could not write for want of room, or because its disk failed."""
    if not isinstance(error, DBAPIError):
        return False
    message = str(error.orig).lower()
    return _code(error) in _NO_ROOM or "disk is full" in message or "disk i/o error" in message


def _code(error: DBAPIError) -> int | str | None:
    """The server's own number or SQLSTATE, where it told one."""
    original: Any = error.orig
    code = original.args[0] if original is not None and original.args else None
    if isinstance(code, int):
        # Before the state: a lock timeout of MySQL and MariaDB has the same as a trigger's refusal.
        return code
    state: str | None = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)
    return state


class Database:
    """One database, reached through a pool of its own.

    Args:
        engine: a SQLAlchemy URL, or the application's engine, sync or async. Of an engine only the way to connect is
            taken over (its pool is made anew, so that neither the application's connections nor its event loop are
            used), except where the pool *is* the database: SQLite in memory.
        attempts: how often one transaction is tried before the run stops.

    Raises:
        ConfigurationError: the URL is not one, or its driver is not installed.
    """

    def __init__(self, engine: Engine | AsyncEngine | str, *, attempts: int = 8) -> None:
        self._attempts = attempts
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        if isinstance(engine, str):
            engine = engine_from_url(engine)
            self._engine, self._owned = engine, True
        else:
            self._engine, self._owned = _private(engine)
        # SQLite in memory is one connection for all threads: they take turns.
        self._turn: AbstractContextManager[Any] = nullcontext() if self._owned else threading.RLock()
        self.url = self._sync_engine.url
        #: ``sqlite``, ``postgresql``, ``mysql`` or ``mariadb``: told apart from the server's answer, not the URL's name.
        self.dialect = self._sync_engine.dialect.name
        self.driver = self._sync_engine.dialect.driver

    @property
    def _sync_engine(self) -> Engine:
        return self._engine.sync_engine if isinstance(self._engine, AsyncEngine) else self._engine

    def __repr__(self) -> str:
        return f"Database({self.url.render_as_string(hide_password=True)})"

    def __str__(self) -> str:
        return self.url.render_as_string(hide_password=True)

    def connect(self) -> None:
        """Open one connection and learn which server answers.

        Raises:
            ConfigurationError: it cannot be reached, or refuses us.
        """
        try:
            self._run(lambda connection: connection.execute(text("SELECT 1")))
        except Exception as error:
            raise ConfigurationError(
                f"cannot reach the database {self}: {describe_failure(error)}; check the URL, that the server runs and that this user may connect"
            ) from error
        if getattr(self._sync_engine.dialect, "is_mariadb", False):
            self.dialect = "mariadb"

    def transaction(self, work: Callable[[Connection], T], *, attempts: int | None = None) -> T:
        """Run ``work`` in one short READ COMMITTED transaction, and again while the failure is a passing one.

        Args:
            work: called with the connection, perhaps several times: it must hold all that is to be redone together.
            attempts: how often it is tried; ``None`` as the database was told.

        Raises:
            RefusedError: the database refuses it; the cause is SQLAlchemy's own error.
            RunError: it still failed after all attempts.
        """
        attempts = attempts or self._attempts
        for attempt in range(1, attempts + 1):
            try:
                return self._run(work)
            except (SQLAlchemyError, OSError) as error:
                if is_full(error):
                    raise RunError(
                        f"the database {self} cannot write to its disk: {describe_failure(error)}; nothing is half done: make room there, then run the same command again to go on"
                    ) from error
                if isinstance(error, DBAPIError) and not is_transient(error):
                    reason = describe_failure(error)
                    raise RefusedError(
                        f"the database {self} refuses: {reason}; nothing is half done: mend that, then run the same command again to go on",
                        reason,
                    ) from error
                if not is_transient(error) or attempt == attempts:
                    raise RunError(
                        f"the database {self} failed {attempt} times: {describe_failure(error)}; nothing is half done, run the same command again to go on"
                    ) from error
                time.sleep(min(5.0, 0.05 * 2**attempt) * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
        raise AssertionError("unreachable")

    def _run(self, work: Callable[[Connection], T]) -> T:
        with self._turn:
            return self._reached(work)

    def _reached(self, work: Callable[[Connection], T]) -> T:
        if isinstance(self._engine, AsyncEngine):
            return self._bridge(self._run_async(self._engine, work))
        with self._engine.connect() as connection:
            return self._work(connection, work)

    async def _run_async(self, engine: AsyncEngine, work: Callable[[Connection], T]) -> T:
        async with engine.connect() as connection:
            return await connection.run_sync(self._work, work)

    def _work(self, connection: Connection, work: Callable[[Connection], T]) -> T:
        if self.dialect == "sqlite":
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {LOCK_TIMEOUT * 1000}")
            connection.rollback()
            with connection.begin():
                return work(connection)
        connection = connection.execution_options(isolation_level="READ COMMITTED")
        if self.driver == "psycopg":
            # PgBouncer in transaction mode hands each transaction another server connection: prepare nothing.
            driver_connection: Any = connection.connection.driver_connection
            driver_connection.prepare_threshold = None
        with connection.begin():
            if self.dialect == "postgresql":
                connection.exec_driver_sql(
                    f"SELECT set_config('lock_timeout', '{LOCK_TIMEOUT}s', true), set_config('idle_in_transaction_session_timeout', '{IDLE_TIMEOUT}s', true)"
                )
            elif self.dialect == "mariadb":
                connection.exec_driver_sql(
                    f"SET SESSION innodb_lock_wait_timeout = {LOCK_TIMEOUT}, SESSION idle_transaction_timeout = {IDLE_TIMEOUT}"
                )
            else:
                connection.exec_driver_sql(f"SET SESSION innodb_lock_wait_timeout = {LOCK_TIMEOUT}")
            return work(connection)

    def now(self, connection: Connection) -> float:
        """The database's clock, in seconds since the epoch: leases compare times of one clock only."""
        statement = {
            "sqlite": "SELECT (julianday('now') - 2440587.5) * 86400.0",
            "postgresql": "SELECT extract(epoch FROM clock_timestamp())",
        }.get(self.dialect, "SELECT UNIX_TIMESTAMP(NOW(6))")
        return float(connection.exec_driver_sql(statement).scalar_one())

    def close(self) -> None:
        """Close our connections; the application's stay as they are."""
        if self._owned:
            if isinstance(self._engine, AsyncEngine):
                self._bridge(self._engine.dispose())
            else:
                self._engine.dispose()
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self._loop = self._thread = None

    def _bridge(self, coroutine: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="database", daemon=True)
            self._thread.start()
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


def _private(engine: Engine | AsyncEngine) -> tuple[Engine | AsyncEngine, bool]:
    sync = engine.sync_engine if isinstance(engine, AsyncEngine) else engine
    if isinstance(sync.pool, (StaticPool, SingletonThreadPool)):
        return engine, False
    own = Engine(sync.pool.recreate(), sync.dialect, sync.url, hide_parameters=True)
    return (AsyncEngine(own) if isinstance(engine, AsyncEngine) else own), True
