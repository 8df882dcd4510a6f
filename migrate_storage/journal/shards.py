"""The records of shards: parts of a run of several processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, insert, select, update

from migrate_storage.journal.base import Repository
from migrate_storage.journal.records import RunRecord, ShardRecord
from migrate_storage.journal.runs import insert_run

__all__ = ("NO_BOUNDS", "ShardRepository", "shard_lease")

NO_BOUNDS = ""
"""The bounds of a shard before they are computed."""

_SHARD_COLUMNS = tuple(column.name for column in fields(ShardRecord))


def shard_lease(run: str, number: int) -> str:
    """The name of the lease on one shard."""
    return f"range-{run}-{number}"


class ShardRepository(Repository):
    """The records of shards."""

    def begin(self, run: RunRecord, shards: Sequence[ShardRecord]) -> None:
        """Insert a run together with its shards. From then on other processes may join."""

        def write(connection: Connection) -> None:
            if not insert_run(connection, self.tables.run, run):
                # The answer to the first commit was lost.
                return
            rows = [{name: getattr(shard, name) for name in _SHARD_COLUMNS} for shard in shards]
            connection.execute(insert(self.table), rows)

        self.database.transaction(write)

    def open_runs(self, plan: str, total: int | None = None) -> list[str]:
        """The unfinished runs of a plan, of ``total`` shards where given, latest first."""
        run = self.tables.run
        statement = select(run.c.id).join(self.table, self.c.run == run.c.id)
        statement = statement.where(self.c.plan == plan, self.c.number == 0, run.c.state == "running")
        if total is not None:
            statement = statement.where(self.c.total == total)
        return [str(row["id"]) for row in self._read(statement.order_by(run.c.started.desc()))]

    def of_run(self, run: str) -> list[ShardRecord]:
        """The shards of a run by their number. The last one ends the job."""
        columns = (self.c[name] for name in _SHARD_COLUMNS)
        statement = select(*columns).where(self.c.run == run).order_by(self.c.number)
        return [ShardRecord(**row) for row in self._read(statement)]

    def states(self, run: str) -> dict[int, bool]:
        """Whether each shard of a run is done, by number."""
        rows = self._read(select(self.c.number, self.c.state).where(self.c.run == run).order_by(self.c.number))
        return {int(row["number"]): row["state"] == "done" for row in rows}

    def progress_of(self, run: str) -> dict[int, str | None]:
        """The progress of each shard of a run as JSON, by number."""
        rows = self._read(select(self.c.number, self.c.progress).where(self.c.run == run))
        return {int(row["number"]): row["progress"] for row in rows}

    def set_bounds(self, run: str, bounds: Sequence[str]) -> None:
        """Set the bounds of the first shards of a run, where they are not set."""

        def write(connection: Connection) -> None:
            for number, each in enumerate(bounds):
                unset = (self.c.run == run, self.c.number == number, self.c.bounds == NO_BOUNDS)
                connection.execute(update(self.table).where(*unset).values(bounds=each))

        self.database.transaction(write)

    def update(self, run: str, number: int, **values: Any) -> None:
        """Change a shard's ``state``, ``report`` or ``progress``."""
        self._write(update(self.table).where(self.c.run == run, self.c.number == number).values(**values))

    def leased(self, run: str) -> set[int]:
        """The numbers of the shards that a process has a lease on."""
        table, prefix = self.tables.lease, shard_lease(run, 0)[:-1]

        def read(connection: Connection) -> set[int]:
            now = self.database.now(connection)
            names = select(table.c.name).where(table.c.name.like(f"{prefix}%"), table.c.expires > now)
            return {int(name.removeprefix(prefix)) for name in connection.execute(names).scalars()}

        return self.database.transaction(read)
