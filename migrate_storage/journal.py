"""The journal: what was done to which object and row, kept where the rows are, so that both commit together.

An object's line is written before its first byte (the intent) and settled in the transaction that re-points its rows.
A lease keeps two runs apart: a heartbeat in the database, never a pid or a host name.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Select, bindparam, func, insert, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from migrate_storage.database import Database
from migrate_storage.diskset import DiskSet
from migrate_storage.errors import ConfigurationError, LeaseHeldError, RefusedError
from migrate_storage.model import Column, Evidence, Location, Place
from migrate_storage.rows import dump_key, row_id
from migrate_storage.tables import Tables

__all__ = ("Entry", "Journal", "RowEntry", "Run", "object_id")


def digest(*parts: str) -> str:
    """A short name for a tuple of strings that no other tuple shares."""
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


def object_id(place: Place, destination: str) -> str:
    """The name of an object's line: its physical place and the backend key it goes to, however rows spell it."""
    return digest(place.service, place.endpoint, place.root, place.key, destination)


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One object's line."""

    id: str
    run: str
    source_key: str
    source_path: str
    destination_key: str
    destination_path: str
    state: str = "intent"
    ours: bool | None = None
    outcome: str | None = None
    reason: str | None = None
    evidence: str | None = None
    size: int | None = None
    sha256: str | None = None
    source_etag: str | None = None
    source_modified: float | None = None
    source_version: str | None = None
    destination_etag: str | None = None
    destination_modified: float | None = None
    destination_version: str | None = None
    seconds: float | None = None
    updated: float = field(default_factory=time.time)

    @property
    def source(self) -> Location:
        """Where it came from."""
        return Location(self.source_key, self.source_path)

    @property
    def destination(self) -> Location:
        """Where it went."""
        return Location(self.destination_key, self.destination_path)

    @property
    def source_evidence(self) -> Evidence:
        """The source object as it was when it was copied."""
        return Evidence(
            size=self.size or 0, e_tag=self.source_etag, last_modified=self.source_modified, version=self.source_version
        )

    @property
    def destination_evidence(self) -> Evidence:
        """The copy as it was when it was verified."""
        return Evidence(
            size=self.size or 0,
            e_tag=self.destination_etag,
            last_modified=self.destination_modified,
            version=self.destination_version,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class RowEntry:
    """One rewritten column of one row."""

    run: str
    column: Column
    pk: tuple[Any, ...]
    objects: tuple[str, ...]
    old_value: str
    new_value: str
    state: str = "swapped"


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One run's line. ``report`` is its report as JSON, once there is one."""

    id: str
    kind: str
    source: str
    destination: str
    way: str
    state: str
    started: float
    updated: float
    finished: float | None = None
    report: str | None = None
    #: What ``control`` wants of it, as JSON.
    wanted: str | None = None
    #: What it was doing when it last wrote, as JSON.
    doing: str | None = None


T = TypeVar("T")

_ENTRY = tuple(column.name for column in fields(Entry))
_RUN = tuple(column.name for column in fields(Run))
_INTENT = (
    "run",
    "state",
    "outcome",
    "reason",
    "updated",
    "source_path",
    "destination_key",
    "destination_path",
    "destination_id",
)
"""What an intent says anew; the evidence of an earlier copy stays."""
_BATCH = 400
"""Ids in one IN list: below every database's limit on parameters."""


class Journal:
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

    # -- runs

    def begin(self, run: Run) -> None:
        """Write a run's line."""
        self.database.transaction(
            lambda connection: connection.execute(insert(self.tables.run), {name: getattr(run, name) for name in _RUN})
        )

    def progress(self, run: str, **values: Any) -> None:
        """Change a run's line: ``state``, ``report``, ``finished``."""
        table = self.tables.run
        statement = update(table).where(table.c.id == run).values(updated=time.time(), **values)
        self.database.transaction(lambda connection: connection.execute(statement))

    def wanted(self, run: str) -> dict[str, Any]:
        """What was asked of a run while it goes on; empty where nothing was."""
        table = self.tables.run
        statement = select(table.c.wanted).where(table.c.id == run)
        value = self.database.transaction(lambda connection: connection.execute(statement).scalar())
        return dict(json.loads(value)) if value else {}

    def want(self, run: str, **wishes: Any) -> None:
        """Ask something of a run while it goes on; what was asked before and is not named stays."""
        table = self.tables.run

        def write(connection: Connection) -> None:
            line = select(table.c.wanted).where(table.c.id == run)
            # SQLite knows no FOR UPDATE; there the whole database has one writer.
            value = connection.execute(line.with_for_update()).scalar()
            wanted = json.dumps({**(json.loads(value) if value else {}), **wishes})
            connection.execute(update(table).where(table.c.id == run).values(wanted=wanted))

        self.database.transaction(write)

    def runs(self, limit: int = 50) -> list[Run]:
        """The latest runs, newest first; none where nothing was ever journaled."""
        if not self.exists:
            return []
        table = self.tables.run
        statement = select(*(table.c[name] for name in _RUN)).order_by(table.c.started.desc(), table.c.id).limit(limit)
        return [Run(**row) for row in self._read(statement)]

    def move(self, name: str | None = None) -> Run:
        """One run that went from one key to another, by its id or the beginning of it; the latest such when ``None``.

        Raises:
            ConfigurationError: there is none, or the one named is a revert, a purge or a swap.
        """
        if name is not None:
            found = self.run(name)
            if found.kind != "run" or found.source == found.destination:
                what = "a swap, which re-points nothing" if found.kind == "run" else f"a {found.kind}, not a run"
                raise ConfigurationError(f"{found.id} is {what}: 'migrate-storage runs' lists them")
            return found
        for run in self.runs(limit=1000):
            if run.kind == "run" and run.source != run.destination:
                return run
        raise ConfigurationError(
            f"no run from one key to another is journaled in {self.database}: start one with 'migrate-storage run'"
        )

    def moves(self, like: Run) -> list[Run]:
        """All runs between the same two keys, the latest first."""
        return [
            run
            for run in self.runs(limit=1000)
            if (run.kind, run.source, run.destination) == ("run", like.source, like.destination)
        ]

    def run(self, name: str | None = None) -> Run:
        """One run by its id or the beginning of it; the latest when ``None``.

        Raises:
            ConfigurationError: there is no such run, or several begin so.
        """
        runs = self.runs(limit=1000)
        if not runs:
            raise ConfigurationError(f"no run is journaled in {self.database}: start one with 'migrate-storage run'")
        if name is None:
            return runs[0]
        found = [run for run in runs if run.id.startswith(name)]
        if len(found) != 1:
            raise ConfigurationError(
                f"{len(found) or 'no'} runs begin with {name!r}: 'migrate-storage runs' lists them"
            )
        return found[0]

    # -- objects

    def find(self, ids: Sequence[str]) -> dict[str, Entry]:
        """The lines of these objects, where they have one."""

        def read(connection: Connection) -> dict[str, Entry]:
            found: dict[str, Entry] = {}
            for part in _parts(ids):
                table = self.tables.object
                statement = select(*(table.c[name] for name in _ENTRY)).where(table.c.id.in_(part))
                for row in connection.execute(statement).mappings():
                    entry = Entry(**row)
                    found[entry.id] = entry
            return found

        return self.database.transaction(read)

    def intend(self, entries: Sequence[Entry]) -> set[str]:
        """Write the intent to put these objects, before the first byte of any of them.

        Returns:
            Ids whose destination belongs to another source object already: they must not be written.
        """
        if not entries:
            return set()

        def write(connection: Connection) -> set[str]:
            taken = self._taken(connection, entries)
            fresh = [_line(entry) for entry in entries if entry.id not in taken]
            ids = [line["id"] for line in fresh]
            known: dict[str, str] = {}
            for part in _parts(ids):
                table = self.tables.object
                found = connection.execute(select(table.c.id, table.c.state).where(table.c.id.in_(part)))
                known.update((row.id, row.state) for row in found)
            new = [line for line in fresh if line["id"] not in known]
            if new:
                connection.execute(insert(self.tables.object), new)
            # Who slept past its lease does not know what another run verified meanwhile: that line stays as it is.
            old = [
                line
                for line in fresh
                if known.get(line["id"], "held") != "held" or (line["id"] in known and line["state"] == "held")
            ]
            if old:
                self._update(connection, old, _INTENT)
            return taken

        # Another shard may write one of them in between: what it wrote is there to be read the second time.
        return self._twice(write)

    def owned_by_others(self, entries: Sequence[Entry]) -> set[str]:
        """Ids of entries whose destination belongs to another source object."""
        return self.database.transaction(lambda connection: self._taken(connection, entries))

    def _taken(self, connection: Connection, entries: Sequence[Entry]) -> set[str]:
        table = self.tables.object
        wanted: dict[str, str] = {}
        taken: set[str] = set()
        for entry in entries:
            if wanted.setdefault(_destination_id(entry), entry.id) != entry.id:
                taken.add(entry.id)
        for part in _parts(list(wanted)):
            rows = connection.execute(
                select(table.c.destination_id, table.c.id).where(table.c.destination_id.in_(part))
            )
            taken.update(wanted[row.destination_id] for row in rows if wanted[row.destination_id] != row.id)
        return taken

    def settle(self, connection: Connection, entries: Sequence[Entry]) -> None:
        """Bring the lines of these objects up to date, in the caller's transaction."""
        if entries:
            columns = (*(name for name in _ENTRY if name != "id"), "destination_id")
            self._update(connection, [_line(entry) for entry in entries], columns)

    def _update(self, connection: Connection, lines: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
        table = self.tables.object
        statement = (
            update(table)
            .where(table.c.id == bindparam("line"))
            .values({name: bindparam(f"v_{name}") for name in columns})
        )
        connection.execute(
            statement, [{"line": line["id"], **{f"v_{name}": line[name] for name in columns}} for line in lines]
        )

    def at_destination(self, key: str, path: str) -> Entry | None:
        """The line of the copy that stands under a backend key and filename."""
        return self._first(self.tables.object.c.destination_id == digest(key, path))

    def at_destinations(self, locations: Sequence[Location]) -> dict[Location, Entry]:
        """The lines of the copies that stand at these locations, where they have one."""
        table = self.tables.object
        found = {}
        for part in _parts(list({digest(each.backend, each.path) for each in locations})):
            statement = select(*(table.c[name] for name in _ENTRY)).where(table.c.destination_id.in_(part))
            for row in self._read(statement):
                entry = Entry(**row)
                found[entry.destination] = entry
        return found

    def any_in(self, *states: str) -> bool:
        """Whether any object is in one of these states."""
        table = self.tables.object
        return bool(self._read(select(table.c.id).where(table.c.state.in_(states)).limit(1)))

    def _first(self, condition: ColumnElement[bool]) -> Entry | None:
        table = self.tables.object
        found = self._read(select(*(table.c[name] for name in _ENTRY)).where(condition).limit(1))
        return Entry(**found[0]) if found else None

    def purging(self, id_: str, state: str) -> None:
        """Say that an object is about to be deleted (``purging``), or was (``purged``)."""
        table = self.tables.object
        statement = update(table).where(table.c.id == id_).values(state=state, updated=time.time())
        self.database.transaction(lambda connection: connection.execute(statement))

    def objects(
        self, run: str, *, state: str | None = None, outcomes: Iterable[str] = (), size: int = 500
    ) -> Iterator[list[Entry]]:
        """The objects of a run, batch by batch in the order of their ids, each read in a transaction of its own."""
        table = self.tables.object
        outcomes = tuple(outcomes)
        last = ""
        while True:
            statement = select(*(table.c[name] for name in _ENTRY)).where(table.c.run == run, table.c.id > last)
            if state is not None:
                statement = statement.where(table.c.state == state)
            if outcomes:
                statement = statement.where(table.c.outcome.in_(outcomes))
            batch = [Entry(**row) for row in self._read(statement.order_by(table.c.id).limit(size))]
            if batch:
                yield batch
            if len(batch) < size:
                return
            last = batch[-1].id

    def count(self, run: str) -> dict[str, int]:
        """Objects of a run by outcome."""
        table = self.tables.object
        statement = (
            select(table.c.outcome, func.count())
            .where(table.c.run == run, table.c.outcome.is_not(None))
            .group_by(table.c.outcome)
        )
        return self.database.transaction(
            lambda connection: {str(row[0]): int(row[1]) for row in connection.execute(statement)}
        )

    # -- rows

    def write_rows(self, connection: Connection, entries: Sequence[RowEntry]) -> None:
        """Add lines of rewritten rows, in the caller's transaction.

        What a line says already is not said twice: a commit whose answer was lost is tried again, and a run that slept
        past its lease may find its rows re-pointed just as it would have done.
        """
        said = self._said(connection, entries)
        entries = [
            each for each in entries if (row_id(each.column, each.pk), each.old_value, each.new_value) not in said
        ]
        if entries:
            now = time.time()
            connection.execute(
                insert(self.tables.row),
                [
                    {
                        "run": entry.run,
                        "table_schema": entry.column.schema,
                        "table_name": entry.column.table,
                        "column_name": entry.column.column,
                        "pk": dump_key(entry.pk),
                        "row_id": row_id(entry.column, entry.pk),
                        "objects": json.dumps(entry.objects),
                        "old_value": entry.old_value,
                        "new_value": entry.new_value,
                        "state": entry.state,
                        "at": now,
                    }
                    for entry in entries
                ],
            )

    def _said(self, connection: Connection, entries: Sequence[RowEntry]) -> set[tuple[str, str, str]]:
        table = self.tables.row
        states = {"swapped", *(entry.state for entry in entries)}
        said: set[tuple[str, str, str]] = set()
        for part in _parts([row_id(entry.column, entry.pk) for entry in entries]):
            statement = select(table.c.row_id, table.c.old_value, table.c.new_value)
            found = connection.execute(statement.where(table.c.row_id.in_(part), table.c.state.in_(states)))
            said.update((line.row_id, line.old_value, line.new_value) for line in found)
        return said

    def settle_row(self, connection: Connection, entry: RowEntry) -> None:
        """Bring a row's line that still is an intent of its run up to date, in the caller's transaction."""
        table = self.tables.row
        statement = update(table).where(
            table.c.row_id == row_id(entry.column, entry.pk), table.c.run == entry.run, table.c.state == "intent"
        )
        connection.execute(statement.values(state=entry.state, new_value=entry.new_value))

    def mark_row(self, line: int, state: str) -> None:
        """Change the state of one line of a row, by the line's own id."""
        table = self.tables.row
        statement = update(table).where(table.c.id == line).values(state=state)
        self.database.transaction(lambda connection: connection.execute(statement))

    def rows_in(
        self, state: str, *, run: str | None = None, since: float | None = None, size: int = 500
    ) -> Iterator[list[dict[str, Any]]]:
        """Lines of rows in one state, in the order they were written, batch by batch; each has the table's columns."""
        table = self.tables.row
        last = 0
        while True:
            statement = select(table).where(table.c.state == state, table.c.id > last).order_by(table.c.id).limit(size)
            if run is not None:
                statement = statement.where(table.c.run == run)
            if since is not None:
                statement = statement.where(table.c.at >= since)
            batch = self._read(statement)
            if batch:
                yield batch
            if len(batch) < size:
                return
            last = batch[-1]["id"]

    def swapped_rows(self, runs: Sequence[str], *, size: int = 500) -> Iterator[list[dict[str, Any]]]:
        """The lines of each row that these runs re-pointed, row by row: all of its lines that were not undone."""
        table = self.tables.row
        last = ""
        while True:
            wanted = select(table.c.row_id).where(
                table.c.run.in_(runs), table.c.state == "swapped", table.c.row_id > last
            )
            names = [line["row_id"] for line in self._read(wanted.distinct().order_by(table.c.row_id).limit(size))]
            if not names:
                return
            statement = select(table).where(
                table.c.row_id.in_(names), table.c.run.in_(runs), table.c.state == "swapped"
            )
            groups: dict[str, list[dict[str, Any]]] = {}
            for line in self._read(statement.order_by(table.c.row_id, table.c.id)):
                groups.setdefault(line["row_id"], []).append(line)
            yield from groups.values()
            last = names[-1]

    def reverted(self, connection: Connection, lines: Sequence[int]) -> None:
        """Mark lines of rows as undone just now, in the caller's transaction."""
        table = self.tables.row
        for part in _parts(lines):
            connection.execute(update(table).where(table.c.id.in_(part)).values(state="reverted", at=time.time()))

    def release_objects(self) -> int:
        """After an undo: a copy that no row was left pointing at is a leftover. Safe to repeat; returns how many there are."""
        with DiskSet() as free:
            free.add(id_ for batch in self.rows_in("reverted") for line in batch for id_ in json.loads(line["objects"]))
            for state in ("swapped", "intent"):
                free.discard(
                    id_ for batch in self.rows_in(state) for line in batch for id_ in json.loads(line["objects"])
                )
            return sum(self._release(part) for part in free.parts(_BATCH))

    def _release(self, ids: Sequence[str]) -> int:
        table = self.tables.object
        statement = update(table).where(
            table.c.id.in_(ids), table.c.state == "held", table.c.outcome.in_(("rewritten", "changed"))
        )
        statement = statement.values(state="leftover", updated=time.time())
        return self.database.transaction(lambda connection: int(connection.execute(statement).rowcount))

    def rows_of(self, id_: str, *, run: str | None = None) -> list[dict[str, Any]]:
        """Lines of the rows that were re-pointed to one object, by one run or any."""
        table = self.tables.row
        statement = (
            select(table).where(table.c.state == "swapped", table.c.objects.like(f'%"{id_}"%')).order_by(table.c.id)
        )
        if run is not None:
            statement = statement.where(table.c.run == run)
        return self._read(statement)

    def history(self, row: str) -> list[dict[str, Any]]:
        """All lines of one row, oldest first."""
        table = self.tables.row
        return self._read(select(table).where(table.c.row_id == row).order_by(table.c.id))

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

    # -- the lease

    def acquire(self, owner: str, *, name: str = "engine", seconds: float) -> float:
        """Take the lease if nobody holds it.

        Args:
            owner: who we are: a fresh random name.
            name: which lease.
            seconds: how long it is good for without a heartbeat.

        Returns:
            0.0 when it is ours now, else the seconds until the other's lease ends unless they renew it.
        """

        def take(connection: Connection) -> float:
            table = self.tables.lease
            now = self.database.now(connection)
            mine = update(table).where(table.c.name == name, (table.c.expires < now) | (table.c.owner == owner))
            if connection.execute(mine.values(owner=owner, expires=now + seconds)).rowcount == 1:
                return 0.0
            expires = connection.execute(select(table.c.expires).where(table.c.name == name)).scalar()
            if expires is None:
                connection.execute(insert(table).values(name=name, owner=owner, expires=now + seconds))
                return 0.0
            return max(0.001, float(expires) - now)

        return self._twice(take)

    def renew(self, owner: str, *, name: str = "engine", seconds: float) -> None:
        """Heartbeat.

        Raises:
            LeaseHeldError: it ran out and somebody else took it.
        """
        table = self.tables.lease

        def write(connection: Connection) -> int:
            statement = update(table).where(table.c.name == name, table.c.owner == owner)
            return connection.execute(statement.values(expires=self.database.now(connection) + seconds)).rowcount

        if self.database.transaction(write) != 1:
            raise LeaseHeldError(
                "another run took the lease while this one was held up; what it did is journaled, this one stops"
            )

    def leased(self) -> float:
        """Seconds that a lease is still good for; 0.0 when nobody is at work."""
        expires = func.max(self.tables.lease.c.expires)

        def read(connection: Connection) -> float:
            latest = connection.execute(select(expires)).scalar()
            return 0.0 if latest is None else max(0.0, float(latest) - self.database.now(connection))

        return self.database.transaction(read)

    def last_swap(self, runs: Sequence[str]) -> float | None:
        """When one of these runs last re-pointed a row, in seconds since the epoch."""
        table = self.tables.row
        found: list[Any] = []
        for part in _parts(runs):
            statement = select(func.max(table.c.at).label("last")).where(
                table.c.run.in_(part), table.c.state == "swapped"
            )
            found.extend(line["last"] for line in self._read(statement))
        return max((float(each) for each in found if each is not None), default=None)

    def release(self, owner: str, *, name: str = "engine") -> None:
        """Give the lease back."""
        table = self.tables.lease
        statement = update(table).where(table.c.name == name, table.c.owner == owner).values(expires=0.0)
        self.database.transaction(lambda connection: connection.execute(statement))


def new_run_id() -> str:
    """A fresh name for a run, sortable by time."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{uuid.uuid4().hex[:8]}"


def _destination_id(entry: Entry) -> str:
    return digest(entry.destination_key, entry.destination_path)


def _line(entry: Entry) -> dict[str, Any]:
    return {**{name: getattr(entry, name) for name in _ENTRY}, "destination_id": _destination_id(entry)}


def _parts(ids: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(ids), _BATCH):
        yield ids[start : start + _BATCH]
