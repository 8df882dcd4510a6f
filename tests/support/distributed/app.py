"""The World's application, made anew at each call: a worker of a cluster serves one world after another.

``WORLD_FILE`` names a file that says where the rows and files are, and a second file, the gate. While the gate exists, a process
that has re-pointed some rows waits before it re-points another one, and before its next request to a store.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import sqlalchemy as sa
from advanced_alchemy.types.file_object import storages

from tests.support.distributed.gate import Gate
from tests.support.engine import registrations as places
from tests.support.engine import world  # noqa: F401 - importing the models is what an application does

_gate = Gate()


def application() -> sa.Engine:
    """Register the backends of the world, and return its engine."""
    told = json.loads(Path(os.environ["WORLD_FILE"]).read_text())
    _gate.file, _gate.rows = Path(told["gate"]), 0
    for each in told["backends"]:
        storages.register_backend(places.Registration(**each).build())
    return sa.create_engine(told["url"])
