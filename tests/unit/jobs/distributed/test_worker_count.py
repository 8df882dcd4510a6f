"""How many processes do a run."""

from __future__ import annotations

import pytest

from migrate_storage.jobs.distributed.worker_count import MAX_MEAN_BYTES, ROWS_PER_WORKER, Workload, choose_workers


@pytest.mark.parametrize(
    ("rows", "mean_bytes", "idle", "workers"),
    [
        (10 * ROWS_PER_WORKER, 8192.0, 4, 4),
        (3 * ROWS_PER_WORKER, 8192.0, 4, 3),
        (2 * ROWS_PER_WORKER - 1, 8192.0, 4, 1),
        (0, 8192.0, 4, 1),
        (10 * ROWS_PER_WORKER, 8192.0, 1, 1),
        (10 * ROWS_PER_WORKER, 8192.0, 0, 1),
        (10 * ROWS_PER_WORKER, MAX_MEAN_BYTES, 2, 2),
        (10 * ROWS_PER_WORKER, MAX_MEAN_BYTES + 1, 2, 1),
        (10 * ROWS_PER_WORKER, None, 2, 1),
        (10 * ROWS_PER_WORKER, 0.0, 2, 2),
    ],
)
def test_a_process_for_each_idle_core_where_the_cpu_is_the_bound(
    rows: int, mean_bytes: float | None, idle: int, workers: int
) -> None:
    assert choose_workers(Workload(rows=rows, mean_bytes=mean_bytes), idle) == workers
