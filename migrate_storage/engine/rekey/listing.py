"""One listing in place of a HEAD for each object of a re-key.

It replaces HEADs only where it is in key order, repeats no key, and has size, ETag and time of each object. A listing that breaks
off is discarded. Of each accepted listing one random object is also checked with HEAD through both keys.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable, Iterator, Sequence

from migrate_storage.core.errors import StoppedError
from migrate_storage.core.model import ObjectMeta
from migrate_storage.engine.listing_evidence import head_confirms
from migrate_storage.engine.plan import MigrationPlan
from migrate_storage.engine.rekey.prefix_rule import PLAIN_KEY
from migrate_storage.journal import RekeyRule
from migrate_storage.stores.retry import Retry

__all__ = ("PrefixListing",)

_MAX_LISTED_PER_ROW = 4
"""How many objects may be listed for each row; beyond that HEADs cost less."""
_BATCH_OBJECTS = 5_000
"""Objects that are passed on at once."""


class PrefixListing:
    """The objects with plain names below the prefix of a path rule.

    Args:
        plan: the source and the destination.
        rule: how filenames change.
        retry: repeats a failed HEAD; a failed listing is not repeated.
        row_count: about how many rows name the source. A listing that is much longer costs more than HEADs.
        may_continue: called between two batches of objects or rows.
    """

    def __init__(
        self, plan: MigrationPlan, rule: RekeyRule, retry: Retry, row_count: int, may_continue: Callable[[], bool]
    ) -> None:
        self.plan, self.rule, self.may_continue = plan, rule, may_continue
        self._retry, self._max_objects = retry, _MAX_LISTED_PER_ROW * row_count

    def fetch(self, on_batch: Callable[[Sequence[tuple[str, ObjectMeta]]], None]) -> bool:
        """List all objects.

        Args:
            on_batch: called with each batch: the name after the prefix, and the object.

        Returns:
            Whether the listing is accepted and has an object. If not, what was passed on must be discarded.

        Raises:
            StoppedError: the run was asked to stop while waiting for a limit.
        """
        count, sample = 0, None
        found = self._list_plain()
        try:
            while batch := list(itertools.islice(found, _BATCH_OBJECTS)):
                count += len(batch)
                if count > self._max_objects or not self.may_continue():
                    return False
                if sample is None or random.random() * count < len(batch):  # noqa: S311 - a sample, not a secret
                    sample = random.choice(batch)  # noqa: S311
                on_batch(batch)
        except _NoEvidenceError:
            return False
        return sample is not None and self._is_confirmed(*sample)

    def _list_plain(self) -> Iterator[tuple[str, ObjectMeta]]:
        store, path = self.plan.destination.resolve(f"{self.rule.new}x")
        prefix, has_no_link, last = path[:-1], self._link_check(), ""
        try:
            for meta in store.list(prefix.rstrip("/")):
                if has_no_link is None:  # the listing of a disk has no order
                    if meta.path <= last:
                        raise _NoEvidenceError
                    last = meta.path
                if not meta.e_tag or meta.last_modified is None:
                    raise _NoEvidenceError
                if meta.path.startswith(prefix) and PLAIN_KEY.fullmatch(meta.path, len(prefix)):
                    tail = meta.path[len(prefix) :]
                    if has_no_link is None or has_no_link(tail):
                        yield tail, meta
        except (_NoEvidenceError, StoppedError):
            raise
        except Exception as error:
            raise _NoEvidenceError from error

    def _link_check(self) -> Callable[[str], bool] | None:
        """Return a check that no link leads to a file; ``None`` for a service, whose listing follows none."""
        if self.plan.destination.root.service != "file":
            return None
        known = ("", False)

        def has_no_link(tail: str) -> bool:
            nonlocal known
            path = f"/{self.rule.place.key}{tail}"
            folder = os.path.dirname(path)  # noqa: PTH120 - called for each file of a disk
            if folder != known[0]:
                known = folder, os.path.realpath(folder) == folder
            return known[1] and not os.path.islink(path)  # noqa: PTH114

        return has_no_link

    def _is_confirmed(self, tail: str, listed: ObjectMeta) -> bool:
        """Whether a HEAD through each of the keys reports the object as it was listed."""
        source = self.plan.source.resolve(self.rule.old + tail)
        destination = self.plan.destination.resolve(self.rule.new + tail)
        return all(head_confirms(at, listed, self._retry) for at in (source, destination))


class _NoEvidenceError(Exception):
    """The listing cannot replace HEADs."""
