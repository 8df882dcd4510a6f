"""How many processes do a job: decided before it begins, from what is left to do and from the cores that are idle."""

from __future__ import annotations

import os
from dataclasses import dataclass

__all__ = ("ROWS_PER_WORKER", "Workload", "choose_workers", "count_idle_cores", "is_for_one_process")

ROWS_PER_WORKER = 10_000
"""Rows for which one more process is worth its start: about ten seconds of one core."""
MAX_MEAN_BYTES = 256 * 1024
"""Mean size up to which the CPU is the bound of a copy; above it the network is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """What is left to do."""

    #: Rows that name the source.
    rows: int
    #: Mean bytes of a file, of a sample of the rows; ``None`` where no row of it has a size.
    mean_bytes: float | None


def is_for_one_process(rows: int) -> bool:
    """Whether so few rows are left that one process does them, whatever is idle."""
    return rows < 2 * ROWS_PER_WORKER


def choose_workers(workload: Workload, idle_cores: int) -> int:
    """Return the number of processes: one for each idle core, where the CPU is the bound and each gets enough rows.

    Args:
        workload: what is left to do.
        idle_cores: cores that other processes do not use.
    """
    if workload.mean_bytes is None or workload.mean_bytes > MAX_MEAN_BYTES:
        return 1
    return max(1, min(idle_cores, workload.rows // ROWS_PER_WORKER))


def count_idle_cores() -> int:
    """Return the cores that this process may use, less the load of the last minute.

    Raises:
        ImportError: Dask, which knows the limits of containers, is not installed.
    """
    from dask.system import CPU_COUNT

    return max(0, round(CPU_COUNT - os.getloadavg()[0]))
