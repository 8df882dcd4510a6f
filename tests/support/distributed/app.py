"""The World's application, made anew each time that it is asked for: a worker of a cluster outlives many a world."""

from __future__ import annotations

import json
import os
from pathlib import Path

import sqlalchemy as sa
from advanced_alchemy.types.file_object import storages

from tests.support.engine import registrations as places
from tests.support.engine import world  # noqa: F401 - importing the models is what an application does


def application() -> sa.Engine:
    """The engine; where rows and files are stands in the file that ``WORLD_FILE`` names."""
    told = json.loads(Path(os.environ["WORLD_FILE"]).read_text())
    for each in told["backends"]:
        storages.register_backend(places.Registration(**each).build())
    return sa.create_engine(told["url"])
