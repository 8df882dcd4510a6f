"""List a store, with retry and with fsspec as the fallback.

A listing that breaks off is started again. Where obstore cannot list a key, fsspec lists all. A key that was not listed
is unknown, not missing: a listing that ends early raises :class:`IncompleteError`. The objects that it returned before
are valid.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Self

from fsspec.implementations.local import LocalFileSystem

from migrate_storage.core.errors import ConfigurationError, KeyRefusedError, RunError, StoppedError
from migrate_storage.core.model import Location, ObjectMeta, Place
from migrate_storage.core.spill import SpilledMap
from migrate_storage.stores.base import ObjectAt, Store
from migrate_storage.stores.failures import classify
from migrate_storage.stores.fsspec_store import FsspecStore
from migrate_storage.stores.listed_paths import list_beside
from migrate_storage.stores.resolved_backend import ResolvedBackend, refuse_own_class
from migrate_storage.stores.retry import Retry
from migrate_storage.translate.places import resolve_links

__all__ = (
    "IncompleteError",
    "ListedKey",
    "ListedObject",
    "Listing",
    "ListingStream",
    "StoreLister",
    "describe_slash_key",
    "refuse_slash_key",
)

_BUCKETED = frozenset({"s3", "gcs", "azure"})

ListedKey = tuple[str, ObjectMeta]
"""A key below the prefix, and the metadata of its object in the listing."""


class IncompleteError(Exception):
    """A listing broke off: what was not listed is unknown, not missing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """What to list, and how. Keys are listed without the prefix."""

    store: Store
    #: Full path in ``store`` under which to list, by whole segments; empty lists all.
    prefix: str = ""
    #: Whether the service promises keys in the order of their UTF-8 bytes.
    ordered: bool = False
    #: The same objects through another library, and the prefix there, for when a key ends the listing of ``store``.
    fallback: ObjectAt | None = None
    #: Called with one line when the fallback is used.
    on_fallback: Callable[[str], None] = lambda _: None
    #: Called with the number of objects when the listing has ended.
    on_end: Callable[[int], None] = lambda _: None
    #: How a listing that broke off for a passing reason is started again; ``None`` lists once.
    retry: Retry | None = None
    #: Whether a path outside of ``prefix`` is left out; otherwise it ends the listing.
    skip_outside: bool = False

    @classmethod
    def of_backend(
        cls, side: ResolvedBackend, retry: Retry | None = None, on_fallback: Callable[[str], None] = lambda _: None
    ) -> Self:
        """Return how a backend is listed below its prefix.

        Args:
            side: the backend.
            retry: how a listing that broke off is started again; ``None`` lists once.
            on_fallback: called with one line when fsspec lists in place of obstore.

        Raises:
            ConfigurationError: the backend has no bucket or folder of its own, or is of the application's own class.
        """
        refuse_own_class(side)
        root = side.root
        if (side.registration.protocol in _BUCKETED and not root.root) or (root.service == "file" and not root.key):
            raise ConfigurationError(
                f"{side.key!r} has no bucket or folder of its own, so it cannot be listed: give it a prefix, or name it by a URL"
            )
        if root.service == "file":
            # obstore leaves names such as x#1 out of the listing of a disk, without an error.
            folder = f"/{root.key.rstrip('/')}"
            disk = _Disk(LocalFileSystem(), f"{side.key} (file)", root=folder)
            return cls(store=side.throttle(disk), prefix=folder, retry=retry)
        store, path = side.resolve("x")
        other = side.fallback("x")
        return cls(
            store=store,
            prefix=_get_folder(path),
            ordered=_promises_order(root),
            fallback=None if other is None else ObjectAt(other.store, _get_folder(other.key)),
            on_fallback=on_fallback,
            retry=retry,
        )


class _Disk(FsspecStore):
    """A disk whose listing has no ETags: obstore, which reads the files, has others."""

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectMeta]:
        """See :class:`migrate_storage.stores.base.Store`."""
        return (replace(meta, e_tag=None) for meta in super().list(prefix, after=after))


def _get_folder(path: str) -> str:
    """Return the folder of a path whose name is ``x``."""
    return path[:-1].rstrip("/") or path[:-1]


def _promises_order(root: Place) -> bool:
    """Whether a service promises to list in the order of UTF-8 bytes.

    Amazon's general purpose buckets and Google's do. Sources: Amazon S3 API, ListObjectsV2 (and its note on directory
    buckets); Cloud Storage, "Objects: list".
    """
    return root.endpoint == "" and (
        root.service == "gcs" or (root.service == "s3" and not root.root.endswith("--x-s3"))
    )


class ListingStream:
    """The keys of one listing; it is started again where it breaks off.

    Args:
        listing: what to list.
    """

    def __init__(self, listing: Listing) -> None:
        self._listing, self._last = listing, None  # type: tuple[Listing, str | None]
        #: Whether each key came after the one before it so far, and therefore once.
        self.in_order = True

    def __iter__(self) -> Generator[ListedKey]:
        """Yield each key.

        Raises:
            IncompleteError: the listing broke off for good, or a service did not list in the order that it promises.
            StoppedError: the job was stopped while the listing waited.
        """
        listing, attempt = self._listing, 0
        while True:
            attempt += 1
            try:
                yield from self._check_order(self._list_keys(listing.store, listing.prefix), listing.store)
                return
            except (IncompleteError, RunError, StoppedError):
                raise
            except Exception as error:
                failure = classify(error)
                if failure.kind.retriable and listing.retry is not None and attempt < listing.retry.attempts:
                    listing.retry.pause(attempt)
                    continue
                broken = f"the listing of {listing.store.name} broke off"
                if listing.fallback is None or failure.kind.is_store_wide:
                    raise IncompleteError(f"{broken}: {failure.message}") from error
                listing.on_fallback(f"{broken} ({failure.message}): listed through fsspec")
                break
        store, prefix = listing.fallback
        try:
            entries = self._list_keys(store, prefix)
            yield from self._check_order(_sort_keys(entries) if listing.ordered else entries, store)
        except (IncompleteError, RunError, StoppedError):
            raise
        except Exception as error:
            raise IncompleteError(f"the listing of {store.name} broke off: {classify(error).message}") from error

    def _check_order(self, entries: Iterator[ListedKey], store: Store) -> Iterator[ListedKey]:
        """Yield the keys after the last one; all of them where no order is promised."""
        ordered, count = self._listing.ordered, 0
        passed, before = self._last, ""
        for key, meta in entries:
            if count and key <= before:
                if ordered:
                    raise IncompleteError(f"{store.name} does not list its keys in order")
                self.in_order = False
            before = key
            count += 1
            if passed is None or key > passed:
                self._last = key
            elif ordered:
                continue
            else:
                self.in_order = False
            yield key, meta
        self._listing.on_end(count)

    def _list_keys(self, store: Store, prefix: str) -> Iterator[ListedKey]:
        """Yield the objects with their keys below a prefix."""
        root = prefix.strip("/")
        for meta in store.list(prefix):
            path = meta.path
            if root:
                begin = path.find(root, 0, len(root) + 1)
                if begin < 0 or path[:begin] not in ("", "/") or not path.startswith("/", begin + len(root)):
                    if self._listing.skip_outside:
                        continue
                    raise IncompleteError(f"{store.name} lists {path!r}, which is not below {prefix!r}")
                path = path[begin + len(root) + 1 :]
                if not path and not meta.size:
                    continue  # the marker of the folder that is listed
            elif prefix:
                path = path.removeprefix("/")
            yield path, meta


def refuse_slash_key(key: str) -> None:
    """Refuse a listed key that a backend would resolve to the object without the slash.

    Args:
        key: as a listing gave it.

    Raises:
        KeyRefusedError: it is empty, or begins or ends with a slash.
    """
    if not key or key.strip("/") != key:
        raise KeyRefusedError(
            f"its key {'begins' if key.startswith('/') else 'ends'} with a slash, which obstore cannot address"
        )


def describe_slash_key(at: ObjectAt) -> str:
    """Return why an object cannot be read that is listed while a HEAD finds nothing; empty where it is not listed.

    Args:
        at: an object that was listed, and for which a request returned "not found".
    """
    if at.store.is_local:
        return ""
    listed = any(list_beside(at.key, lambda folder, after: at.store.list(folder, after=after)))
    reason = "it is listed and a HEAD finds nothing: its key begins or ends with a slash, which obstore cannot address"
    return reason if listed else ""


def _sort_keys(entries: Iterator[ListedKey]) -> Iterator[ListedKey]:
    """Yield the same by key; the first one after the listing has ended."""
    with closing(SpilledMap()) as spill:
        for key, meta in entries:
            spill.add(key, meta)
        yield from spill


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedObject:
    """One object of a store."""

    #: The key of a backend that reaches it, and the filename by which a row of that backend would name it.
    location: Location
    place: Place
    meta: ObjectMeta
    #: Whether it is a link to another file of the disk, not an object of its own.
    link: bool = False


class StoreLister:
    """Lists everything of one backend, with the place of each object.

    Args:
        side: the backend.

    Raises:
        ConfigurationError: it has no bucket or folder of its own, so that there is nothing to list.
    """

    def __init__(self, side: ResolvedBackend) -> None:
        refuse_own_class(side)
        root, path, place = side.root, side.registration.path("x"), side.place("x")
        folder = root.key if root.service == "file" else path[:-1]
        empty = not root.root if root.service in _BUCKETED else root.service != "memory" and not folder.strip("/")
        if empty or root.service in ("", "http"):
            raise ConfigurationError(
                f"the backend {side.key!r} has no bucket or folder of its own, so it cannot be listed: name others with --key"
            )
        if f"/{path}"[-2:] != "/x" or place.key[-1:] != "x":
            raise ConfigurationError(f"the backend {side.key!r} gives its files names of its own: it cannot be listed")
        self._side = side
        self._base = root if root.service == "file" else replace(place, key=place.key[:-1])

    def list_objects(self, on_fallback: Callable[[str], None]) -> Iterator[ListedObject]:
        """List everything.

        Args:
            on_fallback: called with one line when fsspec lists in place of obstore.

        Raises:
            RunError: the listing broke off.
            StoppedError: the job was stopped while the listing waited for a limit.
        """
        listing = replace(Listing.of_backend(self._side, on_fallback=on_fallback), ordered=False, skip_outside=True)
        try:
            for key, meta in ListingStream(listing):
                # fsspec's memory filesystem lists every path with a slash in front.
                name = key if listing.prefix else key.lstrip("/")
                place = replace(self._base, key=self._base.key + name)
                link = resolve_links(place).key != place.key
                yield ListedObject(location=Location(self._side.key, name), place=place, meta=meta, link=link)
        except IncompleteError as error:
            raise RunError(
                f"{error}; what comes after that is unknown, so no object is called an orphan: fix that, then run the same command again"
            ) from error
