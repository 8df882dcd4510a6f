"""Calls side by side: all are waited for, and the caller chooses whose error is raised."""

from __future__ import annotations

from threading import Barrier, Event

import pytest

from migrate_storage.core.parallel import SideBySide


def test_calls_are_in_progress_at_once_and_give_their_own_results() -> None:
    together = Barrier(3)

    def meet(value: str) -> str:
        together.wait(30)
        return value

    with SideBySide(2) as beside:
        one, other = beside.start(lambda: meet("one")), beside.start(lambda: meet("other"))
        together.wait(30)
        assert (other(), one()) == ("other", "one")


def test_the_error_is_that_of_the_call_that_is_asked_first_and_the_others_end() -> None:
    failed, ended = Event(), Event()

    def fail_first() -> None:
        failed.set()
        raise ValueError("the second")

    def fail_later() -> None:
        failed.wait(30)
        raise KeyError("the first")

    def go_on() -> None:
        failed.wait(30)
        ended.set()

    with pytest.raises(KeyError), SideBySide(3) as beside:  # noqa: PT012
        first, second = beside.start(fail_later), beside.start(fail_first)
        beside.start(go_on)
        first()
        second()
    assert ended.is_set()


def test_calls_in_turn_are_made_when_they_are_asked_for_and_the_others_not_at_all() -> None:
    made: list[str] = []
    with SideBySide(3, in_turn=True) as beside:
        asked = [beside.start(lambda name=name: made.append(name)) for name in ("one", "two", "three")]  # type: ignore[misc]
        asked[1]()
        asked[0]()
    assert made == ["two", "one"]
