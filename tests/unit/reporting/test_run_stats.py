"""The sums of a job: what a report lists does not depend on which thread was faster."""

from __future__ import annotations

import itertools

import pytest

from migrate_storage.core.model import Location, Outcome, OutcomeKind
from migrate_storage.reporting.run_stats import RunStats

SOURCES = (Location("uploads (source)", "b.txt"), Location("uploads (destination)", "b.txt"), Location("a", "z.txt"))


@pytest.mark.parametrize("order", list(itertools.permutations(SOURCES)))
def test_listed_objects_are_in_the_order_of_their_names(order: tuple[Location, ...]) -> None:
    stats = RunStats(lambda _: None)
    for source in order:
        stats.add_outcome(
            Outcome(kind=OutcomeKind.ORPHAN, source=source, destination=Location("", ""), reason="no row names it")
        )
    assert [str(outcome.source) for outcome in stats.problems] == sorted(map(str, SOURCES))
