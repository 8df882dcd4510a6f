"""The records of objects: an intent before the first byte, and then the result."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Select, func, or_, select, update

from migrate_storage.core.model import Location, OutcomeKind
from migrate_storage.core.proofs import SAME_OBJECT_LISTING
from migrate_storage.database.connection import Database
from migrate_storage.database.row_sets import insert_rows, update_rows
from migrate_storage.journal.base import Repository, id_batches
from migrate_storage.journal.records import ObjectRecord, digest
from migrate_storage.journal.rekeyed import RekeyedRepository
from migrate_storage.journal.schema import Tables
from migrate_storage.journal.states import ObjectState

__all__ = ("ObjectRepository",)

_COLUMNS = tuple(column.name for column in fields(ObjectRecord))
_read_columns = attrgetter(*_COLUMNS)
_INTENT_COLUMNS = (
    "run", "shard", "state", "outcome", "reason", "updated",
    "source_path", "destination_key", "destination_path", "destination_id",
)  # fmt: skip
"""Columns that a new intent changes in an earlier record. The evidence of the earlier copy stays."""


class ObjectRepository(Repository):
    """The records of objects, also those that are packed in the range of a re-key.

    What is packed is always read first. A range that is unpacked meanwhile is then read twice, and never missed.
    """

    def __init__(self, database: Database, tables: Tables, rekeyed: RekeyedRepository) -> None:
        super().__init__(database, tables, tables.object)
        self._rekeyed = rekeyed

    def find(self, ids: Sequence[str]) -> dict[str, ObjectRecord]:
        """The records of these objects, by id, where there are any."""

        def read(connection: Connection) -> dict[str, ObjectRecord]:
            found = self._rekeyed.find(connection, ids)
            rows = self._select_where_in(connection, self._select(), self.c.id, ids)
            found.update((row.id, ObjectRecord(**dict(zip(_COLUMNS, row, strict=True)))) for row in rows)
            return found

        return self.database.transaction(read)

    def at_destinations(self, locations: Iterable[Location]) -> dict[Location, ObjectRecord]:
        """The records of the copies at these locations, where there are any."""
        wanted = list(dict.fromkeys(locations))
        found = self.database.transaction(lambda connection: self._rekeyed.at_destinations(connection, wanted))
        for batch in id_batches([digest(location.backend, location.path) for location in wanted]):
            for row in self._read(self._select().where(self.c.destination_id.in_(batch))):
                record = ObjectRecord(**row)
                found[record.destination] = record
        return found

    def in_states(self, *states: str, run: str | None = None, size: int = 500) -> Iterator[list[ObjectRecord]]:
        """The objects in one of these states, of all runs or one, in batches."""
        if ObjectState.VERIFIED in states:
            yield from self._rekeyed.objects(run)
        statement = self._select().where(self.c.state.in_(states))
        if run is not None:
            statement = statement.where(self.c.run == run)
        yield from self._read_records(statement, size)

    def any_in(self, *states: str) -> bool:
        """Whether any object is in one of these states."""
        if ObjectState.VERIFIED in states and self.database.transaction(self._rekeyed.any):
            return True
        return bool(self._read(select(self.c.id).where(self.c.state.in_(states)).limit(1)))

    def of_run(
        self,
        run: str,
        *,
        state: str | None = None,
        outcomes: Iterable[str] = (),
        without: Sequence[str] = (),
        shard: int | None = None,
        size: int = 500,
    ) -> Iterator[list[ObjectRecord]]:
        """The objects of a run, or of one shard of it, in batches.

        Args:
            run: the run's id.
            state: only objects in this state.
            outcomes: only objects with one of these outcomes.
            without: evidence; objects with it are left out.
            shard: the shard's number.
            size: objects in a batch; a transaction reads each batch.
        """
        outcomes = tuple(outcomes)
        rekeyed = state in (None, ObjectState.VERIFIED) and (not outcomes or OutcomeKind.REPOINTED in outcomes)
        if rekeyed and shard is None and SAME_OBJECT_LISTING not in without:
            yield from self._rekeyed.objects(run)
        statement = self._select().where(self.c.run == run)
        if state is not None:
            statement = statement.where(self.c.state == state)
        if outcomes:
            statement = statement.where(self.c.outcome.in_(outcomes))
        if without:
            statement = statement.where(or_(self.c.evidence.is_(None), self.c.evidence.not_in(without)))
        if shard is not None:
            statement = statement.where(self.c.shard == shard)
        yield from self._read_records(statement, size)

    def count(self, run: str, shard: int | None = None) -> dict[str, int]:
        """The number of objects of a run, or of one shard of it, by outcome."""
        return self._add_rekeyed(self._count_by(self.c.outcome, run, shard), OutcomeKind.REPOINTED, run, shard)

    def count_evidence(self, run: str, shard: int | None = None) -> dict[str, int]:
        """The number of done objects of a run, or of one shard of it, by evidence."""
        done = self.c.outcome.in_([kind.value for kind in OutcomeKind if kind.done])
        return self._add_rekeyed(self._count_by(self.c.evidence, run, shard, done), SAME_OBJECT_LISTING, run, shard)

    def _add_rekeyed(self, counts: dict[str, int], name: str, run: str, shard: int | None) -> dict[str, int]:
        """Add the packed objects of a run, which no shard has."""
        rekeyed = self._rekeyed.count_objects(run) if shard is None else 0
        return {**counts, str(name): counts.get(name, 0) + rekeyed} if rekeyed else counts

    def _count_by(
        self, column: Column[Any], run: str, shard: int | None, *where: ColumnElement[bool]
    ) -> dict[str, int]:
        statement = select(column.label("value"), func.count().label("objects"))
        statement = statement.where(self.c.run == run, column.is_not(None), *where).group_by(column)
        if shard is not None:
            statement = statement.where(self.c.shard == shard)
        return {str(row["value"]): int(row["objects"]) for row in self._read(statement)}

    def record_intents(self, records: Sequence[ObjectRecord]) -> set[str]:
        """Write the intent to copy these objects, before the first byte of any of them.

        Returns:
            Ids whose destination belongs to another source object already. They must not be copied.
        """
        if not records:
            return set()
        # Another shard may insert one of them at the same time. The second attempt reads its record.
        return self._retry_on_conflict(lambda connection: self._record_intents(connection, records))

    def _record_intents(self, connection: Connection, records: Sequence[ObjectRecord]) -> set[str]:
        self._unpack(connection, records)
        now = self.database.now(connection)
        rows = [_to_row(record, now) for record in records]
        destinations = [(row["id"], row["destination_id"]) for row in rows]
        self._free_destinations(connection, destinations)
        taken = self._find_taken(connection, destinations)
        records = [record for record in records if record.id not in taken]
        earlier = self._read_earlier(connection, records)
        new = [row for row in rows if row["id"] not in taken and row["id"] not in earlier]
        insert_rows(connection, self.database.dialect.sets, self.table, new)
        changed = [record for record in records if record.id in earlier and _may_replace(earlier[record.id], record)]
        self._update(connection, changed, _INTENT_COLUMNS)
        return taken

    def _read_earlier(self, connection: Connection, records: Sequence[ObjectRecord]) -> dict[str, Any]:
        """State, run and shard of the records that exist."""
        statement = select(self.c.id, self.c.state, self.c.run, self.c.shard)
        if records and records[0].shard is not None and self.database.dialect.locks_rows:
            # If two shards begin the same object, one of them must wait for the intent of the other.
            statement = statement.with_for_update()
        rows = self._select_where_in(connection, statement, self.c.id, [record.id for record in records])
        return {row.id: row for row in rows}

    def take_over_intent(self, record: ObjectRecord, shard: int) -> bool:
        """Give an intent to another shard; return whether its shard still had it."""
        same = self.c.shard.is_(None) if record.shard is None else self.c.shard == record.shard
        intent = (self.c.id == record.id, self.c.state == ObjectState.INTENT, self.c.run == record.run, same)
        return self._write_at(lambda now: update(self.table).where(*intent).values(shard=shard, updated=now)) == 1

    def owned_by_others(self, records: Sequence[ObjectRecord], *, without: Collection[str] = ()) -> set[str]:
        """Ids of the records whose destination belongs to another source object.

        Args:
            records: with the destinations that are wanted.
            without: ids of records that own nothing any more.
        """

        def find(connection: Connection) -> set[str]:
            packed = self._rekeyed.at_destinations(connection, [record.destination for record in records])
            owners = {location: owner.id for location, owner in packed.items() if owner.id not in without}
            taken = {each.id for each in records if owners.get(each.destination, each.id) != each.id}
            wanted = [(record.id, _destination_id(record)) for record in records]
            return taken | self._find_taken(connection, wanted, without=without)

        return self.database.transaction(find)

    def _find_taken(
        self, connection: Connection, destinations: Iterable[tuple[str, str]], *, without: Collection[str] = ()
    ) -> set[str]:
        """Ids of those objects, given with their destinations, that another one owns."""
        owners: dict[str, str] = {}
        taken: set[str] = set()
        for id_, destination in destinations:
            if owners.setdefault(destination, id_) != id_:
                taken.add(id_)
        statement = select(self.c.destination_id, self.c.id).where(self.c.state != ObjectState.COPY_DELETED)
        rows = self._select_where_in(connection, statement, self.c.destination_id, owners)
        taken.update(
            owners[row.destination_id] for row in rows if owners[row.destination_id] != row.id and row.id not in without
        )
        return taken

    def _free_destinations(self, connection: Connection, destinations: Iterable[tuple[str, str]]) -> None:
        """Let the records of deleted copies give up the destinations of these objects."""
        gone = select(self.c.id).where(self.c.state == ObjectState.COPY_DELETED)
        wanted = [destination for _, destination in destinations]
        found = [row.id for row in self._select_where_in(connection, gone, self.c.destination_id, wanted)]
        for batch in id_batches(found):
            freed = update(self.table).where(self.c.id.in_(batch), self.c.state == ObjectState.COPY_DELETED)
            connection.execute(freed.values(destination_id=self.c.id))

    def find_recorded(self, connection: Connection, destinations: Mapping[str, Location]) -> set[str]:
        """Ids of those objects that have a record in the table of objects, or whose destination has one there.

        Args:
            connection: in a transaction.
            destinations: of the objects, by id.
        """
        if connection.execute(select(self.c.id).limit(1)).first() is None:
            return set()
        owners = {digest(to.backend, to.path): id_ for id_, to in destinations.items()}
        ids = self._select_where_in(connection, select(self.c.id), self.c.id, destinations)
        taken = self._select_where_in(connection, select(self.c.destination_id), self.c.destination_id, owners)
        return {row.id for row in ids} | {owners[row.destination_id] for row in taken}

    def record_results(self, connection: Connection, records: Sequence[ObjectRecord]) -> None:
        """Update the records of these objects in all columns."""
        self._rekeyed.unpack_objects(connection, [record.id for record in records])
        self._update(connection, records, (*(name for name in _COLUMNS if name != "id"), "destination_id"))

    def _update(self, connection: Connection, records: Sequence[ObjectRecord], columns: Sequence[str]) -> None:
        if not records:
            return
        now, names = self.database.now(connection), ("id", *columns)
        rows = {record.id: _to_row(record, now) for record in records}  # of two records of one object the last stays
        changes = [{name: row[name] for name in names} for row in rows.values()]
        update_rows(connection, self.database.dialect.sets, self.table, "id", changes)

    def claim(self, records: Sequence[ObjectRecord], before: str) -> set[str]:
        """Update the records whose state still is ``before``; return the ids of those."""

        def write(connection: Connection) -> set[str]:
            self._unpack(connection, records)
            unchanged, now = update(self.table).where(self.c.state == before), self.database.now(connection)
            updates = (
                (each.id, unchanged.where(self.c.id == each.id).values(**_to_row(each, now))) for each in records
            )
            return {id_ for id_, statement in updates if connection.execute(statement).rowcount}

        return self.database.transaction(write)

    def set_state(self, id_: str, state: str) -> None:
        """Change the state of one record."""
        self._set_states([id_], state)

    def release(self, ids: Sequence[str]) -> int:
        """Mark copies that no row names as unreferenced; return how many. Safe to repeat."""
        return self._set_states(
            ids,
            ObjectState.UNREFERENCED,
            self.c.state == ObjectState.VERIFIED,
            self.c.outcome.in_(("repointed", "modified")),
        )

    def _set_states(self, ids: Sequence[str], state: str, *where: ColumnElement[bool]) -> int:
        def write(connection: Connection) -> int:
            self._rekeyed.unpack_objects(connection, ids)
            changes = {"state": state, "updated": self.database.now(connection)}
            return int(
                connection.execute(update(self.table).where(self.c.id.in_(ids), *where).values(changes)).rowcount
            )

        return self.database.transaction(write)

    def _unpack(self, connection: Connection, records: Sequence[ObjectRecord]) -> None:
        """Give packed records that these may change, or whose destinations these want, rows of the table of objects."""
        ids, destinations = [record.id for record in records], [record.destination for record in records]
        self._rekeyed.unpack_objects(connection, ids, destinations)

    def _select(self) -> Select[Any]:
        return select(*(self.c[name] for name in _COLUMNS))

    def _read_records(self, statement: Select[Any], size: int) -> Iterator[list[ObjectRecord]]:
        for batch in self._read_batches(statement, self.c.id, "", size):
            yield [ObjectRecord(**row) for row in batch]


def _may_replace(earlier: Any, record: ObjectRecord) -> bool:
    """Whether a new intent may replace an earlier record.

    A process that was suspended beyond its lease does not know what another run verified meanwhile. So a verified
    object keeps its record. An intent of another shard of the same run is in progress there.
    """
    other_shard = earlier.state == ObjectState.INTENT and earlier.run == record.run and earlier.shard != record.shard
    return not other_shard and (earlier.state != ObjectState.VERIFIED or record.state == ObjectState.VERIFIED)


def _destination_id(record: ObjectRecord) -> str:
    if record.state in (ObjectState.COPY_DELETED, ObjectState.COMPARED):
        return record.id  # another object may go there
    return digest(record.destination_key, record.destination_path)


def _to_row(record: ObjectRecord, now: float) -> dict[str, Any]:
    values = dict(zip(_COLUMNS, _read_columns(record), strict=True))
    return {**values, "updated": now, "destination_id": _destination_id(record)}
