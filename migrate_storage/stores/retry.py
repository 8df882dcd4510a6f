"""Repeat failed requests with backoff and full jitter."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import TypeVar

from migrate_storage.core.errors import RunError, StoppedError
from migrate_storage.core.model import ObjectMeta
from migrate_storage.stores.failures import Failure, FailureKind, ObjectCheckError, classify, is_missing

__all__ = ("CircuitBreaker", "Retry", "StoreRequestError")

T = TypeVar("T")

_FIRST_PAUSE_SECONDS, _MAX_PAUSE_SECONDS = 0.1, 20.0
_SLOW_DOWN_FACTOR = 4.0
"""How much longer the pause is after a service asked to slow down: obstore does not show its ``Retry-After``."""

MAX_CONSECUTIVE_STORE_FAILURES = 30
"""Failures of a whole store in a row after which a job stops."""


class StoreRequestError(Exception):
    """A request failed for good, or after all attempts."""

    #: What earlier requests for the same object wrote, see :attr:`ObjectCheckError.left`.
    left: ObjectMeta | None = None

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Retry:
    """Sends a request again, with longer pauses each time.

    Args:
        attempts: the number of attempts at most, the first included.
        stopping: set when the job is to stop; then no further attempt is made.
        slow_down: called when a service asks for fewer requests.
    """

    def __init__(self, attempts: int, stopping: threading.Event, slow_down: Callable[[], None] = lambda: None) -> None:
        self.attempts, self._stopping, self._slow_down = attempts, stopping, slow_down

    def call(self, work: Callable[[], T]) -> T:
        """Call ``work`` until it succeeds.

        Raises:
            StoreRequestError: it failed for good, or after all attempts.
            StoppedError: the job was stopped in between.
            ObjectCheckError: raised by the work itself.
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
                self.pause(attempt, factor=_SLOW_DOWN_FACTOR if failure.kind is FailureKind.SLOW_DOWN else 1.0)
        raise AssertionError("unreachable")

    def or_none_if_missing(self, work: Callable[[], T]) -> T | None:
        """Call ``work`` until it succeeds; return ``None`` where there is no such object.

        Raises:
            StoreRequestError: it failed for another reason.
            StoppedError: the job was stopped in between.
        """

        def call_or_none() -> T | None:
            try:
                return work()
            except FileNotFoundError as error:
                if is_missing(error):
                    return None
                raise

        try:
            return self.call(call_or_none)
        except StoreRequestError as error:
            if error.failure.kind is FailureKind.MISSING:
                return None
            raise

    def pause(self, attempt: int, factor: float = 1.0) -> None:
        """Wait before the next attempt, longer each time.

        Args:
            attempt: the number of attempts made so far.
            factor: how much longer than usual.

        Raises:
            StoppedError: the job was stopped during the pause.
        """
        longest = min(_MAX_PAUSE_SECONDS, factor * _FIRST_PAUSE_SECONDS * 2**attempt)
        if self._stopping.wait(random.uniform(0, longest)):  # noqa: S311 - jitter, not a secret
            raise StoppedError("stopped while waiting to try a request again")


class CircuitBreaker:
    """Ends a job when every request fails, instead of failing each of its objects.

    Safe from any thread.

    Args:
        limit: failures of a whole store in a row, without a success in between.
        advice: appended to the error.
    """

    def __init__(self, limit: int = MAX_CONSECUTIVE_STORE_FAILURES, *, advice: str = "") -> None:
        self._limit, self._advice, self._count, self._lock = limit, advice, 0, threading.Lock()

    def record(self, failure: Failure | None, *, workers: int = 0) -> None:
        """Count how one object ended.

        Args:
            failure: ``None`` where its store answered.
            workers: objects that are processed at once: so many may fail before the breaker opens.

        Raises:
            RunError: too many failed for a reason that concerns all.
        """
        with self._lock:
            if failure is None or not failure.kind.is_store_wide:
                self._count = 0
                return
            self._count += 1
            count = self._count
        if failure.kind.is_final or count >= max(self._limit, workers):
            objects = f"{count} objects in a row" if count > 1 else "an object"
            raise RunError(
                f"{objects} failed for a reason that concerns all: {failure.message}; fix that and run the same command again{self._advice}"
            )
