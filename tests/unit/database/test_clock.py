"""The estimate of the database's clock does not follow this machine's."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import pytest

from migrate_storage.database.clock import MAX_ESTIMATE_SECONDS, DatabaseClock


@dataclass
class Machines:
    """A database and this machine, whose clocks a test sets."""

    database: float = 1_000_000.0
    wall: float = 5_000_000.0
    monotonic: float = 77.0
    reads: list[float] = field(default_factory=list)

    def pass_(self, seconds: float) -> None:
        self.database += seconds
        self.wall += seconds
        self.monotonic += seconds

    def read(self) -> tuple[float, float]:
        self.reads.append(self.database)
        return self.database, self.monotonic


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> Machines:
    made = Machines()
    monkeypatch.setattr(time, "time", lambda: made.wall)
    monkeypatch.setattr(time, "monotonic", lambda: made.monotonic)
    return made


def test_it_is_read_once_and_then_counts_on(machines: Machines) -> None:
    clock = DatabaseClock(machines.read)
    for _ in range(5):
        assert clock.now() == pytest.approx(machines.database, abs=1e-3)
        machines.pass_(MAX_ESTIMATE_SECONDS / 5.1)
    assert len(machines.reads) == 1


def test_it_is_read_again_after_a_while(machines: Machines) -> None:
    clock = DatabaseClock(machines.read)
    clock.now()
    machines.pass_(MAX_ESTIMATE_SECONDS + 1)
    machines.database += 7200  # the server's clock was set
    assert clock.now() == pytest.approx(machines.database, abs=1e-3)


@pytest.mark.parametrize("hours", [-3, 3])
def test_a_clock_that_is_set_changes_nothing(machines: Machines, hours: int) -> None:
    clock = DatabaseClock(machines.read)
    clock.now()
    machines.wall += hours * 3600
    machines.pass_(1)
    assert clock.now() == pytest.approx(machines.database, abs=1e-3)


def test_a_machine_that_slept_reads_it_again(machines: Machines) -> None:
    """The monotonic clock of Linux stands still meanwhile."""
    clock = DatabaseClock(machines.read)
    clock.now()
    machines.wall += 600
    machines.database += 600
    assert clock.now() == pytest.approx(machines.database, abs=1e-3)
