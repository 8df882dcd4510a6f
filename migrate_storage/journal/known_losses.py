"""Marks of known losses: rows whose object is missing, and somebody knows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from migrate_storage.core.model import Column, Location
from migrate_storage.database.primary_keys import dump_key, load_key, row_id
from migrate_storage.journal.base import Repository, parts
from migrate_storage.journal.records import digest

__all__ = ("KnownLoss", "KnownLossRepository")


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownLoss:
    """One row and filename whose object is lost, and known to be."""

    #: Schema, table and column; the key's names are the application's to tell.
    column: tuple[str | None, str, str]
    pk: tuple[Any, ...]
    location: Location
    reason: str
    by: str
    #: Seconds since the epoch.
    at: float
    id: str

    @staticmethod
    def id_of(column: Column, pk: Sequence[Any], location: Location) -> str:
        """The name of a mark: another file in the same row has another one."""
        return digest("mark", row_id(column, pk), location.backend, location.path)


class KnownLossRepository(Repository):
    """The lines of marks."""

    def add(self, marks: Sequence[KnownLoss]) -> None:
        """Write marks; what is marked already keeps who marked it, when and why."""
        table = self.tables.mark

        def write(connection: Connection) -> None:
            known: set[str] = set()
            for part in parts([mark.id for mark in marks]):
                known.update(connection.execute(select(table.c.id).where(table.c.id.in_(part))).scalars())
            fresh = {mark.id: mark for mark in marks if mark.id not in known}
            if fresh:
                connection.execute(insert(table), [_line(mark) for mark in fresh.values()])

        self._retry_on_conflict(write)

    def remove(self, ids: Sequence[str]) -> None:
        """Take marks away."""
        table = self.tables.mark

        def write(connection: Connection) -> None:
            for part in parts(ids):
                connection.execute(delete(table).where(table.c.id.in_(part)))

        self.database.transaction(write)

    def all(self, size: int = 500) -> Iterator[list[KnownLoss]]:
        """All marks in the order of their ids, batch by batch."""
        table = self.tables.mark
        last = ""
        while True:
            found = self._read(select(table).where(table.c.id > last).order_by(table.c.id).limit(size))
            if found:
                yield [_mark(line) for line in found]
            if len(found) < size:
                return
            last = found[-1]["id"]


def _line(mark: KnownLoss) -> dict[str, Any]:
    schema, table, column = mark.column
    return {
        "id": mark.id,
        "table_schema": schema,
        "table_name": table,
        "column_name": column,
        "pk": dump_key(mark.pk),
        "backend": mark.location.backend,
        "path": mark.location.path,
        "reason": mark.reason,
        "marked_by": mark.by,
        "at": mark.at,
    }


def _mark(line: dict[str, Any]) -> KnownLoss:
    return KnownLoss(
        column=(line["table_schema"], line["table_name"], line["column_name"]),
        pk=load_key(line["pk"]),
        location=Location(line["backend"], line["path"]),
        reason=line["reason"],
        by=line["marked_by"],
        at=line["at"],
        id=line["id"],
    )
