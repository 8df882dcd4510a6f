"""A PUT that replaces an object only while it is the expected one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from migrate_storage.core.model import ObjectMeta
from migrate_storage.engine.transfer import SentBody
from migrate_storage.engine.verify import consistent_with, sha256_of
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
        self._at, self._store, self._expected, self._head = at, at.store, expected, head
        self._written: ObjectMeta | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def begin_attempt(self, sent: Sequence[SentBody]) -> None:
        """Before another attempt, expect what an earlier one wrote. What another program wrote stays unexpected.

        Args:
            sent: what earlier attempts sent, also those whose answer was lost.
        """
        if not sent:
            return
        now = self._head()
        if now is None or self._is_expected(now):
            return
        if self._is_written(now) or self._holds_one_of(sent):
            self._expected = now

    def _is_written(self, now: ObjectMeta) -> bool:
        """Whether an object is the one that the answer to a PUT described."""
        written = self._written
        return written is not None and bool(written.e_tag) and (now.e_tag, now.size) == (written.e_tag, written.size)

    def _holds_one_of(self, sent: Sequence[SentBody]) -> bool:
        return sha256_of(self._at) in {body.sha256 for body in sent}

    def put(self, path: str, content: Any, *, create: bool, **options: Any) -> ObjectMeta:
        """HEAD the object, then PUT it. Raise where it is not the expected one.

        The PUT has the condition as well (``If-Match``), where the store supports that. So a write between the two is not replaced.
        """
        if not self._is_expected(self._head()):
            raise WrittenByAnotherError(f"{path} was written by another program just now")
        put = partial(self._store.put, path, content, create=create and self._expected is None, **options)
        self._written = self._put_expected(put, in_one_request=isinstance(content, bytes))
        return self._written

    def _put_expected(self, put: Callable[..., ObjectMeta], *, in_one_request: bool) -> ObjectMeta:
        if self._expected is None or not in_one_request:
            return self._put_new(put)
        try:
            return put(replaces=self._expected)
        except FileExistsError as error:
            if not self._is_expected(self._head()):
                raise WrittenByAnotherError(f"{self._at.key} was written by another program just now") from error
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

    def _is_expected(self, now: ObjectMeta | None) -> bool:
        expected = self._expected
        if now is None or expected is None:
            return now is expected
        return consistent_with(expected.evidence, now.evidence)
