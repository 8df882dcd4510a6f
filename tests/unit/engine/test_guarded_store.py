"""A guarded PUT is repeated only over what an earlier attempt of ours left."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import pytest
from obstore.store import MemoryStore

from migrate_storage.core.model import Attributes, ObjectMeta
from migrate_storage.engine.guarded_store import GuardedStore, WrittenByAnotherError
from migrate_storage.engine.transfer import CopyPolicy, CopyResources
from migrate_storage.engine.verify import Verified, copy_verified
from migrate_storage.stores.base import ObjectAt
from migrate_storage.stores.obstore_store import ObstoreStore
from migrate_storage.stores.retry import Retry

RETRY = Retry(3, threading.Event())
RESOURCES = CopyResources(retry=RETRY, memory=lambda _: contextlib.nullcontext(), on_bytes=lambda _: None)


class LosingAnswers(ObstoreStore):
    """A store that does something after each PUT, and then perhaps loses its answer."""

    def __init__(self, *after_puts: Callable[[], None]) -> None:
        super().__init__(MemoryStore(), "memory")
        self._after_puts = list(after_puts)

    def put(self, path: str, content: Any, *, create: bool, **options: Any) -> ObjectMeta:
        written = super().put(path, content, create=create, **options)
        if self._after_puts:
            self._after_puts.pop(0)()
        return written

    def write(self, content: bytes) -> None:
        """PUT as another program does."""
        super().put("b", content, attributes=Attributes(), create=False, part_size=None)

    def read(self) -> bytes:
        return self.open("b").read()


def lose() -> None:
    raise ConnectionError("reset after the PUT")


def copy_guarded(destination: LosingAnswers, expected: ObjectMeta | None) -> Verified:
    """Copy ``new`` to ``b``, where ``expected`` may be replaced."""
    source = ObstoreStore(MemoryStore(), "source")
    source.put("a", b"new", attributes=Attributes(), create=False, part_size=None)
    at = ObjectAt(destination, "b")
    guarded = GuardedStore(at, expected, lambda: RETRY.or_none_if_missing(at.head))
    policy = CopyPolicy(create=True, before_attempt=guarded.begin_attempt)
    return copy_verified(ObjectAt(source, "a"), ObjectAt(guarded, "b"), policy, RESOURCES)


@pytest.mark.parametrize("earlier", [None, b"old"])
def test_a_put_without_an_answer_is_repeated_over_its_own_object(earlier: bytes | None) -> None:
    destination = LosingAnswers(lose)
    if earlier is not None:
        destination.write(earlier)
    copy_guarded(destination, None if earlier is None else destination.head("b"))
    assert destination.read() == b"new"


@pytest.mark.parametrize("earlier", [None, b"old"])
def test_what_another_program_writes_between_two_attempts_stands(earlier: bytes | None) -> None:
    def overwrite() -> None:
        destination.write(b"theirs")
        lose()

    destination = LosingAnswers(overwrite)
    if earlier is not None:
        destination.write(earlier)
    with pytest.raises(WrittenByAnotherError):
        copy_guarded(destination, None if earlier is None else destination.head("b"))
    assert destination.read() == b"theirs"


def test_what_another_program_writes_before_a_failed_request_stands() -> None:
    class Failing(LosingAnswers):
        def put(self, path: str, content: Any, *, create: bool, **options: Any) -> ObjectMeta:
            if not self.failed:
                self.failed = True
                self.write(b"theirs")
                raise ConnectionError("reset before the PUT")
            return super().put(path, content, create=create, **options)

        failed = False

    destination = Failing()
    destination.write(b"old")
    with pytest.raises(WrittenByAnotherError):
        copy_guarded(destination, destination.head("b"))
    assert destination.read() == b"theirs"


def test_a_copy_that_was_kept_damaged_is_replaced() -> None:
    class Damaging(LosingAnswers):
        def put(self, path: str, content: Any, *, create: bool, **options: Any) -> ObjectMeta:
            kept, self.damaged = (content if self.damaged else content[:-1] + b"?"), True
            return super().put(path, kept, create=create, **options)

        damaged = False

    destination = Damaging()
    destination.write(b"old")
    copy_guarded(destination, destination.head("b"))
    assert destination.read() == b"new"
