"""Several clients in adjacent phases, failures, kills, repairs and steps in any order: no acknowledged write is lost,
stale or resurrected."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import create_engine, event

from migrate_storage.cutover.outbox import Outbox
from migrate_storage.database import Database
from tests.cutover.machine import Machine
from tests.evidence import Evidence

QUIET = settings(
    deadline=None, database=None, suppress_health_check=list(HealthCheck), stateful_step_count=40, print_blob=False
)


def machine(url: str, seed: int) -> type[Machine]:
    engine = create_engine(url)
    # Nothing here is about a machine that loses its power.
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF"))
    database = Database(engine)
    Outbox(database, "files").prepare()

    class Here(Machine):
        done = Counter()

    Here.database = database
    return hypothesis.seed(seed)(Here)


def test_nothing_acknowledged_is_lost_stale_or_resurrected(sqlite_url: str) -> None:
    made = machine(sqlite_url, 1)
    run_state_machine_as_test(made, settings=settings(QUIET, max_examples=25))
    assert {"before", "after", "killed", "dead", "meanwhile"} < made.done.keys()
    print(made.done)
