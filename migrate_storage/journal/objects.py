"""The lines of objects: the intent before the first byte, and what became of it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from operator import itemgetter
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, bindparam, func, insert, or_, select, update

from migrate_storage.core.model import Location, OutcomeKind
from migrate_storage.journal.base import Repository, parts
from migrate_storage.journal.records import ObjectRecord, digest

__all__ = ("ObjectRepository",)

_ENTRY = tuple(column.name for column in fields(ObjectRecord))
_INTENT = (
    "run",
    "part",
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


class ObjectRepository(Repository):
    """The lines of objects."""

    def find(self, ids: Sequence[str]) -> dict[str, ObjectRecord]:
        """The lines of these objects, where they have one."""

        def read(connection: Connection) -> dict[str, ObjectRecord]:
            found: dict[str, ObjectRecord] = {}
            for part in parts(ids):
                table = self.tables.object
                statement = select(*(table.c[name] for name in _ENTRY)).where(table.c.id.in_(part))
                for row in connection.execute(statement).mappings():
                    entry = ObjectRecord(**row)
                    found[entry.id] = entry
            return found

        return self.database.transaction(read)

    def record_intents(self, entries: Sequence[ObjectRecord]) -> set[str]:
        """Write the intent to put these objects, before the first byte of any of them.

        Returns:
            Ids whose destination belongs to another source object already: they must not be written.
        """
        if not entries:
            return set()
        by_id = {entry.id: entry for entry in entries}

        def write(connection: Connection) -> set[str]:
            taken = self._taken(connection, _destinations(entries))
            fresh = [_line(entry) for entry in entries if entry.id not in taken]
            ids = [line["id"] for line in fresh]
            known: dict[str, str] = {}
            apart: set[str] = set()
            for part in parts(ids):
                table = self.tables.object
                wanted = select(table.c.id, table.c.state, table.c.run, table.c.part).where(table.c.id.in_(part))
                # Of two ranges that would begin the same object, one is to see the other's intent.
                for row in connection.execute(wanted.with_for_update() if entries[0].part is not None else wanted):
                    known[row.id] = row.state
                    mine = by_id[row.id]
                    if row.state == "intent" and row.run == mine.run and row.part != mine.part:
                        apart.add(row.id)
            new = [line for line in fresh if line["id"] not in known]
            if new:
                connection.execute(insert(self.tables.object), new)
            # Who slept past its lease does not know what another run verified meanwhile: that line stays as it is.
            # Nor does one range of a run touch what another one has in hand.
            old = [
                line
                for line in fresh
                if line["id"] not in apart
                and (known.get(line["id"], "held") != "held" or (line["id"] in known and line["state"] == "held"))
            ]
            if old:
                self._update(connection, old, _INTENT)
            return taken

        # Another shard may write one of them in between: what it wrote is there to be read the second time.
        return self._retry_on_conflict(write)

    def take_over(self, entry: ObjectRecord, part: int) -> bool:
        """Take an intent over from a range that nobody is at work in; whether it still was that range's."""
        table = self.tables.object
        same = table.c.part.is_(None) if entry.part is None else table.c.part == entry.part
        statement = update(table).where(
            table.c.id == entry.id, table.c.state == "intent", table.c.run == entry.run, same
        )
        statement = statement.values(part=part, updated=time.time())
        return self.database.transaction(lambda connection: connection.execute(statement).rowcount) == 1

    def owned_by_others(self, entries: Sequence[ObjectRecord]) -> set[str]:
        """Ids of entries whose destination belongs to another source object."""
        return self.database.transaction(lambda connection: self._taken(connection, _destinations(entries)))

    def _taken(self, connection: Connection, destinations: Iterable[tuple[str, str]]) -> set[str]:
        """Of objects, each with the id of its destination, those whose destination is another's."""
        table = self.tables.object
        wanted: dict[str, str] = {}
        taken: set[str] = set()
        for id_, destination in destinations:
            if wanted.setdefault(destination, id_) != id_:
                taken.add(id_)
        for part in parts(list(wanted)):
            rows = connection.execute(
                select(table.c.destination_id, table.c.id).where(table.c.destination_id.in_(part))
            )
            taken.update(wanted[row.destination_id] for row in rows if wanted[row.destination_id] != row.id)
        return taken

    def insert_verified(self, connection: Connection, entries: Sequence[ObjectRecord]) -> tuple[set[str], int]:
        """Write the lines of objects that are held already and were never intended, in the caller's transaction.

        Args:
            connection: in a transaction.
            entries: their lines; one that comes twice is written once.

        Returns:
            The ids of those whose line now says so, by this or by an earlier call of the same run, and how many were
            written. What another run wrote down, or whose destination is another object's, wants to be weighed first.
        """
        table = self.tables.object
        lines = {entry.id: _line(entry) for entry in entries}
        taken = self._taken(connection, [(id_, line["destination_id"]) for id_, line in lines.items()])
        known: dict[str, Any] = {}
        for part in parts(list(lines)):
            wanted = select(table.c.id, table.c.run, table.c.state, table.c.destination_id).where(table.c.id.in_(part))
            known.update((row["id"], row) for row in connection.execute(wanted).mappings())
        fresh = [line for id_, line in lines.items() if id_ not in known and id_ not in taken]
        if fresh:
            connection.execute(insert(table), sorted(fresh, key=itemgetter("id")))
        same = {
            id_
            for id_, row in known.items()
            if id_ not in taken and all(row[name] == lines[id_][name] for name in ("run", "state", "destination_id"))
        }
        return same | {line["id"] for line in fresh}, len(fresh)

    def record_results(self, connection: Connection, entries: Sequence[ObjectRecord]) -> None:
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

    def at_destination(self, key: str, path: str) -> ObjectRecord | None:
        """The line of the copy that stands under a backend key and filename."""
        return self._first(self.tables.object.c.destination_id == digest(key, path))

    def at_destinations(self, locations: Sequence[Location]) -> dict[Location, ObjectRecord]:
        """The lines of the copies that stand at these locations, where they have one."""
        table = self.tables.object
        found = {}
        for part in parts(list({digest(each.backend, each.path) for each in locations})):
            statement = select(*(table.c[name] for name in _ENTRY)).where(table.c.destination_id.in_(part))
            for row in self._read(statement):
                entry = ObjectRecord(**row)
                found[entry.destination] = entry
        return found

    def claim(self, entries: Sequence[ObjectRecord], before: str) -> set[str]:
        """Write lines where they still are in the state ``before``; returns the ids of those that were."""
        table = self.tables.object

        def write(connection: Connection) -> set[str]:
            return {
                entry.id
                for entry in entries
                if connection.execute(
                    update(table).where(table.c.id == entry.id, table.c.state == before).values(**_line(entry))
                ).rowcount
            }

        return self.database.transaction(write)

    def in_states(self, *states: str, run: str | None = None, size: int = 500) -> Iterator[list[ObjectRecord]]:
        """The objects of all runs, or of one, in one of these states, batch by batch in the order of their ids."""
        table = self.tables.object
        last = ""
        while True:
            statement = select(*(table.c[name] for name in _ENTRY)).where(table.c.state.in_(states), table.c.id > last)
            if run is not None:
                statement = statement.where(table.c.run == run)
            batch = [ObjectRecord(**row) for row in self._read(statement.order_by(table.c.id).limit(size))]
            if batch:
                yield batch
            if len(batch) < size:
                return
            last = batch[-1].id

    def any_in(self, *states: str) -> bool:
        """Whether any object is in one of these states."""
        table = self.tables.object
        return bool(self._read(select(table.c.id).where(table.c.state.in_(states)).limit(1)))

    def _first(self, condition: ColumnElement[bool]) -> ObjectRecord | None:
        table = self.tables.object
        found = self._read(select(*(table.c[name] for name in _ENTRY)).where(condition).limit(1))
        return ObjectRecord(**found[0]) if found else None

    def set_state(self, id_: str, state: str) -> None:
        """Say that an object is about to be deleted (``purging``), or was (``purged``)."""
        table = self.tables.object
        statement = update(table).where(table.c.id == id_).values(state=state, updated=time.time())
        self.database.transaction(lambda connection: connection.execute(statement))

    def of_run(
        self,
        run: str,
        *,
        state: str | None = None,
        outcomes: Iterable[str] = (),
        without: Sequence[str] = (),
        part: int | None = None,
        size: int = 500,
    ) -> Iterator[list[ObjectRecord]]:
        """The objects of a run, or of one range of it, batch by batch by their ids, each read in a transaction of its own.

        Args:
            run: the run's id.
            state: only those in this state.
            outcomes: only those that ended so.
            without: not those that were proved so.
            part: the range.
            size: of a batch.
        """
        table = self.tables.object
        outcomes = tuple(outcomes)
        last = ""
        while True:
            statement = select(*(table.c[name] for name in _ENTRY)).where(table.c.run == run, table.c.id > last)
            if state is not None:
                statement = statement.where(table.c.state == state)
            if outcomes:
                statement = statement.where(table.c.outcome.in_(outcomes))
            if without:
                statement = statement.where(or_(table.c.evidence.is_(None), table.c.evidence.not_in(without)))
            if part is not None:
                statement = statement.where(table.c.part == part)
            batch = [ObjectRecord(**row) for row in self._read(statement.order_by(table.c.id).limit(size))]
            if batch:
                yield batch
            if len(batch) < size:
                return
            last = batch[-1].id

    def count(self, run: str, part: int | None = None) -> dict[str, int]:
        """Objects of a run, or of one range of it, by outcome."""
        return self._count_by(self.tables.object.c.outcome, run, part)

    def count_evidence(self, run: str, part: int | None = None) -> dict[str, int]:
        """Count the done objects of a run, or of one shard of it, by how equality was proved."""
        done = self.tables.object.c.outcome.in_([kind.value for kind in OutcomeKind if kind.done])
        return self._count_by(self.tables.object.c.evidence, run, part, done)

    def _count_by(self, column: Column[Any], run: str, part: int | None, *where: ColumnElement[bool]) -> dict[str, int]:
        table = self.tables.object
        statement = select(column, func.count()).where(table.c.run == run, column.is_not(None), *where).group_by(column)
        if part is not None:
            statement = statement.where(table.c.part == part)
        return self.database.transaction(
            lambda connection: {str(row[0]): int(row[1]) for row in connection.execute(statement)}
        )


def _destinations(entries: Sequence[ObjectRecord]) -> Iterator[tuple[str, str]]:
    return ((entry.id, _destination_id(entry)) for entry in entries)


def _destination_id(entry: ObjectRecord) -> str:
    return digest(entry.destination_key, entry.destination_path)


def _line(entry: ObjectRecord) -> dict[str, Any]:
    return {**{name: getattr(entry, name) for name in _ENTRY}, "destination_id": _destination_id(entry)}
