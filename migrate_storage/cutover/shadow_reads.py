"""Shadow reads: a thread compares a sample of the read keys on both sides."""

from __future__ import annotations

import logging
import os
import queue
import random
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.text import visible
from migrate_storage.cutover.decisions import MIDDLE_PHASES, Side, trusted_side
from migrate_storage.cutover.executor import ProtocolExecutor

if TYPE_CHECKING:
    from migrate_storage.cutover.compare import Comparison

__all__ = ("ShadowReads",)

_log = logging.getLogger("migrate_storage.cutover")
MAX_QUEUED_KEYS = 100
"""While the queue is full, because a side is slow, further reads are not compared."""


class ShadowReads:
    """Compares a sample of the read keys on both sides, in the phases that write both.

    A key that differs is counted, logged, and gets an entry for repair that trusts the side of the phase. A key with an
    open entry is not compared, because repair works on it. The first sampled read starts one thread. Keys in the queue
    are dropped when the process ends.

    Args:
        executor: of the backend.
        share: of the reads, from 0 to 1.
        waiting: maximum number of keys in the queue. A sampled read beyond is counted as dropped.

    Raises:
        ConfigurationError: the share is not between 0 and 1.
    """

    def __init__(self, executor: ProtocolExecutor, share: float, *, waiting: int = MAX_QUEUED_KEYS) -> None:
        if not 0 <= share <= 1:
            raise ConfigurationError(f"shadow={share} is no share of the reads: from 0 for none to 1 for all")
        self._executor, self._share, self._max_queued = executor, share, waiting
        self._random = random.Random()  # noqa: S311 - a sample, no secret
        self._reset()

    def _reset(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._keys: queue.Queue[str] = queue.Queue(self._max_queued)
        self._thread: threading.Thread | None = None
        self._comparison: Comparison | None = None

    def offer(self, path: str) -> None:
        """Queue a sample of the read keys for comparison. Never blocks, and never raises."""
        if not self._share or self._random.random() >= self._share:
            return
        if self._process != os.getpid():
            # A forked child has no copy of the thread.
            self._reset()
        try:
            self._keys.put_nowait(path)
        except queue.Full:
            self._executor.counters.add("shadow_dropped")
            return
        with self._lock:
            if self._thread is None:
                arguments = (weakref.WeakMethod(self._compare_key), self._keys)
                self._thread = threading.Thread(
                    target=_compare_queued_keys, args=arguments, name="shadow reads", daemon=True
                )
                self._thread.start()

    def wait_for_comparisons(self) -> None:
        """Block until all queued keys are compared."""
        self._keys.join()

    def _compare_key(self, path: str) -> None:
        executor = self._executor
        fields: dict[str, Any] = {"backend": executor.key, "object_key": visible(path)}
        try:
            with executor.phase_source.acquire(writing=True) or executor.phase_source.renew(writing=True) as lease:
                if lease.phase not in MIDDLE_PHASES:
                    return
                trusted = trusted_side(lease.phase)
                executor.counters.add("shadow", trusted.other)
                # Late imports: an application without shadow reads does not load the engine.
                from migrate_storage.engine.compare import Relation

                if self._comparison is None:
                    from migrate_storage.cutover.compare import Comparison
                    from migrate_storage.stores.retry import Retry

                    sides = executor.side(Side.SOURCE), executor.side(Side.DESTINATION)
                    self._comparison = Comparison(*sides, executor.outbox, Retry(1, threading.Event()))
                found = self._comparison.compare_key(path)
                if found is None or found.relation is Relation.MATCHED:
                    return
                executor.counters.add("difference", trusted.other)
                fields |= {"side": trusted.other.value, "difference": found.relation.value}
                _log.warning(
                    "%s: both sides of %s differ: %s", executor.key, visible(path), found.relation, extra=fields
                )
                lease.check()
                executor.outbox.request_repair(path, trusted)
        except Exception as error:  # noqa: BLE001 - no caller waits for this thread
            executor.counters.add("shadow_failure")
            fields["error"] = type(error).__name__
            _log.warning("%s: a shadow read failed: %s", executor.key, fields["error"], extra=fields)


def _compare_queued_keys(compare: weakref.WeakMethod[Callable[[str], None]], keys: queue.Queue[str]) -> None:
    """Compare keys until the backend is garbage-collected."""
    alive = True
    while alive:
        try:
            path = keys.get(timeout=60)
        except queue.Empty:
            alive = compare() is not None
            continue
        try:
            work = compare()
            alive = work is not None
            if work is not None:
                work(path)
            del work
        finally:
            keys.task_done()
