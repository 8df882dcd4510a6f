"""Open and close the database and the journal of a job together."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.model import Column
from migrate_storage.database.connection import Database
from migrate_storage.database.urls import in_memory
from migrate_storage.journal import Journal

if TYPE_CHECKING:
    from migrate_storage.application.application import Application

__all__ = ("all_rows", "connected", "find_backend", "journaled", "own_journal")

B = TypeVar("B")


def find_backend(backends: Mapping[str, B], key: str) -> B:
    """Return the backend that is registered under a key.

    Raises:
        ConfigurationError: there is none; the message lists the keys.
    """
    if key not in backends:
        known = ", ".join(sorted(backends)) or "none"
        raise ConfigurationError(f"no storage backend is registered under {key!r}; registered: {known}")
    return backends[key]


@contextmanager
def connected(
    application: Application, journal: str | None = None, schema: str | None = None, *, shared: bool = False
) -> Iterator[tuple[Database, Journal]]:
    """Open the application's database, and the journal there or elsewhere.

    Args:
        application: whose engine is taken.
        journal: URL of another database for the journal; ``None`` keeps both in one.
        schema: database schema of the journal's tables; ``None`` takes that of the journal that exists.
        shared: whether other processes open both at the same time.

    Raises:
        ConfigurationError: one of them cannot be reached or not be shared, or the journal would not outlive the process.
    """
    database = Database(application.engine, visible_rows_only=application.visible_rows_only)
    other = database
    try:
        database.connect()
        if journal:
            other = _open_lasting(journal)
            other.connect()
        if shared:
            _refuse_sharing(database, other)
        yield database, Journal.find(other, schema)
    finally:
        if other is not database:
            other.close()
        database.close()


@contextmanager
def all_rows(application: Application, database: Database) -> Iterator[Sequence[tuple[Database, Sequence[Column]]]]:
    """Open the other databases of the application too: their rows may name the same objects.

    Args:
        application: whose columns are read.
        database: the chosen database, connected.

    Yields:
        Each database with its columns, the chosen one first.

    Raises:
        ConfigurationError: one of them cannot be reached, or rows are hidden from this role.
    """
    if application.visible_rows_only:
        raise ConfigurationError(
            "--visible-rows-only: an object that no visible row names may be named by a hidden one; leave it out, and "
            "connect as a role with BYPASSRLS"
        )
    with ExitStack() as stack:
        others = [(stack.enter_context(closing(Database(each.engine))), each.columns) for each in application.elsewhere]
        for other, _ in others:
            other.connect()
        yield [(database, application.columns), *others]


def own_journal() -> Path:
    """Return the journal of a job without an application: a file below ``XDG_STATE_HOME``, else ``~/.local/state``."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "migrate-storage" / "journal.db"


@contextmanager
def journaled(
    application: Application | None, journal: str | None = None, schema: str | None = None, *, shared: bool = False
) -> Iterator[tuple[Database | None, Journal]]:
    """Open the application's database where there is one, and the journal: there, elsewhere, or in a file of our own.

    Args:
        application: whose rows are read; ``None`` where there is none.
        journal: URL of the journal's database; ``None`` keeps it with the rows, without an application in
            :func:`own_journal`.
        schema: database schema of the journal's tables.
        shared: whether other processes open both at the same time.

    Raises:
        ConfigurationError: a database cannot be reached or not be shared, or the journal would not outlive the process.
    """
    if application is not None:
        with connected(application, journal, schema, shared=shared) as both:
            yield both
        return
    if journal is None:
        own_journal().parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        journal = f"sqlite:///{own_journal()}"
    with closing(_open_lasting(journal)) as database:
        database.connect()
        if shared:
            _refuse_sharing(database)
        yield None, Journal.find(database, schema)


def _refuse_sharing(*databases: Database) -> None:
    for database in databases:
        if database.dialect.one_process:
            raise ConfigurationError(
                f"{database} is opened by one process at a time, so several cannot share a job on it: leave --workers, --dask "
                "and --shard out"
            )


def _open_lasting(journal: str) -> Database:
    database = Database(journal)
    if in_memory(database.url):
        raise ConfigurationError(
            "a journal in memory ends with the process, and nothing could be taken up again or reverted: "
            "name a file, such as sqlite:///journal.db"
        )
    return database
