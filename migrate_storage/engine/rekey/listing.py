"""One listing in place of a look at each object: for a re-key, where both keys reach one bucket or one disk.

It is evidence as a look is, and only where it tells as much: size, entity tag and time of each, in order and none twice. One that
breaks off is none, and of each one object, drawn by lot, is looked at through both keys too.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable, Iterator, Sequence

from migrate_storage.core.errors import StoppedError
from migrate_storage.core.model import ObjectMeta
from migrate_storage.engine.listing_evidence import head_confirms, key_order
from migrate_storage.engine.plan import MigrationPlan
from migrate_storage.engine.rekey.prefix_rule import PLAIN_KEY, PrefixRule
from migrate_storage.stores.retry import Retry

__all__ = ("PrefixListing",)

_MOST = 4
"""How many objects may be listed for each row: beyond, looks are cheaper."""
_BATCH = 5_000
"""Objects that are handed over at once."""


class PrefixListing:
    """What stands under a plain name below the place of a path rule.

    Args:
        route: from where to where.
        rule: how a filename becomes another.
        retry: how a failed look is sent again; a failed listing is not.
    """

    def __init__(self, route: MigrationPlan, rule: PrefixRule, retry: Retry) -> None:
        self.route, self.rule, self._retry = route, rule, retry

    def fetch(
        self, rows: int, *, turn: Callable[[], bool], take: Callable[[Sequence[tuple[str, ObjectMeta]]], None]
    ) -> bool:
        """List all of it.

        Args:
            rows: how many rows name the source, about: there is no use in a listing that is much longer.
            turn: called between two batches; whether to go on.
            take: given batch after batch: what is behind the rule's letters in a name, and what stands there.

        Returns:
            Whether it may be believed, and tells of anything at all. What was taken is worth nothing otherwise.

        Raises:
            StoppedError: told to stop while waiting for a limit.
        """
        count, lot = 0, None
        found = self._found()
        try:
            while batch := list(itertools.islice(found, _BATCH)):
                count += len(batch)
                if count > _MOST * rows or not turn():
                    return False
                if lot is None or random.random() * count < len(batch):  # noqa: S311 - a lot, not a secret
                    lot = random.choice(batch)  # noqa: S311
                take(batch)
        except _NoEvidenceError:
            return False
        return lot is not None and self._confirmed(*lot)

    def _found(self) -> Iterator[tuple[str, ObjectMeta]]:
        store, path = self.route.destination.resolve(f"{self.rule.new}x")
        head, straight, last = path[:-1], self._straight(), b""
        try:
            for meta in store.list(head.rstrip("/")):
                if straight is None:
                    position = key_order(meta.path)
                    if position <= last:
                        raise _NoEvidenceError
                    last = position
                if not meta.e_tag or meta.last_modified is None:
                    raise _NoEvidenceError
                if meta.path.startswith(head) and PLAIN_KEY.fullmatch(meta.path, len(head)):
                    tail = meta.path[len(head) :]
                    if straight is None or straight(tail):
                        yield tail, meta
        except (_NoEvidenceError, StoppedError):
            raise
        except Exception as error:
            raise _NoEvidenceError from error

    def _straight(self) -> Callable[[str], bool] | None:
        """For a disk, which lists in no order and follows links: whether none is on the way to a file. ``None`` for a service."""
        root = self.route.destination.root
        if root.service != "file":
            return None
        known = ("", False)

        def straight(tail: str) -> bool:
            nonlocal known
            path = f"/{self.rule.key}{tail}"
            folder = os.path.dirname(path)  # noqa: PTH120 - once for each file of a disk
            if folder != known[0]:
                known = folder, os.path.realpath(folder) == folder
            return known[1] and not os.path.islink(path)  # noqa: PTH114

        return straight

    def _confirmed(self, tail: str, seen: ObjectMeta) -> bool:
        """Whether a look through each of the keys says the same of an object."""
        here = self.route.source.resolve(self.rule.old + tail)
        there = self.route.destination.resolve(self.rule.new + tail)
        return all(head_confirms(at, seen, self._retry) for at in (here, there))


class _NoEvidenceError(Exception):
    """The listing cannot be believed."""
