"""One package or module per job: run, links, revert, verify, purge, orphans, sync, check."""

from __future__ import annotations

from typing import TYPE_CHECKING

from migrate_storage.core.lazy import lazy_attributes

if TYPE_CHECKING:
    from migrate_storage.application.application import load_application
    from migrate_storage.core.errors import ConfigurationError, MigrateStorageError, RunError
    from migrate_storage.core.events import (
        BytesTransferred,
        CensusAdvanced,
        DiagnosticRaised,
        Event,
        Listener,
        ObjectFinished,
        ObjectsFinished,
        PassStarted,
        RunFinished,
        RunStarted,
        ShardsProgressed,
        SourceListed,
        SyncLag,
        ThrottleChanged,
    )
    from migrate_storage.jobs.check import CheckJob, CheckOptions
    from migrate_storage.jobs.links.job import LinksJob
    from migrate_storage.jobs.links.options import LinksOptions
    from migrate_storage.jobs.links.revert import LinksRevertJob
    from migrate_storage.jobs.orphans.job import OrphansJob, OrphansOptions
    from migrate_storage.jobs.purge.job import PurgeJob
    from migrate_storage.jobs.purge.rules import PurgeOptions
    from migrate_storage.jobs.revert.job import RevertJob, RevertOptions
    from migrate_storage.jobs.run.job import RunJob
    from migrate_storage.jobs.run.options import RunOptions
    from migrate_storage.jobs.sync.job import SyncJob
    from migrate_storage.jobs.sync.options import SyncOptions
    from migrate_storage.jobs.verify.check_object import VerifyOptions
    from migrate_storage.jobs.verify.job import VerifyJob
    from migrate_storage.reporting.log_records import logged
    from migrate_storage.reporting.metrics import Counters
    from migrate_storage.reporting.report import Report

__all__ = (
    "BytesTransferred",
    "CensusAdvanced",
    "CheckJob",
    "CheckOptions",
    "ConfigurationError",
    "Counters",
    "DiagnosticRaised",
    "Event",
    "LinksJob",
    "LinksOptions",
    "LinksRevertJob",
    "Listener",
    "MigrateStorageError",
    "ObjectFinished",
    "ObjectsFinished",
    "OrphansJob",
    "OrphansOptions",
    "PassStarted",
    "PurgeJob",
    "PurgeOptions",
    "Report",
    "RevertJob",
    "RevertOptions",
    "RunError",
    "RunFinished",
    "RunJob",
    "RunOptions",
    "RunStarted",
    "ShardsProgressed",
    "SourceListed",
    "SyncJob",
    "SyncLag",
    "SyncOptions",
    "ThrottleChanged",
    "VerifyJob",
    "VerifyOptions",
    "load_application",
    "logged",
)

__getattr__ = lazy_attributes(
    __name__,
    {
        "migrate_storage.application.application": ("load_application",),
        "migrate_storage.core.errors": ("ConfigurationError", "MigrateStorageError", "RunError"),
        "migrate_storage.core.events": (
            "BytesTransferred", "CensusAdvanced", "DiagnosticRaised", "Event", "Listener", "ObjectFinished", "ObjectsFinished", "PassStarted",
            "RunFinished", "RunStarted", "ShardsProgressed", "SourceListed", "SyncLag", "ThrottleChanged",
        ),
        "migrate_storage.jobs.check": ("CheckJob", "CheckOptions"),
        "migrate_storage.jobs.links.job": ("LinksJob",),
        "migrate_storage.jobs.links.options": ("LinksOptions",),
        "migrate_storage.jobs.links.revert": ("LinksRevertJob",),
        "migrate_storage.jobs.orphans.job": ("OrphansJob", "OrphansOptions"),
        "migrate_storage.jobs.purge.job": ("PurgeJob",),
        "migrate_storage.jobs.purge.rules": ("PurgeOptions",),
        "migrate_storage.jobs.revert.job": ("RevertJob", "RevertOptions"),
        "migrate_storage.jobs.run.job": ("RunJob",),
        "migrate_storage.jobs.run.options": ("RunOptions",),
        "migrate_storage.jobs.sync.job": ("SyncJob",),
        "migrate_storage.jobs.sync.options": ("SyncOptions",),
        "migrate_storage.jobs.verify.check_object": ("VerifyOptions",),
        "migrate_storage.jobs.verify.job": ("VerifyJob",),
        "migrate_storage.reporting.log_records": ("logged",),
        "migrate_storage.reporting.metrics": ("Counters",),
        "migrate_storage.reporting.report": ("Report",),
    },
)  # fmt: skip
