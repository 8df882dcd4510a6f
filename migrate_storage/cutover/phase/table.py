"""The shared phase of a cutover in the application's database, and the processes that act in it.

All times are the database's clock. Every report and every change of phase first locks the phase's line, so one comes after
the other. A process's line names all phases that it may be acting in, from before it acts until after it stopped; so a change
that leaves no line more than a step away leaves no process there either.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from migrate_storage.core.errors import RefusedError
from migrate_storage.cutover.decisions import Phase, are_adjacent
from migrate_storage.database.connection import Database
from migrate_storage.journal.schema import Tables

T = TypeVar("T")

__all__ = ("NEVER_EXPIRES", "PhaseRow", "PhaseTable", "ProcessRecord")

NEVER_EXPIRES = 1e12
"""When the line of a process expires that goes on acting without its lease."""
_FORGOTTEN = 86400.0
"""Seconds after which the line of a process that is gone is removed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PhaseRow:
    """The phase that processes are to act in."""

    phase: Phase
    #: One more with each change; 0 while nobody ever changed or read it.
    generation: int
    #: When it changed; 0.0 for never.
    changed_at: float
    #: What the last full comparison told, and in which generation it started.
    comparison: dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessRecord:
    """A process, as its line says."""

    id: str
    #: Host and process id.
    name: str
    #: The phases that it may be acting in, in order: one or two.
    phases: tuple[Phase, ...]
    #: Seconds since it last told.
    seconds_since_report: float
    #: Seconds until it counts no more; negative when it is gone.
    seconds_left: float
    #: Reads that the second side had to answer.
    fallbacks: int
    #: Seconds since it told of the last one.
    seconds_since_fallback: float

    @property
    def alive(self) -> bool:
        """Whether it may be acting."""
        return self.seconds_left > 0


class PhaseTable:
    """The lines of one cutover backend.

    Args:
        database: where the tables are.
        backend: key of the cutover backend.
        tables: ours.
    """

    def __init__(self, database: Database, backend: str, tables: Tables) -> None:
        self.database = database
        self.backend = backend
        self._phase = tables.phase
        self._process = tables.process

    def transaction(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` in one transaction, at once: whoever waits for the phase would rather know that it is not to be had.

        Raises:
            RunError: it failed.
        """
        try:
            return self.database.transaction(work, attempts=1)
        except RefusedError as error:
            if not isinstance(error.__cause__, IntegrityError):
                raise
            # Two wrote the very first line.
            return self.database.transaction(work, attempts=1)

    def read_locked(self) -> tuple[PhaseRow, list[ProcessRecord]]:
        """The phase, and the processes that were seen of late; both of one moment, with no change of phase under way."""
        return self.transaction(lambda connection: (self.lock_phase(connection), self.read_processes(connection)))

    def snapshot(self) -> tuple[PhaseRow, list[ProcessRecord]]:
        """The same without a lock, for who only looks."""
        return self.transaction(lambda connection: (self.read_phase(connection), self.read_processes(connection)))

    # Within a transaction

    def lock_phase(self, connection: Connection) -> PhaseRow:
        """The phase, which nobody changes until the transaction ends. It is SOURCE where it was never set."""
        table = self._phase
        # An update and not FOR UPDATE, which SQLite has not.
        mine = update(table).where(table.c.backend == self.backend).values(generation=table.c.generation)
        if not connection.execute(mine).rowcount:
            first = {"phase": Phase.SOURCE.value, "generation": 1, "changed": self.database.now(connection)}
            connection.execute(insert(table).values(backend=self.backend, **first))
        return self.read_phase(connection)

    def read_phase(self, connection: Connection) -> PhaseRow:
        """The phase as it is now."""
        found = connection.execute(select(self._phase).where(self._phase.c.backend == self.backend)).first()
        if found is None:
            return PhaseRow(phase=Phase.SOURCE, generation=0, changed_at=0.0, comparison={})
        compared = json.loads(found.compared) if found.compared else {}
        return PhaseRow(
            phase=Phase(found.phase), generation=found.generation, changed_at=found.changed, comparison=compared
        )

    def read_processes(self, connection: Connection) -> list[ProcessRecord]:
        """All processes that were seen of late, those that are gone too, by name."""
        table, now = self._process, self.database.now(connection)
        found = connection.execute(select(table).where(table.c.backend == self.backend).order_by(table.c.name))
        return [
            ProcessRecord(
                id=row.id,
                name=row.name,
                phases=_between(Phase(row.lowest), Phase(row.highest)),
                seconds_since_report=max(0.0, now - row.seen),
                seconds_left=row.expires - now,
                fallbacks=row.fallbacks,
                seconds_since_fallback=now - row.fallback_at,
            )
            for row in found
        ]

    def report_process(
        self,
        connection: Connection,
        line: str,
        *,
        name: str,
        acting: Collection[Phase],
        seconds: float | None,
        fallbacks: int,
    ) -> Phase | None:
        """Write down that a process acts in some phases and may act in the one that is to be, and for how long.

        Args:
            connection: in a transaction; what is told counts only when that is committed.
            line: of the process; its own.
            name: what a person would call it.
            acting: where it may be acting; empty for one that begins.
            seconds: for how long it may; ``None`` until it says that it stopped.
            fallbacks: reads since the last report that the second side had to answer.

        Returns:
            The phase that is to be; ``None`` if it is too late: the process counted as gone, or the phase is elsewhere.
        """
        table, shared = self._process, self.lock_phase(connection)
        now = self.database.now(connection)
        if any(not are_adjacent(each, shared.phase) for each in acting):
            return None
        phases = sorted({*acting, shared.phase}, key=list(Phase).index)
        values: dict[str, Any] = {"lowest": phases[0].value, "highest": phases[-1].value, "seen": now}
        values["expires"] = NEVER_EXPIRES if seconds is None else now + seconds
        if not acting:
            values |= {"id": line, "backend": self.backend, "name": name[:255]}
            told = {"fallbacks": fallbacks, "fallback_at": now if fallbacks else 0.0}
            connection.execute(insert(table).values(**values, **told))
            return shared.phase
        if fallbacks:
            values |= {"fallbacks": table.c.fallbacks + fallbacks, "fallback_at": now}
        mine = update(table).where(table.c.id == line, table.c.expires > now).values(values)
        return shared.phase if connection.execute(mine).rowcount == 1 else None

    def set_phase(self, connection: Connection, phase: Phase, *, despite: Collection[str] = ()) -> list[ProcessRecord]:
        """Change the phase, unless a process may be acting more than a step away from it.

        Lines of processes that are long gone are removed.

        Args:
            connection: in a transaction.
            phase: the new one.
            despite: lines of processes of which somebody knows that they are gone.

        Returns:
            Who is in the way; nobody when it is done.
        """
        self.lock_phase(connection)
        members = [each for each in self.read_processes(connection) if each.alive and each.id not in despite]
        waited = [each for each in members if any(not are_adjacent(acting, phase) for acting in each.phases)]
        if waited:
            return waited
        now = self.database.now(connection)
        changes = {"phase": phase.value, "generation": self._phase.c.generation + 1, "changed": now}
        connection.execute(update(self._phase).where(self._phase.c.backend == self.backend).values(changes))
        gone = (self._process.c.backend == self.backend) & (self._process.c.expires < now - _FORGOTTEN)
        connection.execute(delete(self._process).where(gone | self._process.c.id.in_(despite)))
        return []

    def store_comparison(self, connection: Connection, compared: dict[str, Any]) -> None:
        """Keep what a comparison found."""
        table = self._phase
        told = json.dumps(compared)
        connection.execute(update(table).where(table.c.backend == self.backend).values(compared=told))

    def remove_process(self, connection: Connection, line: str) -> None:
        """Remove a process's line: it stopped acting."""
        connection.execute(delete(self._process).where(self._process.c.id == line))


def _between(lowest: Phase, highest: Phase) -> tuple[Phase, ...]:
    order = list(Phase)
    return tuple(order[order.index(lowest) : order.index(highest) + 1])
