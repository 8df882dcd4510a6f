"""The full comparison of both sides of a cutover: what their listings do not show to be equal is looked at key by key."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

from migrate_storage.core.errors import KeyRefusedError, RunError
from migrate_storage.core.model import ObjectMeta
from migrate_storage.core.parallel import parallel_map
from migrate_storage.cutover.outbox import Outbox
from migrate_storage.engine.compare import By, Compared, Pair, Relation, judge, merge
from migrate_storage.stores.listing import IncompleteError, listing
from migrate_storage.stores.resolved_backend import ResolvedBackend as Reached
from migrate_storage.stores.retry import Retry

__all__ = ("Comparison", "find_differences")

_log = logging.getLogger("migrate_storage.cutover")

_LOOKS = 3
"""How often a key is looked at before it differs: somebody may be writing it."""
_AT_ONCE = 8
_ATTEMPTS = 5
_NOWHERE: Any = None
"""The store where none is read: one side has nothing."""


def find_differences(
    source: Any, destination: Any, outbox: Outbox, stopping: Callable[[], bool] = lambda: False
) -> Iterator[Compared]:
    """Every key whose two sides differ, but for those that an open entry names: these are repair's.

    Equal sizes and equal hashes are equality; where the listings tell no hash, both sides are read.

    Args:
        source: the backend that is left.
        destination: the backend that is moved to.
        outbox: where the entries are.
        stopping: asked before each look.

    Raises:
        ConfigurationError: a backend has no folder or bucket of its own that could be listed.
        RunError: a listing broke off, or an object could not be read: what was not seen is unknown, not equal.
    """
    both = Comparison(source, destination, outbox)
    here, there = (
        listing(side, Retry(_ATTEMPTS, threading.Event()), _log.info) for side in (both.source, both.destination)
    )
    listed = merge(here, there)
    try:
        for _, found in parallel_map(
            both.compare_key, (pair.key for pair in listed if not both.listings_match(pair)), _AT_ONCE
        ):
            if stopping():
                return
            if found is not None:
                yield found
    except IncompleteError as error:
        raise RunError(
            f"the comparison of {both.source.key} with {both.destination.key} is not complete: {error}"
        ) from error


class Comparison:
    """Both sides of a cutover, to be looked at key by key.

    Args:
        source: the backend that is left.
        destination: the backend that is moved to.
        outbox: where the entries are.
    """

    def __init__(self, source: Any, destination: Any, outbox: Outbox) -> None:
        self.source, self.destination, self._outbox = Reached(source), Reached(destination), outbox

    def listings_match(self, pair: Pair) -> bool:
        """Whether the listings alone show that both sides are equal."""
        return self._judge_pair(pair, By.EVIDENCE).relation is Relation.MATCHED

    def compare_key(self, path: str) -> Compared | None:
        """How the sides of a key differ, when it is looked at alone; ``None`` if they do not, or somebody writes it now.

        Raises:
            IncompleteError: it could not be read.
        """
        found: Compared | None = None
        for _ in range(_LOOKS):
            before = self._outbox.find_entry(path)
            pair = Pair(key=path, source=_head(self.source, path), destination=_head(self.destination, path))
            if before is not None or (pair.source is None and pair.destination is None):
                return None
            found = self._judge_pair(pair, By.CHECKSUM)
            if found.relation is Relation.MATCHED or self._outbox.find_entry(path) is not None:
                return None
        if found is not None and found.relation is Relation.ERROR:
            raise IncompleteError(f"{path} could not be read: {found.evidence}")
        return found

    def _judge_pair(self, pair: Pair, by: By) -> Compared:
        if pair.source is None or pair.destination is None:
            return judge(pair, _NOWHERE, _NOWHERE, by)
        return judge(pair, self.source.resolve(pair.key)[0], self.destination.resolve(pair.key)[0], by)


def _head(side: Reached, path: str) -> ObjectMeta | None:
    try:
        store, key = side.resolve(path)
        return store.head(key)
    except (FileNotFoundError, KeyRefusedError):
        return None
