"""The World's application, made anew at each call: a worker of a cluster serves one world after another.

``WORLD_FILE`` names a file that says where the rows and files are, and a second file, the gate. While the gate exists, a process
that has re-pointed some rows waits before it re-points another one, and before its next request to a store.
``WORLD_IDLE_CORES`` is the number of idle cores; then few rows are enough for one more process. With ``WORLD_CLUSTER=none`` no
process of a cluster starts.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NoReturn

import sqlalchemy as sa
from advanced_alchemy.types.file_object import storages

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.jobs.distributed import dask_cluster, worker_count
from tests.support.distributed.gate import Gate
from tests.support.engine import registrations as places
from tests.support.engine import world  # noqa: F401 - importing the models is what an application does

_gate = Gate()
if "WORLD_IDLE_CORES" in os.environ:
    worker_count.ROWS_PER_WORKER = 20
    worker_count.count_idle_cores = lambda: int(os.environ["WORLD_IDLE_CORES"])
if os.environ.get("WORLD_CLUSTER") == "none":

    def refuse(workers: int) -> NoReturn:
        """Start no process."""
        raise ConfigurationError(f"no process starts of {workers}")

    dask_cluster.local = refuse


def application() -> sa.Engine:
    """Register the backends of the world, and return its engine."""
    told = json.loads(Path(os.environ["WORLD_FILE"]).read_text())
    _gate.file, _gate.rows = Path(told["gate"]), 0
    for each in told["backends"]:
        storages.register_backend(places.Registration(**each).build())
    return sa.create_engine(told["url"])
