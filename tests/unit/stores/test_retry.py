"""A request is sent again as often as is worth it, and no longer than the run goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from migrate_storage.core.errors import StoppedError
from migrate_storage.stores.failures import FailureKind, ObjectCheckError
from migrate_storage.stores.retry import Retry, StoreRequestError


class Paused(Retry):
    """Does not wait, and remembers how often it would have."""

    pauses = 0

    def pause(self, attempt: int, *, factor: float = 1.0) -> None:
        self.pauses += 1


def failing(times: int, error: Exception) -> tuple[Callable[[], str], list[int]]:
    calls: list[int] = []

    def work() -> str:
        calls.append(1)
        if len(calls) <= times:
            raise error
        return "done"

    return work, calls


def test_a_passing_failure_is_tried_again() -> None:
    work, calls = failing(3, ConnectionResetError("reset"))
    retry = Paused(4, threading.Event())
    assert retry.call(work) == "done"
    assert (len(calls), retry.pauses) == (4, 3)


def test_attempts_are_counted_with_the_first() -> None:
    work, calls = failing(9, TimeoutError("too slow"))
    with pytest.raises(StoreRequestError) as caught:
        Paused(4, threading.Event()).call(work)
    assert len(calls) == 4
    assert caught.value.failure.kind is FailureKind.TRANSIENT


@pytest.mark.parametrize("error", [FileNotFoundError("x"), PermissionError("x"), FileExistsError("x"), ValueError("x")])
def test_what_will_fail_again_is_not_sent_again(error: Exception) -> None:
    work, calls = failing(1, error)
    with pytest.raises(StoreRequestError):
        Paused(4, threading.Event()).call(work)
    assert len(calls) == 1


def test_an_answer_is_no_failure() -> None:
    work, calls = failing(1, ObjectCheckError("the bytes differ"))
    with pytest.raises(ObjectCheckError, match="the bytes differ"):
        Paused(4, threading.Event()).call(work)
    assert len(calls) == 1


def test_one_retry_in_another_does_not_multiply_the_attempts() -> None:
    work, calls = failing(99, ConnectionResetError("reset"))
    retry = Paused(3, threading.Event())
    with pytest.raises(StoreRequestError):
        retry.call(lambda: retry.call(work))
    assert len(calls) == 3


def test_a_service_that_asks_for_fewer_is_heard() -> None:
    heard: list[int] = []
    work, _ = failing(2, OSError("HTTP 503 SlowDown"))
    assert Paused(4, threading.Event(), lambda: heard.append(1)).call(work) == "done"
    assert len(heard) == 2


def test_no_further_attempt_once_the_run_is_to_stop() -> None:
    stopping = threading.Event()
    stopping.set()
    work, calls = failing(9, ConnectionResetError("reset"))
    with pytest.raises(StoppedError):
        Retry(4, stopping).call(work)
    assert len(calls) == 1


def test_who_is_asked_to_slow_down_says_so_and_waits_longer() -> None:
    waited: list[float] = []
    told: list[str] = []

    class Noting(Retry):
        def pause(self, attempt: int, *, factor: float = 1.0) -> None:
            waited.append(factor)

    retry = Noting(5, threading.Event(), lambda: told.append("slow down"))
    slow, _ = failing(2, OSError("Client error with status code: 503 Slow Down"))
    assert retry.call(slow) == "done"
    assert told == ["slow down"] * 2
    passing, _ = failing(1, ConnectionResetError("reset"))
    assert retry.call(passing) == "done"
    assert len(told) == 2
    assert waited[0] == waited[1] > waited[2] == 1.0
