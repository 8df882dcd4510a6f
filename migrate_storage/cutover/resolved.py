"""Registered backends as sides of a job, a CutoverBackend among them as its two sides in its phase."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NoReturn

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.model import Place
from migrate_storage.cutover.backend import CutoverBackend
from migrate_storage.cutover.decisions import MIDDLE_PHASES, TABLE, Operation, Phase, Side, Trust, decide
from migrate_storage.cutover.protocol import Entry
from migrate_storage.cutover.state import CutoverState, read_state
from migrate_storage.stores.base import ObjectAt
from migrate_storage.stores.rate_limit import StoreLimits
from migrate_storage.stores.resolved_backend import ResolvedBackend, describe_two_places

__all__ = ("ResolvedCutover", "resolve_backend", "sides_of")

STATE_SECONDS = 1.0
"""For how long a command uses the phase that it has read."""


class ResolvedCutover(ResolvedBackend):
    """A CutoverBackend as its two sides, and the order in which its processes read them.

    It has no place of its own: what needs one is refused.

    Args:
        backend: the registered backend.
        pace: limits the requests to both sides; ``None`` sets no limit.
        opaque_etags: whether the user says that the ETags under its key are no digests.

    Raises:
        ConfigurationError: its phase cannot be read, or one of its sides is a cutover too.
    """

    def __init__(self, backend: CutoverBackend, *, pace: StoreLimits | None = None, opaque_etags: bool = False) -> None:
        self.backend, self._label, self._pace = backend, None, pace
        self.opaque_etags, self.consistent_listings = opaque_etags, False
        self.canary_prefix: str | None = None
        self._sides = {
            Side.SOURCE: ResolvedBackend(
                backend.source, pace=pace, opaque_etags=opaque_etags, label=f"{backend.key} (source)"
            ),
            Side.DESTINATION: ResolvedBackend(
                backend.destination, pace=pace, opaque_etags=opaque_etags, label=f"{backend.key} (destination)"
            ),
        }
        self._state, self._read_at = read_state(backend), time.monotonic()

    def __getattr__(self, name: str) -> NoReturn:
        # ``registration`` is not set: whatever needs one place reads it, and is refused here.
        if name == "registration":
            raise ConfigurationError(describe_two_places(self.backend))
        raise AttributeError(name)

    @property
    def parts(self) -> tuple[ResolvedBackend, ...]:
        """Its source and its destination."""
        return tuple(self._sides.values())

    @property
    def state(self) -> CutoverState:
        """The phase and the processes, at most a second old.

        Raises:
            ConfigurationError: it cannot be read.
        """
        # A command that follows late is as a process that follows late: phases in use are one step apart.
        if time.monotonic() - self._read_at > STATE_SECONDS:
            self._state, self._read_at = read_state(self.backend), time.monotonic()
        return self._state

    def side(self, side: Side) -> ResolvedBackend:
        """Return one of the two sides."""
        return self._sides[side]

    def find_entry(self, filename: str) -> Entry | None:
        """Return the open entry of a key; ``None`` where there is none."""
        outbox = self.backend.outbox
        return None if outbox is None else outbox.find_entry(filename)

    def keeps_equal(self, filename: str) -> bool:
        """Return whether all processes write both sides of a key, so that they are equal once the key is copied."""
        return MIDDLE_PHASES.issuperset(self.state.phases) and self.find_entry(filename) is None

    def read_sides(self, filename: str) -> Mapping[Phase, tuple[Side, ...]]:
        """Return the sides that a process reads for a file, in order, by the phase in which it may be acting."""
        phases = self.state.phases
        entry = self.find_entry(filename) if any(TABLE[phase].entries for phase in phases) else None
        trust = None if entry is None else Trust(side=entry.side, tombstone=entry.tombstone)
        return {phase: decide(phase, Operation.HEAD, trust).sides for phase in phases}

    def read_orders(self, filename: str) -> tuple[tuple[ObjectAt, ...], ...]:
        """See :meth:`ResolvedBackend.read_orders`."""
        orders = dict.fromkeys(self.read_sides(filename).values())
        return tuple(tuple(self._sides[side].resolve(filename) for side in order) for order in orders)

    def unsettled_places(self) -> Iterator[Place]:
        """See :meth:`ResolvedBackend.unsettled_places`: both places of each key with an open entry."""
        outbox = self.backend.outbox
        for entry in outbox.pending_entries() if outbox is not None else ():
            yield from (part.place(entry.path) for part in self.parts)


def resolve_backend(backend: Any, *, pace: StoreLimits | None = None, opaque_etags: bool = False) -> ResolvedBackend:
    """Return a registered backend as a side, a CutoverBackend as a :class:`ResolvedCutover`.

    Args:
        backend: any storage backend.
        pace: limits the requests; ``None`` sets no limit.
        opaque_etags: whether its ETags are no digests, as the user says.

    Raises:
        ConfigurationError: the phase of a cutover cannot be read.
    """
    if isinstance(backend, CutoverBackend):
        return ResolvedCutover(backend, pace=pace, opaque_etags=opaque_etags)
    return ResolvedBackend(backend, pace=pace, opaque_etags=opaque_etags)


def sides_of(
    backends: Mapping[str, Any], pace: StoreLimits | None = None, *, opaque_etags: Collection[str] = ()
) -> dict[str, ResolvedBackend]:
    """Return every registered backend as a side, a CutoverBackend as both of its sides.

    Args:
        backends: the backends by key.
        pace: limits the requests; ``None`` sets no limit.
        opaque_etags: keys of backends whose ETags are no digests, as the user says.

    Raises:
        ConfigurationError: one of them cannot be resolved to a place, so that the places of its rows are unknown.
    """
    sides = {}
    for key, backend in backends.items():
        try:
            sides[key] = resolve_backend(backend, pace=pace, opaque_etags=key in opaque_etags)
            if own := [part.registration.own_class for part in sides[key].parts if part.registration.own_class]:
                raise ValueError(
                    f"its class {own[0]} reads in its own way, so it is unknown which objects its rows need"
                )
            if not all(part.root.service for part in sides[key].parts):
                raise ValueError(f"{type(backend).__name__} has no place that is known here")
        except Exception as error:
            raise ConfigurationError(
                f"the backend {key!r} cannot be resolved to a place: {error}; nothing is deleted while that is so"
            ) from error
    return sides
