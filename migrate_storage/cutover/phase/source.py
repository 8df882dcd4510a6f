"""Sources of a process's phase: fixed, a function, or shared by all processes."""

from __future__ import annotations

import os
from collections.abc import Callable

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.cutover.decisions import Phase
from migrate_storage.cutover.outbox import Outbox
from migrate_storage.cutover.phase.lease import OperationLease, PhaseSource, UnlimitedLease
from migrate_storage.cutover.phase.shared import OnLost, SharedPhase

__all__ = ("PHASE_VARIABLE", "SHARED", "CallablePhase", "OnLost", "SharedPhase", "phase_source")

PHASE_VARIABLE = "MIGRATE_STORAGE_PHASE"
SHARED = "shared"


class CallablePhase:
    """The phase that a function returns; called once per operation."""

    def __init__(self, ask: Callable[[], Phase]) -> None:
        self._ask = ask

    @property
    def phase(self) -> Phase:
        """The phase that the function returns now."""
        return self._ask()

    last_known = phase

    def acquire(self, *, writing: bool) -> OperationLease:  # noqa: ARG002 - as in PhaseSource
        """Acquire a lease on the phase that the function returns now."""
        return UnlimitedLease(self._ask())

    renew = acquire

    def record_fallback(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def phase_source(phase: PhaseSource | Phase | str | Callable[[], Phase] | None, outbox: Outbox | None) -> PhaseSource:
    """Return the phase source for ``CutoverBackend(phase=…)``.

    Args:
        phase: a phase source; a phase or its name; ``"shared"``; a function. ``None`` means the environment variable
            ``MIGRATE_STORAGE_PHASE``, which contains a name or ``shared``; unset means ``source``.
        outbox: required by a shared phase.

    Raises:
        ConfigurationError: the phase does not exist, or needs an outbox and there is none.
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
        raise ConfigurationError(f"a cutover in phase {name} records entries of keys: pass outbox=")
    if name == SHARED:
        return SharedPhase(outbox)
    fixed = Phase(name)
    return CallablePhase(lambda: fixed)
