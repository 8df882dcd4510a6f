"""A store that is spoken to at a pace: the same shape around any other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from migrate_storage.core.model import Attributes, ObjectMeta
from migrate_storage.stores.base import Opened, Store
from migrate_storage.stores.rate_limit import StoreLimits

__all__ = ("ThrottledStore",)


_PAGE = 1000
"""Keys that a service tells in one answer."""


class _Reading:
    def __init__(self, opened: Opened, pace: StoreLimits) -> None:
        self._opened, self._pace = opened, pace
        self.meta, self.attributes = opened.meta, opened.attributes

    def read(self) -> bytes:
        # Read first: an answer left open and unread while one waits would be cut off by the service.
        content = self._opened.read()
        self._pace.bandwidth.acquire(len(content))
        return content

    def chunks(self) -> Iterator[bytes]:
        for piece in self._opened.chunks():
            self._pace.bandwidth.acquire(len(piece))
            yield piece


class ThrottledStore:
    """Waits for its turn before each call, and for each byte that is read: what is read is written as fast.

    Args:
        store: the store itself.
        pace: how fast.
    """

    def __init__(self, store: Store, pace: StoreLimits) -> None:
        self._store, self._pace = store, pace
        self.name, self.is_local = store.name, store.is_local

    def head(self, path: str) -> ObjectMeta:
        """See :class:`migrate_storage.stores.base.Store`."""
        self._pace.requests.acquire(1)
        return self._store.head(path)

    def head_with_attributes(self, path: str) -> tuple[ObjectMeta, Attributes]:
        """See :class:`migrate_storage.stores.base.Store`."""
        self._pace.requests.acquire(1)
        return self._store.head_with_attributes(path)

    def open(self, path: str) -> Opened:
        """See :class:`migrate_storage.stores.base.Store`."""
        self._pace.requests.acquire(1)
        return _Reading(self._store.open(path), self._pace)

    def put(
        self,
        path: str,
        content: bytes | Iterable[bytes],
        *,
        attributes: Attributes,
        create: bool,
        part_size: int | None,
        stat_after: bool = True,
    ) -> ObjectMeta:
        """See :class:`migrate_storage.stores.base.Store`. It is a put and a look at what was put."""
        self._pace.requests.acquire(1 + stat_after)
        return self._store.put(
            path, content, attributes=attributes, create=create, part_size=part_size, stat_after=stat_after
        )

    def delete(self, path: str) -> None:
        """See :class:`migrate_storage.stores.base.Store`."""
        self._pace.requests.acquire(1)
        self._store.delete(path)

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectMeta]:
        """See :class:`migrate_storage.stores.base.Store`."""
        for number, meta in enumerate(self._store.list(prefix, after=after)):
            if number % _PAGE == 0:
                self._pace.requests.acquire(1)
            yield meta
