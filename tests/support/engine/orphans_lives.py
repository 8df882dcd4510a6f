"""Lives of ``orphans`` in processes of their own, each killed with SIGKILL at one exact step.

A step is the moment before or after a change of a store or of the journal's lines of objects.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from migrate_storage.jobs.orphans.job import OrphansJob, OrphansOptions
from migrate_storage.journal.objects import ObjectRepository
from migrate_storage.stores.fsspec_store import FsspecStore
from migrate_storage.stores.obstore_store import ObstoreStore
from tests.support.engine import registrations as places
from tests.support.engine.lives import context
from tests.support.engine.world import World


@dataclass(frozen=True, kw_only=True)
class OrphansLife:
    """One life of a job on two folders."""

    url: str
    old: Path
    new: Path
    #: After which step it dies; 0 lets it live to its end.
    steps: int
    options: dict[str, Any]

    def live(self) -> bool:
        """Whether it lived to its end."""
        process = context.Process(target=_live, args=(self,))
        process.start()
        process.join(120)
        assert process.exitcode in (0, -signal.SIGKILL), process.exitcode
        return process.exitcode == 0


def _live(life: OrphansLife) -> None:
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        if count == life.steps:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            step()
            result = original(*args, **kwargs)
            step()
            return result

        setattr(owner, name, call)

    for owner, names in {
        ObstoreStore: ("put", "delete"),
        FsspecStore: ("put", "delete"),
        ObjectRepository: ("record_intents", "record_results"),
    }.items():
        for name in names:
            around(owner, name)
    world = World(life.url, places.old_local(life.old).build(), places.new_local(life.new).build())
    OrphansJob(world.application, OrphansOptions(concurrency=1, yes=True, keys=("old",), **life.options)).run()
