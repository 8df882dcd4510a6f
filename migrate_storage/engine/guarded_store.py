"""A PUT that replaces an object only while it is the expected one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from migrate_storage.core.model import ObjectMeta
from migrate_storage.engine.verify import consistent_with
from migrate_storage.stores.base import ObjectAt
from migrate_storage.stores.failures import ObjectCheckError

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
        """HEAD the object, then PUT it. Raise where it is not the expected one."""
        now, expected = self._head(), self._expected
        if (now is None) is not (expected is None) or (
            now is not None and expected is not None and not consistent_with(expected.evidence, now.evidence)
        ):
            raise WrittenByAnotherError(f"{path} was written by somebody else just now")
        put = partial(self._store.put, path, content, create=create and self._attempts == 1, **options)
        try:
            return put()
        except FileExistsError:
            # S3 may answer 409 or 412 because of another request, whose object is gone again.
            if self._head() is not None:
                raise
            return put()
