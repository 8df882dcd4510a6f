"""One job at a time: a second one waits or says so, and one that slept past its lease wakes up to do no harm."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.support.engine import other_process as outside
from tests.support.engine import registrations as places
from tests.support.engine.world import World
from tests.support.processes.forked import ForkedProcess


@pytest.fixture
def backends(tmp_path: Path) -> tuple[places.Registration, places.Registration]:
    return places.old_local(tmp_path / "old"), places.new_local(tmp_path / "new")


def started(url: str, backends: tuple[places.Registration, ...], *arguments: str, **settings: object) -> ForkedProcess:  # fmt: skip
    line, environment = outside.command(url, *backends, "--json", *arguments, **settings)
    return ForkedProcess(line, environment, outside.ROOT)


def each_row_once(world: World, named: int) -> None:
    assert world.check(backend="new") == named
    twice = world.sql(
        "SELECT row_id FROM migrate_storage_row WHERE state = 'repointed' GROUP BY row_id HAVING count(*) > 1"
    )
    assert twice == []
    assert {entry.state for entry in world.journal.values()} == {"verified"}


@pytest.mark.slow
@pytest.mark.parametrize("database", ["postgres", pytest.param("sqlite", marks=pytest.mark.soak)])
def test_two_that_start_at_once(
    request: pytest.FixtureRequest, database: str, backends: tuple[places.Registration, ...]
) -> None:
    """One works; the other is refused in one line, or comes when the first is done and finds nothing left."""
    url = request.getfixturevalue(f"{database}_url")
    world = World(url, backends[0].build(), backends[1].build())
    world.fill(40)
    both = [started(url, backends) for _ in range(2)]
    ends = []
    for process in both:
        _, errors = process.communicate(timeout=120)
        ends.append((process.returncode, errors))
        assert "Traceback" not in errors
        if process.returncode:
            assert process.returncode == 2
            assert "another run, revert or purge is at work" in errors
    assert min(code for code, _ in ends) == 0, ends
    each_row_once(world, 40)
    world.close()


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("database", ["postgres", pytest.param("sqlite", marks=pytest.mark.soak)])
def test_one_that_slept_past_its_lease_wakes_up_without_harm(
    request: pytest.FixtureRequest, database: str, backends: tuple[places.Registration, ...]
) -> None:
    """As in a paused virtual machine: stopped in the middle, its work is taken over and finished, then it goes on."""
    url = request.getfixturevalue(f"{database}_url")
    world = World(url, backends[0].build(), backends[1].build())
    world.fill(80)
    sleeper = started(
        url, backends, "--batch-size", "5", "--concurrency", "2", signal=signal.SIGSTOP, steps=50, of="body"
    )
    process = psutil.Process(sleeper.pid)
    try:
        deadline = time.monotonic() + 60
        while process.status() != psutil.STATUS_STOPPED:
            assert sleeper.poll() is None, "it was through before it fell asleep"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        second = outside.forked(url, *backends, "--lease-ttl", "2")
        if database == "sqlite" and second.returncode == 3:
            # It fell asleep inside of a transaction: nobody writes this file until it wakes, and the second said so.
            assert "locked" in second.stdout + second.stderr
        else:
            assert second.returncode == 0, second.stdout + second.stderr
            each_row_once(world, 80)
    finally:
        os.kill(sleeper.pid, signal.SIGCONT)
    said, errors = sleeper.communicate(timeout=90)
    assert "Traceback" not in said + errors
    assert sleeper.returncode in (0, 3), errors
    if second.returncode == 0 and sleeper.returncode == 3:
        assert "another run took the lease" in said + errors
    assert outside.forked(url, *backends).returncode == 0
    each_row_once(world, 80)
    world.close()
