"""The application's database on our own connections, in short transactions.

:meth:`Database.transaction` runs a function on an async engine too. So all other code is written once, against
SQLAlchemy Core's synchronous :class:`~sqlalchemy.engine.Connection`.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import AssertionPool, SingletonThreadPool, StaticPool

from migrate_storage.core.errors import ConfigurationError, PreflightError, RefusedError, RunError
from migrate_storage.database.clock import DatabaseClock
from migrate_storage.database.dialects import DIALECTS, dialect_of, refuse_product
from migrate_storage.database.urls import engine_from_url

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

__all__ = ("Database", "SlowStatementError", "describe_failure", "error_code", "is_full", "is_timeout", "is_transient")

T = TypeVar("T")

LOCK_TIMEOUT_SECONDS = 10
"""How long one statement waits for a lock of the application."""
IDLE_TIMEOUT_SECONDS = 10
"""How long a transaction of ours may be idle in PostgreSQL and MariaDB before the server ends it.

Its process was stopped or cut off. It must not keep its locks on rows and lease until it returns.
"""
MAX_RETRY_SECONDS = 5.0
"""The longest wait between two attempts of a transaction."""

_TRANSIENT_CODES = frozenset[int | str]().union(*(each.transient_codes for each in DIALECTS.values()))
_TRANSIENT_WORDS = tuple(words for each in DIALECTS.values() for words in each.transient_messages)
_FULL_CODES = frozenset[int | str]().union(*(each.full_codes for each in DIALECTS.values()))
_TIMEOUT_CODES = frozenset[int | str]().union(*(each.timeout_codes for each in DIALECTS.values()))
_FULL_WORDS = tuple(words for each in DIALECTS.values() for words in each.full_messages)
_READING_OPTIONS = frozenset({"stream_results", "yield_per", "max_row_buffer", "compiled_cache", "no_parameters"})
"""Execution options that decide how an application reads results, and nothing about where its tables are."""
_CONNECTION_WORDS = ("connection", "server closed", "timeout", "timed out", "starting up", "shutting down")
"""Words in the message of a connection error without a code."""


class SlowStatementError(RunError):
    """The server cancelled a statement that took too long for it. One for fewer rows may succeed."""


def describe_failure(error: BaseException) -> str:
    """One line about a database error, without statement, parameters or password."""
    original = getattr(error, "orig", None) or error
    lines = str(original).strip().splitlines() or [type(original).__name__]
    return f"{type(original).__name__}: {' '.join(line.strip() for line in lines[:2])[:300]}"


def is_transient(error: BaseException) -> bool:
    """Whether the same transaction may succeed when it is run again."""
    if not isinstance(error, DBAPIError):
        return isinstance(error, (ConnectionError, TimeoutError, OSError))
    if error.connection_invalidated:
        return True
    code = error_code(error)
    if code is not None:
        return code in _TRANSIENT_CODES
    message = str(error.orig).lower()
    if any(words in message for words in _TRANSIENT_WORDS):
        return True
    return isinstance(error, (OperationalError, InterfaceError)) and any(
        words in message for words in _CONNECTION_WORDS
    )


def is_full(error: BaseException) -> bool:
    """Whether the database could not write because its disk is full or failed."""
    if not isinstance(error, DBAPIError):
        return False
    message = str(error.orig).lower()
    return error_code(error) in _FULL_CODES or any(words in message for words in _FULL_WORDS)


def is_timeout(error: BaseException | None) -> bool:
    """Whether the server cancelled a statement because it took too long."""
    return isinstance(error, DBAPIError) and error_code(error) in _TIMEOUT_CODES


def error_code(error: DBAPIError) -> int | str | None:
    """The server's error number or SQLSTATE; ``None`` where the driver gives none."""
    original: Any = error.orig
    code = original.args[0] if original is not None and original.args else None
    if isinstance(code, int):
        # Before the state: in MySQL and MariaDB a lock timeout has the same state as a trigger's refusal.
        return code
    state: str | None = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)
    return state


class Database:
    """One database, reached through a pool of its own.

    Args:
        engine: a SQLAlchemy URL, or the application's engine, sync or async. We connect as the engine does, through a
            new pool: neither the application's connections nor its event loop are used. A database that exists in the
            pool's connection only (SQLite in memory) is reached through the given pool.
        attempts: how often one transaction is tried before the run stops.
        visible_rows_only: read what row level security shows to this role, instead of an error where it hides rows.

    The engine keeps what decides where the application's statements go and who sends them: its creator, the listeners
    of its pool and dialect (``do_connect``, ``connect``, ``checkout``), its ``begin`` and ``engine_connect`` listeners,
    and its execution options. Listeners of statements and of commits are not called: they act on the application's
    statements, and a migration sends none of these. The isolation level is ours.

    Raises:
        ConfigurationError: the URL cannot be parsed, its driver is not installed, or its database is not supported.
    """

    def __init__(
        self, engine: Engine | AsyncEngine | str, *, attempts: int = 8, visible_rows_only: bool = False
    ) -> None:
        self._attempts = attempts
        self.visible_rows_only = visible_rows_only
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._on_connection: list[Callable[[Connection], None]] = []
        self._owned = True
        if isinstance(engine, str):
            engine = self._engine = engine_from_url(engine)
        elif isinstance(_sync(engine).pool, (StaticPool, SingletonThreadPool)):
            self._engine, self._owned = engine, False
        else:
            # Called in each transaction: what they set may last as long as one.
            self._engine, self._on_connection = _make_private(engine), _find_connection_listeners(engine)
        # One connection for all threads, and each must wait for it.
        alone = isinstance(self._sync_engine.pool, (StaticPool, SingletonThreadPool, AssertionPool))
        self._turn: AbstractContextManager[Any] = threading.RLock() if alone else nullcontext()
        self.url = self._sync_engine.url
        self._clock = DatabaseClock(lambda: self.transaction(self._read_clock))
        self._schemas: Mapping[str | None, str | None] = schemas_of(engine)
        #: That of the server. MariaDB behind a ``mysql`` URL is recognised by :meth:`connect`.
        self.dialect = dialect_of(self._sync_engine.dialect)

    @property
    def _sync_engine(self) -> Engine:
        return _sync(self._engine)

    def __repr__(self) -> str:
        return f"Database({self.url.render_as_string(hide_password=True)})"

    def __str__(self) -> str:
        return self.url.render_as_string(hide_password=True)

    def connect(self) -> None:
        """Open one connection, and set :attr:`dialect` by the server that answers.

        Raises:
            ConfigurationError: the database cannot be reached, or refuses the connection.
        """
        try:
            version = self._run(lambda connection: str(connection.exec_driver_sql(self.dialect.version).scalar_one()))
        except Exception as error:
            if isinstance(error, AssertionError):  # SQLAlchemy cannot read the version, which its message has
                refuse_product(str(error), self)
            raise ConfigurationError(
                f"cannot reach the database {self}: {describe_failure(error)}; {self._find_remedy(error)}"
            ) from error
        refuse_product(version, self)
        self.dialect = dialect_of(self._sync_engine.dialect)
        self.transaction(self.dialect.trials.check_settings)

    def _find_remedy(self, error: Exception) -> str:
        """What to do where a connection fails."""
        message = str(error).lower()
        found = (remedy for words, remedy in self.dialect.unreachable_remedies.items() if words in message)
        return next(found, "check the URL, that the server runs and that this user may connect")

    def schema(self, name: str | None) -> str | None:
        """The schema in which the application's engine finds tables of a schema (``schema_translate_map``)."""
        return self._schemas.get(name, name)

    def transaction(
        self, work: Callable[[Connection], T], *, attempts: int | None = None, retry_slow: bool = True
    ) -> T:
        """Run ``work`` in one READ COMMITTED transaction; retry transient failures.

        Args:
            work: called with the connection, once for each attempt.
            attempts: how often it is tried; ``None`` takes the number given to the database.
            retry_slow: whether a statement that the server cancelled, because it took too long, is sent again.

        Raises:
            RefusedError: the database refuses a statement; the cause is SQLAlchemy's error.
            SlowStatementError: a statement took too long, and is not to be sent again.
            PreflightError: row level security hides rows of a table from this role.
            RunError: all attempts failed.
        """
        attempts = attempts or self._attempts
        for attempt in range(1, attempts + 1):
            try:
                return self._run(work)
            except (SQLAlchemyError, OSError) as error:
                if is_full(error):
                    raise RunError(
                        f"the database {self} cannot write to its disk: {describe_failure(error)}; nothing is half "
                        "done: make room there, then run the same command again to resume"
                    ) from error
                if isinstance(error, DBAPIError):
                    if not retry_slow and is_timeout(error):
                        raise SlowStatementError(f"the database {self}: {describe_failure(error)}") from error
                    if self.dialect.is_hidden(str(error.orig)):
                        raise hidden_rows_error(describe_failure(error)) from error
                if isinstance(error, DBAPIError) and not is_transient(error):
                    reason = describe_failure(error)
                    raise RefusedError(
                        f"the database {self} refuses: {reason}; nothing is half done: fix that, then run the same "
                        "command again to resume",
                        reason,
                    ) from error
                if not is_transient(error) or attempt == attempts:
                    raise RunError(
                        f"the database {self} failed {attempt} times: {describe_failure(error)}; nothing is half "
                        "done, run the same command again to resume"
                    ) from error
                longest = min(MAX_RETRY_SECONDS, 0.05 * 2**attempt)
                time.sleep(longest * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
        raise AssertionError("unreachable")

    def _run(self, work: Callable[[Connection], T]) -> T:
        with self._turn:
            if not isinstance(self._engine, Engine):
                return self._bridge(self._run_async(self._engine, work))
            with self._engine.connect() as connection:
                return self._begin(connection, work)

    async def _run_async(self, engine: AsyncEngine, work: Callable[[Connection], T]) -> T:
        async with engine.connect() as connection:
            return await connection.run_sync(self._begin, work)

    def _begin(self, connection: Connection, work: Callable[[Connection], T]) -> T:
        if connection.in_transaction():
            connection.commit()  # begun by a listener of the application
        # Names of schemas are translated by us, in SQL of every kind.
        connection.execution_options(schema_translate_map=None)
        self.dialect.prepare_connection(connection, LOCK_TIMEOUT_SECONDS)
        for listener in self._on_connection:
            listener(connection)
        # What a listener set may last as long as the transaction that it began, unless it ended that itself.
        with connection.get_transaction() or connection.begin():
            self.dialect.set_timeouts(connection, LOCK_TIMEOUT_SECONDS, IDLE_TIMEOUT_SECONDS)
            if self.visible_rows_only:
                self.dialect.allow_hidden_rows(connection)
            return work(connection)

    def now(self, connection: Connection) -> float:
        """The database's clock in seconds since the epoch, read in the caller's transaction.

        Every time that the journal keeps is of this clock. The clocks of two machines are never compared.
        """
        return float(connection.exec_driver_sql(self.dialect.clock).scalar_one())

    def time(self) -> float:
        """The same clock outside a transaction, estimated from a reading of the last minute.

        Raises:
            RunError: the database cannot be reached.
        """
        return self._clock.now()

    def _read_clock(self, connection: Connection) -> tuple[float, float]:
        before = time.monotonic()
        value = self.now(connection)
        return value, (before + time.monotonic()) / 2

    def close(self) -> None:
        """Close our connections. The application's are not touched."""
        if self._owned:
            if isinstance(self._engine, Engine):
                self._engine.dispose()
            else:
                self._bridge(self._engine.dispose())
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


def schemas_of(engine: Engine | AsyncEngine) -> Mapping[str | None, str | None]:
    """The application's names of schemas, and those in its database."""
    return _sync(engine).get_execution_options().get("schema_translate_map") or {}


def hidden_rows_error(what: str) -> PreflightError:
    """The error for rows that row level security hides from this role."""
    return PreflightError(
        f"rows are hidden by row level security: {what}; connect as a role with BYPASSRLS or as the table's owner "
        "(without FORCE ROW LEVEL SECURITY), or give --visible-rows-only to leave the hidden rows as they are"
    )


def _sync(engine: Engine | AsyncEngine) -> Engine:
    return engine if isinstance(engine, Engine) else engine.sync_engine


def _make_private(engine: Engine | AsyncEngine) -> Engine | AsyncEngine:
    """An engine with a pool of its own, that connects and begins as the application's does."""
    sync = _sync(engine)
    options = {name: value for name, value in sync.get_execution_options().items() if name not in _READING_OPTIONS}
    options.pop("isolation_level", None)
    own = Engine(sync.pool.recreate(), sync.dialect, sync.url, hide_parameters=True, execution_options=options)
    for listener in sync.dispatch.begin:
        event.listen(own, "begin", listener)
    if isinstance(engine, Engine):
        return own
    from sqlalchemy.ext.asyncio import AsyncEngine

    return AsyncEngine(own)


def _find_connection_listeners(engine: Engine | AsyncEngine) -> list[Callable[[Connection], None]]:
    """The application's ``engine_connect`` listeners, without SQLAlchemy's own, which set the isolation level."""
    found = _sync(engine).dispatch.engine_connect
    return [listener for listener in found if not str(listener.__module__).startswith("sqlalchemy.")]
