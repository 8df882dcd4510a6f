"""What is measured to choose how many processes do a run."""

from __future__ import annotations

from typing import Any

import pytest

from migrate_storage.jobs.distributed import worker_count
from migrate_storage.jobs.run.options import RunOptions
from migrate_storage.jobs.run.workload import measure_workload
from tests.support.engine.world import World


@pytest.fixture(autouse=True)
def _few_rows_are_enough_for_one_more_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_count, "ROWS_PER_WORKER", 10)


def test_few_rows_are_for_one_process(worlds: World, monkeypatch: pytest.MonkeyPatch) -> None:
    worlds.fill(30, 4)
    monkeypatch.setattr(worker_count, "ROWS_PER_WORKER", 17)  # 33 rows name files
    assert measure_workload(worlds.application, RunOptions(source="old", destination="new")) is None


def test_rows_and_sizes_are_counted_except_in_sqlite(worlds: World) -> None:
    worlds.fill(30, 4)
    workload = measure_workload(worlds.application, RunOptions(source="old", destination="new"))
    if worlds.url.startswith("sqlite"):
        assert workload is None
        return
    assert workload is not None
    assert workload.rows == 30 + 3  # one album is empty
    sizes = [file.size for file in worlds.files() if file.size is not None]
    assert workload.mean_bytes is not None
    assert min(sizes) <= workload.mean_bytes <= max(sizes)


@pytest.mark.parametrize(
    "options",
    [
        {"dry_run": True}, {"recheck": True}, {"limit": 5}, {"destination": None}, {"bandwidth": 10**9},
        {"max_requests_per_second": 100.0}, {"source": "new"},
    ],
)  # fmt: skip
def test_one_process_does_what_cannot_be_shared_or_is_not_faster(
    world: World, postgres_url: str, options: dict[str, Any]
) -> None:
    """A source without rows has no sizes; all else is refused before the database is asked."""
    given = {"source": "old", "destination": "new", "journal": postgres_url} | options
    if given["source"] == given["destination"]:
        given["destination"] = "old"
    assert measure_workload(world.application, RunOptions(**given)) is None
