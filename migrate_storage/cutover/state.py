"""The state of a cutover in its database: the phase, the processes that act in it, and the open entries.

Nothing here takes a lease or changes a table: a command that only reads is no process of the cutover.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, func, select

from migrate_storage.core.errors import ConfigurationError, MigrateStorageError
from migrate_storage.core.text import amount
from migrate_storage.cutover.decisions import Phase, Side
from migrate_storage.cutover.outbox import require_tables
from migrate_storage.cutover.phase.source import SharedPhase
from migrate_storage.cutover.phase.table import PhaseTable, ProcessRecord
from migrate_storage.database.connection import Database
from migrate_storage.journal.find_schema import find_tables
from migrate_storage.journal.schema import PREFIX, Tables

if TYPE_CHECKING:
    from migrate_storage.cutover.backend import CutoverBackend

__all__ = ("CutoverState", "find_recorded_states", "read_state", "read_states")

SHOWN_PROCESSES = 5
"""Processes that one line names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CutoverState:
    """The state of one cutover at one moment."""

    #: The backend key of the cutover.
    key: str
    #: The phase of an operation that starts now; ``None`` where only entries are recorded.
    phase: Phase | None
    #: Whether the phase is that of all processes. Otherwise it is known of this process only.
    shared: bool
    #: The processes that may be acting in a shared phase.
    processes: tuple[ProcessRecord, ...] = ()
    #: Open entries by the side that they trust.
    entries: Mapping[Side, int]

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The phases in which a process may be acting now, in order."""
        acting = {phase for process in self.processes for phase in process.phases}
        return tuple(phase for phase in Phase if phase is self.phase or phase in acting)

    @property
    def unsettled(self) -> int:
        """The number of keys with an open entry."""
        return sum(self.entries.values())

    @property
    def is_over(self) -> bool:
        """Whether one side alone is read and written, by all processes, so that the other one is needed no more."""
        ends: dict[tuple[Phase, ...], Side] = {(Phase.SOURCE,): Side.DESTINATION, (Phase.DESTINATION,): Side.SOURCE}
        other = ends.get(self.phases)
        if other is None or (other is Side.DESTINATION and self.processes):
            return False
        return not self.entries.get(other)

    def describe(self) -> str:
        """Return the state in one line: the phase, the processes, the open entries."""
        parts = [f"phase {self.phase.name}" if self.phase else "a phase that is not shared"]
        if self.phase and not self.shared:
            parts[0] += " (of this process: it is not shared, and that of others is not known)"
        if self.shared:
            names = ", ".join(
                f"{process.name} in {' and '.join(phase.name for phase in process.phases)}"
                for process in self.processes[:SHOWN_PROCESSES]
            )
            count = amount(len(self.processes), "process", "processes")
            parts.append(f"{count} at work" + (f" ({names})" if names else ""))
        parts.append(f"{amount(self.unsettled, 'key')} with an open entry")
        return ", ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Return the state as a JSON object."""
        return {
            "key": self.key,
            "phase": self.phase and self.phase.value,
            "shared": self.shared,
            "processes": [
                {"name": process.name, "phases": [phase.value for phase in process.phases]}
                for process in self.processes
            ],
            "entries": {side.value: self.entries.get(side, 0) for side in Side},
        }


def read_state(backend: CutoverBackend) -> CutoverState:
    """Read the state of a registered cutover.

    Raises:
        ConfigurationError: the phase or the entries cannot be read, so it is unknown which side has the objects.
    """
    outbox, source = backend.outbox, backend.phase_source
    try:
        if outbox is None:
            return CutoverState(key=backend.key, phase=source.phase, shared=False, entries={})
        require_tables(outbox)
        entries = outbox.database.transaction(lambda connection: _count_entries(connection, outbox.tables))
        of_backend = entries.get(outbox.backend, {})
        if not isinstance(source, SharedPhase):
            return CutoverState(key=backend.key, phase=source.phase, shared=False, entries=of_backend)
        row, processes = source.table.snapshot()
        alive = tuple(process for process in processes if process.alive)
        return CutoverState(key=backend.key, phase=row.phase, shared=True, processes=alive, entries=of_backend)
    except MigrateStorageError as error:
        raise ConfigurationError(f"the phase of the cutover {backend.key!r} cannot be read: {error}") from error
    except Exception as error:
        raise ConfigurationError(
            f"the phase of the cutover {backend.key!r} cannot be read: {type(error).__name__}: {error}"
        ) from error


def read_states(backends: Mapping[str, Any]) -> dict[str, CutoverState]:
    """Read the state of each cutover among registered backends, by their keys.

    Raises:
        ConfigurationError: as :func:`read_state`.
    """
    # Here, because it imports advanced-alchemy and the stores, which a command that only reads the journal does not need.
    from migrate_storage.cutover.backend import CutoverBackend

    return {key: read_state(each) for key, each in backends.items() if isinstance(each, CutoverBackend)}


def find_recorded_states(database: Database) -> list[CutoverState]:
    """Return the state of each cutover that is recorded in any schema of a database, by key."""
    found = [table.qualifier for table in find_tables(database, "tombstone") if table.name == f"{PREFIX}outbox"]
    states = (
        state
        for schema in found
        for tables in [Tables(schema)]
        if database.transaction(tables.exist)
        for state in _read_recorded(database, tables)
    )
    return sorted(states, key=lambda state: state.key)


def _read_recorded(database: Database, tables: Tables) -> Iterator[CutoverState]:
    def read(connection: Connection) -> tuple[dict[str, dict[Side, int]], list[str]]:
        shared = connection.execute(select(tables.phase.c.backend)).scalars()
        return _count_entries(connection, tables), [str(name) for name in shared]

    entries, shared = database.transaction(read)
    for key in shared:
        row, processes = PhaseTable(database, key, tables).snapshot()
        alive = tuple(process for process in processes if process.alive)
        yield CutoverState(key=key, phase=row.phase, shared=True, processes=alive, entries=entries.get(key, {}))
    for key in entries.keys() - set(shared):
        yield CutoverState(key=key, phase=None, shared=False, entries=entries[key])


def _count_entries(connection: Connection, tables: Tables) -> dict[str, dict[Side, int]]:
    """Count the open entries by backend and trusted side."""
    table, counts = tables.outbox, dict[str, dict[Side, int]]()
    statement = select(table.c.backend, table.c.side, func.count()).where(table.c.open)
    for key, side, count in connection.execute(statement.group_by(table.c.backend, table.c.side)):
        counts.setdefault(str(key), {})[Side(side)] = int(count)
    return counts
