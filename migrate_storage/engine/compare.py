"""Compare two stores key by key, in bounded memory.

Both listings are merged as they stream. Most services list in key order, but few promise it. Where one does not, keys without a
partner go to a temporary file and are matched there after both listings ended. A key that was not listed is never reported as
missing: a listing that breaks off ends the comparison with :class:`IncompleteError`. Pairs that were given before remain valid.
"""

from __future__ import annotations

import enum
import re
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass

from migrate_storage.core.errors import KeyRefusedError, StoppedError
from migrate_storage.core.model import ObjectMeta
from migrate_storage.core.proofs import CONTENT_COMPARED, DIGEST, SIZE
from migrate_storage.core.spill import SpilledList, SpilledMap
from migrate_storage.engine.canary import is_canary
from migrate_storage.engine.probe import SCRATCH
from migrate_storage.engine.verify import compare_content
from migrate_storage.stores.base import ObjectAt, lower_digest
from migrate_storage.stores.failures import classify
from migrate_storage.stores.listing import ListedKey, Listing, ListingStream, refuse_slash_key
from migrate_storage.stores.resolved_backend import ResolvedBackend
from migrate_storage.stores.retry import Retry, StoreRequestError
from migrate_storage.translate.places import resolve_links

__all__ = ("By", "Compared", "Pair", "Relation", "is_ours", "judge", "judge_at", "merge", "nested")

_DIGEST = re.compile(r"[0-9a-f]{32}(-\d+)?")
"""An ETag that may be a digest of the content, or of its parts' digests."""
_ONE_ATTEMPT = Retry(1, threading.Event())


class By(enum.StrEnum):
    """What makes two objects equal. Objects of different sizes always differ."""

    SIZE = "size"
    """The size alone."""
    EVIDENCE = "evidence"
    """A digest that both sides report; where they share none, equality is not proved."""
    CHECKSUM = "checksum"
    """A digest that both sides report; where they share none, both objects are read."""
    DOWNLOAD = "download"
    """Both objects are read, whatever digests they report."""


class Relation(enum.StrEnum):
    """How the two sides of one key compare."""

    MATCHED = "matched"
    """On both, and equal."""
    MISSING = "missing"
    """At the source only."""
    EXTRA = "extra"
    """At the destination only."""
    DIFFERENT = "different"
    """On both, and not equal."""
    UNPROVED = "unproved"
    """On both and of one size; they share no digest."""
    ERROR = "error"
    """On both; one of them could not be read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """The objects that both sides list under one key; at least one of them has one."""

    #: Below the prefix of each side.
    key: str
    source: ObjectMeta | None = None
    destination: ObjectMeta | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """A pair, and how its sides compare."""

    pair: Pair
    relation: Relation
    #: How that was found out, in a few words.
    evidence: str = ""


def merge(source: Listing, destination: Listing) -> Generator[Pair]:
    """Merge two listings into pairs, one for each key.

    A key of both sides is given when it was listed on both. Where both listings promise key order, a key of one side is given
    in that order too. Otherwise such keys are given last, because the other side may list them later.

    Raises:
        IncompleteError: a listing broke off, or was not in the order it promised. No pair that lacks a side is given for
            a key that the broken listing had not passed.
    """
    left, right = ListingStream(source), ListingStream(destination)
    with closing(iter(left)) as one, closing(iter(right)) as other:
        pairs = _aligned(one, other)
        if source.ordered and destination.ordered:
            yield from pairs
        else:
            yield from _unpaired_last(pairs, lambda: left.in_order and right.in_order)


def _unpaired_last(pairs: Iterator[Pair], in_order: Callable[[], bool]) -> Iterator[Pair]:
    """Give pairs with both sides at once; match the other ones by key at the end."""
    # After a key out of order a key may come again. From there on all pairs are spilled, so that none is given twice.
    with closing(SpilledMap()) as left, closing(SpilledMap()) as right, closing(SpilledList[str]()) as met:
        for pair in pairs:
            if pair.source is not None and pair.destination is not None and in_order():
                met.add(pair.key)
                yield pair
                continue
            for lone, meta in ((left, pair.source), (right, pair.destination)):
                if meta is not None:
                    lone.add(pair.key, meta)
        if not in_order():
            for lone in (left, right):
                lone.discard(met)
        yield from _aligned(iter(left), iter(right))


def _aligned(left: Iterator[ListedKey], right: Iterator[ListedKey]) -> Iterator[Pair]:
    """Pair the entries of both as if in key order; others stay without a partner."""
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


def judge(
    pair: Pair, by: By, source: ObjectAt | None = None, destination: ObjectAt | None = None, retry: Retry | None = None
) -> Compared:
    """Compare the two sides of a pair; read both objects where ``by`` requires it.

    Args:
        pair: as :func:`merge` gives it.
        by: what makes them equal.
        source: the source object; needed where it may have to be read.
        destination: the destination object; needed where it may have to be read.
        retry: repeats a failed read; ``None`` tries once.

    Returns:
        A failed read is ``Relation.ERROR``, never an exception.
    """
    held, found = pair.source, pair.destination
    if found is None:
        return Compared(pair=pair, relation=Relation.MISSING)
    if held is None:
        return Compared(pair=pair, relation=Relation.EXTRA)
    if held.size != found.size:
        return Compared(pair=pair, relation=Relation.DIFFERENT, evidence=SIZE)
    if by is By.SIZE:
        return Compared(pair=pair, relation=Relation.MATCHED, evidence=SIZE)
    agree = None if by is By.DOWNLOAD else _digests_agree(held, found)
    if agree is not None:
        return Compared(pair=pair, relation=Relation.MATCHED if agree else Relation.DIFFERENT, evidence=DIGEST)
    if by is By.EVIDENCE:
        return Compared(pair=pair, relation=Relation.UNPROVED)
    assert source is not None
    assert destination is not None
    try:
        equal = compare_content(source, destination, retry or _ONE_ATTEMPT) is not None
    except StoppedError:
        raise
    except StoreRequestError as error:
        return Compared(pair=pair, relation=Relation.ERROR, evidence=error.failure.message)
    except Exception as error:  # noqa: BLE001 - each library raises its own kinds, and the answer is a value
        return Compared(pair=pair, relation=Relation.ERROR, evidence=classify(error).message)
    return Compared(pair=pair, relation=Relation.MATCHED if equal else Relation.DIFFERENT, evidence=CONTENT_COMPARED)


def _digests_agree(held: ObjectMeta, found: ObjectMeta) -> bool | None:
    """Whether a digest of both sides is equal; ``None`` where they share none. ETags that differ prove nothing."""
    if held.md5 and found.md5:
        return held.md5 == found.md5
    e_tags = [lower_digest(meta.e_tag) for meta in (held, found)]
    if e_tags[0] and e_tags[0] == e_tags[1] and _DIGEST.fullmatch(e_tags[0]):
        return True
    tags = [
        {tag for tag in (meta.md5, e_tag) if tag and _DIGEST.fullmatch(tag)}
        for meta, e_tag in zip((held, found), e_tags, strict=True)
    ]
    return True if tags[0] & tags[1] else None


def judge_at(pair: Pair, source: ResolvedBackend, destination: ResolvedBackend, by: By, retry: Retry) -> Compared:
    """Compare as :func:`judge` does, reading under the keys that both sides resolve.

    Args:
        pair: as the listings of both sides gave it.
        source: the side of the source.
        destination: the side of the destination.
        by: what makes them equal.
        retry: repeats a failed read.
    """
    if pair.source is None or pair.destination is None or by in (By.SIZE, By.EVIDENCE):
        return judge(pair, by)
    try:
        refuse_slash_key(pair.key)
        return judge(pair, by, source.resolve(pair.key), destination.resolve(pair.key), retry)
    except KeyRefusedError as error:
        return Compared(pair=pair, relation=Relation.ERROR, evidence=str(error))


def is_ours(pair: Pair) -> bool:
    """Whether a key is a probe object or a canary of this tool, perhaps of another process."""
    return pair.key.startswith(f"{SCRATCH}/") or is_canary(pair.key)


def nested(one: ResolvedBackend, other: ResolvedBackend) -> bool:
    """Whether one side's root is the other's or inside it, if both are one storage."""
    here, there = resolve_links(one.root), resolve_links(other.root)
    return here.root == there.root and (here.key.startswith(there.key) or there.key.startswith(here.key))
