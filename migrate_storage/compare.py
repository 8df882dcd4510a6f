"""Two stores compared, key by key, in bounded memory: what both hold, what only one holds, and whether it is equal.

Listings that are known to be in order are merged as they stream; any other is spilled to a temporary file and sorted
there. What was not listed is never said to be missing: a listing that breaks off ends the comparison with
:class:`IncompleteError`, and all that came before holds.
"""

from __future__ import annotations

import enum
import re
import sqlite3
import tempfile
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from migrate_storage.errors import StoppedError
from migrate_storage.model import ObjectMeta
from migrate_storage.retry import Retry, StoreFailure
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
    #: Told how many objects there are, where that is known before the first of them is given.
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
    """All keys of both sides, in the order of their UTF-8 bytes.

    Raises:
        IncompleteError: a listing broke off, or was not in the order it promised. No pair is given for a key that the
            broken listing had not passed.
    """
    with closing(_sorted(source)) as left, closing(_sorted(destination)) as right:
        # A listing that is sorted first gives nothing before its end: both go on at once.
        with ThreadPoolExecutor(2, thread_name_prefix="list") as pool:
            one, other = pool.map(partial(next), (left, right), (None, None))
        while one is not None or other is not None:
            if other is None or (one is not None and _rank(one[0]) < _rank(other[0])):
                yield Pair(key=one[0], source=one[1])
                one = next(left, None)
            elif one is None or _rank(other[0]) < _rank(one[0]):
                yield Pair(key=other[0], destination=other[1])
                other = next(right, None)
            else:
                yield Pair(key=one[0], source=one[1], destination=other[1])
                one, other = next(left, None), next(right, None)


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
    tags = [{tag for tag in (meta.md5, meta.e_tag) if tag and _DIGEST.fullmatch(tag)} for meta in (held, found)]
    return True if tags[0] & tags[1] else None


_Entry = tuple[str, ObjectMeta]


def _rank(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")


def _sorted(listing: Listing) -> Generator[_Entry]:
    """The entries of a listing by key; the fallback takes over after the last one that was given."""
    given = _Given()
    attempt = 0
    while True:
        attempt += 1
        stream = _entries(listing.store, listing.prefix)
        try:
            yield from given.after(stream if listing.ordered else _spilled(stream, listing.count), listing.store.name)
        except IncompleteError:
            raise
        except Exception as error:
            failure = classify(error)
            if failure.kind.retriable and listing.retry is not None and attempt < listing.retry.attempts:
                listing.retry.pause(attempt)
                continue
            if listing.fallback is None or failure.kind.of_the_store:
                raise IncompleteError(f"the listing of {listing.store.name} broke off: {failure.message}") from error
            listing.tell(f"the listing of {listing.store.name} broke off ({failure.message}): listed through fsspec")
            break
        else:
            return
    store, prefix = listing.fallback
    try:
        yield from given.after(_spilled(_entries(store, prefix)), store.name)
    except IncompleteError:
        raise
    except Exception as error:
        raise IncompleteError(f"the listing of {store.name} broke off: {classify(error).message}") from error


class _Given:
    """What was given of one side's keys, by whichever listing."""

    def __init__(self) -> None:
        self._last: bytes | None = None

    def after(self, stream: Iterator[_Entry], name: str) -> Iterator[_Entry]:
        """Go on after the last key that was given."""
        passed, before = self._last, None
        for key, meta in stream:
            rank = _rank(key)
            if before is not None and rank <= before:
                raise IncompleteError(f"{name} does not list its keys in order")
            before = rank
            if passed is None or rank > passed:
                self._last = rank
                yield key, meta


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


def _spilled(entries: Iterator[_Entry], count: Callable[[int], None] = lambda _: None) -> Iterator[_Entry]:
    """The same entries by key, sorted on disk; nothing is given before the listing has ended."""
    with (
        tempfile.TemporaryDirectory(prefix="migrate-storage-") as folder,
        closing(sqlite3.connect(Path(folder) / "listing.db", isolation_level=None, check_same_thread=False)) as file,
    ):
        for pragma in ("journal_mode = OFF", "synchronous = OFF"):
            file.execute(f"PRAGMA {pragma}")
        file.execute(
            "CREATE TABLE entry (key BLOB PRIMARY KEY, path BLOB, size INTEGER, e_tag TEXT, modified REAL,"
            " version TEXT, md5 TEXT) WITHOUT ROWID"
        )
        file.execute("BEGIN")
        file.executemany(
            "INSERT OR REPLACE INTO entry VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                (_rank(key), _rank(meta.path), meta.size, meta.e_tag, meta.last_modified, meta.version, meta.md5)
                for key, meta in entries
            ),
        )
        file.execute("COMMIT")
        count(file.execute("SELECT count(*) FROM entry").fetchone()[0])
        for key, path, size, e_tag, modified, version, md5 in file.execute("SELECT * FROM entry ORDER BY key"):
            yield (
                key.decode("utf-8", "surrogateescape"),
                ObjectMeta(
                    path=path.decode("utf-8", "surrogateescape"),
                    size=size,
                    e_tag=e_tag,
                    last_modified=modified,
                    version=version,
                    md5=md5,
                ),
            )
