"""A run at the pace that services, people and databases ask for."""

from __future__ import annotations

import itertools
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend

from migrate_storage import ObstoreBackend
from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.events import ThrottleChanged
from migrate_storage.core.model import OutcomeKind
from migrate_storage.engine.run_limits import RunLimits
from migrate_storage.jobs import base
from migrate_storage.stores.obstore_store import ObstoreStore
from tests.support.engine.world import Document, World
from tests.support.fault_proxy import Fault, fault_proxy
from tests.support.servers import S3Server


@pytest.fixture
def world(tmp_path: Path, sqlite_url: str) -> World:
    (tmp_path / "old").mkdir()
    old = FSSpecBackend(key="old", fs="file", prefix=str(tmp_path / "old"), auto_mkdir=True)
    return World(sqlite_url, old, ObstoreBackend(key="new", fs=tmp_path / "new"))


def documents(world: World, names: list[str], size: int = 10) -> None:
    files = [world.file(name, world.random.randbytes(size)) for name in names]
    world.add(*(Document(title=name, file=file) for name, file in zip(names, files, strict=True)))


def test_fewer_at_once_while_the_service_says_slow_down_and_more_again_after(
    tmp_path: Path, sqlite_url: str, rclone_s3: S3Server
) -> None:
    (tmp_path / "old").mkdir()
    old = FSSpecBackend(key="old", fs="file", prefix=str(tmp_path / "old"), auto_mkdir=True)
    bucket = rclone_s3.new_bucket()
    with fault_proxy(rclone_s3.service.port, seed=3, only="^PUT .*/docs/", in_a_row=2) as proxy:
        new = ObstoreBackend(key="new", fs=f"s3://{bucket}/", **rclone_s3.behind(proxy.endpoint).options())
        world = World(sqlite_url, old, new)
        world.fill(300)
        proxy.set(throttle=0.04)
        report = world.run(concurrency=8)
        throttled = proxy.counts[Fault.THROTTLE]
        proxy.set()
        assert report.exit_code == 0, report
        assert world.check(backend="new") == 300
    assert throttled >= 5
    widths = [8, *(event.concurrency for event in world.events if isinstance(event, ThrottleChanged))]
    down = [(one, other) for one, other in itertools.pairwise(widths) if other < one]
    up = [(one, other) for one, other in itertools.pairwise(widths) if other > one]
    assert down
    assert all(other == max(1, one // 2) for one, other in down)
    assert up
    assert all(other == one + 1 for one, other in up)
    assert max(widths) == 8


def test_the_bandwidth_holds(world: World) -> None:
    documents(world, [f"f{i}" for i in range(40)], size=10_000)
    began = time.monotonic()
    report = world.run(bandwidth=200_000)
    assert report.exit_code == 0
    # Half a second of an unused rate may be caught up on, and what is under way when it ends was read before.
    assert time.monotonic() - began >= 400_000 / 200_000 - 0.6
    world.check(backend="new")


def test_requests_in_a_second_hold_about(world: World) -> None:
    documents(world, [f"f{i}" for i in range(20)])
    began = time.monotonic()
    assert world.run(max_requests_per_second=50).exit_code == 0
    # Each object takes at least a get, a put with a look at it, and a look at the source before and after the swap.
    assert time.monotonic() - began >= 20 * 5 / 50 - 0.6
    world.check(backend="new")


def test_so_many_bytes_and_the_next_run_goes_on(world: World) -> None:
    documents(world, [f"f{i:02}" for i in range(60)], size=1000)
    first = world.run(max_bytes=20_000, concurrency=4)
    assert (first.state, first.exit_code) == ("limit_reached", 4)
    assert 20 <= first.rows_repointed <= 24, "what was under way when the limit was reached is brought to its end"
    assert first.rows_remaining == 60 - first.rows_repointed
    world.check()
    second = world.run(max_bytes=20_000, concurrency=4)
    assert second.state == "limit_reached"
    assert second.rows_repointed >= 20
    third = world.run(max_bytes=20_001, concurrency=4)
    assert (third.state, third.rows_remaining, third.exit_code) == ("completed", 0, 0)
    assert world.check(backend="new") == 60


def test_so_long_and_the_next_run_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    documents(world, [f"f{i:02}" for i in range(60)], size=1000)
    written: list[str] = []
    put = ObstoreStore.put

    def put_and_note(self: ObstoreStore, path: str, *args: Any, **options: Any) -> Any:
        written.append(path)
        return put(self, path, *args, **options)

    monkeypatch.setattr(ObstoreStore, "put", put_and_note)
    # The hour is over when some objects were written.
    limits = partial(RunLimits, clock=lambda: 4000.0 if sum(path.startswith("f") for path in written) > 9 else 0.0)
    monkeypatch.setattr(base, "RunLimits", limits)
    first = world.run(max_duration=3600.0, batch_size=10, concurrency=2)
    monkeypatch.undo()
    assert first.exit_code == 4
    assert 0 < first.rows_repointed < 60
    assert first.problem_count == 0
    world.check()
    assert world.run().exit_code == 0
    assert world.check(backend="new") == 60


def test_filtered_rows_are_left_alone_and_are_no_reason_to_end_with_1(world: World) -> None:
    documents(world, ["a.jpg", "x/b.jpg", "x/c.txt", "secret/d.jpg", "e.tmp"])
    before = {value["filename"]: value for value in world.raw()}
    planned = world.run(include=("*.jpg",), exclude=("secret/**",), dry_run=True)
    assert planned.objects == 2
    report = world.run(include=("*.jpg",), exclude=("secret/**",))
    assert (report.exit_code, report.rows_repointed, report.rows_remaining, report.rows_excluded) == (0, 2, 0, 3)
    assert report.counts == {OutcomeKind.REPOINTED: 2}
    after = {value["filename"]: value for value in world.raw()}
    assert {name for name, value in after.items() if value["backend"] == "new"} == {"a.jpg", "x/b.jpg"}
    assert all(after[name] == before[name] for name in ("x/c.txt", "secret/d.jpg", "e.tmp"))
    world.check()
    rest = world.run()
    assert (rest.exit_code, rest.rows_repointed, rest.rows_excluded) == (0, 3, 0)
    assert world.check(backend="new") == 5


def test_a_row_with_some_files_left_out_gets_the_others(tmp_path: Path, world: World) -> None:
    world.fill(0, albums=4)
    report = world.run(exclude=("1.png",))
    assert (report.exit_code, report.rows_remaining) == (0, 0)
    assert report.rows_excluded == 2, "albums of two and of three pictures hold a 1.png"
    kept = [file["filename"] for row in world.raw("albums", "pictures") for file in row if file["backend"] == "old"]
    assert sorted(kept) == ["albums/2/1.png", "albums/3/1.png"]
    world.check()


def test_a_limit_counts_only_rows_that_the_run_deals_with(world: World) -> None:
    documents(world, [*(f"a{i}.txt" for i in range(5)), *(f"b{i}.jpg" for i in range(3))])
    report = world.run(include=("*.jpg",), limit=2)
    assert (report.exit_code, report.rows_repointed) == (4, 2)
    report = world.run(include=("*.jpg",), limit=2)
    assert (report.exit_code, report.rows_repointed) == (0, 1)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"bandwidth": 0}, "--bandwidth must be more than 0"),
        ({"max_requests_per_second": -1}, "--max-requests-per-second must be more than 0"),
        ({"include": ("[z-a]",)}, "--include '\\[z-a\\]' is no pattern"),
        ({"invalid_keys": "drop"}, "--invalid-keys must be fail or encode"),
        ({"throttle_query": "SELEC 1"}, "--throttle-query cannot be asked"),
        ({"throttle_query": "SELECT 'much'"}, "its first value is a str"),
        ({"throttle_query": "DELETE FROM documents"}, "it returns no rows"),
        ({"max_replica_lag": 5}, "has no replicas"),
        ({"replicas": ("sqlite://",)}, "--max-replica-lag SECONDS sets what is too much"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_touched(
    world: World, options: dict[str, object], says: str
) -> None:
    documents(world, ["a"])
    before = world.dump()
    with pytest.raises(ConfigurationError, match=says):
        world.run(**options)
    assert world.dump() == before
