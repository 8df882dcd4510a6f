"""One copy is repeated until it is verified and its source did not change."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from obstore.store import MemoryStore

from migrate_storage.core.model import Attributes, ObjectMeta
from migrate_storage.engine.transfer import COPY_ROUNDS, CopyPolicy, CopyResources, SourceMissingError
from migrate_storage.engine.verify import (
    DestinationExistsError,
    DiffersError,
    NotKeptError,
    OtherObjectError,
    SourceChangedError,
    copy_verified,
    holds_damaged_copy,
)
from migrate_storage.stores.base import ObjectAt
from migrate_storage.stores.failures import FailureKind
from migrate_storage.stores.obstore_store import ObstoreStore
from migrate_storage.stores.retry import Retry

RESOURCES = CopyResources(
    retry=Retry(3, threading.Event()), memory=lambda _: contextlib.nullcontext(), on_bytes=lambda _: None
)


class Recorded(ObstoreStore):
    """A store that records each PUT's ``create``, may keep other bytes, and calls a function after it."""

    def __init__(self, after_put: Callable[[], None] = lambda: None, *, keeps: bytes | None = None) -> None:
        super().__init__(MemoryStore(), "memory")
        self.creates: list[bool] = []
        self._after_put, self._keeps = after_put, keeps

    def put(self, path: str, content: Any, *, create: bool, **options: Any) -> ObjectMeta:
        self.creates.append(create)
        written = super().put(path, self._keeps or content, create=create, **options)
        self._after_put()
        return written


def source_of(*contents: bytes) -> tuple[ObjectAt, Callable[[], None]]:
    """Return an object and a function that writes the next of its contents."""
    store, left = ObstoreStore(MemoryStore(), "source"), list(contents)

    def write() -> None:
        if left:
            store.put("a", left.pop(0), attributes=Attributes(), create=False, part_size=None)

    write()
    return ObjectAt(store, "a"), write


def test_a_source_that_changes_once_is_copied_again_and_replaced() -> None:
    source, change = source_of(b"1", b"22")
    destination = Recorded(change)
    verified = copy_verified(source, ObjectAt(destination, "b"), CopyPolicy(create=True), RESOURCES)
    assert (verified.source.size, verified.destination.size) == (2, 2)
    assert destination.creates == [True, False], "the second round replaces our own copy"


def test_a_source_that_keeps_changing_is_given_up_after_so_many_rounds() -> None:
    source, change = source_of(*(b"x" * size for size in range(1, 10)))
    destination = Recorded(change)
    with pytest.raises(SourceChangedError):
        copy_verified(source, ObjectAt(destination, "b"), CopyPolicy(create=False), RESOURCES)
    assert len(destination.creates) == COPY_ROUNDS


def test_without_a_recheck_one_round_is_enough() -> None:
    source, change = source_of(b"1", b"22")
    destination = Recorded(change)
    policy = CopyPolicy(create=False, recheck_source=False, rounds=1)
    assert copy_verified(source, ObjectAt(destination, "b"), policy, RESOURCES).destination.size == 1


def test_other_bytes_at_the_destination_are_written_again_before_that_is_an_error() -> None:
    source, _ = source_of(b"right")
    destination = Recorded(keeps=b"wrong")
    with pytest.raises(DiffersError):
        copy_verified(source, ObjectAt(destination, "b"), CopyPolicy(create=False), RESOURCES)
    assert len(destination.creates) == COPY_ROUNDS


def test_what_another_program_writes_right_after_the_put_is_not_replaced() -> None:
    """Its ETag is not that of the answer to our PUT."""
    source, _ = source_of(b"right")
    destination = Recorded()

    def write() -> None:
        ObstoreStore.put(destination, "b", b"other", attributes=Attributes(), create=False, part_size=None)

    destination._after_put = write
    with pytest.raises(OtherObjectError, match="and the PUT was answered with"):
        copy_verified(source, ObjectAt(destination, "b"), CopyPolicy(create=True), RESOURCES)
    assert destination.creates == [True]
    assert destination.open("b").read() == b"other"


def test_the_same_bytes_under_another_etag_are_the_copy() -> None:
    source, _ = source_of(b"right")
    destination = Recorded()
    destination._after_put = lambda: destination._store.put("b", b"right")
    verified = copy_verified(source, ObjectAt(destination, "b"), CopyPolicy(create=True), RESOURCES)
    assert verified.destination == destination.head("b")


@pytest.mark.parametrize("create", [True, False])
def test_a_put_that_kept_nothing_is_no_copy_whatever_it_answered(create: bool) -> None:
    source, _ = source_of(b"right")
    destination = Recorded()
    destination._after_put = lambda: destination.delete("b")
    with pytest.raises(NotKeptError, match="a HEAD after it finds no such object"):
        copy_verified(source, ObjectAt(destination, "b"), CopyPolicy(create=create), RESOURCES)
    assert destination.creates == [create] * COPY_ROUNDS, "another's object that appears meanwhile is not replaced"


def test_a_copy_that_a_listing_will_show_gets_no_head() -> None:
    source, _ = source_of(b"right")
    destination = Recorded()
    policy = CopyPolicy(create=True, head_copy=False)
    verified = copy_verified(source, ObjectAt(destination, "b"), policy, RESOURCES)
    assert (verified.destination.e_tag, verified.destination.last_modified) == (destination.head("b").e_tag, None)


def test_an_object_that_exists_is_not_replaced() -> None:
    source, _ = source_of(b"1")
    destination = Recorded()
    ObstoreStore.put(destination, "b", b"other", attributes=Attributes(), create=False, part_size=None)
    with pytest.raises(DestinationExistsError) as refused:
        copy_verified(source, ObjectAt(destination, "b"), CopyPolicy(create=True), RESOURCES)
    assert refused.value.failure.kind is FailureKind.EXISTS
    assert destination.creates == [True]
    assert not holds_damaged_copy(refused.value.sent, source, ObjectAt(destination, "b"), RESOURCES.retry)


def test_what_was_sent_damaged_and_never_answered_is_known_as_ours() -> None:
    """A bit flips while the source is read, the destination stores it, and the answer to the PUT is lost."""
    source, change = source_of(b"right", b"other")
    flips = iter([b"wrong", b"right"])

    def open_flipped(path: str) -> Any:
        opened = ObstoreStore.open(source.store, path)
        opened.read = lambda: next(flips)
        return opened

    source.store.open = open_flipped
    destination, answers = Recorded(), iter([ConnectionError("reset after the PUT")])

    def lose_answer() -> None:
        raise next(answers)

    destination._after_put = lose_answer
    with pytest.raises(DestinationExistsError) as refused:
        copy_verified(source, ObjectAt(destination, "b"), CopyPolicy(create=True), RESOURCES)
    assert destination.creates == [True, True]
    assert holds_damaged_copy(refused.value.sent, source, ObjectAt(destination, "b"), RESOURCES.retry)
    change()
    assert not holds_damaged_copy(refused.value.sent, source, ObjectAt(destination, "b"), RESOURCES.retry), (
        "the source changed: another program may have copied the earlier bytes"
    )


def test_a_missing_source_is_no_failure_of_its_store() -> None:
    source, _ = source_of(b"1")
    with pytest.raises(SourceMissingError):
        copy_verified(source._replace(key="gone"), ObjectAt(Recorded(), "b"), CopyPolicy(create=False), RESOURCES)


def test_an_error_after_the_put_says_what_stands_at_the_destination() -> None:
    source, _ = source_of(b"1")
    destination = Recorded(lambda: source.store.delete("a"))
    with pytest.raises(SourceMissingError) as gone:
        copy_verified(source, ObjectAt(destination, "b"), CopyPolicy(create=True), RESOURCES)
    assert gone.value.left is not None
    assert (gone.value.left.e_tag, gone.value.left.size) == (destination.head("b").e_tag, 1)


def test_an_error_before_the_put_leaves_nothing() -> None:
    source, _ = source_of(b"1")
    with pytest.raises(SourceMissingError) as gone:
        copy_verified(source._replace(key="gone"), ObjectAt(Recorded(), "b"), CopyPolicy(create=True), RESOURCES)
    assert gone.value.left is None


def test_each_attempt_is_announced_and_a_failed_one_is_repeated() -> None:
    source, _ = source_of(b"1")
    attempts: list[int] = []

    def begin(_: object) -> None:
        attempts.append(1)
        if len(attempts) == 1:
            raise ConnectionError("reset")

    policy = replace(CopyPolicy(create=False), before_attempt=begin)
    copy_verified(source, ObjectAt(Recorded(), "b"), policy, RESOURCES)
    assert len(attempts) == 2
