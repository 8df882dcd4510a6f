"""The records of texts in which public addresses were changed, written in the transaction that updates the rows."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from migrate_storage.core.addresses import Edit, undo_edits
from migrate_storage.core.model import Column
from migrate_storage.database.primary_keys import dump_key, load_key, row_id
from migrate_storage.journal.base import Repository, id_batches
from migrate_storage.journal.states import LinkState

__all__ = ("LinkRecord", "LinkRepository", "digest_text")

_OPEN = (LinkState.INTENT, LinkState.REWRITTEN)
"""States of records whose rows may have the new text."""


def digest_text(text: str) -> str:
    """SHA-256 of a text in hex."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkRecord:
    """The record of one text in which addresses were changed."""

    id: str
    run: str
    #: The column with the key by which its rows are found; empty where it was read from the journal.
    column: Column
    pk: tuple[Any, ...]
    #: Backend key and filenames of the objects that the new addresses name.
    backend: str
    paths: tuple[str, ...]
    #: The changes of the old text; ``None`` where the database spells the new one in another way, so that the old one is kept.
    edits: tuple[Edit, ...] | None
    old_value: str | None = None
    old_digest: str
    new_digest: str
    state: str = LinkState.REWRITTEN
    #: By the database's clock; set by the repository.
    at: float = 0.0

    def restore(self, text: str) -> str:
        """The old text of a new one, which must be that of :attr:`new_digest`."""
        return (
            self.old_value if self.edits is None and self.old_value is not None else undo_edits(text, self.edits or ())
        )


class LinkRepository(Repository):
    """The records of changed texts."""

    def add(self, connection: Connection, records: Sequence[LinkRecord]) -> None:
        """Insert records, but for those that an earlier attempt of the transaction inserted."""
        known: set[str] = set()
        for batch in id_batches([record.id for record in records]):
            known.update(connection.execute(select(self.c.id).where(self.c.id.in_(batch))).scalars())
        if new := [record for record in records if record.id not in known]:
            now = self.database.now(connection)
            connection.execute(insert(self.table), [_to_row(record, now) for record in new])

    def remove(self, connection: Connection, ids: Sequence[str]) -> None:
        """Delete records of rows that were not changed."""
        for batch in id_batches(ids):
            connection.execute(delete(self.table).where(self.c.id.in_(batch)))

    def set_states(self, connection: Connection, ids: Sequence[str], state: str) -> None:
        """Change the state of records."""
        for batch in id_batches(ids):
            changes = {"state": state, "at": self.database.now(connection)}
            connection.execute(update(self.table).where(self.c.id.in_(batch)).values(changes))

    def open_rows(self, run: str, size: int = 100) -> Iterator[list[list[LinkRecord]]]:
        """For each row that a run changed its records that were not reverted, the newest first, in batches."""
        ours = (self.c.run == run, self.c.state.in_(_OPEN))
        for batch in self._read_batches(select(self.c.row_id).where(*ours).distinct(), self.c.row_id, "", size):
            ids = [row["row_id"] for row in batch]
            rows = self._read(select(self.table).where(self.c.row_id.in_(ids), *ours))
            rows.sort(key=lambda row: (row["row_id"], -row["at"]))
            yield [[_from_row(row) for row in group] for _, group in groupby(rows, key=itemgetter("row_id"))]

    def in_state(self, state: str, size: int = 100) -> Iterator[list[LinkRecord]]:
        """The records in one state, in batches."""
        statement = select(self.table).where(self.c.state == state)
        for batch in self._read_batches(statement, self.c.id, "", size):
            yield [_from_row(row) for row in batch]

    def count_open(self, run: str) -> int:
        """How many texts a run changed that were not reverted."""
        statement = select(func.count().label("texts")).where(self.c.run == run, self.c.state == LinkState.REWRITTEN)
        return int(self._read(statement)[0]["texts"])

    def named_objects(self, size: int = 500) -> Iterator[list[tuple[str, str]]]:
        """Backend key and filename of the objects that changed texts may name, in batches."""
        statement = select(self.c.id, self.c.backend, self.c.paths).where(self.c.state.in_(_OPEN))
        for batch in self._read_batches(statement, self.c.id, "", size):
            yield [(row["backend"], path) for row in batch for path in json.loads(row["paths"])]


def _to_row(record: LinkRecord, now: float) -> dict[str, Any]:
    column = record.column
    undo = {"old": record.old_value} if record.edits is None else {"edits": record.edits}
    return {
        "id": record.id, "run": record.run, "table_schema": column.schema, "table_name": column.table, "column_name": column.column,
        "pk": dump_key(record.pk), "row_id": row_id(column, record.pk), "backend": record.backend,
        "paths": json.dumps(record.paths), "changes": zlib.compress(json.dumps(undo).encode()),
        "old_digest": record.old_digest, "new_digest": record.new_digest, "state": record.state, "at": now,
    }  # fmt: skip


def _from_row(row: dict[str, Any]) -> LinkRecord:
    undo = json.loads(zlib.decompress(bytes(row["changes"])))
    edits = undo.get("edits")
    column = Column(table=row["table_name"], column=row["column_name"], schema=row["table_schema"], key=())
    return LinkRecord(
        id=row["id"], run=row["run"], column=column, pk=load_key(row["pk"]), backend=row["backend"],
        paths=tuple(json.loads(row["paths"])), edits=None if edits is None else tuple(Edit(*each) for each in edits),
        old_value=undo.get("old"), old_digest=row["old_digest"], new_digest=row["new_digest"], state=row["state"], at=row["at"],
    )  # fmt: skip
