"""What only the destination of a sync holds: collected while the listings pass, deleted only when everything is known.

Each is looked at again before: it still is missing at the source, still is what was listed, old enough, and no row names it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import astuple
from types import TracebackType
from typing import Self

from migrate_storage.core.errors import KeyRefusedError
from migrate_storage.core.model import Location, ObjectMeta, Outcome, OutcomeKind
from migrate_storage.core.spill import SpilledSet
from migrate_storage.engine.compare import Pair
from migrate_storage.engine.verify import proven_unchanged
from migrate_storage.stores.resolved_backend import ResolvedBackend
from migrate_storage.stores.retry import Retry, StoreRequestError

__all__ = ("ExtraneousDeleter", "SpilledPairs")


class SpilledPairs:
    """Pairs put aside, on disk, whatever their number. For one thread."""

    def __init__(self) -> None:
        self._lines = SpilledSet()
        self._waiting: list[str] = []
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.__exit__(kind, error, trace)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Pair]:
        """All of them, in no order that means anything."""
        self._write()
        for part in self._lines.parts(500):
            for line in part:
                key, source, destination = json.loads(line)
                yield Pair(key=key, source=_meta(source), destination=_meta(destination))

    def add(self, pair: Pair) -> None:
        """Put one aside."""
        sides = (astuple(meta) if meta is not None else None for meta in (pair.source, pair.destination))
        self._waiting.append(json.dumps([pair.key, *sides]))
        self._count += 1
        if len(self._waiting) >= 500:
            self._write()

    def _write(self) -> None:
        self._lines.add(self._waiting)
        self._waiting = []


def _meta(values: list[str | int | float | None] | None) -> ObjectMeta | None:
    if values is None:
        return None
    return ObjectMeta(**dict(zip(ObjectMeta.__dataclass_fields__, values, strict=True)))  # type: ignore[arg-type]


class ExtraneousDeleter:
    """Deletes what only the destination holds, from any thread.

    Args:
        source: the side that is to hold nothing under its key.
        destination: the side that it is deleted from.
        retry: how a failed request is sent again.
        min_age: seconds for which nothing is deleted.
        dry_run: say what would be deleted.
    """

    def __init__(
        self, source: ResolvedBackend, destination: ResolvedBackend, retry: Retry, *, min_age: float, dry_run: bool
    ) -> None:
        self._source, self._destination, self._retry = source, destination, retry
        self._min_age, self._dry_run = min_age, dry_run

    def delete(self, pair: Pair) -> Outcome:
        """Delete one, unless something speaks against it."""
        assert pair.destination is not None
        try:
            reason = self._against(pair, pair.destination)
            if not reason and not self._dry_run:
                store, path = self._destination.resolve(pair.key)
                self._retry.call(lambda: store.delete(path))
        except StoreRequestError as error:
            return self.outcome(pair, OutcomeKind.FAILED, f"it was not deleted: {error}")
        return self.outcome(pair, OutcomeKind.SKIPPED if reason else OutcomeKind.PURGED, reason)

    def outcome(self, pair: Pair, kind: OutcomeKind, reason: str = "") -> Outcome:
        """How one ended."""
        return Outcome(
            kind=kind, source=Location(self._source.key, pair.key), reason=reason,
            destination=Location(self._destination.key, pair.key), size=pair.destination.size if pair.destination is not None else None,
        )  # fmt: skip

    def _against(self, pair: Pair, listed: ObjectMeta) -> str:
        """Why it is kept; empty where nothing speaks against its end."""
        try:
            (source, here), (store, path) = self._source.resolve(pair.key), self._destination.resolve(pair.key)
        except KeyRefusedError as error:
            return f"kept: {error}"
        if self._retry.or_none_if_missing(lambda: source.head(here)) is not None:
            return "kept: the source holds it"
        found = self._retry.or_none_if_missing(lambda: store.head(path))
        if found is None:
            return "it was gone already"
        if not proven_unchanged(listed.evidence, found.evidence):
            return "kept: it was written since it was listed"
        if self._min_age and (found.last_modified is None or time.time() - found.last_modified < self._min_age):
            return "kept: it is younger than --min-age"
        return ""
