"""The outbox: one table row for each key whose two sides may differ.

The table is in the application's database, and is written on separate connections. The row of a closed entry is kept as
long as the object exists: it proves that a cutover wrote the objects of that key on both sides.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, case, delete, func, literal, select, update

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.cutover.decisions import Side
from migrate_storage.cutover.protocol import Entry, EntryFate
from migrate_storage.database.connection import Database
from migrate_storage.journal import digest
from migrate_storage.journal.schema import Tables

__all__ = ("EntryCounts", "Outbox", "PendingEntry", "require_tables")

WRITER_GRACE_SECONDS = 300.0
"""How long repair leaves the key of a running write alone. Correctness does not depend on it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PendingEntry:
    """A key with an open entry."""

    path: str
    side: Side
    tombstone: bool
    #: Seconds since the epoch.
    opened_at: float
    expires_at: float
    #: Content type and metadata of the save, if known.
    attributes: Mapping[str, Any]
    failure: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class EntryCounts:
    """Numbers of open entries by kind and trusted side."""

    #: ``upload``: an upload URL is still valid. ``writer``: a write may be running. ``repair``: all others.
    by_kind: Mapping[tuple[str, Side], int]
    #: Seconds until the last upload URL expires.
    last_upload: float

    def count(self, kind: str, *sides: Side) -> int:
        """Count the entries of a kind that trust one of these sides."""
        return sum(self.by_kind.get((kind, side), 0) for side in sides)


class Outbox:
    """The entries of one backend.

    Each operation on a key is one transaction with one or two indexed statements.

    Args:
        database: has the table; usually the application's own.
        backend: key of the cutover backend.
        schema: database schema of the table.
        grace: seconds for which repair leaves the key of a running write alone.
        clock: returns seconds since the epoch; ``None`` means the database's clock, so that processes on several machines agree.
    """

    def __init__(
        self,
        database: Database,
        backend: str,
        schema: str | None = None,
        *,
        grace: float = WRITER_GRACE_SECONDS,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.database = database
        self.backend = backend
        self.tables = Tables(schema)
        self._table = self.tables.outbox
        self._grace = grace
        #: The time of all entries, in seconds since the epoch.
        self.clock = clock or database.time

    def prepare(self) -> None:
        """Create the table if it is missing.

        Raises:
            ConfigurationError: the database user may not create tables.
        """
        self.database.transaction(self.tables.create)

    def find_entry(self, path: str) -> Entry | None:
        """Return the open entry of a key."""
        statement = self._select_entry(path).where(self._table.c.open)
        return _parse_entry(self.database.transaction(lambda connection: connection.execute(statement).first()))

    def open_entry(
        self,
        path: str,
        side: Side,
        *,
        tombstone: bool = False,
        about: Mapping[str, Any] | None = None,
        expires: float = 0,
    ) -> Entry:
        """Open an entry for a write, or join the open entry.

        Args:
            path: the key.
            side: the side to trust in a new entry. An open entry keeps its side.
            tombstone: the key is to be deleted. An open entry keeps its tombstone.
            about: content type and metadata of the save.
            expires: the entry is not closed before this time of :attr:`clock`.
        """
        table = self._table
        values = self._new_values(path, side, tombstone, about, expires)
        joined: dict[str, Any] = {
            "sequence": table.c.sequence + 1,
            "busy_until": _latest_of(table.c.busy_until, values["busy_until"]),
            "tombstone": literal(True) if tombstone else table.c.tombstone,
            "about": values["about"] if about is not None else table.c.about,
            "expires": _latest_of(table.c.expires, expires),
        }
        changes = self._changes_on_conflict(values, joined)

        def work(connection: Connection) -> Entry:
            statement, entry = self.database.dialect.upsert(table, values, changes), self._select_entry(path)
            if connection.dialect.insert_returning:
                opened = _parse_entry(connection.execute(statement.returning(*entry.selected_columns)).one())
            else:
                connection.execute(statement)
                opened = _parse_entry(connection.execute(entry).one())
            assert opened is not None
            return opened

        return self.database.transaction(work)

    def request_repair(self, path: str, side: Side) -> None:
        """Open an entry for immediate repair, if the key has none."""
        values = {**self._new_values(path, side, False, None, 0), "busy_until": 0.0}
        changes = self._changes_on_conflict(values, {})
        self.database.transaction(
            lambda connection: connection.execute(self.database.dialect.upsert(self._table, values, changes)) and None
        )

    def close_entry(self, path: str, entry: Entry, *, both_written: bool = False) -> EntryFate:
        """Close an entry that no other process has used, else leave it to repair.

        ``both_written`` means that both sides have the content of this writer.
        """
        if entry.sequence == 1 and self.close_claimed(path, entry, both_written=both_written):
            return EntryFate.CLOSED
        return self.leave_for_repair(path, entry)

    def leave_for_repair(self, path: str, entry: Entry, *, first_written: bool = False) -> EntryFate:
        """Leave an entry to repair.

        ``first_written`` means that the trusted side has the new content, so the other side's must not be read.
        """
        table = self._table
        alone = table.c.sequence == entry.sequence
        changes: dict[str, Any] = {
            # A higher sequence means that another process may be writing.
            "busy_until": case((alone, 0.0), else_=table.c.busy_until),
            "sequence": table.c.sequence + 1,
        }
        if first_written:
            changes["tombstone"] = True
        return EntryFate.STAYS if self._update_if_open(path, entry, changes) else EntryFate.VANISHED

    def claim_entry(self, path: str, owner: str, seconds: float) -> Entry | None:
        """Acquire a key's lease for repair.

        Returns:
            The entry. ``None`` if the key has none, another repair has the lease, or a write is running.
        """
        table, now = self._table, self.clock()
        free = table.c.open & (table.c.claimed_by.is_(None) | (table.c.claimed_until < now))
        free &= table.c.busy_until <= now
        changes = {"sequence": table.c.sequence + 1, "claimed_by": owner, "claimed_until": now + seconds}

        def work(connection: Connection) -> Entry | None:
            if not connection.execute(update(table).where(self._key_matches(path), free).values(changes)).rowcount:
                return None
            return _parse_entry(connection.execute(self._select_entry(path)).first())

        return self.database.transaction(work)

    def switch_trusted_side(self, path: str, entry: Entry) -> Entry | None:
        """Make the other side of a claimed key the trusted one.

        Returns:
            The changed entry; ``None`` if another process has changed it since.
        """
        switched = Entry(epoch=uuid.uuid4().hex, sequence=2, side=entry.side.other, tombstone=entry.tombstone)
        changes = {"epoch": switched.epoch, "sequence": switched.sequence, "side": switched.side.value}
        unused = self._table.c.sequence == entry.sequence
        return switched if self._update_if_open(path, entry, changes, unused) else None

    def close_claimed(self, path: str, entry: Entry, *, both_written: bool = False) -> bool:
        """Close an entry, unless it has changed since or an upload URL is still valid.

        The row of the closed entry is kept with ``both_written``: both sides have the content of this writer.

        Returns:
            Whether the entry is closed.
        """
        table = self._table
        same = (self._key_matches(path), table.c.epoch == entry.epoch, table.c.sequence == entry.sequence, table.c.open)
        unused = table.c.expires <= self.clock()
        statement = update(table).values(open=False, about=None, failure=None) if both_written else delete(table)
        statement = statement.where(*same, unused)
        return self.database.transaction(lambda connection: connection.execute(statement).rowcount) == 1

    def written_by_us(self, path: str) -> bool:
        """Return whether the table has a row of a key: then a cutover wrote its objects."""
        statement = select(self._table.c.id).where(self._key_matches(path))
        return self.database.transaction(lambda connection: connection.execute(statement).first()) is not None

    def release(self, path: str, owner: str, failure: str | None = None) -> None:
        """Release a key's lease, with the reason why the key could not be repaired."""
        table = self._table
        statement = update(table).where(self._key_matches(path), table.c.claimed_by == owner)
        statement = statement.values(claimed_by=None, claimed_until=0.0, failure=failure)
        self.database.transaction(lambda connection: connection.execute(statement) and None)

    def count_open(self) -> int:
        """Count the open entries."""
        table = self._table
        statement = select(func.count()).select_from(table).where(table.c.backend == self.backend, table.c.open)
        return self.database.transaction(lambda connection: int(connection.execute(statement).scalar_one()))

    def count_by_kind(self, now: float | None = None) -> EntryCounts:
        """Count the open entries by kind and trusted side."""
        table, now = self._table, self.clock() if now is None else now
        kind = case((table.c.expires > now, "upload"), (table.c.busy_until > now, "writer"), else_="repair")
        statement = select(kind, table.c.side, func.count(), func.max(table.c.expires))
        statement = statement.where(table.c.backend == self.backend, table.c.open).group_by(kind, table.c.side)
        found = self.database.transaction(_fetch_all(statement))
        counts = {(row[0], Side(row[1])): int(row[2]) for row in found}
        last = max((row[3] for row in found), default=0.0)
        return EntryCounts(by_kind=counts, last_upload=max(0.0, last - now))

    def pending_entries(self, page: int = 500) -> Iterator[PendingEntry]:
        """Yield all open entries, unsorted; those opened meanwhile may be missed."""
        table, after = self._table, ""
        while True:
            statement = (
                select(table)
                .where(table.c.backend == self.backend, table.c.open, table.c.id > after)
                .order_by(table.c.id)
                .limit(page)
            )
            found = self.database.transaction(_fetch_all(statement))
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
        """Return content type and metadata of the last save of a key with an open entry."""
        statement = select(self._table.c.about).where(self._key_matches(path), self._table.c.open)
        found = self.database.transaction(lambda connection: connection.execute(statement).scalar())
        return dict(json.loads(found)) if found else {}

    def _select_entry(self, path: str) -> Select[Any]:
        columns = self._table.c
        return select(columns.epoch, columns.sequence, columns.side, columns.tombstone).where(self._key_matches(path))

    def _key_matches(self, path: str) -> Any:
        return self._table.c.id == digest(self.backend, path)

    def _new_values(
        self, path: str, side: Side, tombstone: bool, about: Mapping[str, Any] | None, expires: float
    ) -> dict[str, Any]:
        now = self.clock()
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
        """Return what an insert changes in an existing row.

        A closed entry gets all new values, an open one those of ``joined``.
        """
        columns = self._table.c
        names = [name for name in values if name not in ("id", "backend", "path", "open")]
        changes: dict[str, Any] = {
            name: case(
                (~columns.open, literal(values[name], columns[name].type)), else_=joined.get(name, columns[name])
            )
            for name in names
        }
        # Last: in MariaDB and MySQL an expression sees the columns that were set before it.
        return changes | {"open": True}

    def _update_if_open(self, path: str, entry: Entry, changes: Mapping[str, Any], condition: Any = None) -> bool:
        table = self._table
        # In this order: in MariaDB and MySQL an expression sees the columns that were set before it.
        same = (self._key_matches(path), table.c.epoch == entry.epoch, table.c.open)
        statement = update(table).where(*same).ordered_values(*changes.items())
        if condition is not None:
            statement = statement.where(condition)
        return self.database.transaction(lambda connection: connection.execute(statement).rowcount) == 1


def require_tables(outbox: Outbox) -> None:
    """Refuse to act in a cutover without its tables: what they knew of keys whose two sides differ is gone.

    Raises:
        ConfigurationError: tables are missing, or have another version.
    """
    tables, database = outbox.tables, outbox.database
    if not database.transaction(tables.exist):
        schema = f"schema {tables.schema!r} of " if tables.schema is not None else ""
        raise ConfigurationError(
            f"{schema}{database} has no tables of the outbox of {outbox.backend!r}: where a cutover is under way, they were "
            "dropped, and it is unknown which keys differ: stop writing, restore them from a backup, or create them with "
            "'migrate-storage journal create' and run 'migrate-storage cutover repair --all'"
        )


def _fetch_all(statement: Any) -> Callable[[Connection], Sequence[Any]]:
    return lambda connection: connection.execute(statement).all()


def _latest_of(column: Any, value: float) -> Any:
    return case((column > value, column), else_=literal(value))


def _parse_entry(row: Any) -> Entry | None:
    if row is None:
        return None
    return Entry(epoch=row.epoch, sequence=row.sequence, side=Side(row.side), tombstone=bool(row.tombstone))
