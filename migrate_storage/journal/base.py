"""How the journal's tables are reached: short transactions, each tried again where that is safe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, Select
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from migrate_storage.core.errors import ConfigurationError, RefusedError
from migrate_storage.database.connection import Database
from migrate_storage.journal.schema import Tables

__all__ = ("BATCH", "Access", "parts")

T = TypeVar("T")

BATCH = 400
"""Ids in one IN list: below every database's limit on parameters."""


class Access:
    """The journal's tables in one database.

    Args:
        database: where they are kept.
        schema: their database schema.
    """

    def __init__(self, database: Database, schema: str | None = None) -> None:
        self.database = database
        self.tables = Tables(schema)

    def prepare(self) -> None:
        """Create the tables where they are missing.

        Raises:
            ConfigurationError: no right to, or tables of another version.
        """
        try:
            self.database.transaction(self.tables.create)
        except ConfigurationError as error:
            if not isinstance(error.__cause__, SQLAlchemyError):
                raise
            # Two first runs that begin at once create them at once: what the other made is there the second time.
            self.database.transaction(self.tables.create)

    @property
    def exists(self) -> bool:
        """Whether anything was ever journaled here."""
        return self.database.transaction(self.tables.exist)

    def _twice(self, work: Callable[[Connection], T]) -> T:
        """A transaction that is done once more where somebody else inserted the same line first."""
        try:
            return self.database.transaction(work)
        except RefusedError as error:
            if not isinstance(error.__cause__, IntegrityError):
                raise
            return self.database.transaction(work)

    def _read(self, statement: Select[Any]) -> list[dict[str, Any]]:
        return self.database.transaction(
            lambda connection: [dict(row) for row in connection.execute(statement).mappings()]
        )


def parts(ids: Sequence[T]) -> Iterator[Sequence[T]]:
    """Ids cut into lists that fit into one statement."""
    for start in range(0, len(ids), BATCH):
        yield ids[start : start + BATCH]
