"""The lines of runs: what each was, how far it came, and what is asked of it while it goes on."""

from __future__ import annotations

import json
import time
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, insert, select, update

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.journal.base import Repository
from migrate_storage.journal.records import RunRecord

__all__ = ("RunRepository",)

_RUN = tuple(column.name for column in fields(RunRecord))


class RunRepository(Repository):
    """The lines of runs."""

    def begin(self, run: RunRecord) -> None:
        """Write a run's line."""
        self.database.transaction(
            lambda connection: connection.execute(insert(self.tables.run), {name: getattr(run, name) for name in _RUN})
        )

    def update(self, run: str, **values: Any) -> None:
        """Change a run's line: ``state``, ``report``, ``finished``."""
        table = self.tables.run
        statement = update(table).where(table.c.id == run).values(updated=time.time(), **values)
        self.database.transaction(lambda connection: connection.execute(statement))

    def control(self, run: str) -> dict[str, Any]:
        """What was asked of a run while it goes on; empty where nothing was."""
        table = self.tables.run
        statement = select(table.c.wanted).where(table.c.id == run)
        value = self.database.transaction(lambda connection: connection.execute(statement).scalar())
        return dict(json.loads(value)) if value else {}

    def state_of(self, run: str) -> tuple[str, float]:
        """The state of a run, and when it began, in seconds since the epoch."""
        table = self.tables.run
        [line] = self._read(select(table.c.state, table.c.started).where(table.c.id == run))
        return str(line["state"]), float(line["started"])

    def request_control(self, run: str, **wishes: Any) -> None:
        """Ask something of a run while it goes on; what was asked before and is not named stays."""
        table = self.tables.run

        def write(connection: Connection) -> None:
            line = select(table.c.wanted).where(table.c.id == run)
            # SQLite knows no FOR UPDATE; there the whole database has one writer.
            value = connection.execute(line.with_for_update()).scalar()
            wanted = json.dumps({**(json.loads(value) if value else {}), **wishes})
            connection.execute(update(table).where(table.c.id == run).values(wanted=wanted))

        self.database.transaction(write)

    def latest(self, limit: int = 50) -> list[RunRecord]:
        """The latest runs, newest first; none where nothing was ever journaled."""
        if not self.database.transaction(self.tables.exist):
            return []
        table = self.tables.run
        statement = select(*(table.c[name] for name in _RUN)).order_by(table.c.started.desc(), table.c.id).limit(limit)
        return [RunRecord(**row) for row in self._read(statement)]

    def migration_run(self, name: str | None = None) -> RunRecord:
        """One run that went from one key to another, by its id or the beginning of it; the latest such when ``None``.

        Raises:
            ConfigurationError: there is none, or the one named is a revert, a purge or a swap.
        """
        if name is not None:
            found = self.find(name)
            if found.kind != "run" or found.source == found.destination:
                what = "a swap, which re-points nothing" if found.kind == "run" else f"a {found.kind}, not a run"
                raise ConfigurationError(f"{found.id} is {what}: 'migrate-storage runs' lists them")
            return found
        for run in self.latest(limit=1000):
            if run.kind == "run" and run.source != run.destination:
                return run
        raise ConfigurationError(
            f"no run from one key to another is journaled in {self.database}: start one with 'migrate-storage run'"
        )

    def migration_runs(self, like: RunRecord) -> list[RunRecord]:
        """All runs between the same two keys, the latest first."""
        return [
            run
            for run in self.latest(limit=1000)
            if (run.kind, run.source, run.destination) == ("run", like.source, like.destination)
        ]

    def find(self, name: str | None = None) -> RunRecord:
        """One run by its id or the beginning of it; the latest when ``None``.

        Raises:
            ConfigurationError: there is no such run, or several begin so.
        """
        runs = self.latest(limit=1000)
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
