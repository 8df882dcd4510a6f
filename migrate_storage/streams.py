"""One listing as a stream of keys: begun again where it breaks off, and told apart from one that ended.

What was not listed is never said to be missing: a listing that breaks off for good raises :class:`IncompleteError`, and all that
came before holds.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass

from migrate_storage.model import ObjectMeta
from migrate_storage.retry import Retry
from migrate_storage.spill import Spill
from migrate_storage.stores.base import Store
from migrate_storage.stores.failure import classify

__all__ = ("Entry", "IncompleteError", "Listing", "Stream")

Entry = tuple[str, ObjectMeta]
"""A key below the prefix, and what is listed there."""


class IncompleteError(Exception):
    """A listing broke off: what was not listed is unknown, not missing."""


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


class Stream:
    """The entries of one listing. Where it breaks off it is begun again, and the fallback is the last resort.

    Args:
        listing: what to list.
    """

    def __init__(self, listing: Listing) -> None:
        self._listing, self._last = listing, None  # type: tuple[Listing, str | None]
        #: Whether each key came after the one before it so far, and therefore once.
        self.tidy = True

    def __iter__(self) -> Generator[Entry]:
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

    def _given(self, entries: Iterator[Entry], name: str) -> Iterator[Entry]:
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


def _entries(store: Store, prefix: str) -> Iterator[Entry]:
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


def _in_order(entries: Iterator[Entry]) -> Iterator[Entry]:
    """The same by key; nothing is given before the listing has ended."""
    with closing(Spill()) as spill:
        for key, meta in entries:
            spill.add(key, meta)
        yield from spill
