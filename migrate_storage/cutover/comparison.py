"""The full comparison of both sides of a cutover: two listings, in bounded memory, and a second look at what differs."""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from typing import Any
from urllib.parse import quote, unquote

from migrate_storage.cutover.outbox import Outbox
from migrate_storage.diskset import DiskSet
from migrate_storage.errors import ConfigurationError, KeyRefusedError
from migrate_storage.model import ObjectMeta
from migrate_storage.stores.base import Store
from migrate_storage.stores.side import Side as Reached
from migrate_storage.verify import same
from migrate_storage.workers import in_parallel

__all__ = ("Difference", "Kind", "differences")

_HASH = re.compile(r"[0-9a-f]{32}(-\d+)?")
"""An entity tag that two services only give to the same bytes."""
_LOOKS = 3
"""How often a key is looked at before it differs: somebody may be writing it."""
_AT_ONCE = 8
_PART = 500


class Kind(StrEnum):
    """How the two sides of a key differ."""

    ONLY_SOURCE = "only_source"
    ONLY_DESTINATION = "only_destination"
    DIFFERENT = "different"


@dataclass(frozen=True, slots=True)
class Difference:
    """A key whose two sides are not the same, and that has no entry."""

    path: str
    kind: Kind


def differences(
    source: Any, destination: Any, outbox: Outbox, stopping: Callable[[], bool] = lambda: False
) -> Iterator[Difference]:
    """Every key whose two sides differ, but for those that an open entry names: these are repair's.

    Equal sizes and equal hashes are equality; where the listings tell no hash, both sides are read.

    Args:
        source: the backend that is left.
        destination: the backend that is moved to.
        outbox: where the entries are.
        stopping: asked before each look.

    Raises:
        ConfigurationError: a backend has no folder or bucket of its own that could be listed.
        Exception: what a side answered. A listing that breaks is no listing.
    """
    pair = _Pair(Reached(source), Reached(destination), outbox)
    with DiskSet() as here, DiskSet() as there:
        _fill(here, pair.source)
        _fill(there, pair.destination)
        for _, found in in_parallel(pair.look, _candidates(here, there), _AT_ONCE):
            if stopping():
                return
            if found is not None:
                yield found


class _Pair:
    def __init__(self, source: Reached, destination: Reached, outbox: Outbox) -> None:
        self.source, self.destination, self._outbox = source, destination, outbox

    def look(self, path: str) -> Difference | None:
        """Whether a key differs, when looked at alone; not so if somebody writes it at this time."""
        kind = None
        for _ in range(_LOOKS):
            before = self._outbox.look(path)
            kind = self._kind(path)
            if kind is None or before is not None or self._outbox.look(path) is not None:
                return None
        return Difference(path, kind) if kind is not None else None

    def _kind(self, path: str) -> Kind | None:
        held, found = _head(self.source, path), _head(self.destination, path)
        if held is None or found is None:
            if held is None and found is None:
                return None
            return Kind.ONLY_DESTINATION if held is None else Kind.ONLY_SOURCE
        if held.size == found.size and _hash(held) is not None and _hash(held) == _hash(found):
            return None
        try:
            return None if same(*self.source.at(path), *self.destination.at(path)) else Kind.DIFFERENT
        except FileNotFoundError:
            return Kind.DIFFERENT


def _head(side: Reached, path: str) -> ObjectMeta | None:
    try:
        store, key = side.at(path)
        return store.head(key)
    except (FileNotFoundError, KeyRefusedError):
        return None


def _fill(into: DiskSet, side: Reached) -> None:
    """List a side."""
    base = side.root
    if (not base.root and side.registration.driver == "fsspec") or (base.service == "file" and not base.key):
        raise ConfigurationError(
            f"the backend {side.key!r} has no bucket or folder of its own, so it cannot be listed: give it a prefix"
        )
    other = side.fallback("x")
    try:
        into.add(_lines(*side.at("x")))
    except Exception:
        # One key that obstore does not know ends its whole listing.
        if other is None:
            raise
        into.add(_lines(*other))


def _lines(store: Store, key: str) -> Iterator[str]:
    """One line an object, so that lines are in the order of their names; ``key`` is that of the name ``x``."""
    below = key.lstrip("/")[:-1]
    for meta in store.list(key[:-1].rstrip("/")):
        path = meta.path.lstrip("/")
        if path.startswith(below):
            yield f"{quote(path[len(below) :], safe='')} {meta.size} {_hash(meta) or ''}"


def _hash(meta: ObjectMeta) -> str | None:
    tag = meta.md5 or meta.e_tag or ""
    return tag if _HASH.fullmatch(tag) else None


def _candidates(here: DiskSet, there: DiskSet) -> Iterator[str]:
    """Keys that the listings do not show to be equal: both are in order, so this is a merge."""
    for path, group in groupby(heapq.merge(_words(here), _words(there)), key=lambda words: words[0]):
        found = [words[1:] for words in group]
        # Once on each side, of one size, with one hash.
        if len(found) != 2 or found[0] != found[1] or not found[0][1]:
            yield unquote(path)


def _words(lines: DiskSet) -> Iterator[list[str]]:
    return (line.split(" ") for part in lines.parts(_PART) for line in part)
