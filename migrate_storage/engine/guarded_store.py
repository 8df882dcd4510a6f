"""A PUT that replaces an object only while it is the expected one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from migrate_storage.core.model import ObjectMeta
from migrate_storage.engine.verify import consistent_with
from migrate_storage.stores.base import ObjectAt
from migrate_storage.stores.failures import FailureKind, ObjectCheckError, classify

__all__ = ("GuardedStore", "WrittenByAnotherError")


class WrittenByAnotherError(ObjectCheckError):
    """An object is not the expected one any more, and was not replaced."""


class GuardedStore:
    """A store whose PUT replaces an object only while it is the expected one; ``None`` expects none.

    Args:
        at: the object.
        expected: what a HEAD reported of it.
        head: sends a HEAD for it; ``None`` where it is missing.
    """

    def __init__(self, at: ObjectAt, expected: ObjectMeta | None, head: Callable[[], ObjectMeta | None]) -> None:
        self._store, self._expected, self._head = at.store, expected, head
        self._attempts = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def begin_attempt(self) -> None:
        """Before another attempt, expect what the broken one left there."""
        if self._attempts:
            self._expected = self._head()
        self._attempts += 1

    def put(self, path: str, content: Any, *, create: bool, **options: Any) -> ObjectMeta:
        """HEAD the object, then PUT it. Raise where it is not the expected one.

        The PUT has the condition as well (``If-Match``), where the store supports that. So a write between the two is not replaced.
        """
        if not self._is_expected():
            raise WrittenByAnotherError(f"{path} was written by somebody else just now")
        put = partial(self._store.put, path, content, create=create and self._attempts == 1, **options)
        if self._expected is None or not isinstance(content, bytes):
            return self._put_new(put)
        try:
            return put(replaces=self._expected)
        except FileExistsError as error:
            if not self._is_expected():
                raise WrittenByAnotherError(f"{path} was written by somebody else just now") from error
        except Exception as error:
            if classify(error).kind is not FailureKind.PERMANENT:
                raise
        # The store does not support the condition, or refuses it always.
        return put()

    def _put_new(self, put: Callable[[], ObjectMeta]) -> ObjectMeta:
        try:
            return put()
        except FileExistsError:
            # S3 may answer 409 or 412 because of another request, whose object is gone again.
            if self._head() is not None:
                raise
            return put()

    def _is_expected(self) -> bool:
        now, expected = self._head(), self._expected
        if now is None or expected is None:
            return now is expected
        return consistent_with(expected.evidence, now.evidence)
