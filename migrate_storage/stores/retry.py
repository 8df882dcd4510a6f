"""Trying again: bounded attempts, backoff with full jitter, an end when the run is told to stop."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import TypeVar

from migrate_storage.core.errors import RunError, StoppedError
from migrate_storage.stores.failures import Failure, FailureKind, ObjectCheckError, classify

__all__ = ("CircuitBreaker", "Retry", "StoreRequestError")

T = TypeVar("T")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 20.0
_PATIENCE = 4.0
"""How much longer one waits who was asked to slow down: its ``Retry-After`` cannot be seen."""


MAX_CONSECUTIVE_STORE_FAILURES = 30
"""Failures of a whole store in a row after which a job stops."""


class StoreRequestError(Exception):
    """A request failed for good, or after all attempts."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Retry:
    """How often and how patiently a request is sent again.

    Args:
        attempts: how often at most, the first included.
        stopping: set when the run is to stop: no further attempt is made.
        slow_down: called when a service asked for fewer requests.
    """

    def __init__(self, attempts: int, stopping: threading.Event, slow_down: Callable[[], None] = lambda: None) -> None:
        self.attempts = attempts
        self._stopping = stopping
        self._slow_down = slow_down

    def call(self, work: Callable[[], T]) -> T:
        """Do ``work`` until it succeeds.

        Raises:
            StoreFailure: it failed for good.
            StoppedError: the run was told to stop in between.
            Verdict: what the work found out about its object.
        """
        for attempt in range(1, self.attempts + 1):
            try:
                return work()
            except (StoreRequestError, StoppedError, ObjectCheckError):
                raise
            except Exception as error:
                failure = classify(error)
                if failure.kind is FailureKind.SLOW_DOWN:
                    self._slow_down()
                if not failure.kind.retriable or attempt == self.attempts:
                    raise StoreRequestError(failure) from error
                self.pause(attempt, patience=_PATIENCE if failure.kind is FailureKind.SLOW_DOWN else 1.0)
        raise AssertionError("unreachable")

    def or_none_if_missing(self, work: Callable[[], T]) -> T | None:
        """Do ``work`` until it succeeds; ``None`` where the store answers that there is no such object.

        Raises:
            StoreFailure: it failed for good, otherwise than so.
            StoppedError: the run was told to stop in between.
        """
        try:
            return self.call(work)
        except StoreRequestError as error:
            if error.failure.kind is FailureKind.MISSING:
                return None
            raise

    def pause(self, attempt: int, patience: float = 1.0) -> None:
        """Wait before the next attempt, longer each time.

        Args:
            attempt: how many were made.
            patience: how much longer than usual.

        Raises:
            StoppedError: the run was told to stop while waiting.
        """
        longest = min(_LONGEST_PAUSE, patience * _FIRST_PAUSE * 2**attempt)
        if self._stopping.wait(random.uniform(0, longest)):  # noqa: S311 - jitter, not a secret
            raise StoppedError("stopped while waiting to try a request again")


class CircuitBreaker:
    """Ends a job when nothing works any more, rather than let each of its objects fail. From any thread.

    Args:
        limit: failures of a whole store in a row, none succeeding between.
        advice: what the error says beside that.
    """

    def __init__(self, limit: int = MAX_CONSECUTIVE_STORE_FAILURES, *, advice: str = "") -> None:
        self._limit, self._advice, self._count, self._lock = limit, advice, 0, threading.Lock()

    def record(self, failure: Failure | None, *, workers: int = 0) -> None:
        """Count how one object ended.

        Args:
            failure: ``None`` where its store answered.
            workers: objects that are under way at once: so many may fail before the breaker opens.

        Raises:
            RunError: too many failed for a reason that concerns all.
        """
        with self._lock:
            if failure is None or not failure.kind.is_store_wide:
                self._count = 0
                return
            self._count += 1
            count = self._count
        if failure.kind is FailureKind.NO_BUCKET or count >= max(self._limit, workers):
            objects = f"{count} objects in a row" if count > 1 else "an object"
            raise RunError(
                f"{objects} failed for a reason that concerns all: {failure.message}; mend that and run the same command again{self._advice}"
            )
