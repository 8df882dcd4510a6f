"""A run is paused, resumed, retuned and stopped through its journal, by the database's need or by a person's."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend

from migrate_storage import ObstoreBackend
from migrate_storage.core.events import ThrottleChanged
from migrate_storage.database.connection import Database
from migrate_storage.engine.control import PAUSED
from migrate_storage.jobs.run.job import RunJob
from migrate_storage.journal import Journal
from migrate_storage.reporting import Report
from tests.support.engine.world import Document, World


class Running:
    """A run of a few seconds in another thread, held in the hand."""

    def __init__(self, world: World, migration: RunJob, journal: Journal, future: Future[Report]) -> None:
        self.world, self.migration, self.journal, self.future = world, migration, journal, future

    @property
    def moved(self) -> int:
        return int(self.world.sql("SELECT count(*) FROM documents WHERE file LIKE '%\"new\"%'")[0][0])

    @property
    def progress(self) -> dict[str, Any]:
        line = self.journal.runs.find()
        return dict(json.loads(line.progress)) if line.progress else {}

    def want(self, **wishes: Any) -> None:
        self.journal.runs.request_control(self.journal.runs.find().id, **wishes)

    def until(self, condition: Callable[[], Any]) -> None:
        until = time.monotonic() + 120
        while not condition():
            assert not self.future.done(), self.future.result()
            assert time.monotonic() < until, "it did not come about within 120 seconds"
            time.sleep(0.05)


@pytest.fixture
def world(tmp_path: Path, sqlite_url: str) -> World:
    (tmp_path / "old").mkdir()
    old = FSSpecBackend(key="old", fs="file", prefix=str(tmp_path / "old"), auto_mkdir=True)
    world = World(sqlite_url, old, ObstoreBackend(key="new", fs=tmp_path / "new"))
    files = [world.file(f"f{i}", bytes(1000)) for i in range(150)]
    world.add(*(Document(title=str(i), file=file) for i, file in enumerate(files)))
    return world


@contextlib.contextmanager
def running(world: World, **options: Any) -> Iterator[Running]:
    """Run 150 objects at no more than 40 requests a second, so that most are left for 15 seconds."""
    migration = world.migration(**{"max_requests_per_second": 40, "batch_size": 10, "concurrency": 4, **options})
    with contextlib.closing(Database(world.url)) as database, ThreadPoolExecutor(1) as pool:
        future = pool.submit(migration.run)
        handle = Running(world, migration, Journal(database), future)
        try:
            handle.until(lambda: handle.journal.runs.latest() and handle.moved)
            yield handle
        finally:
            migration.stop()


def test_paused_nothing_moves_and_resumed_it_goes_on(world: World) -> None:
    with running(world) as run:
        run.want(paused=True)
        run.until(lambda: run.progress.get("paused") == PAUSED)
        run.until(lambda: not run.migration.context.limiter._inside)
        # What was under way is finished, and the journal hears of it with the next poll.
        run.until(lambda: run.progress["rows_repointed"] == run.moved)
        before, journaled = run.moved, run.progress["rows_repointed"]
        time.sleep(1.5)
        assert run.moved == before < 150
        assert run.progress["rows_repointed"] == journaled
        run.want(paused=False, bandwidth=10**9, concurrency=16)
        run.until(lambda: run.moved > before)
        run.until(lambda: run.progress["most_concurrency"] == 16)
        assert (run.progress["paused"], run.progress["bandwidth"]) == ("", 10**9)
        run.migration.context.limits.requests.set(None)
        report = run.future.result(120)
    assert report.exit_code == 0, report
    assert world.check(backend="new") == 150
    told = [event.paused for event in world.events if isinstance(event, ThrottleChanged)]
    assert [reason for reason, _ in itertools.groupby(told)] == [PAUSED, ""]


def test_more_at_once_than_it_began_with(world: World) -> None:
    names: set[str] = set()
    with running(world, concurrency=1) as run:
        run.want(concurrency=12)
        run.until(lambda: run.progress["concurrency"] == 12)
        run.until(lambda: run.migration.context.limiter._inside > 4)
        names.update(thread.name for thread in threading.enumerate())
        run.migration.context.limits.requests.set(None)
        assert run.future.result(120).exit_code == 0
    # Five were at it at once, one of them at most in the old pool, which names its only thread as the new one its first.
    assert len([name for name in names if name.startswith("copy")]) >= 4
    assert world.check(backend="new") == 150


def test_asked_to_stop_it_ends_tidily_and_goes_on_later(world: World) -> None:
    with running(world) as run:
        run.want(stop=True)
        report = run.future.result(120)
    assert (report.state, report.exit_code) == ("interrupted", 130)
    assert 0 < report.rows_repointed < 150
    world.check()
    assert world.run().exit_code == 0
    assert world.check(backend="new") == 150


def test_stopped_while_it_is_paused(world: World) -> None:
    with running(world) as run:
        run.want(paused=True)
        run.until(lambda: run.progress.get("paused"))
        run.want(stop=True)
        assert run.future.result(120).state == "interrupted"
    world.check()


def test_the_database_is_left_in_peace_while_the_query_says_so(world: World) -> None:
    world.sql("CREATE TABLE load (busy INTEGER)")
    world.sql("INSERT INTO load VALUES (0)")
    with running(world, throttle_query="SELECT busy FROM load") as run:
        world.sql("UPDATE load SET busy = 7")
        run.until(lambda: run.progress.get("paused") == "--throttle-query answers 7")
        run.until(lambda: not run.migration.context.limiter._inside)
        before = run.moved
        time.sleep(1.2)
        assert run.moved == before < 150
        world.sql("DROP TABLE load")
        run.until(lambda: "--throttle-query fails" in run.progress["paused"])
        assert run.moved == before
        world.sql("CREATE TABLE load (busy INTEGER)")
        run.until(lambda: not run.progress["paused"])
        run.migration.context.limits.requests.set(None)
        assert run.future.result(120).exit_code == 0
    assert world.check(backend="new") == 150


@pytest.mark.parametrize("database", ["postgres", "mariadb"])
def test_wishes_do_not_undo_each_other(database: str, request: pytest.FixtureRequest) -> None:
    from migrate_storage.journal import RunRecord

    with contextlib.closing(Database(request.getfixturevalue(f"{database}_url"))) as opened:
        journal = Journal(opened)
        journal.prepare()
        line = {"kind": "run", "source": "a", "destination": "b", "way": "move", "state": "running"}
        journal.runs.begin(RunRecord(id="r", started=1.0, updated=1.0, **line))
        assert journal.runs.control("r") == {}
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda i: journal.runs.request_control("r", **{f"w{i}": i}), range(24)))
        assert journal.runs.control("r") == {f"w{i}": i for i in range(24)}
