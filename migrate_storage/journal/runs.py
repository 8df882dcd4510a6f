"""The records of runs, with their progress and the requests of ``control``."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, insert, select, update

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.journal.base import Repository
from migrate_storage.journal.records import RunRecord

__all__ = ("RUN_COLUMNS", "RunRepository", "insert_run")

RUN_COLUMNS = tuple(column.name for column in fields(RunRecord))
_CENSUS = "census"
"""The kind of a record that is no run, but a search of the whole database."""
_LATEST_RUNS = 1000
"""Runs among which one is searched."""


def insert_run(connection: Connection, table: Table, run: RunRecord) -> bool:
    """Insert a run unless it is there; return whether it was inserted."""
    if connection.execute(select(table.c.id).where(table.c.id == run.id)).first() is not None:
        return False
    connection.execute(insert(table).values({name: getattr(run, name) for name in RUN_COLUMNS}))
    return True


class RunRepository(Repository):
    """The records of runs."""

    def begin(self, run: RunRecord) -> None:
        """Insert a run, unless it is there: a commit whose answer was lost is tried again."""
        self.database.transaction(lambda connection: insert_run(connection, self.table, run))

    def update(self, run: str, **values: Any) -> None:
        """Change a run's ``state``, ``report``, ``finished`` or ``progress``."""
        statement = update(self.table).where(self.c.id == run)
        self._write_at(lambda now: statement.values(updated=now, **values))

    def control(self, run: str) -> dict[str, Any]:
        """What is requested of a run; empty where nothing is."""
        rows = self._read(select(self.c.control).where(self.c.id == run))
        return dict(json.loads(rows[0]["control"] or "{}")) if rows else {}

    def request_control(self, run: str, **requests: Any) -> None:
        """Request something of a run. Earlier requests of other names stay."""

        def write(connection: Connection) -> None:
            earlier = select(self.c.control).where(self.c.id == run)
            locked = earlier.with_for_update() if self.database.dialect.locks_rows else earlier
            value = connection.execute(locked).scalar()
            requested = json.dumps({**(json.loads(value) if value else {}), **requests})
            connection.execute(update(self.table).where(self.c.id == run).values(control=requested))

        self.database.transaction(write)

    def state_of(self, run: str) -> tuple[str, float]:
        """The state of a run, and when it began, in seconds since the epoch."""
        [row] = self._read(select(self.c.state, self.c.started).where(self.c.id == run))
        return str(row["state"]), float(row["started"])

    def latest(self, limit: int = 50) -> list[RunRecord]:
        """The latest runs, the newest first; none where the journal does not exist."""
        return self._latest(self.c.kind != _CENSUS, limit)

    def between(self, kind: str, source: str, destination: str) -> list[RunRecord]:
        """The latest jobs of one kind between two keys, the newest first; none where the journal does not exist."""
        keys = (self.c.source == source) & (self.c.destination == destination)
        found = self._latest((self.c.kind == kind) & keys, _LATEST_RUNS)
        # MariaDB ignores spaces at the end of a text.
        return [run for run in found if (run.source, run.destination) == (source, destination)]

    def from_key(self, key: str) -> list[RunRecord]:
        """The latest runs from one key to any other, the newest first."""
        found = self._latest(
            (self.c.kind == "run") & (self.c.source == key) & (self.c.destination != key), _LATEST_RUNS
        )
        return [run for run in found if run.source == key]

    def censuses(self, limit: int = 100) -> list[RunRecord]:
        """The latest censuses, the newest first; none where the journal does not exist."""
        return self._latest(self.c.kind == _CENSUS, limit)

    def _latest(self, condition: ColumnElement[bool], limit: int) -> list[RunRecord]:
        columns = (self.c[name] for name in RUN_COLUMNS)
        statement = select(*columns).where(condition).order_by(self.c.started.desc(), self.c.id).limit(limit)

        def read(connection: Connection) -> list[RunRecord]:
            if not self.tables.exist(connection):
                return []
            return [RunRecord(**row) for row in connection.execute(statement).mappings()]

        return self.database.transaction(read)

    def find(self, name: str | None = None) -> RunRecord:
        """One run by its id or the beginning of it; the latest when ``None``.

        Raises:
            ConfigurationError: there is no such run, or there are several.
        """
        runs = self.latest(limit=_LATEST_RUNS)
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

    def migration_run(self, name: str | None = None) -> RunRecord:
        """One run between two keys by its id or the beginning of it, else the latest.

        Raises:
            ConfigurationError: there is none, or the named one is another job or re-points no row.
        """
        if name is not None:
            found = self.find(name)
            if found.kind != "run" or found.source == found.destination:
                what = (
                    "an in-place run, which re-points nothing" if found.kind == "run" else f"a {found.kind}, not a run"
                )
                raise ConfigurationError(f"{found.id} is {what}: 'migrate-storage runs' lists them")
            return found
        for run in self._latest((self.c.kind == "run") & (self.c.source != self.c.destination), limit=1):
            return run
        raise ConfigurationError(
            f"no run from one key to another is journaled in {self.database}: start one with 'migrate-storage run'"
        )

    def migration_runs(self, like: RunRecord) -> list[RunRecord]:
        """All runs between the same two keys, the latest first."""
        return self.between("run", like.source, like.destination)
