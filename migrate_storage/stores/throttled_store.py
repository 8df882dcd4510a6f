"""A store whose requests are limited: the same protocol around any other store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from migrate_storage.core.model import Attributes, ObjectMeta
from migrate_storage.stores.base import DigestHeaders, Opened, Store
from migrate_storage.stores.rate_limit import StoreLimits

__all__ = ("ThrottledStore",)


_KEYS_PER_REQUEST = 1000
"""Keys in one answer to a LIST."""


class _Reading:
    def __init__(self, opened: Opened, pace: StoreLimits) -> None:
        self._opened, self._pace = opened, pace
        self.meta, self.attributes = opened.meta, opened.attributes

    def read(self) -> bytes:
        # Read before the wait: a service closes an answer that is not read for a while.
        content = self._opened.read()
        self._pace.bandwidth.acquire(len(content))
        return content

    def chunks(self) -> Iterator[bytes]:
        for piece in self._opened.chunks():
            self._pace.bandwidth.acquire(len(piece))
            yield piece


class ThrottledStore:
    """Waits before each request, and for each byte that is read.

    Writes follow the reads.

    Args:
        store: the store itself.
        pace: its limits.
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

    def digest_headers(self, path: str) -> DigestHeaders:
        """See :class:`migrate_storage.stores.base.Store`."""
        self._pace.requests.acquire(1)
        return self._store.digest_headers(path)

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
        replaces: ObjectMeta | None = None,
    ) -> ObjectMeta:
        """See :class:`migrate_storage.stores.base.Store`."""
        self._pace.requests.acquire(1)
        return self._store.put(
            path, content, attributes=attributes, create=create, part_size=part_size, replaces=replaces
        )

    def delete(self, path: str) -> None:
        """See :class:`migrate_storage.stores.base.Store`."""
        self._pace.requests.acquire(1)
        self._store.delete(path)

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectMeta]:
        """See :class:`migrate_storage.stores.base.Store`."""
        return self._limit_pages(self._store.list(prefix, after=after))

    def list_stepwise(self, prefix: str, *, after: str) -> Iterator[ObjectMeta]:
        """See :class:`migrate_storage.stores.base.Store`."""
        return self._limit_pages(self._store.list_stepwise(prefix, after=after))

    def _limit_pages(self, listed: Iterator[ObjectMeta]) -> Iterator[ObjectMeta]:
        for number, meta in enumerate(listed):
            if number % _KEYS_PER_REQUEST == 0:
                self._pace.requests.acquire(1)
            yield meta
