"""Read an object through fsspec where obstore cannot read it: a header outside ASCII, a gzip-encoded object on GCS."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from migrate_storage.core.errors import KeyRefusedError, StoppedError
from migrate_storage.core.model import Attributes, ObjectMeta
from migrate_storage.stores.base import DigestHeaders, ObjectAt, Opened, Store
from migrate_storage.stores.failures import FailureKind, classify

__all__ = ("SecondWayStore",)

T = TypeVar("T")


class SecondWayStore:
    """A store whose reads are sent through another library where they fail for good.

    Writes and listings use the first way only.

    Args:
        store: the first way.
        locate: returns the object with a key, as the other library reaches it.
    """

    def __init__(self, store: Store, locate: Callable[[str], ObjectAt]) -> None:
        self._store, self._locate = store, locate
        self.name, self.is_local = store.name, store.is_local

    def head(self, path: str) -> ObjectMeta:
        """See :class:`migrate_storage.stores.base.Store`."""
        return self._read(path, ObjectAt.head)

    def head_with_attributes(self, path: str) -> tuple[ObjectMeta, Attributes]:
        """See :class:`migrate_storage.stores.base.Store`."""
        return self._read(path, ObjectAt.head_with_attributes)

    def open(self, path: str) -> Opened:
        """See :class:`migrate_storage.stores.base.Store`."""
        return self._read(path, ObjectAt.open)

    def digest_headers(self, path: str) -> DigestHeaders:
        """See :class:`migrate_storage.stores.base.Store`."""
        told = self._read(path, lambda at: at.store.digest_headers(at.key))
        if told.e_tag is not None:
            return told
        # obstore signs no HEAD with these credentials; the filesystem has its own way.
        located = self._locate(path)
        try:
            return located.store.digest_headers(located.key)
        except Exception as error:
            # A request that may succeed later is repeated: without its answer a digest would be missed.
            if isinstance(error, StoppedError) or classify(error).kind.retriable:
                raise
            return told

    def put(
        self,
        path: str,
        content: bytes | Iterable[bytes],
        *,
        attributes: Attributes,
        create: bool,
        part_size: int | None,
        replaces: ObjectMeta | None = None,
    ) -> ObjectMeta:
        """See :class:`migrate_storage.stores.base.Store`."""
        return self._store.put(
            path, content, attributes=attributes, create=create, part_size=part_size, replaces=replaces
        )

    def delete(self, path: str) -> None:
        """See :class:`migrate_storage.stores.base.Store`."""
        self._store.delete(path)

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectMeta]:
        """See :class:`migrate_storage.stores.base.Store`."""
        return self._store.list(prefix, after=after)

    def list_stepwise(self, prefix: str, *, after: str) -> Iterator[ObjectMeta]:
        """See :class:`migrate_storage.stores.base.Store`."""
        return self._store.list_stepwise(prefix, after=after)

    def _read(self, path: str, read: Callable[[ObjectAt], T]) -> T:
        try:
            return read(ObjectAt(self._store, path))
        except KeyRefusedError:
            raise
        except Exception as error:
            if classify(error).kind is not FailureKind.PERMANENT:
                raise
            try:
                return read(self._locate(path))
            except Exception:  # noqa: BLE001 - the first error is raised in its place
                # The first library's message gives the reason why it cannot be read; the second one may find a folder or nothing.
                raise error from None
