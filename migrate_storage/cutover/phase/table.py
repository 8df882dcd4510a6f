"""The tables of a shared phase: the phase, and the processes that act in it.

They are in the application's database, and all times are of the database's clock. Every report and every change of the
phase first locks the phase's row, so they are serialized. The row of a process names all phases in which it may be
acting, from before its first operation until after its last. So if no row is more than one step from a new phase, no
process is either.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from migrate_storage.core.errors import RefusedError
from migrate_storage.cutover.decisions import Phase, are_adjacent
from migrate_storage.database.connection import Database
from migrate_storage.journal.schema import Tables

T = TypeVar("T")

__all__ = ("NEVER_EXPIRES", "PhaseRow", "PhaseTable", "ProcessRecord", "processes_in_the_way")

NEVER_EXPIRES = 1e12
"""Expiry time of a process that keeps acting without a valid lease."""
EXPIRED_ROW_RETENTION_SECONDS = 86400.0
"""How long the row of an expired process is kept."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PhaseRow:
    """The shared phase."""

    phase: Phase
    #: Number of the phase change; 0 before the first report or change.
    generation: int
    #: Time of the last change; 0.0 for never.
    changed_at: float
    #: Result of the last full comparison, with the generation in which it started.
    comparison: dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessRecord:
    """A process that acts or acted in the phase."""

    id: str
    #: Host and process id.
    name: str
    #: The phases that it may be acting in, in order: one or two.
    phases: tuple[Phase, ...]
    #: Seconds since its last report.
    seconds_since_report: float
    #: Seconds until its row expires; negative after that.
    seconds_left: float
    #: Number of reads that the second side answered.
    fallbacks: int
    #: Seconds since the last report with such a read.
    seconds_since_fallback: float

    @property
    def alive(self) -> bool:
        """Whether the process may be acting."""
        return self.seconds_left > 0


class PhaseTable:
    """The phase and the processes of one cutover backend."""

    def __init__(self, database: Database, backend: str, tables: Tables) -> None:
        self.database = database
        self.backend = backend
        self._phase = tables.phase
        self._process = tables.process

    def transaction(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` in one transaction, without retries.

        The callers must learn of a failure soon.

        Raises:
            RunError: the transaction failed.
        """
        try:
            return self.database.transaction(work, attempts=1)
        except RefusedError as error:
            if not isinstance(error.__cause__, IntegrityError):
                raise
            # Two processes inserted the first row at the same time.
            return self.database.transaction(work, attempts=1)

    def read_locked(self) -> tuple[PhaseRow, list[ProcessRecord]]:
        """Return the phase and its processes, with the phase locked against changes."""
        return self.transaction(lambda connection: (self.lock_phase(connection), self.read_processes(connection)))

    def snapshot(self) -> tuple[PhaseRow, list[ProcessRecord]]:
        """Return the phase and its processes without a lock, for display."""
        return self.transaction(lambda connection: (self.read_phase(connection), self.read_processes(connection)))

    # Within a transaction

    def lock_phase(self, connection: Connection) -> PhaseRow:
        """Lock the phase until the transaction ends. It is SOURCE if it was never set."""
        table = self._phase
        # An UPDATE, because SQLite has no SELECT FOR UPDATE.
        mine = update(table).where(table.c.backend == self.backend).values(generation=table.c.generation)
        if not connection.execute(mine).rowcount:
            first = {"phase": Phase.SOURCE.value, "generation": 1, "changed": self.database.now(connection)}
            connection.execute(insert(table).values(backend=self.backend, **first))
        return self.read_phase(connection)

    def read_phase(self, connection: Connection) -> PhaseRow:
        """Return the phase."""
        found = connection.execute(select(self._phase).where(self._phase.c.backend == self.backend)).first()
        if found is None:
            return PhaseRow(phase=Phase.SOURCE, generation=0, changed_at=0.0, comparison={})
        compared = json.loads(found.compared) if found.compared else {}
        return PhaseRow(
            phase=Phase(found.phase), generation=found.generation, changed_at=found.changed, comparison=compared
        )

    def read_processes(self, connection: Connection) -> list[ProcessRecord]:
        """Return all processes, expired ones too, sorted by name."""
        table, now = self._process, self.database.now(connection)
        found = connection.execute(select(table).where(table.c.backend == self.backend).order_by(table.c.name))
        return [
            ProcessRecord(
                id=row.id,
                name=row.name,
                phases=_list_phases_between(Phase(row.lowest), Phase(row.highest)),
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
        process_id: str,
        *,
        name: str,
        acting: Collection[Phase],
        seconds: float | None,
        fallbacks: int,
    ) -> Phase | None:
        """Record the phases in which a process may be acting, the current one included.

        Args:
            connection: in a transaction; the report is valid only after its commit.
            process_id: id of the process, unique per lease.
            name: display name of the process.
            acting: the phases of its running operations; empty at the start.
            seconds: duration of its right to act; ``None`` for no limit.
            fallbacks: number of reads since the last report that the second side answered.

        Returns:
            The current phase. ``None`` if the report is too late: the row has expired, or the phase is more than one
            step away.
        """
        table, shared = self._process, self.lock_phase(connection)
        now = self.database.now(connection)
        if any(not are_adjacent(each, shared.phase) for each in acting):
            return None
        phases = sorted({*acting, shared.phase}, key=list(Phase).index)
        values: dict[str, Any] = {"lowest": phases[0].value, "highest": phases[-1].value, "seen": now}
        values["expires"] = NEVER_EXPIRES if seconds is None else now + seconds
        if not acting:
            values |= {"id": process_id, "backend": self.backend, "name": name[:255]}
            values |= {"fallbacks": fallbacks, "fallback_at": now if fallbacks else 0.0}
            connection.execute(insert(table).values(**values))
            return shared.phase
        if fallbacks:
            values |= {"fallbacks": table.c.fallbacks + fallbacks, "fallback_at": now}
        mine = update(table).where(table.c.id == process_id, table.c.expires > now).values(values)
        return shared.phase if connection.execute(mine).rowcount == 1 else None

    def set_phase(self, connection: Connection, phase: Phase, *, despite: Collection[str] = ()) -> list[ProcessRecord]:
        """Change the phase, unless a process may be acting more than one step away.

        Rows that expired long ago are deleted.

        Args:
            connection: in a transaction.
            phase: the new one.
            despite: ids of processes that a person has declared dead.

        Returns:
            The processes that prevent the change; empty if the phase was changed.
        """
        self.lock_phase(connection)
        processes = (process for process in self.read_processes(connection) if process.id not in despite)
        if blocking := list(processes_in_the_way(processes, phase)):
            return blocking
        now = self.database.now(connection)
        changes = {"phase": phase.value, "generation": self._phase.c.generation + 1, "changed": now}
        connection.execute(update(self._phase).where(self._phase.c.backend == self.backend).values(changes))
        process = self._process.c
        gone = (process.backend == self.backend) & (process.expires < now - EXPIRED_ROW_RETENTION_SECONDS)
        connection.execute(delete(self._process).where(gone | process.id.in_(despite)))
        return []

    def store_comparison(self, connection: Connection, comparison: dict[str, Any]) -> None:
        """Store the result of a full comparison."""
        table = self._phase
        values = {"compared": json.dumps(comparison)}
        connection.execute(update(table).where(table.c.backend == self.backend).values(values))

    def remove_process(self, connection: Connection, process_id: str) -> None:
        """Delete the row of a process that has stopped acting."""
        connection.execute(delete(self._process).where(self._process.c.id == process_id))


def processes_in_the_way(processes: Iterable[ProcessRecord], phase: Phase) -> Iterator[ProcessRecord]:
    """Yield the processes that may be acting more than one step from a phase."""
    for process in processes:
        if process.alive and any(not are_adjacent(acting, phase) for acting in process.phases):
            yield process


def _list_phases_between(lowest: Phase, highest: Phase) -> tuple[Phase, ...]:
    order = list(Phase)
    return tuple(order[order.index(lowest) : order.index(highest) + 1])
