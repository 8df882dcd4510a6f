"""Which phase a process acts in: fixed, asked of a function, or shared by all processes."""

from __future__ import annotations

import os
from collections.abc import Callable

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.cutover.decisions import Phase
from migrate_storage.cutover.outbox import Outbox
from migrate_storage.cutover.phase.lease import OperationLease, PhaseSource, UnlimitedLease
from migrate_storage.cutover.phase.shared import OnLost, SharedPhase

__all__ = (
    "PHASE_VARIABLE",
    "SHARED",
    "CallablePhase",
    "OnLost",
    "OperationLease",
    "PhaseSource",
    "SharedPhase",
    "phase_source",
)

PHASE_VARIABLE = "MIGRATE_STORAGE_PHASE"
SHARED = "shared"


class CallablePhase:
    """The phase that a function says; asked once for each operation."""

    def __init__(self, ask: Callable[[], Phase]) -> None:
        self._ask = ask

    @property
    def phase(self) -> Phase:
        """What the function says now."""
        return self._ask()

    last_known = phase

    def acquire(self, *, writing: bool) -> OperationLease:  # noqa: ARG002 - as each switch
        """What the function says now, until the operation ends."""
        return UnlimitedLease(self._ask())

    renew = acquire

    def record_fallback(self) -> None:
        """Nobody is told."""

    def close(self) -> None:
        """Nobody waits."""


def phase_source(phase: PhaseSource | Phase | str | Callable[[], Phase] | None, outbox: Outbox | None) -> PhaseSource:
    """The switch that ``CutoverBackend(phase=…)`` means.

    Args:
        phase: a switch; a phase or its name; ``"shared"``; a function; ``None`` for the environment variable
            ``MIGRATE_STORAGE_PHASE``, which holds a name or ``shared``, ``source`` if unset.
        outbox: needed by a shared phase.

    Raises:
        ConfigurationError: there is no such phase, or a phase that needs an outbox has none.
    """
    if hasattr(phase, "acquire"):
        return phase  # type: ignore[return-value]
    if callable(phase):
        return CallablePhase(phase)
    name = (phase or os.environ.get(PHASE_VARIABLE) or Phase.SOURCE).lower()
    if name not in (SHARED, *Phase):
        raise ConfigurationError(f"{name!r} is no phase of a cutover: use one of {', '.join(Phase)}, or {SHARED}")
    if name == Phase.SOURCE:
        return CallablePhase(lambda: Phase.SOURCE)
    if outbox is None:
        raise ConfigurationError(f"a cutover in phase {name} writes down what is not settled: pass outbox=")
    if name == SHARED:
        return SharedPhase(outbox)
    fixed = Phase(name)
    return CallablePhase(lambda: fixed)
