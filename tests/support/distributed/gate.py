"""A gate at which the processes of a job wait, halfway."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from migrate_storage.engine.repoint_batches import BatchRepointer, RepointedBatch
from migrate_storage.stores.rate_limit import RateLimiter

ROWS_BEFORE_GATE = 5
GATE_POLL_SECONDS = 0.02


class Gate:
    """Where this process waits: once it has re-pointed some rows, no further row and no request to a store."""

    def __init__(self) -> None:
        self.file = Path()
        self.rows = 0
        self._stopping = threading.Event()
        flush, acquire = BatchRepointer.flush, RateLimiter.acquire

        def flush_before_gate(repointer: Any) -> RepointedBatch:
            if not self._is_closed():
                return self._count(flush(repointer))
            if self.rows > ROWS_BEFORE_GATE:
                time.sleep(GATE_POLL_SECONDS)
                return RepointedBatch([])
            # What is written at once is so little that most rows are left when the gate is reached. An object's record is
            # written with the first of its rows, as without a gate.
            first, later = repointer._ready[: ROWS_BEFORE_GATE + 1], repointer._ready[ROWS_BEFORE_GATE + 1 :]
            results = repointer._results
            waiting = {id_ for row in later for id_ in row.objects} - {id_ for row in first for id_ in row.objects}
            repointer._ready = first
            repointer._results = {id_: record for id_, record in results.items() if id_ not in waiting}
            batch = self._count(flush(repointer))
            repointer._ready = later
            repointer._results = {id_: record for id_, record in results.items() if id_ in waiting}
            return batch

        def acquire_before_gate(limiter: Any, amount: float) -> None:
            self._stopping = limiter._stopping
            while self.rows > ROWS_BEFORE_GATE and self._is_closed():
                time.sleep(GATE_POLL_SECONDS)
            acquire(limiter, amount)

        BatchRepointer.flush = flush_before_gate  # type: ignore[method-assign]
        RateLimiter.acquire = acquire_before_gate  # type: ignore[method-assign]

    def _is_closed(self) -> bool:
        return self.file.exists() and not self._stopping.is_set()

    def _count(self, batch: RepointedBatch) -> RepointedBatch:
        self.rows += len(batch.tried)
        return batch
