"""The comparison of both sides of a cutover, by their listings and key by key."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

from migrate_storage.core.errors import KeyRefusedError, RunError
from migrate_storage.core.model import ObjectMeta
from migrate_storage.core.parallel import parallel_map
from migrate_storage.cutover.evidence import ComparedKeys
from migrate_storage.cutover.outbox import Outbox
from migrate_storage.engine.compare import By, Compared, Pair, Relation, judge, merge
from migrate_storage.stores.listing import IncompleteError, Listing
from migrate_storage.stores.resolved_backend import ResolvedBackend
from migrate_storage.stores.retry import Retry, StoreRequestError

__all__ = ("Comparison", "find_differences")

_log = logging.getLogger("migrate_storage.cutover")

COMPARE_ATTEMPTS = 3
"""Comparisons of a key before it counts as different: a write may be running."""
PARALLEL_COMPARISONS = 8
REQUEST_ATTEMPTS = 5


def find_differences(
    source: Any, destination: Any, outbox: Outbox, stopping: Callable[[], bool] = lambda: False
) -> Iterator[Compared]:
    """Yield every key whose two sides differ, except keys with an open entry.

    Objects are equal if their sizes and hashes are equal. Without hashes in the listings the content of both sides is
    read. Keys with an open entry are left to repair. Equal keys are recorded: they are evidence for ``verify``.

    Args:
        source: the backend to move from.
        destination: the backend to move to.
        outbox: has the entries.
        stopping: called before each key is compared; ``True`` ends the comparison.

    Raises:
        ConfigurationError: a backend has no folder or bucket of its own that could be listed.
        RunError: a listing failed, or an object could not be read, so its state is unknown.
    """
    retry = Retry(REQUEST_ATTEMPTS, threading.Event())
    both = Comparison(source, destination, outbox, retry)
    pairs = merge(*(Listing.of_backend(side, retry, _log.info) for side in (both.source, both.destination)))
    try:
        with ComparedKeys(outbox, both.source.key) as equal:

            def list_unproved() -> Iterator[str]:
                for pair in pairs:
                    if stopping():
                        return
                    listed = both.compare_listed(pair)
                    if listed.relation is Relation.MATCHED:
                        equal.add(listed)
                    else:
                        yield pair.key

            for _, found in parallel_map(both.compare_key, list_unproved(), PARALLEL_COMPARISONS):
                if found is None:
                    continue
                if found.relation is Relation.MATCHED:
                    equal.add(found)
                else:
                    yield found
    except IncompleteError as error:
        raise RunError(
            f"the comparison of {both.source.key} with {both.destination.key} is not complete: {error}"
        ) from error


class Comparison:
    """Compares both sides of a cutover key by key; ``retry`` is for its HEAD requests."""

    def __init__(self, source: Any, destination: Any, outbox: Outbox, retry: Retry) -> None:
        self.source, self.destination = ResolvedBackend(source), ResolvedBackend(destination)
        self._outbox, self._retry = outbox, retry

    def compare_listed(self, pair: Pair) -> Compared:
        """Compare a key by the listings alone."""
        return self._judge_pair(pair, By.EVIDENCE)

    def compare_key(self, path: str) -> Compared | None:
        """Compare one key by HEAD, and by content where HEAD proves nothing.

        Returns:
            How its sides compare; ``None`` if both are gone, or the key has an open entry.

        Raises:
            IncompleteError: an object could not be read.
        """
        found: Compared | None = None
        for _ in range(COMPARE_ATTEMPTS):
            before = self._outbox.find_entry(path)
            pair = Pair(key=path, source=self._head(self.source, path), destination=self._head(self.destination, path))
            if before is not None or (pair.source is None and pair.destination is None):
                return None
            found = self._judge_pair(pair, By.CHECKSUM)
            if self._outbox.find_entry(path) is not None:
                return None
            if found.relation is Relation.MATCHED:
                return found
        if found is not None and found.relation is Relation.ERROR:
            raise IncompleteError(f"{path} could not be read: {found.evidence}")
        return found

    def _judge_pair(self, pair: Pair, by: By) -> Compared:
        if pair.source is None or pair.destination is None:
            return judge(pair, by)
        return judge(pair, by, self.source.resolve(pair.key), self.destination.resolve(pair.key))

    def _head(self, side: ResolvedBackend, path: str) -> ObjectMeta | None:
        def head() -> ObjectMeta | None:
            try:
                return side.resolve(path).head()
            except KeyRefusedError:
                return None

        try:
            return self._retry.or_none_if_missing(head)
        except StoreRequestError as error:
            raise IncompleteError(f"{path} could not be read: {error}") from error
