"""One package or module per job: run, revert, verify, purge, orphans, sync, check."""

from __future__ import annotations

from typing import TYPE_CHECKING

from migrate_storage.core.lazy import lazy_attributes

if TYPE_CHECKING:
    from migrate_storage.application.application import load_application
    from migrate_storage.core.errors import ConfigurationError, MigrateStorageError, RunError
    from migrate_storage.core.events import (
        Behind,
        BytesMoved,
        CensusAdvanced,
        Event,
        ItemFinished,
        ItemsFinished,
        Listed,
        Listener,
        Noted,
        PaceChanged,
        PassStarted,
        RangesAdvanced,
        RunFinished,
        RunStarted,
    )
    from migrate_storage.jobs.check import Check
    from migrate_storage.jobs.orphans.job import Orphans, OrphansOptions
    from migrate_storage.jobs.purge.job import Purge
    from migrate_storage.jobs.purge.rules import PurgeOptions
    from migrate_storage.jobs.revert.job import Revert, RevertOptions
    from migrate_storage.jobs.run.job import Migration
    from migrate_storage.jobs.run.options import RunOptions
    from migrate_storage.jobs.sync.job import Sync
    from migrate_storage.jobs.sync.options import SyncOptions
    from migrate_storage.jobs.verify.check_object import AuditOptions
    from migrate_storage.jobs.verify.job import Audit
    from migrate_storage.reporting.log_records import logged
    from migrate_storage.reporting.metrics import Counters
    from migrate_storage.reporting.report import Report

__all__ = (
    "Audit",
    "AuditOptions",
    "Behind",
    "BytesMoved",
    "CensusAdvanced",
    "Check",
    "ConfigurationError",
    "Counters",
    "Event",
    "ItemFinished",
    "ItemsFinished",
    "Listed",
    "Listener",
    "MigrateStorageError",
    "Migration",
    "Noted",
    "Orphans",
    "OrphansOptions",
    "PaceChanged",
    "PassStarted",
    "Purge",
    "PurgeOptions",
    "RangesAdvanced",
    "Report",
    "Revert",
    "RevertOptions",
    "RunError",
    "RunFinished",
    "RunOptions",
    "RunStarted",
    "Sync",
    "SyncOptions",
    "load_application",
    "logged",
)

__getattr__ = lazy_attributes(
    __name__,
    {
        "migrate_storage.application.application": ("load_application",),
        "migrate_storage.core.errors": ("ConfigurationError", "MigrateStorageError", "RunError"),
        "migrate_storage.core.events": (
            "Behind", "BytesMoved", "CensusAdvanced", "Event", "ItemFinished", "ItemsFinished", "Listed", "Listener", "Noted",
            "PaceChanged", "PassStarted", "RangesAdvanced", "RunFinished", "RunStarted",
        ),
        "migrate_storage.jobs.check": ("Check",),
        "migrate_storage.jobs.orphans.job": ("Orphans", "OrphansOptions"),
        "migrate_storage.jobs.purge.job": ("Purge",),
        "migrate_storage.jobs.purge.rules": ("PurgeOptions",),
        "migrate_storage.jobs.revert.job": ("Revert", "RevertOptions"),
        "migrate_storage.jobs.run.job": ("Migration",),
        "migrate_storage.jobs.run.options": ("RunOptions",),
        "migrate_storage.jobs.sync.job": ("Sync",),
        "migrate_storage.jobs.sync.options": ("SyncOptions",),
        "migrate_storage.jobs.verify.check_object": ("AuditOptions",),
        "migrate_storage.jobs.verify.job": ("Audit",),
        "migrate_storage.reporting.log_records": ("logged",),
        "migrate_storage.reporting.metrics": ("Counters",),
        "migrate_storage.reporting.report": ("Report",),
    },
)  # fmt: skip
