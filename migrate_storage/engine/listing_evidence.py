"""One listing in place of many HEADs. What it does not confirm gets a HEAD.

A listing replaces HEADs where it reports size, ETag and time, which is probed first. A listing that fails is discarded. So is
one that is unsorted, repeats a key or has no ETag at all, and listings of that side are not used again. A key without an ETag is
one that is being written: it gets a HEAD. For each accepted listing one random object is also checked with HEAD.

A listing may lag. At the destination that does no harm: it only confirms a copy, by its new ETag. At the source it would hide
a write, so it replaces HEADs there only where it is known to be fresh, see :func:`lists_freshly`, or where a canary proves it page
by page, see :mod:`migrate_storage.engine.canary`.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from types import MappingProxyType

from migrate_storage.core.errors import KeyRefusedError, StoppedError
from migrate_storage.core.model import ObjectMeta, Place
from migrate_storage.core.parallel import SideBySide
from migrate_storage.engine.canary import Canaries
from migrate_storage.engine.verify import proven_unchanged
from migrate_storage.stores.base import ObjectAt, Store
from migrate_storage.stores.resolved_backend import ResolvedBackend
from migrate_storage.stores.retry import Retry, StoreRequestError
from migrate_storage.translate.places import vendor_of

__all__ = (
    "ListingEvidence",
    "SideListings",
    "head_confirms",
    "listing_matches_head",
    "lists_freshly",
    "may_replace_heads",
)

MIN_WANTED_OBJECTS = 20
"""Objects for which a listing is begun at least; HEADs of fewer cost less."""
_MAX_LISTED_PER_WANTED = 4
"""Keys that may be listed for each wanted one; beyond that HEADs cost less."""
_FIRST_REST_SECONDS = 30.0
"""Seconds without listings after wanted keys were sparse. They double each time."""
_DENSER_FACTOR = 2
"""During such a rest, a listing is begun for this many times the number of keys that were sparse."""
_MAX_PROBES = 3
"""Objects with which a listing is compared before listings are used."""
_PAGE_KEYS = 1000
"""Keys in one answer to a LIST."""
_CONSISTENT_VENDORS = {"s3": "aws", "gcs": "google", "azure": "azure"}
"""Vendors that document their listings as strongly consistent, by service."""


def lists_freshly(side: ResolvedBackend) -> bool:
    """Whether a LIST shows each write that was acknowledged before it.

    That is known of services that document it and are asked under their own host name: Amazon S3
    (https://docs.aws.amazon.com/AmazonS3/latest/userguide/Welcome.html#ConsistencyModel), Google Cloud Storage
    (https://cloud.google.com/storage/docs/consistency) and Azure Blob Storage
    (https://learn.microsoft.com/azure/storage/blobs/concurrency-manage). Of others only the user can know it. No probe shows
    it: the answer to one LIST does not show how old the answer to another one is.
    """
    root = side.root
    if side.consistent_listings:
        return True
    documented = _CONSISTENT_VENDORS.get(root.service) == vendor_of(root)
    return documented and root.service in _CONSISTENT_VENDORS and not root.endpoint.startswith("http://")


def may_replace_heads(source: ResolvedBackend) -> bool:
    """Whether listings of a source may replace its HEADs: they are known to be fresh, or canaries may prove it."""
    return lists_freshly(source) or source.canary_prefix is not None


def listing_matches_head(at: ObjectAt, retry: Retry) -> bool:
    """Whether a LIST reports of an object all that a HEAD does.

    Args:
        at: an object that exists.
        retry: repeats failed requests.

    Returns:
        ``False`` too where a LIST is denied, where there is no such object, and for a local disk, whose HEADs are cheap.
    """
    if at.store.is_local:
        return False

    def list_object() -> list[ObjectMeta]:
        listed = at.store.list(_common_folder([at.key]), after=at.key[:-1])
        return [meta for meta in islice(listed, _PAGE_KEYS) if meta.path == at.key]

    with SideBySide(2) as beside:
        listing, head = beside.start(lambda: retry.call(list_object)), beside.start(lambda: retry.call(at.head))
        try:
            listed, found = listing(), head()
        except StoreRequestError:
            return False
    return (
        len(listed) == 1
        and bool(found.e_tag)
        and found.last_modified is not None
        and (listed[0].e_tag, listed[0].version) == (found.e_tag, found.version)
        and proven_unchanged(found.evidence, listed[0].evidence)
    )


class ListingEvidence:
    """The listings of one side, from any thread.

    Args:
        side: the side to list.
        retry: repeats a failed HEAD; a failed listing is not repeated.
        trusted: whether a listing was seen to report what a HEAD does.
        canaries: prove each page that is used; ``None`` where that is not needed.
        clock: seconds, for tests.
    """

    def __init__(
        self,
        side: ResolvedBackend,
        retry: Retry,
        *,
        trusted: bool,
        canaries: Canaries | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._side, self._retry, self._clock = side, retry, clock
        #: Canaries that prove each page; ``None`` where that is not needed.
        self.canaries = canaries
        #: Whether listings replace HEADs here: a probe showed it, and no listing was wrong since.
        self.trusted = trusted
        self._rest_seconds, self._rest_until, self._sparse_count = _FIRST_REST_SECONDS, 0.0, 0

    @classmethod
    def probe(cls, side: ResolvedBackend, retry: Retry, filenames: Iterable[str]) -> ListingEvidence:
        """Probe a source with a few objects, of which some may be gone.

        Where its listings are not known to be fresh, but canaries may be written, one canary is tried behind one of them.

        Args:
            side: the source.
            retry: repeats failed requests.
            filenames: of some objects, as rows have them.
        """
        canaries = None
        if side.canary_prefix is not None and not lists_freshly(side):
            canaries = Canaries(side, side.canary_prefix, retry)
        for filename in islice(filenames, _MAX_PROBES):
            with contextlib.suppress(KeyRefusedError):
                at = side.resolve(filename)
                if not listing_matches_head(at, retry):
                    continue
                evidence = cls(side, retry, trusted=True, canaries=canaries)
                if canaries is not None and canaries.allows(filename):
                    evidence.trusted = bool(evidence._list_range(at.store, {at.key: filename}))
                return evidence
        return cls(side, retry, trusted=False)

    @property
    def ready(self) -> bool:
        """Whether a listing is worthwhile for as many objects as the last one."""
        return self.trusted and self._clock() >= self._rest_until

    def fetch(
        self, filenames: Iterable[str], places: Mapping[str, Place] = MappingProxyType({})
    ) -> dict[str, ObjectMeta]:
        """List the key ranges of some objects now.

        Args:
            filenames: as rows have them.
            places: those of the objects whose places are known, by filename.

        Returns:
            Those that were listed, by filename. About the others nothing is known.

        Raises:
            StoppedError: the run was asked to stop while waiting for a limit.
        """
        wanted_of: dict[int, tuple[Store, dict[str, str]]] = {}
        for filename in filenames if self.trusted else ():
            if self.canaries is not None and not self.canaries.allows(filename):
                continue
            try:
                at = self._side.resolve(filename, places.get(filename))
            except KeyRefusedError:
                continue
            wanted_of.setdefault(id(at.store), (at.store, {}))[1][at.key] = filename
        found: dict[str, ObjectMeta] = {}
        least = MIN_WANTED_OBJECTS if self.ready else _DENSER_FACTOR * self._sparse_count
        for store, wanted in wanted_of.values():
            for part in self._split(wanted):
                if not self.trusted or len(part) < least or not (listed := self._list_range(store, part)):
                    continue
                sample = random.choice(list(listed.values()))  # noqa: S311 - not a secret
                if head_confirms(ObjectAt(store, sample.path), sample, self._retry):
                    found.update((part[key], meta) for key, meta in listed.items())
        return found

    def _split(self, wanted: dict[str, str]) -> Iterator[dict[str, str]]:
        """Yield the wanted keys of one listing after another, in order: one listing, or one page for each canary."""
        # Services order keys by the bytes of their UTF-8, as Python orders texts.
        keys, begin = sorted(wanted), 0
        while begin < len(keys):
            end = len(keys) if self.canaries is None else begin + max(self.canaries.max_keys, MIN_WANTED_OBJECTS)
            yield {key: wanted[key] for key in keys[begin:end]}
            begin = end

    def _list_range(self, store: Store, wanted: dict[str, str]) -> dict[str, ObjectMeta]:
        """List from the first wanted key to the last; return wanted ones, if evidence."""
        keys = sorted(wanted)
        found: dict[str, ObjectMeta] = {}
        last, end, most = "", keys[-1], _MAX_LISTED_PER_WANTED * len(wanted)
        in_doubt = 0
        doubtful = False
        try:
            for count, meta in enumerate(self._list(store, keys, wanted[end], most)):
                key = meta.path
                if self.canaries is None and count == most:
                    self._rest_until, self._sparse_count = self._clock() + self._rest_seconds, len(wanted)
                    self._rest_seconds *= 2
                    return {}
                # rclone lists an object that is being written without an ETag, or twice, once without an ETag.
                doubtful = not meta.e_tag or (key == last and doubtful)
                if key < last or (key == last and not doubtful):
                    self.trusted = False
                    return {}
                if key > end:
                    break
                last = key
                if doubtful:
                    in_doubt += 1
                    found.pop(key, None)
                elif key in wanted:
                    found[key] = meta
        except StoppedError:
            raise
        except Exception:  # noqa: BLE001 - after any failure each object gets a HEAD
            return {}
        if in_doubt and not found:
            self.trusted = False
        return found

    def _list(self, store: Store, keys: Sequence[str], last: str, most: int) -> Iterable[ObjectMeta]:
        """List what begins at the first of these sorted keys; ``last`` is the filename of the last one."""
        folder, after = _common_folder(keys), keys[0][:-1]
        if self.canaries is None:
            return store.list(folder, after=after)
        page = self.canaries.list_page(ObjectAt(store, keys[-1]), last, folder, after, max(most, _PAGE_KEYS))
        self.trusted = self.trusted and not self.canaries.refusal
        return page


@dataclass(frozen=True, slots=True)
class SideListings:
    """The listings of both sides of a migration."""

    source: ListingEvidence
    destination: ListingEvidence


def head_confirms(at: ObjectAt, listed: ObjectMeta, retry: Retry) -> bool:
    """Whether a HEAD reports the same object as a listing did.

    Args:
        at: the object.
        listed: what the listing reported.
        retry: repeats a failed HEAD.
    """
    try:
        found = retry.call(at.head)
    except StoreRequestError:
        return False
    return proven_unchanged(listed.evidence, found.evidence)


def _common_folder(keys: Sequence[str]) -> str:
    """Return the folder that contains all of these sorted keys."""
    pairs = zip(keys[0].split("/")[:-1], keys[-1].split("/")[:-1], strict=False)
    return "/".join(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
