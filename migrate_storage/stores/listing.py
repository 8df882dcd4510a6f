"""One listing as a stream of keys: begun again where it breaks off, and told apart from one that ended.

What was not listed is never said to be missing: a listing that breaks off for good raises :class:`IncompleteError`, and all that
came before holds.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace

import fsspec
from fsspec.implementations.local import LocalFileSystem

from migrate_storage.core.errors import ConfigurationError, RunError, StoppedError
from migrate_storage.core.model import Location, ObjectMeta, Place
from migrate_storage.core.spill import SpilledMap
from migrate_storage.stores.base import ObjectAt, Store
from migrate_storage.stores.failures import classify
from migrate_storage.stores.fsspec_store import FsspecStore
from migrate_storage.stores.resolved_backend import ResolvedBackend
from migrate_storage.stores.retry import Retry
from migrate_storage.translate.places import resolve_links

__all__ = (
    "Entry",
    "IncompleteError",
    "ListedObject",
    "Listing",
    "StoreLister",
    "Stream",
    "listing",
)

_CLOUDS = ("s3", "gcs", "azure")


def listing(side: ResolvedBackend, retry: Retry, tell: Callable[[str], None]) -> Listing:
    """How a side is listed below its prefix.

    Args:
        side: what to list.
        retry: how a listing that broke off is begun again.
        tell: called when another library had to list it.

    Raises:
        ConfigurationError: it has no bucket or folder of its own.
    """
    root, name = side.root, side.registration.protocol
    if (name in _CLOUDS and not root.root) or (root.service == "file" and not root.key):
        raise ConfigurationError(
            f"{side.key!r} has no bucket or folder of its own, so it cannot be listed: give it a prefix, or name it by a URL"
        )
    if root.service == "file":
        # obstore leaves names such as x#1 out of the listing of a disk, without a word.
        folder = f"/{root.key.rstrip('/')}"
        disk = _Disk(fsspec.filesystem("file"), side.key, root=folder)
        return Listing(store=disk, prefix=folder, retry=retry)
    store, path = side.resolve("x")
    other = side.fallback("x")
    return Listing(
        store=store,
        prefix=_folder(path),
        ordered=_promises_order(side),
        fallback=(other[0], _folder(other[1])) if other is not None else None,
        tell=tell,
        retry=retry,
    )


class _Disk(FsspecStore):
    """A disk whose listing tells no tags: obstore, which reads it, has tags of its own."""

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectMeta]:
        """See :class:`migrate_storage.stores.base.Store`."""
        return (replace(meta, e_tag=None) for meta in super().list(prefix, after=after))


def _folder(path: str) -> str:
    return path[:-1].rstrip("/") or path[:-1]


def _promises_order(side: ResolvedBackend) -> bool:
    """Amazon's general purpose buckets and Google's list in the order of UTF-8 bytes; other services may not.

    Sources: Amazon S3 API, ListObjectsV2 (and its note on directory buckets); Cloud Storage, "Objects: list".
    """
    root = side.root
    return root.endpoint == "" and (
        root.service == "gcs" or (root.service == "s3" and not root.root.endswith("--x-s3"))
    )


_BUCKETED = frozenset({"s3", "gcs", "azure"})


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedObject:
    """One object that a store holds."""

    #: The key of a backend that reaches it, and what a row of that backend would have to name it.
    location: Location
    place: Place
    meta: ObjectMeta
    #: It is a link to another file of the disk, not an object of its own.
    link: bool = False


@dataclass(frozen=True, slots=True)
class StoreLister:
    """How everything of one backend is listed.

    Args:
        side: the backend.

    Raises:
        ConfigurationError: it has no bucket or folder of its own, so that there is nothing to list.
    """

    side: ResolvedBackend

    def __post_init__(self) -> None:
        root = self.side.root
        bucketed = root.service in _BUCKETED
        nothing = not root.root if bucketed else root.service != "memory" and not self._below[0].strip("/")
        if nothing or root.service in ("", "http"):
            raise ConfigurationError(
                f"the backend {self.side.key!r} has no bucket or folder of its own, so it cannot be listed: name others with --key"
            )

    @property
    def _below(self) -> tuple[str, Place]:
        """What stands before every filename in a path, and the place of that."""
        place = self.side.place("x")
        path = self._asked("x")[1]
        if path[-1:] != "x" or place.key[-1:] != "x":
            raise ConfigurationError(
                f"the backend {self.side.key!r} gives its files names of its own: it cannot be listed"
            )
        return path[:-1], replace(place, key=place.key[:-1])

    def _asked(self, filename: str) -> ObjectAt:
        """The store that lists, and a path in it. Of a disk, obstore would leave out names such as ``x#1``."""
        if self.side.root.service != "file":
            return self.side.resolve(filename)
        folder = f"/{self.side.root.key}"
        other = self.side.fallback(filename)
        name = f"{self.side.key} (file)"
        return other or ObjectAt(FsspecStore(LocalFileSystem(), name, root=folder), folder + filename)

    def list_objects(self, tell: Callable[[str], None]) -> Iterator[ListedObject]:
        """List everything.

        Args:
            tell: told in one line when the listing had to be begun again with another library.

        Raises:
            RunError: the listing broke off: nobody knows what it had not come to.
            StoppedError: told to stop while waiting for a limit.
        """
        lead, base = self._below
        store, _ = self._asked("x")
        try:
            yield from self._from(store, lead, base)
        except (RunError, StoppedError):
            raise
        except Exception as error:
            failure = classify(error)
            other = self.side.fallback("x") if self.side.root.service != "file" else None
            if other is None or failure.kind.is_store_wide:
                raise _broken(store, failure.message) from error
            # One key that obstore does not know ends its whole listing.
            tell(f"the listing of {store.name} broke off ({failure.message}): listed through fsspec")
            try:
                yield from self._from(other[0], other[1][:-1], base)
            except Exception as again:
                raise _broken(other[0], classify(again).message) from again

    def _from(self, store: Store, lead: str, base: Place) -> Iterator[ListedObject]:
        below = lead.lstrip("/")
        for meta in store.list(lead.rstrip("/")):
            path = meta.path.lstrip("/")
            if not path.startswith(below):
                # Another name that begins alike, or a file that is named as the folder.
                continue
            name = path[len(below) :]
            place = replace(base, key=base.key + name)
            yield ListedObject(
                location=Location(self.side.key, name),
                place=place,
                meta=meta,
                link=resolve_links(place).key != place.key,
            )


def _broken(store: Store, message: str) -> RunError:
    return RunError(
        f"the listing of {store.name} broke off: {message}; nobody knows what it had not come to, so no object is called an orphan: mend that, then run the same command again"
    )


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
                if listing.fallback is None or failure.kind.is_store_wide:
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
    with closing(SpilledMap()) as spill:
        for key, meta in entries:
            spill.add(key, meta)
        yield from spill
