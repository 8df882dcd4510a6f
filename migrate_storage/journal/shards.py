"""The lines of ranges: into what a job was cut for several processes, and how far each of them came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, insert, select, update

from migrate_storage.journal.base import Repository
from migrate_storage.journal.records import RunRecord, ShardRecord

__all__ = ("UNCUT", "ShardRepository", "shard_lease")

UNCUT = ""
"""The bounds of a range of which nobody has said them yet."""

_RANGE = tuple(column.name for column in fields(ShardRecord))


def shard_lease(run: str, number: int) -> str:
    """The name of the lease on one range."""
    return f"range-{run}-{number}"


class ShardRepository(Repository):
    """The lines of ranges."""

    def divide(self, run: RunRecord, ranges: Sequence[ShardRecord]) -> None:
        """Write the line of a job together with those of its ranges: from then on others join in."""

        def write(connection: Connection) -> None:
            connection.execute(
                insert(self.tables.run), {each.name: getattr(run, each.name) for each in fields(RunRecord)}
            )
            connection.execute(
                insert(self.tables.range), [{name: getattr(each, name) for name in _RANGE} for each in ranges]
            )

        self.database.transaction(write)

    def open_runs(self, plan: str, total: int | None = None) -> list[str]:
        """The jobs of a plan that are not at their end, the latest first; only those cut into ``total`` ranges where given."""
        table, run = self.tables.range, self.tables.run
        statement = (
            select(run.c.id)
            .join(table, table.c.run == run.c.id)
            .where(table.c.plan == plan, table.c.number == 0, run.c.state == "running")
        )
        if total is not None:
            statement = statement.where(table.c.total == total)
        return [str(line["id"]) for line in self._read(statement.order_by(run.c.started.desc()))]

    def of_run(self, run: str) -> list[ShardRecord]:
        """The ranges of a job by their number, its end the last."""
        table = self.tables.range
        statement = select(*(table.c[name] for name in _RANGE)).where(table.c.run == run).order_by(table.c.number)
        return [ShardRecord(**line) for line in self._read(statement)]

    def set_bounds(self, run: str, bounds: Sequence[str]) -> None:
        """Say between which keys the ranges of a job lie, where that was not said yet."""
        table = self.tables.range

        def write(connection: Connection) -> None:
            for number, each in enumerate(bounds):
                statement = update(table).where(table.c.run == run, table.c.number == number, table.c.bounds == UNCUT)
                connection.execute(statement.values(bounds=each))

        self.database.transaction(write)

    def states(self, run: str) -> dict[int, bool]:
        """By number, whether a range of a job is done; its end is the last."""
        table = self.tables.range
        found = self._read(select(table.c.number, table.c.state).where(table.c.run == run).order_by(table.c.number))
        return {int(line["number"]): line["state"] == "done" for line in found}

    def progress_of(self, run: str) -> dict[int, str | None]:
        """By number, what is done in each range of a job, as JSON."""
        table = self.tables.range
        found = self._read(select(table.c.number, table.c.doing).where(table.c.run == run))
        return {int(line["number"]): line["doing"] for line in found}

    def update(self, run: str, number: int, **values: Any) -> None:
        """Change a range's line: ``state``, ``report``, ``doing``."""
        table = self.tables.range
        statement = update(table).where(table.c.run == run, table.c.number == number).values(**values)
        self.database.transaction(lambda connection: connection.execute(statement))

    def leased(self, run: str) -> set[int]:
        """The ranges in which somebody is at work."""
        table, prefix = self.tables.lease, shard_lease(run, 0)[:-1]

        def read(connection: Connection) -> set[int]:
            now = self.database.now(connection)
            names = select(table.c.name).where(table.c.name.like(f"{prefix}%"), table.c.expires > now)
            return {int(name.removeprefix(prefix)) for name in connection.execute(names).scalars()}

        return self.database.transaction(read)
