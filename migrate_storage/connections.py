"""The database and the journal of a job, opened together and closed together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from migrate_storage.application import Application
from migrate_storage.database import Database
from migrate_storage.journal import Journal

__all__ = ("connected",)


@contextmanager
def connected(
    application: Application, journal: str | None = None, schema: str | None = None
) -> Iterator[tuple[Database, Journal]]:
    """The application's database, and the journal there or elsewhere.

    Args:
        application: whose engine is taken.
        journal: URL of another database for the journal; ``None`` keeps both in one.
        schema: database schema of the journal's tables.

    Raises:
        ConfigurationError: one of them cannot be reached.
    """
    database = Database(application.engine)
    other = database
    try:
        database.connect()
        if journal:
            other = Database(journal)
            other.connect()
        yield database, Journal(other, schema)
    finally:
        if other is not database:
            other.close()
        database.close()
