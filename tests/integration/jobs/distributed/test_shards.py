"""Ranges of keys, and who may do what in them."""

from __future__ import annotations

import json
import random
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from functools import partial

import pytest
from sqlalchemy import update

from migrate_storage.core.errors import LeaseHeldError, RunError, StoppedError
from migrate_storage.core.model import Location, Strategy
from migrate_storage.database.connection import Database
from migrate_storage.database.file_column import FileColumn
from migrate_storage.engine.plan import Action, Item
from migrate_storage.engine.recorder import ShardRecorder
from migrate_storage.engine.task import CopyTask
from migrate_storage.jobs.distributed.shard import ShardedJob, ShardRun
from migrate_storage.jobs.distributed.shards import ShardCoordinator, cut_rows, plan_of, uncut
from migrate_storage.jobs.run.options import RunOptions
from migrate_storage.journal import Journal, RunRecord, ShardRecord, new_run_id, shard_lease
from migrate_storage.journal.lease_holder import hold_lease
from migrate_storage.journal.statements import write_sql
from migrate_storage.reporting import Report
from migrate_storage.stores.rate_limit import StoreLimits
from tests.support.engine.world import Album, Document, Note, Page, World

TEXTS = [
    "",
    " ",
    "a",
    "A",
    "b",
    "B",
    "é",
    "É",
    "ß",
    "ss",
    "z",
    "Z",
    "ä",
    "æ",
    "-",
    "_",
    "1",
    "10",
    "2",
    "'",
    '"',
    "%",
    "\\",
]


def fill(world: World, start: int = 0, count: int = 40) -> None:
    rng = random.Random(start)
    file = world.file(f"one-{start}")
    rows: list[object] = [Document(id=(start + i) * 7 - 100, title="t", file=file) for i in range(count)]
    rows += [Album(id=uuid.UUID(int=rng.getrandbits(128)), pictures=[file]) for _ in range(count)]
    rows += [Note(owner=f"o{i % 3}", number=start + i, scan=file, voice=file) for i in range(count)]
    world.add(*rows)  # type: ignore[arg-type]


def keys(tables: list[FileColumn] | tuple[FileColumn, ...]) -> list[tuple[str, tuple[object, ...]]]:
    return [(str(rows.column), row.pk) for rows in tables for window in rows.windows("old", 7) for row in window]


def share(journal: Journal, run: str, number: int, total: int, bounds: str) -> ShardRun:
    work = ShardedJob(
        lease="engine", seconds=3, plan="p", limits=RunOptions(source="old"), line=_line, cut=uncut, ends=True
    )
    return ShardRun(journal, work, ShardRecord(run=run, number=number, total=total, plan="p", bounds=bounds), ())


def _line(run: str, now: float) -> RunRecord:
    return RunRecord(
        id=run, kind="run", source="old", destination="new", way="move", state="running", started=now, updated=now
    )


@pytest.mark.parametrize("total", [1, 3, 8, 200])
def test_each_row_is_in_one_range_whatever_its_key(worlds: World, total: int) -> None:
    """Integers, UUIDs, text in the database's own order, keys of two parts; rows that come later too."""
    fill(worlds)
    if worlds.engine.dialect.name != "mysql":
        # MariaDB's collation takes some of these for one key.
        file = worlds.file("page")
        worlds.add(*(Page(slug=text, image=file) for text in TEXTS))
    with closing(Database(worlds.url)) as database:
        database.connect()
        tables = [FileColumn(database, column) for column in worlds.columns]
        bounds = cut_rows(tables, total)
        assert len(bounds) == total
        journal = Journal(database)
        journal.prepare()
        run = new_run_id()
        journal.shards.begin(
            _line(run, time.time()),
            [ShardRecord(run=run, number=n, total=total, plan="p", bounds=each) for n, each in enumerate(bounds)],
        )
        shares = [share(journal, run, each.number, total, each.bounds) for each in journal.shards.of_run(run)]

        def spread() -> list[list[tuple[str, tuple[object, ...]]]]:
            found = [keys(each.rows(tables)) for each in shares]
            flat = sorted((key for part in found for key in part), key=repr)
            assert flat == sorted(keys(tables), key=repr)
            assert len(set(map(repr, flat))) == len(flat)
            return found

        found = spread()
        if total == 3:
            for table in ("documents.file", "albums.pictures", "notes.voice"):
                sizes = [sum(name == table for name, _ in part) for part in found]
                assert max(sizes) - min(sizes) <= 1, sizes
        fill(worlds, start=1000, count=9)
        spread()


def test_keys_of_objects_fall_into_one_range_each(sqlite_url: str) -> None:
    with closing(Database(sqlite_url)) as database:
        journal = Journal(database)
        journal.prepare()
        run = new_run_id()
        journal.runs.begin(_line(run, time.time()))
        shares = [share(journal, run, number, 5, "{}") for number in range(5)]
        names = [f"a/{i}" for i in range(2000)] + ["", "é", "\udcff"]
        held = [sum(each.has(name) for name in names) for each in shares]
        assert sum(held) == len(names)
        assert min(held) > 300
        assert all(sum(each.has(name) for each in shares) == 1 for name in names)


@pytest.fixture
def journal(database_url: str) -> Iterator[Journal]:
    with closing(Database(database_url)) as database:
        database.connect()
        journal = Journal(database)
        journal.prepare()
        yield journal


def _work(journal: Journal, plan: str = "a") -> ShardedJob:
    return ShardedJob(
        lease="engine", seconds=1, plan=plan_of(plan), limits=RunOptions(source="old", concurrency=10, bandwidth=900),
        line=_line, cut=uncut, ends=True,
    )  # fmt: skip


def test_many_that_begin_at_once_begin_one_run(journal: Journal) -> None:
    work, found, stopping = _work(journal), [], threading.Event()
    threads = [
        threading.Thread(
            target=lambda: found.append(
                ShardCoordinator(journal, work, stopping=stopping, lost=lambda _: None).begin(total=4, into=4)
            )
        )
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len(set(found)) == 1
    assert [each.number for each in journal.shards.of_run(found[0])] == [0, 1, 2, 3, 4]
    assert len(journal.runs.latest()) == 1


def test_a_run_is_over_when_something_else_was_at_work_since(journal: Journal) -> None:
    work, stopping = _work(journal), threading.Event()
    lost: list[RunError] = []
    told = {"stopping": stopping, "lost": lost.append}
    run = ShardCoordinator(journal, work, **told).begin(total=2, into=2)  # type: ignore[arg-type]
    assert ShardCoordinator(journal, work, **told).begin(total=2, into=2) == run  # type: ignore[arg-type]
    with ShardCoordinator(journal, work, **told).take(run, 0) as mine:  # type: ignore[arg-type]
        with (
            pytest.raises(LeaseHeldError, match="this very range"),
            ShardCoordinator(journal, work, **told).take(run, 0),
        ):  # type: ignore[arg-type]
            pass
        with pytest.raises(LeaseHeldError, match="run, revert or purge"), hold_lease(journal, 1, **told):  # type: ignore[arg-type]
            pass
        with pytest.raises(LeaseHeldError), ShardCoordinator(journal, _work(journal, "b"), **told).take("another", 0):  # type: ignore[arg-type]
            pass
        mine.check()
    with hold_lease(journal, 1, **told):  # type: ignore[arg-type]
        # It waited until the shards' lease ran out.
        with pytest.raises(LeaseHeldError), ShardCoordinator(journal, work, **told).take(run, 1):  # type: ignore[arg-type]
            pass
    assert ShardCoordinator(journal, work, **told).begin(total=2, into=2) != run  # type: ignore[arg-type]


def test_who_lost_a_range_finds_it_before_it_writes(journal: Journal) -> None:
    """Nothing beats here, as in a process that was stopped: by its own clock the lease is over, so it asks."""
    lost: list[RunError] = []
    told = {"stopping": threading.Event(), "lost": lost.append}
    work = _work(journal)
    run = ShardCoordinator(journal, work, **told).begin(total=1, into=1)  # type: ignore[arg-type]
    with ShardCoordinator(journal, work, **told).take(run, 0) as mine:  # type: ignore[arg-type]
        own = mine._leases[1]
        pace = StoreLimits(None, None, threading.Event())
        pace.requests.guard = mine.check
        own._until = 0.0
        pace.requests.acquire(1)  # nobody took it: it is renewed
        assert own._until > time.monotonic()
        table = journal.tables.lease
        name = shard_lease(run, 0)
        journal.database.transaction(
            lambda connection: connection.execute(table.update().where(table.c.name == name).values(owner="other"))
        )
        own._until = 0.0
        with pytest.raises(StoppedError):
            pace.requests.acquire(1)
        ledger = ShardRecorder(journal, journal.database, run, shard=0, check=mine.check)
        with pytest.raises(StoppedError):
            ledger.repoint_rows((), ())
        with pytest.raises(StoppedError):
            ledger.record_intents([_job("x")])
        assert journal.objects.find(["x" * 32]) == {}
    assert len(lost) == 1
    assert isinstance(lost[0], LeaseHeldError)


def _job(letter: str) -> CopyTask:
    return CopyTask(
        letter * 32,
        Item(source=Location("old", letter), destination=Location("new", letter), action=Action.TRANSFER, slots=()),
    )


def test_one_object_is_carried_by_one_range(journal: Journal) -> None:
    """Whose intent stands first carries it, as long as somebody is at work there."""
    told = {"stopping": threading.Event(), "lost": lambda _: None}
    work = _work(journal)
    run = ShardCoordinator(journal, work, **told).begin(total=2, into=2)  # type: ignore[arg-type]
    ledgers = [ShardRecorder(journal, journal.database, run, shard=part, check=lambda: None) for part in (0, 1)]
    with ShardCoordinator(journal, work, **told).take(run, 0), ShardCoordinator(journal, work, **told).take(run, 1):  # type: ignore[arg-type]
        found: list[int] = []

        def intend(number: int) -> None:
            assert ledgers[number].record_intents([_job(letter) for letter in "abcdefgh"]) == set()
            found.append(8 - len(ledgers[number].elsewhere))

        threads = [threading.Thread(target=intend, args=(number,)) for number in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(found) == [0, 8]
        assert {entry.shard for entry in journal.objects.find([letter * 32 for letter in "abcdefgh"]).values()} == {
            0 if not ledgers[0].elsewhere else 1
        }
        # It says so again of its own, and the other still leaves them alone.
        for ledger, count in zip(ledgers, (len(ledgers[0].elsewhere), len(ledgers[1].elsewhere)), strict=True):
            ledger.record_intents([_job("a")])
            assert bool(ledger.elsewhere) == bool(count)
    # Nobody is at work there any more: it is taken over.
    for ledger in ledgers:
        ledger.record_intents([_job("a")])
        assert ledger.elsewhere == frozenset()


def test_limits_are_shared_out_over_the_ranges_under_way(journal: Journal) -> None:
    told = {"stopping": threading.Event(), "lost": lambda _: None}
    work = _work(journal)
    run = ShardCoordinator(journal, work, **told).begin(total=3, into=3)  # type: ignore[arg-type]
    with ShardCoordinator(journal, work, **told).take(run, 0) as first:  # type: ignore[arg-type]
        assert first.control(run)["concurrency"] == 10
        assert first.control(run)["bandwidth"] == 900
        with (
            ShardCoordinator(journal, work, **told).take(run, 1) as second,
            ShardCoordinator(journal, work, **told).take(run, 2) as third,
        ):  # type: ignore[arg-type]
            everyone = (first, second, third)
            assert [each.control(run)["concurrency"] for each in everyone] == [4, 3, 3]
            assert [each.control(run)["bandwidth"] for each in everyone] == [300, 300, 300]
            journal.runs.request_control(run, concurrency=2, bandwidth=None)
            assert [each.control(run)["concurrency"] for each in everyone] == [1, 1, 1]
            assert [each.control(run)["bandwidth"] for each in everyone] == [None, None, None]
        assert first.control(run)["concurrency"] == 2


def test_the_time_that_a_job_may_take_counts_from_its_beginning(journal: Journal) -> None:
    told = {"stopping": threading.Event(), "lost": lambda _: None}
    work = _work(journal)
    run = ShardCoordinator(journal, work, **told).begin(total=2, into=2)  # type: ignore[arg-type]
    table = journal.tables.run
    begin = update(table).where(table.c.id == run).values(started=time.time() - 3000)
    journal.database.transaction(lambda connection: connection.execute(begin))
    with ShardCoordinator(journal, work, **told).take(run, 1) as late:  # type: ignore[arg-type]
        assert 0 < late.left(3600) <= 600  # type: ignore[operator]
        assert late.left(2000) == 0.0
        assert late.left(None) is None


def test_who_slept_while_the_job_ended_leaves_its_report(journal: Journal) -> None:
    """Suspended between the record of its shard and that of the job, a process wakes up when all is done."""
    told = {"stopping": threading.Event(), "lost": lambda _: None}
    work = _work(journal)
    run = ShardCoordinator(journal, work, **told).begin(total=2, into=2)  # type: ignore[arg-type]
    ends = {
        "kind": "run",
        "run": run,
        "strategy": Strategy.MOVE,
        "strategy_reason": "",
        "source": "old",
        "destination": "new",
    }
    with ShardCoordinator(journal, work, **told).take(run, 0) as slept:  # type: ignore[arg-type]
        whole = Report(**ends, state="completed", started=1.0, finished=2.0, rows_remaining=0)
        for shard in journal.shards.of_run(run):
            journal.shards.update(run, shard.number, state="done", report=json.dumps(whole.to_dict()))
        journal.runs.update(run, state="completed", report=json.dumps(whole.to_dict()), finished=2.0)
        assert slept.finish(Report(**ends, state="completed", started=1.0, finished=3.0)) == whole
    assert journal.runs.find(run).report == json.dumps(whole.to_dict())


def test_ranges_are_forgotten_with_their_run(journal: Journal) -> None:
    sharing = ShardCoordinator(journal, _work(journal), stopping=threading.Event(), lost=lambda _: None)
    run = sharing.begin(total=2, into=2)
    journal.runs.update(run, state="completed", finished=10.0)
    while journal.database.transaction(lambda connection: journal.tables.prune(connection, 100.0)):
        pass
    assert journal.shards.of_run(run) == []


def test_tables_know_the_ranges(journal: Journal) -> None:
    statements = journal.database.transaction(partial(write_sql, tables=journal.tables))
    assert "migrate_storage_shard" in statements
    journal.database.transaction(journal.tables.drop)
    assert not journal.exists
