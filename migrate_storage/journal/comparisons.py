"""What the comparisons of cutovers found: one record a key whose two sides were equal, in the table of objects."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields, replace
from typing import Any

from sqlalchemy import Connection, select

from migrate_storage.core.model import Location
from migrate_storage.journal.base import Repository, id_batches
from migrate_storage.journal.records import ObjectRecord, digest
from migrate_storage.journal.states import ObjectState

__all__ = ("ComparisonRepository",)

_COLUMNS = tuple(column.name for column in fields(ObjectRecord))
_FOUND_COLUMNS = (
    "source_key", "source_path", "evidence", "size", "source_etag", "source_modified", "source_version",
    "destination_etag", "destination_modified", "destination_version",
)  # fmt: skip
"""Columns in which two comparisons of one key may differ, besides the time."""


class ComparisonRepository(Repository):
    """The records of comparisons. Their destination is the key of the cutover, and they own none."""

    def at(self, locations: Iterable[Location]) -> dict[Location, ObjectRecord]:
        """What was found under these keys of cutovers, where there is anything."""
        found = {}
        for batch in id_batches([_id_of(location) for location in dict.fromkeys(locations)]):
            statement = select(*(self.c[name] for name in _COLUMNS)).where(self.c.id.in_(batch))
            for row in self._read(statement):
                record = ObjectRecord(**row)
                found[record.destination] = record
        return found

    def add(self, records: Sequence[ObjectRecord]) -> None:
        """Insert or replace records. One that is the same as the earlier one of its key leaves it as it is."""
        values = [_to_row(record) for record in records]

        def write(connection: Connection) -> None:
            known: dict[str, Any] = {}
            for batch in id_batches([each["id"] for each in values]):
                statement = select(self.c.id, *(self.c[name] for name in _FOUND_COLUMNS)).where(self.c.id.in_(batch))
                known.update((row["id"], row) for row in connection.execute(statement).mappings())
            now = self.database.now(connection)
            for each in ({**value, "updated": now} for value in values):
                earlier = known.get(each["id"])
                if earlier is None or any(earlier[name] != each[name] for name in _FOUND_COLUMNS):
                    changes = {name: value for name, value in each.items() if name != "id"}
                    connection.execute(self.database.dialect.upsert(self.table, each, changes))

        self.database.transaction(write)


def _id_of(location: Location) -> str:
    return digest("cutover", location.backend, location.path)


def _to_row(record: ObjectRecord) -> dict[str, Any]:
    id_ = _id_of(record.destination)
    return {**asdict(replace(record, id=id_, state=ObjectState.COMPARED)), "destination_id": id_}
