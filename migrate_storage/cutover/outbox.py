"""The outbox: one line for each key whose two sides may differ, in the application's database, on connections of our own.

A line that is closed stays where the object does: it tells that what stands on both sides under that key was written by us.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, case, delete, func, insert, literal, select, update
from sqlalchemy.dialects import mysql, postgresql, sqlite

from migrate_storage.cutover.decisions import Side
from migrate_storage.cutover.protocol import Entry, EntryFate
from migrate_storage.database.connection import Database
from migrate_storage.journal import digest
from migrate_storage.journal.schema import Tables

__all__ = ("EntryCounts", "Outbox", "PendingEntry")

WRITER_GRACE_SECONDS = 300.0
"""Seconds that a write is left alone by repair, unless it said that it is done. Safety does not rest on it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PendingEntry:
    """A key that waits for repair."""

    path: str
    side: Side
    tombstone: bool
    #: Seconds since the epoch.
    opened_at: float
    expires_at: float
    #: Content type and metadata of the save, if it told.
    attributes: Mapping[str, Any]
    failure: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class EntryCounts:
    """Open entries, by what they wait for and the side that they name."""

    #: ``upload``: a URL that may still be used; ``writer``: somebody at work, probably; ``repair``: all others.
    by_kind: Mapping[tuple[str, Side], int]
    #: Seconds until the last upload URL expires.
    last_upload: float

    def count(self, kind: str, *sides: Side) -> int:
        """How many wait for this, that name one of these sides."""
        return sum(count for (each, side), count in self.by_kind.items() if each == kind and side in sides)


class Outbox:
    """The open entries of one backend. Opening, closing and looking up are one indexed statement each.

    Args:
        database: where the table is; usually the application's own.
        backend: key of the cutover backend.
        schema: database schema of the table.
        grace: seconds that a write is left alone by repair.
        clock: seconds since the epoch, for tests.
    """

    def __init__(
        self,
        database: Database,
        backend: str,
        schema: str | None = None,
        *,
        grace: float = WRITER_GRACE_SECONDS,
        clock: Any = time.time,
    ) -> None:
        self.database = database
        self.backend = backend
        self.tables = Tables(schema)
        self._table = self.tables.outbox
        self._grace = grace
        self._clock = clock

    def prepare(self) -> None:
        """Create the table where it is missing.

        Raises:
            ConfigurationError: no right to.
        """
        self.database.transaction(self.tables.create)

    def find_entry(self, path: str) -> Entry | None:
        """The entry of a key."""
        table = self._table
        statement = select(table.c.epoch, table.c.sequence, table.c.side, table.c.tombstone)
        statement = statement.where(self._key_matches(path), table.c.open)
        return _entry(self.database.transaction(lambda connection: connection.execute(statement).first()))

    def open_entry(
        self,
        path: str,
        side: Side,
        *,
        tombstone: bool = False,
        about: Mapping[str, Any] | None = None,
        expires: float = 0,
    ) -> Entry:
        """Open an entry for a write, or join the one that stands.

        Args:
            path: the key.
            side: to trust, where none stands; the side of one that stands stays.
            tombstone: the key is to be deleted; a tombstone that stands stays.
            about: content type and metadata of the save.
            expires: seconds since the epoch until which it is not closed.
        """
        table = self._table
        values = self._new_values(path, side, tombstone, about, expires)
        joined: dict[str, Any] = {
            "sequence": table.c.sequence + 1,
            "busy_until": _later(table.c.busy_until, values["busy_until"]),
            "tombstone": literal(True) if tombstone else table.c.tombstone,
            "about": values["about"] if about is not None else table.c.about,
            "expires": _later(table.c.expires, expires),
        }
        changes = self._changes_on_conflict(values, joined)

        def work(connection: Connection) -> Entry:
            wanted = (table.c.epoch, table.c.sequence, table.c.side, table.c.tombstone)
            statement = _upsert(connection, table, values, changes)
            if connection.dialect.insert_returning:
                found = connection.execute(statement.returning(*wanted)).one()
            else:
                connection.execute(statement)
                found = connection.execute(select(*wanted).where(self._key_matches(path))).one()
            opened = _entry(found)
            assert opened is not None
            return opened

        return self.database.transaction(work)

    def request_repair(self, path: str, side: Side) -> None:
        """An entry for repair at once, where none stands."""
        values = {**self._new_values(path, side, False, None, 0), "busy_until": 0.0}
        changes = self._changes_on_conflict(values, {})
        self.database.transaction(
            lambda connection: connection.execute(_upsert(connection, self._table, values, changes)) and None
        )

    def close_entry(self, path: str, entry: Entry, *, wrote: bool = False) -> EntryFate:
        """Close an entry that nobody else touched; else leave it. ``wrote`` where both sides hold what the writer wrote."""
        if entry.sequence == 1 and self._close_if_unchanged(path, entry, wrote=wrote):
            return EntryFate.CLOSED
        return self.leave_for_repair(path, entry)

    def leave_for_repair(self, path: str, entry: Entry, *, held: bool = False) -> EntryFate:
        """Leave an entry to repair; ``held`` buries what the side that is not trusted still has."""
        table = self._table
        alone = table.c.sequence == entry.sequence
        changes: dict[str, Any] = {
            # Others may be at work where the sequence moved on.
            "busy_until": case((alone, 0.0), else_=table.c.busy_until),
            "sequence": table.c.sequence + 1,
        }
        if held:
            changes["tombstone"] = True
        return EntryFate.STAYS if self._update_if_open(path, entry, changes) else EntryFate.VANISHED

    def claim_entry(self, path: str, owner: str, seconds: float) -> Entry | None:
        """Take a key's lease for repair.

        Args:
            path: the key.
            owner: who takes it.
            seconds: how long it is good for.

        Returns:
            The entry; ``None`` if there is none, another has it, or a writer is at work.
        """
        table, now = self._table, self._clock()
        free = table.c.open & (table.c.claimed_by.is_(None) | (table.c.claimed_until < now))
        free &= table.c.busy_until <= now
        changes = {"sequence": table.c.sequence + 1, "claimed_by": owner, "claimed_until": now + seconds}

        def work(connection: Connection) -> Entry | None:
            if not connection.execute(update(table).where(self._key_matches(path), free).values(changes)).rowcount:
                return None
            wanted = (table.c.epoch, table.c.sequence, table.c.side, table.c.tombstone)
            return _entry(connection.execute(select(*wanted).where(self._key_matches(path))).first())

        return self.database.transaction(work)

    def switch_trusted_side(self, path: str, entry: Entry) -> Entry | None:
        """Trust the other side of a claimed key from now on; ``None`` if somebody came since."""
        flipped = Entry(epoch=uuid.uuid4().hex, sequence=2, side=entry.side.other, tombstone=entry.tombstone)
        changes = {"epoch": flipped.epoch, "sequence": flipped.sequence, "side": flipped.side.value}
        return flipped if self._update_if_open(path, entry, changes, self._table.c.sequence == entry.sequence) else None

    def close_claimed(self, path: str, entry: Entry, *, wrote: bool = False) -> bool:
        """Close a claimed entry, unless somebody came since or an upload may still come."""
        return self._close_if_unchanged(path, entry, wrote=wrote)

    def written_by_us(self, path: str) -> bool:
        """Whether what stands under a key was written by us, as far as is known."""
        statement = select(self._table.c.id).where(self._key_matches(path))
        return self.database.transaction(lambda connection: connection.execute(statement).first()) is not None

    def release(self, path: str, owner: str, failure: str | None = None) -> None:
        """Give a key's lease back, and say why it could not be repaired."""
        table = self._table
        statement = update(table).where(self._key_matches(path), table.c.claimed_by == owner)
        statement = statement.values(claimed_by=None, claimed_until=0.0, failure=failure)
        self.database.transaction(lambda connection: connection.execute(statement) and None)

    def count_open(self) -> int:
        """How many entries are open."""
        table = self._table
        statement = select(func.count()).select_from(table).where(table.c.backend == self.backend, table.c.open)
        return self.database.transaction(lambda connection: int(connection.execute(statement).scalar_one()))

    def count_by_kind(self, now: float | None = None) -> EntryCounts:
        """What is open, by what it waits for."""
        table, now = self._table, self._clock() if now is None else now
        kind = case((table.c.expires > now, "upload"), (table.c.busy_until > now, "writer"), else_="repair")
        statement = select(kind, table.c.side, func.count(), func.max(table.c.expires))
        statement = statement.where(table.c.backend == self.backend, table.c.open).group_by(kind, table.c.side)
        found = self.database.transaction(_all(statement))
        counts = {(row[0], Side(row[1])): int(row[2]) for row in found}
        last = max((row[3] for row in found), default=0.0)
        return EntryCounts(by_kind=counts, last_upload=max(0.0, last - now))

    def pending_entries(self, page: int = 500) -> Iterator[PendingEntry]:
        """All open entries, in no order; those that come meanwhile may be missed."""
        table, after = self._table, ""
        while True:
            statement = (
                select(table)
                .where(table.c.backend == self.backend, table.c.open, table.c.id > after)
                .order_by(table.c.id)
                .limit(page)
            )
            found = self.database.transaction(_all(statement))
            for row in found:
                yield PendingEntry(
                    path=row.path,
                    side=Side(row.side),
                    tombstone=bool(row.tombstone),
                    opened_at=row.opened,
                    expires_at=row.expires,
                    attributes=json.loads(row.about) if row.about else {},
                    failure=row.failure,
                )
            if len(found) < page:
                return
            after = found[-1].id

    def pending_attributes(self, path: str) -> dict[str, Any]:
        """Content type and metadata of the last save of a key, while its entry stands."""
        statement = select(self._table.c.about).where(self._key_matches(path), self._table.c.open)
        found = self.database.transaction(lambda connection: connection.execute(statement).scalar())
        return dict(json.loads(found)) if found else {}

    # -- within

    def _key_matches(self, path: str) -> Any:
        return self._table.c.id == digest(self.backend, path)

    def _new_values(
        self, path: str, side: Side, tombstone: bool, about: Mapping[str, Any] | None, expires: float
    ) -> dict[str, Any]:
        now = self._clock()
        return {
            "id": digest(self.backend, path),
            "backend": self.backend,
            "path": path,
            "open": True,
            "epoch": uuid.uuid4().hex,
            "sequence": 1,
            "side": side.value,
            "tombstone": tombstone,
            "about": json.dumps(about, default=str) if about is not None else None,
            "opened": now,
            "busy_until": now + self._grace,
            "expires": expires,
            "claimed_by": None,
            "claimed_until": 0.0,
            "failure": None,
        }

    def _changes_on_conflict(self, values: Mapping[str, Any], joined: Mapping[str, Any]) -> dict[str, Any]:
        """What an insert changes in a line that stands: all of one that is closed, else what ``joined`` says."""
        columns = self._table.c
        names = [name for name in values if name not in ("id", "backend", "path", "open")]
        changes: dict[str, Any] = {
            name: case(
                (~columns.open, literal(values[name], columns[name].type)), else_=joined.get(name, columns[name])
            )
            for name in names
        }
        # Last: MariaDB and MySQL let an expression see what was set before it.
        return changes | {"open": True}

    def _close_if_unchanged(self, path: str, entry: Entry, *, wrote: bool) -> bool:
        table = self._table
        same = (self._key_matches(path), table.c.epoch == entry.epoch, table.c.sequence == entry.sequence, table.c.open)
        unused = table.c.expires <= self._clock()
        statement = update(table).values(open=False, about=None, failure=None) if wrote else delete(table)
        statement = statement.where(*same, unused)
        return self.database.transaction(lambda connection: connection.execute(statement).rowcount) == 1

    def _update_if_open(self, path: str, entry: Entry, changes: Mapping[str, Any], condition: Any = None) -> bool:
        table = self._table
        # In this order: MariaDB and MySQL let an expression see what was set before it.
        same = (self._key_matches(path), table.c.epoch == entry.epoch, table.c.open)
        statement = update(table).where(*same).ordered_values(*changes.items())
        if condition is not None:
            statement = statement.where(condition)
        return self.database.transaction(lambda connection: connection.execute(statement).rowcount) == 1


def _all(statement: Any) -> Callable[[Connection], Sequence[Any]]:
    return lambda connection: connection.execute(statement).all()


def _later(column: Any, value: float) -> Any:
    return case((column > value, column), else_=literal(value))


def _entry(row: Any) -> Entry | None:
    if row is None:
        return None
    return Entry(epoch=row.epoch, sequence=row.sequence, side=Side(row.side), tombstone=bool(row.tombstone))


def _upsert(connection: Connection, table: Any, values: Mapping[str, Any], changes: Mapping[str, Any]) -> Any:
    match connection.dialect.name:
        case "postgresql":
            return postgresql.insert(table).values(values).on_conflict_do_update(index_elements=["id"], set_=changes)
        case "sqlite":
            return sqlite.insert(table).values(values).on_conflict_do_update(index_elements=["id"], set_=changes)
        case "mysql" | "mariadb":
            return mysql.insert(table).values(values).on_duplicate_key_update(list(changes.items()))
    return insert(table).values(values)
