"""Cutover: one storage backend over two stores, for a live application."""

from __future__ import annotations

from typing import TYPE_CHECKING

from migrate_storage.core.lazy import lazy_attributes

if TYPE_CHECKING:
    from migrate_storage.cutover.backend import CutoverBackend
    from migrate_storage.cutover.decisions import Phase
    from migrate_storage.cutover.outbox import Outbox
    from migrate_storage.cutover.phase.source import SharedPhase
    from migrate_storage.cutover.phase.transitions import PhaseController
    from migrate_storage.database.connection import Database
    from migrate_storage.reporting.metrics import Counters

__all__ = ("Counters", "CutoverBackend", "Database", "Outbox", "Phase", "PhaseController", "SharedPhase")

__getattr__ = lazy_attributes(
    __name__,
    {
        "migrate_storage.cutover.backend": ("CutoverBackend",),
        "migrate_storage.cutover.decisions": ("Phase",),
        "migrate_storage.cutover.outbox": ("Outbox",),
        "migrate_storage.cutover.phase.source": ("SharedPhase",),
        "migrate_storage.cutover.phase.transitions": ("PhaseController",),
        "migrate_storage.database.connection": ("Database",),
        "migrate_storage.reporting.metrics": ("Counters",),
    },
)
