"""What one listing tells of many objects at once, in place of a look at each. It may only confirm: in doubt each is asked for.

A listing is evidence as a look is, where it tells as much: size, entity tag and time. Whether a store's does was to be seen
before. One that breaks off, is out of order, names a key twice or an object without a tag is no evidence, and says that none of
this store is; and of each listing that is used one object, drawn by lot, is looked at too.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile

from migrate_storage.core.errors import KeyRefusedError, StoppedError
from migrate_storage.core.model import ObjectMeta
from migrate_storage.engine.verify import proven_unchanged
from migrate_storage.stores.base import Store
from migrate_storage.stores.resolved_backend import ResolvedBackend
from migrate_storage.stores.retry import Retry, StoreRequestError

__all__ = ("ListingEvidence", "SideListings", "confirmed", "key_order", "listing_matches_head")

_LEAST = 20
"""Objects for which a listing is begun at least."""
_MOST = 4
"""How many keys a listing may tell for each that is wanted: beyond, looks are cheaper."""
_REST = 30.0
"""Seconds after which it is tried again where wanted keys were sparse, each time twice as long; far more of them are listed at once."""
_DENSER = 2
"""How many times as many wanted keys are worth a listing though so many were sparse just now."""
_TRIES = 3
"""Objects with which a listing is compared before it is used, at most."""
_PAGE = 1000
"""Keys that a service tells in one answer."""


def listing_matches_head(store: Store, path: str, retry: Retry) -> bool:
    """Whether a listing of a store says of an object what a look at it does, all of it.

    Args:
        store: the store.
        path: the full key of an object that is there.
        retry: how a failed request is sent again.

    Returns:
        ``False`` too where it may not be listed, where there is no such object, and for a local disk: looks are cheap there.
    """
    if store.is_local:
        return False

    def read() -> list[ObjectMeta]:
        return [meta for meta in islice(store.list(_folder([path]), after=path[:-1]), _PAGE) if meta.path == path]

    try:
        seen, found = retry.call(read), retry.call(lambda: store.head(path))
    except StoreRequestError:
        return False
    return (
        len(seen) == 1
        and bool(found.e_tag)
        and found.last_modified is not None
        and (seen[0].e_tag, seen[0].version) == (found.e_tag, found.version)
        and proven_unchanged(found.evidence, seen[0].evidence)
    )


class ListingEvidence:
    """The listings of one side, from any thread.

    Args:
        side: what is listed.
        retry: how a failed look is sent again; a failed listing is not.
        trusted: whether a listing was seen to tell what a look does.
    """

    def __init__(
        self, side: ResolvedBackend, retry: Retry, *, trusted: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._side, self._retry, self._clock = side, retry, clock
        #: Whether a listing is evidence here: it was seen to be, and nothing spoke against it since.
        self.trusted = trusted
        self._rest, self._until, self._sparse = _REST, 0.0, 0

    @classmethod
    def probe(cls, side: ResolvedBackend, retry: Retry, filenames: Iterable[str]) -> ListingEvidence:
        """Those of a side that is only read, believed where one of a few objects, for some may be gone, is listed as it is.

        Args:
            side: what is listed.
            retry: how a failed request is sent again.
            filenames: of some objects, as rows have them.
        """
        for filename in islice(filenames, _TRIES):
            with contextlib.suppress(KeyRefusedError):
                if listing_matches_head(*side.resolve(filename), retry):
                    return cls(side, retry, trusted=True)
        return cls(side, retry, trusted=False)

    @property
    def ready(self) -> bool:
        """Whether it is worth while to ask for as many at once as last time."""
        return self.trusted and self._clock() >= self._until

    def fetch(self, filenames: Sequence[str]) -> dict[str, ObjectMeta]:
        """List the range of keys in which some objects are, from this moment on.

        Returns:
            Those of them that were seen, by filename. Of any other nothing is known.

        Raises:
            StoppedError: told to stop while waiting for a limit.
        """
        by_store: dict[int, tuple[Store, dict[str, str]]] = {}
        for filename in filenames if self.trusted else ():
            try:
                store, path = self._side.resolve(filename)
            except KeyRefusedError:
                continue
            by_store.setdefault(id(store), (store, {}))[1][path] = filename
        found: dict[str, ObjectMeta] = {}
        least = _LEAST if self.ready else _DENSER * self._sparse
        for store, wanted in by_store.values():
            if len(wanted) >= least:
                seen = self._seen(store, wanted)
                if not seen:
                    continue
                lot = random.choice(list(seen.values()))  # noqa: S311 - not a secret
                if confirmed(store, lot.path, lot, self._retry):
                    found.update((wanted[path], meta) for path, meta in seen.items())
        return found

    def _seen(self, store: Store, wanted: dict[str, str]) -> dict[str, ObjectMeta]:
        paths = sorted(wanted, key=key_order)
        found: dict[str, ObjectMeta] = {}
        last, end = b"", key_order(paths[-1])
        try:
            for count, meta in enumerate(store.list(_folder(paths), after=paths[0][:-1])):
                position = key_order(meta.path)
                if count == _MOST * len(wanted):
                    self._until, self._rest, self._sparse = self._clock() + self._rest, self._rest * 2, len(wanted)
                    return {}
                if position <= last or not meta.e_tag:
                    self.trusted = False
                    return {}
                if position > end:
                    break
                last = position
                if meta.path in wanted:
                    found[meta.path] = meta
        except StoppedError:
            raise
        except Exception:  # noqa: BLE001 - whatever it is, each object is looked at then
            return {}
        return found


@dataclass(frozen=True, slots=True)
class SideListings:
    """The listings of both sides of a route."""

    source: ListingEvidence
    destination: ListingEvidence


def confirmed(store: Store, path: str, seen: ObjectMeta, retry: Retry) -> bool:
    """Whether a look says the same of an object as a listing; one that was replaced or deleted just now speaks against it too.

    Args:
        store: where to look.
        path: the object's full key there.
        seen: what the listing told.
        retry: how a failed look is sent again.
    """
    try:
        found = retry.call(lambda: store.head(path))
    except StoreRequestError:
        return False
    return proven_unchanged(seen.evidence, found.evidence)


def key_order(path: str) -> bytes:
    """What services list their keys in the order of."""
    return path.encode("utf-8", "surrogatepass")


def _folder(paths: Sequence[str]) -> str:
    """The folder in which all of these keys are, that are in order."""
    pairs = zip(paths[0].split("/")[:-1], paths[-1].split("/")[:-1], strict=False)
    return "/".join(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
