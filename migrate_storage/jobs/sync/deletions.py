"""Extraneous objects of a sync, deleted when both listings have ended.

Two HEAD requests precede each DELETE. The source must lack the key, and the destination must have what was listed.
"""

from __future__ import annotations

import time
from dataclasses import astuple
from functools import partial
from typing import Any

from migrate_storage.core.errors import KeyRefusedError
from migrate_storage.core.model import Location, ObjectMeta, Outcome, OutcomeKind
from migrate_storage.core.spill import SpilledList
from migrate_storage.engine.compare import Pair
from migrate_storage.engine.verify import proven_unchanged
from migrate_storage.jobs.sync.backup import BackupCopier
from migrate_storage.stores.listing import describe_slash_key, refuse_slash_key
from migrate_storage.stores.resolved_backend import ResolvedBackend
from migrate_storage.stores.retry import Retry, StoreRequestError

__all__ = ("ExtraneousDeleter", "SpilledPairs")


class SpilledPairs(SpilledList[Pair]):
    """Pairs in a temporary file."""

    def __init__(self) -> None:
        super().__init__(_dump, _load)


def _dump(pair: Pair) -> list[object]:
    return [pair.key, *(meta and astuple(meta) for meta in (pair.source, pair.destination))]


def _load(dumped: list[Any]) -> Pair:
    key, source, destination = dumped
    return Pair(key=key, source=_meta(source), destination=_meta(destination))


def _meta(values: list[Any] | None) -> ObjectMeta | None:
    return None if values is None else ObjectMeta(**dict(zip(ObjectMeta.__dataclass_fields__, values, strict=True)))


class ExtraneousDeleter:
    """Deletes objects that only the destination has. Any thread may use it.

    Args:
        source: the side that must have no object under the key.
        destination: the side from which the object is deleted.
        retry: how a failed request is sent again.
        min_age: seconds since an object was written before which it is kept.
        dry_run: return the outcome and delete nothing.
        backup: keeps what is deleted; ``None`` keeps nothing.
    """

    def __init__(
        self,
        source: ResolvedBackend,
        destination: ResolvedBackend,
        retry: Retry,
        *,
        min_age: float,
        dry_run: bool,
        backup: BackupCopier | None = None,
    ) -> None:
        self._source, self._destination, self._retry = source, destination, retry
        self._min_age, self._dry_run, self._backup = min_age, dry_run, backup

    def delete(self, pair: Pair) -> Outcome:
        """Delete the destination's object, unless there is a reason to keep it."""
        assert pair.destination is not None
        try:
            reason = self._reason_to_keep(pair, pair.destination)
            if not reason and not self._dry_run and self._backup is not None:
                if failure := self._backup.save(pair):
                    return self.outcome(pair, OutcomeKind.FAILED, failure)
                reason = self._reason_to_keep(pair, pair.destination)
            if not reason and not self._dry_run:
                self._retry.call(self._destination.resolve(pair.key).delete)
        except (StoreRequestError, KeyRefusedError) as error:
            return self.outcome(pair, OutcomeKind.FAILED, f"it was not deleted: {error}")
        return self.outcome(pair, OutcomeKind.UNCHANGED if reason else OutcomeKind.DELETED, reason)

    def outcome(self, pair: Pair, kind: OutcomeKind, reason: str = "") -> Outcome:
        """The outcome of a pair."""
        source, destination = (Location(side.key, pair.key) for side in (self._source, self._destination))
        size = pair.destination.size if pair.destination is not None else None
        return Outcome(kind=kind, source=source, destination=destination, size=size, reason=reason)

    def _reason_to_keep(self, pair: Pair, listed: ObjectMeta) -> str:
        refuse_slash_key(pair.key)
        source, destination = self._source.resolve(pair.key), self._destination.resolve(pair.key)
        if self._retry.or_none_if_missing(source.head) is not None:
            return "kept: the source has it"
        current = self._retry.or_none_if_missing(destination.head)
        if current is None:
            if reason := self._retry.call(partial(describe_slash_key, destination)):
                raise KeyRefusedError(reason)
            return "it was gone already"
        if not proven_unchanged(listed.evidence, current.evidence):
            return "kept: it was written since it was listed"
        if self._min_age and (current.last_modified is None or time.time() - current.last_modified < self._min_age):
            return "kept: it is younger than --min-age"
        return ""
