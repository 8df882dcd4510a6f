"""Two stores compared, key by key, in bounded memory: what both hold, what only one holds, and whether it is equal.

Both listings are merged as they stream. Most services list in order, few promise it: where one does not, what met no partner
goes to a temporary file, and is looked up there when both have ended. What was not listed is never said to be missing: a
listing that breaks off ends the comparison with :class:`IncompleteError`, and all that came before holds.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from migrate_storage.core.errors import KeyRefusedError, StoppedError
from migrate_storage.core.model import ObjectMeta
from migrate_storage.core.spill import SpilledList, SpilledMap
from migrate_storage.engine.probe import SCRATCH
from migrate_storage.engine.verify import compare_content
from migrate_storage.stores.base import Store
from migrate_storage.stores.failures import classify
from migrate_storage.stores.listing import Entry, Listing, Stream
from migrate_storage.stores.resolved_backend import ResolvedBackend
from migrate_storage.stores.retry import Retry, StoreRequestError
from migrate_storage.translate.places import resolve_links

__all__ = (
    "By",
    "Compared",
    "Pair",
    "Relation",
    "is_ours",
    "judge",
    "judge_at",
    "merge",
    "nested",
)

_DIGEST = re.compile(r"[0-9a-f]{32}(-\d+)?")
"""An entity tag that may be a digest of the content, or of its parts' digests."""


class By(enum.StrEnum):
    """What makes two objects under one key equal. Another size is always another object."""

    SIZE = "size"
    """The size alone."""
    EVIDENCE = "evidence"
    """A digest that both sides tell; where none is shared, nothing is proved."""
    CHECKSUM = "checksum"
    """A digest that both sides tell; where none is shared, both are read."""
    DOWNLOAD = "download"
    """Both are read, whatever they tell."""


class Relation(enum.StrEnum):
    """How the two sides stand to each other under one key."""

    MATCHED = "matched"
    """On both, and equal."""
    MISSING = "missing"
    """At the source only."""
    EXTRA = "extra"
    """At the destination only."""
    DIFFERENT = "different"
    """On both, and not equal."""
    UNPROVED = "unproved"
    """On both and of one size; nothing that both sides tell speaks of the content."""
    ERROR = "error"
    """On both; it could not be read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """What both sides list under one key; at least one of them does."""

    #: Below the prefix of each side.
    key: str
    source: ObjectMeta | None = None
    destination: ObjectMeta | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """A pair, and what was found out about it."""

    pair: Pair
    relation: Relation
    #: What says so, in a few words.
    evidence: str = ""


def merge(source: Listing, destination: Listing) -> Generator[Pair]:
    """All keys of both sides, each once.

    What both list comes as it is listed, and so does all else where both promise their order. Otherwise that comes last: a
    key is not missing while it may be listed still.

    Raises:
        IncompleteError: a listing broke off, or was not in the order it promised. No pair that lacks a side is given for
            a key that the broken listing had not passed.
    """
    left, right = Stream(source), Stream(destination)
    with closing(iter(left)) as one, closing(iter(right)) as other:
        pairs = _aligned(one, other)
        if source.ordered and destination.ordered:
            yield from pairs
        else:
            yield from _lone_ones_last(pairs, lambda: left.tidy and right.tidy)


def _lone_ones_last(pairs: Iterator[Pair], tidy: Callable[[], bool]) -> Iterator[Pair]:
    """Pairs with both sides as they come; the others, once there are no more, by key and together where they belong together.

    Args:
        pairs: of listings that may give any key at any time.
        tidy: whether each of them gave its keys in order so far. From where one did not, a key may come again: all is set
            aside, so that no key is given twice.
    """
    with closing(SpilledMap()) as left, closing(SpilledMap()) as right, closing(SpilledList[str]()) as met:
        for pair in pairs:
            if pair.source is not None and pair.destination is not None and tidy():
                met.add(pair.key)
                yield pair
                continue
            for lone, meta in ((left, pair.source), (right, pair.destination)):
                if meta is not None:
                    lone.add(pair.key, meta)
        if not tidy():
            for lone in (left, right):
                lone.discard(met)
        yield from _aligned(iter(left), iter(right))


def _aligned(left: Iterator[Entry], right: Iterator[Entry]) -> Iterator[Pair]:
    """The entries of both in pairs, as if they were in order: what is not meets no other."""
    one, other = next(left, None), next(right, None)
    while one is not None or other is not None:
        if one is not None and other is not None and one[0] == other[0]:
            yield Pair(key=one[0], source=one[1], destination=other[1])
            one, other = next(left, None), next(right, None)
        elif other is None or (one is not None and one[0] < other[0]):
            assert one is not None
            yield Pair(key=one[0], source=one[1])
            one = next(left, None)
        else:
            yield Pair(key=other[0], destination=other[1])
            other = next(right, None)


def judge(pair: Pair, source: Store, destination: Store, by: By, retry: Retry | None = None) -> Compared:
    """Say how the sides of a pair stand to each other; reads both where ``by`` asks for it.

    Args:
        pair: as :func:`merge` gives it.
        source: the store in which the pair's source is listed.
        destination: the store in which its destination is.
        by: what makes them equal.
        retry: how a failed read is tried again; ``None`` tries once.

    Returns:
        A failed read is ``Relation.ERROR``, never an exception.
    """
    held, found = pair.source, pair.destination
    if found is None:
        return Compared(pair=pair, relation=Relation.MISSING)
    if held is None:
        return Compared(pair=pair, relation=Relation.EXTRA)
    if held.size != found.size:
        return Compared(pair=pair, relation=Relation.DIFFERENT, evidence="size")
    if by is By.SIZE:
        return Compared(pair=pair, relation=Relation.MATCHED, evidence="size")
    told = None if by is By.DOWNLOAD else _digests_agree(held, found)
    if told is not None:
        return Compared(pair=pair, relation=Relation.MATCHED if told else Relation.DIFFERENT, evidence="digest")
    if by is By.EVIDENCE:
        return Compared(pair=pair, relation=Relation.UNPROVED)
    try:
        read = partial(compare_content, source, held.path, destination, found.path)
        equal = (read() if retry is None else retry.call(read)) is not None
    except StoppedError:
        raise
    except StoreRequestError as error:
        return Compared(pair=pair, relation=Relation.ERROR, evidence=error.failure.message)
    except Exception as error:  # noqa: BLE001 - each library raises its own kinds, and the answer is a value
        return Compared(pair=pair, relation=Relation.ERROR, evidence=classify(error).message)
    return Compared(pair=pair, relation=Relation.MATCHED if equal else Relation.DIFFERENT, evidence="both read")


def _digests_agree(held: ObjectMeta, found: ObjectMeta) -> bool | None:
    """Whether digests that both tell are equal; ``None`` where they share none.

    A tag that differs proves nothing: encryption and the size of parts change it.
    """
    if held.md5 and found.md5:
        return held.md5 == found.md5
    if held.e_tag and held.e_tag == found.e_tag and _DIGEST.fullmatch(held.e_tag):
        return True
    tags = [{tag for tag in (meta.md5, meta.e_tag) if tag and _DIGEST.fullmatch(tag)} for meta in (held, found)]
    return True if tags[0] & tags[1] else None


_NOWHERE: Any = None
"""The store where none is asked: what the listings tell decides."""


def judge_at(pair: Pair, one: ResolvedBackend, other: ResolvedBackend, by: By, retry: Retry) -> Compared:
    """Say how the sides of a pair stand to each other. They are read not as they were listed, but as each key can be.

    Args:
        pair: as the listings of both sides gave it.
        one: the source.
        other: the destination.
        by: what makes them equal.
        retry: how a failed read is tried again.
    """
    if pair.source is None or pair.destination is None or by in (By.SIZE, By.EVIDENCE):
        return judge(pair, _NOWHERE, _NOWHERE, by)
    try:
        (source, here), (destination, there) = one.resolve(pair.key), other.resolve(pair.key)
    except KeyRefusedError as error:
        return Compared(pair=pair, relation=Relation.ERROR, evidence=str(error))
    met = Pair(key=pair.key, source=replace(pair.source, path=here), destination=replace(pair.destination, path=there))
    return judge(met, source, destination, by, retry)


_PROBES = f"{SCRATCH}/"


def is_ours(pair: Pair) -> bool:
    """Whether a key is a probe object of this tool, perhaps of another process that is at work."""
    return pair.key.startswith(_PROBES)


def nested(one: ResolvedBackend, other: ResolvedBackend) -> bool:
    """Whether one side's place is the other's, or inside of it, were both on one storage."""
    here, there = resolve_links(one.root), resolve_links(other.root)
    inside = here.key.startswith(there.key) or there.key.startswith(here.key)
    return here.root == there.root and inside
