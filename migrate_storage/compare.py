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
from dataclasses import dataclass
from functools import partial

from migrate_storage.errors import StoppedError
from migrate_storage.model import ObjectMeta
from migrate_storage.retry import Retry, StoreFailure
from migrate_storage.spill import KeyLog, Spill
from migrate_storage.stores.base import Store
from migrate_storage.stores.failure import classify
from migrate_storage.verify import same

__all__ = ("By", "Compared", "IncompleteError", "Listing", "Pair", "Relation", "judge", "merge")

_DIGEST = re.compile(r"[0-9a-f]{32}(-\d+)?")
"""An entity tag that may be a digest of the content, or of its parts' digests."""


class IncompleteError(Exception):
    """A listing broke off: what was not listed is unknown, not missing."""


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
class Listing:
    """One side of a comparison: what to list, and how.

    Keys are compared without the prefix. A local disk is to be listed with fsspec: obstore leaves names such as ``x#1``
    out, without a word.
    """

    store: Store
    #: Full path in ``store`` under which to list, by whole segments; empty lists all.
    prefix: str = ""
    #: Whether the service promises keys in the order of their UTF-8 bytes.
    ordered: bool = False
    #: The same objects through another library, and the prefix there, for when a key ends the listing of ``store``.
    fallback: tuple[Store, str] | None = None
    #: Told in one line when the fallback is used.
    tell: Callable[[str], None] = lambda _: None
    #: Told how many objects there are, when the listing has ended.
    count: Callable[[int], None] = lambda _: None
    #: How a listing that broke off for a passing reason is begun again; ``None`` lists once.
    retry: Retry | None = None


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
    left, right = _Stream(source), _Stream(destination)
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
    with closing(Spill()) as left, closing(Spill()) as right, closing(KeyLog()) as met:
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


def _aligned(left: Iterator[_Entry], right: Iterator[_Entry]) -> Iterator[Pair]:
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
        read = partial(same, source, held.path, destination, found.path)
        equal = (read() if retry is None else retry(read)) is not None
    except StoppedError:
        raise
    except StoreFailure as error:
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


_Entry = tuple[str, ObjectMeta]


class _Stream:
    """The entries of one listing. Where it breaks off it is begun again, and the fallback is the last resort.

    Args:
        listing: what to list.
    """

    def __init__(self, listing: Listing) -> None:
        self._listing, self._last = listing, None  # type: tuple[Listing, str | None]
        #: Whether each key came after the one before it so far, and therefore once.
        self.tidy = True

    def __iter__(self) -> Generator[_Entry]:
        listing, attempt = self._listing, 0
        while True:
            attempt += 1
            try:
                yield from self._given(_entries(listing.store, listing.prefix), listing.store.name)
            except IncompleteError:
                raise
            except Exception as error:
                failure = classify(error)
                if failure.kind.retriable and listing.retry is not None and attempt < listing.retry.attempts:
                    listing.retry.pause(attempt)
                    continue
                if listing.fallback is None or failure.kind.of_the_store:
                    raise IncompleteError(
                        f"the listing of {listing.store.name} broke off: {failure.message}"
                    ) from error
                listing.tell(
                    f"the listing of {listing.store.name} broke off ({failure.message}): listed through fsspec"
                )
                break
            else:
                return
        store, prefix = listing.fallback
        try:
            entries = _entries(store, prefix)
            yield from self._given(_in_order(entries) if listing.ordered else entries, store.name)
        except IncompleteError:
            raise
        except Exception as error:
            raise IncompleteError(f"the listing of {store.name} broke off: {classify(error).message}") from error

    def _given(self, entries: Iterator[_Entry], name: str) -> Iterator[_Entry]:
        """The entries, in order after the last that was given; where no order is promised, all of them."""
        ordered, count = self._listing.ordered, 0
        passed, before = self._last, ""
        for key, meta in entries:
            if count and key <= before:
                if ordered:
                    raise IncompleteError(f"{name} does not list its keys in order")
                self.tidy = False
            before = key
            count += 1
            if passed is None or key > passed:
                self._last = key
            elif ordered:
                continue
            else:
                self.tidy = False
            yield key, meta
        self._listing.count(count)


def _entries(store: Store, prefix: str) -> Iterator[_Entry]:
    """Objects with their keys below a prefix. A path outside of it is refused: nothing is guessed."""
    root = prefix.strip("/")
    for meta in store.list(prefix):
        path = meta.path
        if root:
            begin = path.find(root, 0, len(root) + 1)
            if begin < 0 or path[:begin] not in ("", "/") or not path.startswith("/", begin + len(root)):
                raise IncompleteError(f"{store.name} lists {path!r}, which is not below {prefix!r}")
            path = path[begin + len(root) + 1 :]
        elif prefix:
            path = path.removeprefix("/")
        yield path, meta


def _in_order(entries: Iterator[_Entry]) -> Iterator[_Entry]:
    """The same by key; nothing is given before the listing has ended."""
    with closing(Spill()) as spill:
        for key, meta in entries:
            spill.add(key, meta)
        yield from spill
