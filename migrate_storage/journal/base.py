"""How the journal's tables are reached: short transactions, each tried again where that is safe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, Select
from sqlalchemy.exc import IntegrityError

from migrate_storage.core.errors import RefusedError
from migrate_storage.database.connection import Database
from migrate_storage.journal.schema import Tables

__all__ = ("BATCH", "Repository", "parts")

T = TypeVar("T")

BATCH = 400
"""Ids in one IN list: below every database's limit on parameters."""


class Repository:
    """Reads and writes some of the journal's tables, each call in a short transaction of its own.

    Args:
        database: where the tables are kept.
        tables: the journal's tables.
    """

    def __init__(self, database: Database, tables: Tables) -> None:
        self.database = database
        self.tables = tables

    def _retry_on_conflict(self, work: Callable[[Connection], T]) -> T:
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
