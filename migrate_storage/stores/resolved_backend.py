"""A registered backend as a side of a transfer: from filenames to stores and keys."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

from migrate_storage.core.errors import ConfigurationError, KeyRefusedError
from migrate_storage.core.model import Capabilities, Place
from migrate_storage.stores.backend_store import BackendStore, describe_read_only
from migrate_storage.stores.base import ObjectAt, Store
from migrate_storage.stores.config.open import open_store
from migrate_storage.stores.fsspec_store import FsspecStore
from migrate_storage.stores.obstore_store import ObstoreStore
from migrate_storage.stores.rate_limit import StoreLimits
from migrate_storage.stores.second_way import SecondWayStore
from migrate_storage.stores.server_side_copy import ServerSideCopier
from migrate_storage.stores.throttled_store import ThrottledStore
from migrate_storage.translate import unaddressable
from migrate_storage.translate.registration import Registration, backend_pair, read

__all__ = ("ResolvedBackend", "describe_two_places", "refuse_own_class")

Bucket = tuple[str, str]
"""The endpoint and the root of a place."""


def describe_two_places(backend: Any) -> str:
    """Return why a command that needs one place refuses a CutoverBackend, and what to do instead."""
    return (
        f"{backend.key!r} is a CutoverBackend, which is two places ({backend.source.key!r} and {backend.destination.key!r}): "
        "'migrate-storage cutover repair --all' copies between them, and no row changes. For anything else end the cutover, "
        f"then register one of them alone under {backend.key!r}"
    )


def refuse_own_class(side: ResolvedBackend) -> None:
    """Refuse what lists, writes or deletes.

    Raises:
        ConfigurationError: the backend is of the application's own class, which is only read.
    """
    if side.registration.own_class:
        raise ConfigurationError(describe_read_only(side.key, side.registration.own_class))


_LISTING_RETRIES = 4
"""How often obstore repeats each request of a listing. Its pauses begin at 0.1 s and double."""


class ResolvedBackend:
    """A backend and its stores, one for each bucket, opened when first needed.

    Args:
        backend: a StorageBackend: FSSpecBackend, an ObstoreBackend of this package or of advanced-alchemy, or the
            application's own class.
        attempts: how often obstore itself sends one request; jobs repeat requests themselves.
        pace: limits the requests; ``None`` sets no limit.
        opaque_etags: whether the user says that its ETags are no digests, although they look like MD5s.
        consistent_listings: whether the user says that its listings show each write that was acknowledged before.
        canary_prefix: of filenames behind which the user allows canary objects; ``None`` where they are not allowed.
        label: its name in messages and reports; ``None`` means its backend key.

    Raises:
        ConfigurationError: it is a CutoverBackend, which has two places; :mod:`migrate_storage.cutover.resolved` reads it.
    """

    def __init__(
        self,
        backend: Any,
        *,
        attempts: int = 1,
        pace: StoreLimits | None = None,
        opaque_etags: bool = False,
        consistent_listings: bool = False,
        canary_prefix: str | None = None,
        label: str | None = None,
    ) -> None:
        if backend_pair(backend) is not None:
            raise ConfigurationError(describe_two_places(backend))
        self._label = label
        self.backend, self._attempts, self._pace = backend, attempts, pace
        self.opaque_etags, self.consistent_listings = opaque_etags, consistent_listings
        self.canary_prefix = canary_prefix
        self.registration: Registration = read(backend)
        self._stores: dict[str | Bucket, Store] = {}
        self._both_ways: dict[Bucket, Store] = {}
        #: The stores whose objects have the keys of their places.
        self._by_key: dict[Bucket, Store] = {}
        self._lock = threading.Lock()
        self._capabilities: Capabilities | None = None
        #: Whether a request was sent through the application's filesystem, so that its session is open.
        self.filesystem_opened = False
        self._probing = threading.Lock()

    @property
    def key(self) -> str:
        """The backend key in rows; of one side of a cutover its label."""
        return self._label or str(self.backend.key)

    @property
    def parts(self) -> tuple[ResolvedBackend, ...]:
        """The backends that have one place each: this one; of a cutover its two sides."""
        return (self,)

    def read_orders(self, filename: str) -> tuple[tuple[ObjectAt, ...], ...]:
        """Return what the application's processes may read for a row's file.

        Each order has the objects that one process asks for, the next only where the one before it is missing. All
        processes have one order here. During a cutover, processes in different phases may have different ones.

        Raises:
            KeyRefusedError: no library can address that key.
        """
        return ((self.resolve(filename),),)

    def unsettled_places(self) -> Iterator[Place]:
        """Yield the places that an unfinished cutover may still read or write, whether rows name them or not."""
        return iter(())

    @cached_property
    def root(self) -> Place:
        """The place below which all files are; no ``root`` where each row names a bucket."""
        return self.registration.base

    def capabilities(self, probe: Callable[[], Capabilities]) -> Capabilities:
        """Return what a probe has shown of this side; the first call probes.

        Args:
            probe: called once, in whichever thread comes first; the others wait for it.
        """
        with self._probing:
            if self._capabilities is None:
                self._capabilities = probe()
            return self._capabilities

    def place(self, filename: str) -> Place:
        """Return where the bytes of a row's filename are."""
        return self.registration.place(filename)

    def resolve(self, filename: str, place: Place | None = None) -> ObjectAt:
        """Return the store that serves a row's file, and its key there.

        Args:
            filename: as in the row.
            place: what :meth:`place` returned for it, where that is known.

        Raises:
            KeyRefusedError: no library can address that key.
        """
        if self.registration.own_class:
            return ObjectAt(self._open_own(), filename)
        place = place or self.place(filename)
        reason = unaddressable(place.key, local=place.service == "file")
        store = self._by_key.get((place.endpoint, place.root))
        if store is not None and reason is None:
            return ObjectAt(store, place.key)
        if self.registration.driver == "fsspec":
            config = self.registration.config_at(place)
            if reason is None and config is not None:
                return self._keep_store(place, self._open_both_ways(place, config))
            if self.registration.filesystem is None:
                raise KeyRefusedError(_describe_refusal(reason) if reason else f"the key {place.key!r} is in no store")
            return ObjectAt(self._open_fsspec(), self.registration.path(filename))
        if reason is not None:
            raise KeyRefusedError(_describe_refusal(reason))
        config = self.registration.config_at(place) if place.service in ("s3", "gcs", "azure") else None
        if config is None:
            return ObjectAt(self._open_once("live:", self._open_live), filename)
        return self._keep_store(place, self._open_obstore(place, config))

    def _keep_store(self, place: Place, store: Store) -> ObjectAt:
        self._by_key[place.endpoint, place.root] = store
        return ObjectAt(store, place.key)

    @property
    def is_translated(self) -> bool:
        """Whether the application uses a filesystem of fsspec, whose objects are read through obstore here."""
        return getattr(self.backend, "driver", "") == "fsspec" and self.registration.filesystem is not None

    def resolve_live(self, filename: str) -> ObjectAt:
        """Return a row's file as the application itself reaches it: through its filesystem, where it has one.

        Args:
            filename: as in the row.

        Raises:
            KeyRefusedError: no library can address that key.
        """
        if not self.is_translated:
            return self.resolve(filename)
        return ObjectAt(self._open_fsspec(), self.registration.path(filename))

    def resolve_live_place(self, place: Place) -> ObjectAt | None:
        """Return the object at a place, as the application itself reaches it; ``None`` if unreachable."""
        if not self.is_translated:
            return self.resolve_place(place)
        return self._locate_in_filesystem(place)

    def copier(self, place: Place) -> ServerSideCopier | None:
        """Return what lets the service copy from a place's bucket to this one, if both are one S3 service.

        Only a probe shows whether it copies: see :mod:`migrate_storage.engine.server_side_copy`.
        """
        root = self.root
        if not root.service == place.service == "s3" or root.endpoint != place.endpoint:
            return None
        config = self.registration.config_at(root)
        if config is None or not root.root or not place.root:
            return None
        endpoint = root.endpoint
        if not endpoint.startswith(("http://", "https://")):
            region = str(config.options.get("region") or "")
            if not region:
                return None
            endpoint = f"https://s3.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}"
        prepared = replace(config, root=root.root, retry={"max_retries": self._attempts - 1})
        return ServerSideCopier(prepared, endpoint, place.root, pace=self._pace)

    def resolve_place(self, place: Place) -> ObjectAt | None:
        """Return the object at a place that any backend named; ``None`` if unreachable."""
        if self.registration.driver == "fsspec":
            config = self.registration.config_at(place)
            if config is not None:
                return ObjectAt(self._open_obstore(place, config), place.key)
            if self.registration.filesystem is None:
                return None
            folder = "" if place.root == "/" else place.root
            return ObjectAt(self._open_fsspec(), f"{folder}/{place.key}")
        root = self.root
        if self.registration.own_class and (place.service, place.endpoint) != (root.service, root.endpoint):
            return None
        if root.root == place.root and place.key.startswith(root.key):
            return self.resolve(place.key[len(root.key) :])
        config = self.registration.config_at(place) if place.service in ("s3", "gcs", "azure") else None
        if config is None or not place.root or unaddressable(place.key) is not None:
            return None
        return ObjectAt(self._open_obstore(place, config), place.key)

    def fallback(self, filename: str) -> ObjectAt | None:
        """Return the same file through fsspec, for when obstore fails; ``None``: no way."""
        if self.registration.driver != "fsspec" or self.registration.filesystem is None:
            return None
        if self.registration.config_at(self.place(filename)) is None:
            return None
        return ObjectAt(self._open_fsspec(), self.registration.path(filename))

    def throttle(self, store: Store) -> Store:
        """Return the store, limited as the other stores of this backend are."""
        return store if self._pace is None else ThrottledStore(store, self._pace)

    def _open_live(self) -> Store:
        fs = getattr(self.backend, "fs", None)
        if not callable(getattr(fs, "head", None)):
            raise ConfigurationError(
                f"backend {self.key!r} cannot be read: its class {type(self.backend).__name__} has no obstore store as its 'fs'. "
                "Register an FSSpecBackend or an ObstoreBackend for the same files"
            )
        return ObstoreStore(fs, self._store_name(""))

    def _open_own(self) -> Store:
        with self._lock:
            # It keeps to the limits by itself: its HEAD reads bytes.
            if "own:" not in self._stores:
                self._stores["own:"] = BackendStore(self.backend, self.key, self._pace)
            return self._stores["own:"]

    def _open_fsspec(self) -> Store:
        config = self.registration.translation.config
        root = config.root if config is not None and config.service == "file" else None
        name = f"{self.key} (fsspec {self.registration.protocol})"
        return self._open_once("fsspec:", lambda: FsspecStore(self.registration.filesystem, name, root=root))

    def _locate_in_filesystem(self, place: Place) -> ObjectAt:
        folder = place.endpoint if place.service == "http" else place.root
        if place.service in ("file", "memory") or folder == "/":
            folder = ""
        return ObjectAt(self._open_fsspec(), f"{folder}/{place.key}")

    def _open_both_ways(self, place: Place, config: Any) -> Store:
        store = self._open_obstore(place, config)
        if self.registration.filesystem is None:
            return store
        with self._lock:
            bucket = place.endpoint, place.root
            if bucket not in self._both_ways:
                self._both_ways[bucket] = SecondWayStore(
                    store, lambda key: self._locate_in_filesystem(replace(place, key=key))
                )
            return self._both_ways[bucket]

    def _open_obstore(self, place: Place, config: Any) -> Store:
        whole = self.registration.translation.config
        within = whole.root if whole is not None and whole.service == "file" else None

        def open_with_retries(count: int) -> Any:
            return open_store(replace(config, retry={"max_retries": count}))

        def build() -> Store:
            return ObstoreStore(
                open_with_retries(self._attempts - 1), self._store_name(place.root), within=within,
                open_for_listings=partial(open_with_retries, _LISTING_RETRIES),
            )  # fmt: skip

        return self._open_once((place.endpoint, place.root), build)

    def _store_name(self, root: str) -> str:
        return f"{self.key} ({self.registration.protocol}{':' if root else ''}{root})"

    def _open_once(self, name: str | Bucket, build: Callable[[], Store]) -> Store:
        with self._lock:
            if name not in self._stores:
                self._stores[name] = self.throttle(build())
            return self._stores[name]


def _describe_refusal(reason: str) -> str:
    return f"its key {reason}, which obstore cannot address: rename it in the store itself, or remove it there if nothing needs it"
