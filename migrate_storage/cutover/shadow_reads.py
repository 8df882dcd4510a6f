"""Shadow reads: a sampled share of reads is compared on both sides in the background, and never waits for it."""

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
_WAITING = 100
"""Keys that wait at most: while a side is slow, further reads are not compared."""


class ShadowReads:
    """Compares what was read with what the other side holds, while both are written.

    A key that differs is counted, logged, and left to repair under an entry that names the side to trust, as a read that fell
    back leaves it. One with an open entry is repair's already, and not compared. One thread of the process does it, from the
    first read that is chosen on; what waits when the process ends is forgotten.

    Args:
        driver: of the backend.
        share: of the reads, from 0 to 1.
        waiting: keys that wait at most; a read that is chosen beyond is counted as dropped.

    Raises:
        ConfigurationError: no such share.
    """

    def __init__(self, driver: ProtocolExecutor, share: float, *, waiting: int = _WAITING) -> None:
        if not 0 <= share <= 1:
            raise ConfigurationError(f"shadow={share} is no share of the reads: from 0 for none to 1 for all")
        self._executor, self._share, self._most = driver, share, waiting
        self._random = random.Random()  # noqa: S311 - a sample, no secret
        self._reset()

    def _reset(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._keys: queue.Queue[str] = queue.Queue(self._most)
        self._thread: threading.Thread | None = None
        self._comparison: Comparison | None = None

    def offer(self, path: str) -> None:
        """A key was read; perhaps it is compared. Never waits, and never fails."""
        if not self._share or self._random.random() >= self._share:
            return
        if self._process != os.getpid():
            # A forked child has neither the thread nor its keys.
            self._reset()
        try:
            self._keys.put_nowait(path)
        except queue.Full:
            self._executor.counters.add("shadow_dropped")
            return
        with self._lock:
            if self._thread is None:
                arguments = (weakref.WeakMethod(self._compare_key), self._keys)
                self._thread = threading.Thread(target=_work, args=arguments, name="shadow reads", daemon=True)
                self._thread.start()

    def wait_for_comparisons(self) -> None:
        """Wait until all that was chosen so far is compared."""
        self._keys.join()

    def _compare_key(self, path: str) -> None:
        driver = self._executor
        told: dict[str, Any] = {"backend": driver.key, "object_key": visible(path)}
        try:
            with driver.phase_source.acquire(writing=True) or driver.phase_source.renew(writing=True) as held:
                if held.phase not in MIDDLE_PHASES:
                    return
                right = trusted_side(held.phase)
                driver.counters.add("shadow", right.other)
                if self._comparison is None:
                    # Here: an application that compares nothing need not load what reads stores.
                    from migrate_storage.cutover.compare import Comparison

                    sides = driver.side(Side.SOURCE), driver.side(Side.DESTINATION)
                    self._comparison = Comparison(*sides, driver.outbox)
                found = self._comparison.compare_key(path)
                if found is None:
                    return
                driver.counters.add("difference", right.other)
                told |= {"side": right.other.value, "difference": found.relation.value}
                _log.warning("%s: both sides of %s differ: %s", driver.key, visible(path), found.relation, extra=told)
                held.check()
                driver.outbox.request_repair(path, right)
        except Exception as error:  # noqa: BLE001 - nobody waits for it
            driver.counters.add("shadow_failure")
            told["error"] = type(error).__name__
            _log.warning("%s: a shadow read failed: %s", driver.key, told["error"], extra=told)


def _work(compare: weakref.WeakMethod[Callable[[str], None]], keys: queue.Queue[str]) -> None:
    """Compare until nobody has the backend any more."""
    going = True
    while going:
        try:
            path = keys.get(timeout=60)
        except queue.Empty:
            going = compare() is not None
            continue
        try:
            work = compare()
            going = work is not None
            if work is not None:
                work(path)
            del work
        finally:
            keys.task_done()
