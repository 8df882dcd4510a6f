"""A purge of a world."""

from __future__ import annotations

from typing import Any

from migrate_storage.application.application import Application
from migrate_storage.jobs.purge.job import PurgeJob
from migrate_storage.jobs.purge.rules import PurgeOptions
from migrate_storage.reporting import Report
from tests.support.engine.world import World


def purge(world: World, *, application: Application | None = None, run: str | None = None, **options: Any) -> Report:
    """Purge in this process, without a least age. The role of a test sees its own database only."""
    given = {"older_than": 0.0, "yes": True, "lease_ttl": 1.0, "visible_tables_only": True, **options}
    return PurgeJob(
        application or world.application, PurgeOptions(**given), run=run, listener=world.events.append
    ).run()
