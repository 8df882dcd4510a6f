"""A gate at which the processes of a job wait, halfway."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from migrate_storage.database.compare_and_swap import CompareAndSwap
from migrate_storage.engine import repoint_batches
from migrate_storage.stores.rate_limit import RateLimiter

ROWS_BEFORE_GATE = 5
GATE_POLL_SECONDS = 0.02


class Gate:
    """Where this process waits."""

    def __init__(self) -> None:
        self.file = Path()
        self.rows = 0
        # Rows are re-pointed a few at a time, so that many are left when the gate is reached.
        repoint_batches.REPOINT_BATCH_ROWS = ROWS_BEFORE_GATE + 1
        swap_all, acquire = CompareAndSwap.swap_all, RateLimiter.acquire

        def counted(column: Any, connection: Any, swaps: Any) -> Any:
            done = swap_all(column, connection, swaps)
            self.rows += len(swaps)
            return done

        def gated(limiter: Any, amount: float) -> None:
            while self.rows > ROWS_BEFORE_GATE and self.file.exists() and not limiter._stopping.is_set():
                time.sleep(GATE_POLL_SECONDS)
            acquire(limiter, amount)

        CompareAndSwap.swap_all = counted  # type: ignore[method-assign]
        RateLimiter.acquire = gated  # type: ignore[method-assign]
