"""Several clients in adjacent phases, failures, kills, repairs and steps in any order: no acknowledged write is lost,
stale or resurrected."""

from __future__ import annotations

import itertools
from collections import Counter

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from migrate_storage.cutover import protocol
from migrate_storage.cutover.decisions import Phase as CutoverPhase
from migrate_storage.database.connection import Database
from tests.support.cutover.broken_rules import BROKEN_RULES
from tests.support.cutover.state_machine import Machine
from tests.support.evidence import Evidence

QUIET = settings(
    deadline=None, database=None, suppress_health_check=list(HealthCheck), stateful_step_count=30, print_blob=False
)


def machine(database: Database, seed: int) -> type[Machine]:
    made = type("Here", (Machine,), {"database": database, "done": Counter()})
    return hypothesis.seed(seed)(made)


HAPPENED = {"before", "after", "killed", "dead", "meanwhile", "acknowledged", "refused", "repaired"}


def test_nothing_acknowledged_is_lost_stale_or_resurrected(common_database: Database) -> None:
    made = machine(common_database, 1)
    run_state_machine_as_test(made, settings=settings(QUIET, max_examples=10))
    assert made.done.keys() >= HAPPENED


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_at_full_size(common_database: Database, seed: int, evidence: Evidence) -> None:
    made = machine(common_database, seed)
    run_state_machine_as_test(made, settings=settings(QUIET, max_examples=1500))
    order = list(CutoverPhase)
    steps = {f"{one} to {other}" for pair in itertools.pairwise(order) for one, other in (pair, pair[::-1])}
    assert made.done.keys() >= HAPPENED | steps
    evidence.record(
        "Three clients of a cutover, a repair and a person who takes its steps, in 1500 random orders with failures and kills at "
        "any request, lost no acknowledged write, read none that was overwritten and brought back nothing deleted",
        **dict(made.done),
    )


@pytest.mark.parametrize("name", ["no entries", "the phase's order under an entry", "an entry after the failure"])
def test_worse_rules_are_found(name: str, common_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "save", BROKEN_RULES[name][3].save)
    once = settings(QUIET, max_examples=60, phases=[Phase.generate])
    with pytest.raises(AssertionError, match="legal is"):
        run_state_machine_as_test(machine(common_database, 1), settings=once)
