"""The records of known losses: missing objects that a person acknowledged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from migrate_storage.core.model import Column, Location
from migrate_storage.database.primary_keys import dump_key, load_key, row_id
from migrate_storage.journal.base import Repository, id_batches
from migrate_storage.journal.records import digest

__all__ = ("KnownLoss", "KnownLossRepository")


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownLoss:
    """One reference to an object that is missing and acknowledged."""

    #: Schema, table and column.
    column: tuple[str | None, str, str]
    pk: tuple[Any, ...]
    location: Location
    reason: str
    by: str
    id: str
    #: When it was acknowledged, by the database's clock; set by the repository.
    at: float = 0.0

    @staticmethod
    def id_of(column: Column, pk: Sequence[Any], location: Location) -> str:
        """The id of a known loss. Each file of a row has another one."""
        return digest("mark", row_id(column, pk), location.backend, location.path)


class KnownLossRepository(Repository):
    """The records of known losses."""

    def add(self, losses: Sequence[KnownLoss]) -> None:
        """Insert known losses. One that exists keeps its person, time and reason."""

        def write(connection: Connection) -> None:
            known: set[str] = set()
            for batch in id_batches([loss.id for loss in losses]):
                known.update(connection.execute(select(self.c.id).where(self.c.id.in_(batch))).scalars())
            new = {loss.id: loss for loss in losses if loss.id not in known}
            if new:
                now = self.database.now(connection)
                connection.execute(insert(self.table), [{**_to_row(loss), "at": now} for loss in new.values()])

        self._retry_on_conflict(write)

    def remove(self, ids: Sequence[str]) -> None:
        """Delete known losses."""

        def write(connection: Connection) -> None:
            for batch in id_batches(ids):
                connection.execute(delete(self.table).where(self.c.id.in_(batch)))

        self.database.transaction(write)

    def all(self, size: int = 500) -> Iterator[list[KnownLoss]]:
        """All known losses in batches in the order of their ids."""
        for batch in self._read_batches(select(self.table), self.c.id, "", size):
            yield [_from_row(row) for row in batch]


def _to_row(loss: KnownLoss) -> dict[str, Any]:
    schema, table, column = loss.column
    return {
        "id": loss.id, "table_schema": schema, "table_name": table, "column_name": column, "pk": dump_key(loss.pk),
        "backend": loss.location.backend, "path": loss.location.path,
        "reason": loss.reason, "marked_by": loss.by, "at": loss.at,
    }  # fmt: skip


def _from_row(row: dict[str, Any]) -> KnownLoss:
    return KnownLoss(
        id=row["id"], column=(row["table_schema"], row["table_name"], row["column_name"]), pk=load_key(row["pk"]),
        location=Location(row["backend"], row["path"]), reason=row["reason"], by=row["marked_by"], at=row["at"],
    )  # fmt: skip
