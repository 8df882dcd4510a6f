"""What jobs need to know of cutovers: their two sides, and what an unfinished one may still read or write."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.model import Capabilities, Note
from migrate_storage.cutover.backend import CutoverBackend
from migrate_storage.cutover.decisions import Side
from migrate_storage.cutover.resolved import ResolvedCutover
from migrate_storage.cutover.state import find_recorded_states
from migrate_storage.database.connection import Database
from migrate_storage.engine.probe import check_source, try_destination
from migrate_storage.engine.references import ServiceIdentity
from migrate_storage.stores.resolved_backend import ResolvedBackend
from migrate_storage.stores.retry import Retry

__all__ = (
    "CutoverPreflight",
    "cutovers_among",
    "describe_unread",
    "examine_cutover",
    "find_unread",
    "overlapping_cutovers",
    "refuse_moves_in_cutovers",
    "refuse_unregistered_cutovers",
)


def cutovers_among(sides: Mapping[str, ResolvedBackend]) -> Iterator[ResolvedCutover]:
    """Yield the cutovers among registered backends."""
    return (side for side in sides.values() if isinstance(side, ResolvedCutover))


@dataclass(frozen=True, kw_only=True)
class CutoverPreflight:
    """What is known of a cutover's two sides before its next step."""

    cutover: ResolvedCutover
    #: What probe requests showed of the destination.
    capabilities: Capabilities
    notes: tuple[Note, ...]


def examine_cutover(backend: CutoverBackend, retry: Retry) -> CutoverPreflight:
    """Read from the source of a cutover, and probe its destination, as a run does with its two keys.

    Raises:
        ConfigurationError: the phase cannot be read.
        PreflightError: a side cannot be reached, or the destination cannot be written.
    """
    cutover = ResolvedCutover(backend)
    source, destination = cutover.side(Side.SOURCE), cutover.side(Side.DESTINATION)
    check_source(source, [source.root], retry)
    capabilities, notes = try_destination(destination, retry)
    notes = [*source.registration.translation.notes, *destination.registration.translation.notes, *notes]
    return CutoverPreflight(cutover=cutover, capabilities=capabilities, notes=tuple(notes))


def find_unread(side: ResolvedBackend, filename: str, retry: Retry) -> tuple[str, ...]:
    """Return the names of the sides of a cutover that have an object; nothing for a backend with one place.

    Raises:
        KeyRefusedError: no library can address that key.
        StoreRequestError: a store did not answer.
    """
    if not isinstance(side, ResolvedCutover):
        return ()
    return tuple(part.key for part in side.parts if retry.or_none_if_missing(part.resolve(filename).head) is not None)


def describe_unread(side: ResolvedBackend, filename: str, unread: tuple[str, ...] = ()) -> str:
    """Return why an object of a row is not found: by which processes of a cutover, and which side has it."""
    if not isinstance(side, ResolvedCutover):
        return f"the row names an object that {side.key!r} does not have"
    orders = side.read_sides(filename).items()
    phases = " and ".join(f"{phase.name} (which reads {', then '.join(order)})" for phase, order in orders)
    reason = f"the row names an object that a process in {phases} does not find"
    if not unread:
        return reason
    where = " and ".join(map(repr, unread))
    return f"{reason}, and {where} has it: 'migrate-storage cutover repair --all' makes both sides the same"


def refuse_unregistered_cutovers(
    databases: Iterable[Database], sides: Mapping[str, ResolvedBackend], consequence: str
) -> None:
    """Refuse where a database records an unfinished cutover whose two places are not known here.

    A cutover that is registered is no obstacle: rows and entries under its key keep the objects of both sides.

    Args:
        databases: those of the application.
        sides: every registered backend.
        consequence: what was not done, for the message.

    Raises:
        ConfigurationError: there is one.
    """
    known = {(side.backend.outbox.backend if side.backend.outbox else side.key) for side in cutovers_among(sides)}
    for database in databases:
        for state in find_recorded_states(database):
            if state.key in known or state.is_over:
                continue
            raise ConfigurationError(
                f"{database} records a cutover of {state.key!r} that is not over ({state.describe()}), and no CutoverBackend "
                f"is registered under {state.key!r} here, so its two places are not known: {consequence}; register it as the "
                "application's processes do, or take it to SOURCE or DESTINATION with 'migrate-storage cutover' first"
            )


def refuse_moves_in_cutovers(keys: Iterable[str], sides: Mapping[str, ResolvedBackend]) -> None:
    """Refuse to move objects of a place that a registered cutover reads or writes.

    A repair would copy what is on one side alone to the other, the quarantine too.

    Args:
        keys: the backends whose objects would be moved.
        sides: every registered backend.

    Raises:
        ConfigurationError: one of these places is a cutover's.
    """
    for cutover in overlapping_cutovers(keys, sides):
        raise ConfigurationError(
            f"{cutover.key!r} is a cutover ({cutover.state.describe()}), and an object that is moved on one side alone "
            "would differ from the other: nothing was moved; end the cutover, register one side alone under "
            f"{cutover.key!r}, then run the same command again"
        )


def overlapping_cutovers(keys: Iterable[str], sides: Mapping[str, ResolvedBackend]) -> list[ResolvedCutover]:
    """Return the cutovers that may have objects of these backends: with one of them as a side, or at the same place."""
    named = ServiceIdentity(sides.values()).keys_at([sides[key] for key in keys], sides)
    return [cutover for cutover in cutovers_among(sides) if cutover.key in named]
