"""The journal, in the application's database and in another; the lease that keeps two runs apart."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from migrate_storage.core.errors import ConfigurationError, LeaseHeldError
from migrate_storage.core.events import Event, PassStarted
from migrate_storage.core.model import OutcomeKind
from migrate_storage.database.connection import Database
from migrate_storage.journal import Journal
from migrate_storage.journal.lease_holder import hold_lease
from migrate_storage.journal.schema import PREFIX
from tests.support.engine import other_process as outside
from tests.support.engine import registrations as places
from tests.support.engine.world import World


@contextlib.contextmanager
def opened(url: str) -> Iterator[Journal]:
    with contextlib.closing(Database(url)) as database:
        database.connect()
        yield Journal(database)


def states(url: str) -> Counter[str]:
    with sa.create_engine(url).connect() as connection:
        return Counter(connection.execute(sa.text(f"SELECT state FROM {PREFIX}row")).scalars())


ELSEWHERE = [("postgres", "sqlite"), ("sqlite", "postgres"), ("mariadb", "sqlite")]


@pytest.fixture(params=ELSEWHERE, ids=lambda pair: "-".join(pair))
def urls(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """Rows in one database, the journal in another."""
    rows, journal = request.param
    found = request.getfixturevalue(f"{rows}_url")
    return found, f"sqlite:///{tmp_path}/journal.db" if journal == "sqlite" else request.getfixturevalue(
        f"{journal}_url"
    )


def test_a_journal_in_another_database(urls: tuple[str, str], tmp_path: Path) -> None:
    rows, journal = urls
    world = World(rows, places.old_local(tmp_path / "old").build(), places.new_local(tmp_path / "new").build())
    world.fill(20, 5, 9)
    report = world.run(journal=journal, batch_size=4)
    assert (report.state, report.exit_code, report.rows_remaining) == ("completed", 0, 0), report
    world.check(backend="new")
    assert not [table for table in sa.inspect(world.engine).get_table_names() if table.startswith(PREFIX)]
    assert states(journal) == {"repointed": report.rows_repointed}
    assert world.run(journal=journal).resumed
    world.close()


@pytest.mark.parametrize(
    ("moment", "then"),
    [
        ("migrate_storage.database.compare_and_swap:CompareAndSwap.swap_all", "superseded"),
        ("migrate_storage.journal.rows:RowRepository.complete_intents", "repointed"),
    ],
    ids=["between intent and swap", "between swap and settling"],
)
def test_killed_between_the_two_databases(postgres_url: str, tmp_path: Path, moment: str, then: str) -> None:
    """The entry comes first; the row itself says afterwards what became of it."""
    journal = f"sqlite:///{tmp_path}/journal.db"
    old, new = places.old_local(tmp_path / "old"), places.new_local(tmp_path / "new")
    world = World(postgres_url, old.build(), new.build())
    world.fill(20)
    done = outside.forked(postgres_url, old, new, "--journal", journal, steps=1, of=moment)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert states(journal) == {"intent": 20}
    assert {value["backend"] for value in world.raw()} == {"old" if then == "superseded" else "new"}
    report = world.run(journal=journal, lease_ttl=1.0)
    assert (report.exit_code, report.rows_remaining) == (0, 0)
    assert report.rows_repointed == (20 if then == "superseded" else 0)
    assert states(journal) == ({"superseded": 20, "repointed": 20} if then == "superseded" else {"repointed": 20})
    assert world.check(backend="new") == 20
    world.close()


@pytest.mark.parametrize("moment", ["migrate_storage.journal.objects:ObjectRepository.record_results"])
def test_killed_inside_the_common_transaction(database_url: str, tmp_path: Path, moment: str) -> None:
    """In one database a row and its entry commit together, or not at all."""
    old, new = places.old_local(tmp_path / "old"), places.new_local(tmp_path / "new")
    world = World(database_url, old.build(), new.build())
    world.fill(20)
    done = outside.forked(database_url, old, new, steps=1, of=moment)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not states(database_url)
    assert {value["backend"] for value in world.raw()} == {"old"}
    assert {entry.state for entry in world.journal.values()} == {"intent"}
    report = world.run(lease_ttl=1.0)
    assert (report.exit_code, report.rows_repointed) == (0, 20)
    assert states(database_url) == {"repointed": 20}
    # The killed run may have written these copies, or somebody else: nothing tells, so they are never removed.
    assert {entry.written_by_us for entry in world.journal.values()} == {None}
    assert world.check(backend="new") == 20
    world.close()


def test_a_second_run_is_refused_while_the_first_is_at_work(worlds: World) -> None:
    worlds.fill(3)
    with opened(worlds.url) as journal:
        journal.prepare()
        with hold_lease(journal, 1.0, stopping=threading.Event(), lost=pytest.fail):
            before = worlds.dump()
            with pytest.raises(LeaseHeldError, match="another run, revert or purge is at work on .*status"):
                worlds.run(lease_ttl=1.0)
            after = worlds.dump()
            for dumped in (before, after):
                del dumped[f"{PREFIX}lease"]
            assert after == before
    assert worlds.run(lease_ttl=1.0).exit_code == 0
    worlds.check(backend="new")


def test_a_dead_run_is_waited_out(worlds: World) -> None:
    worlds.fill(3)
    with opened(worlds.url) as journal:
        journal.prepare()
        assert journal.leases.acquire("a run that dies at once", seconds=1.5) == 0.0
    began = time.monotonic()
    assert worlds.run(lease_ttl=1.5).exit_code == 0
    assert time.monotonic() - began >= 1.0
    worlds.check(backend="new")


def test_a_run_that_lost_its_lease_stops(world: World) -> None:
    """Somebody else took it while this one was held up: two must not work at once."""
    world.fill(3)

    class Events(list[Event]):
        def append(self, event: Event) -> None:
            if event == PassStarted(number=2):
                world.sql(f"UPDATE {PREFIX}lease SET owner = 'another'")
            super().append(event)

    world.events = Events()
    report = world.run(lease_ttl=1.0, settle_time=30.0)
    assert (report.state, report.exit_code) == ("failed", 3)
    assert "another run took the lease" in report.error
    assert world.sql(f"SELECT owner FROM {PREFIX}lease") == [("another",)], "it is not released for the other one"
    world.sql(f"UPDATE {PREFIX}lease SET expires = 0")
    assert world.run().exit_code == 0


def test_tables_of_another_version_are_not_touched(world: World) -> None:
    world.fill(1)
    world.run(dry_run=True)
    with opened(world.url) as journal:
        journal.prepare()
    world.sql(f"UPDATE {PREFIX}version SET version = 99")
    before = world.dump()
    with pytest.raises(ConfigurationError, match="are of version 99, and this program knows them up to version 6: use"):
        world.run()
    assert world.dump() == before


def test_each_run_leaves_its_report(world: World) -> None:
    world.fill(4)
    first, second = world.run(limit=2), world.run()
    with opened(world.url) as journal:
        runs = journal.runs.latest()
        assert [run.state for run in runs] == ["completed", "limit_reached"]
        assert [run.id for run in runs] == [second.run, first.run]
        assert journal.objects.count(second.run) == {OutcomeKind.REPOINTED: 2}
        assert journal.runs.find(first.run[:-2]).id == first.run
        with pytest.raises(ConfigurationError, match="no runs begin with 'zzz'"):
            journal.runs.find("zzz")
