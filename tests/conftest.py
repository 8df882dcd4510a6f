"""Loads the options and fixtures of ``tests/support``."""

from __future__ import annotations

import gc
import os
import sys

from tests.support.client_start import share_botocore_data

# gcsfs would try gRPC for a minute before each call; it reads this when it is imported.
os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"

# Tests start many Python processes: no process compiles again what another one has compiled.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

share_botocore_data()

# A full collection visits the objects of all that is imported, which takes 0.4 seconds: a fifth as often as is usual is enough.
gc.set_threshold(700, 10, 50)

pytest_plugins = [
    "tests.support.evidence",
    "tests.support.folding_disk",
    "tests.support.options",
    "tests.support.server_fixtures",
    "tests.support.small_disk",
    "tests.support.cli.project",
    "tests.support.cutover.fixtures",
    "tests.support.distributed.sites",
    "tests.support.engine.fixtures",
    "tests.support.engine.proxied_world",
    "tests.support.reporting.journaled",
    "tests.support.sync.fixtures",
]
