"""One registered backend as a side of a transfer: from a row's filename to a store and the path to say to it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from migrate_storage.core.errors import KeyRefusedError
from migrate_storage.core.model import Capabilities, Place
from migrate_storage.stores.base import ObjectAt, Store
from migrate_storage.stores.config.open import open_store
from migrate_storage.stores.fsspec_store import FsspecStore
from migrate_storage.stores.obstore_store import ObstoreStore
from migrate_storage.stores.rate_limit import StoreLimits
from migrate_storage.stores.server_side_copy import ServerSideCopier
from migrate_storage.stores.throttled_store import ThrottledStore
from migrate_storage.translate import unaddressable
from migrate_storage.translate.registration import Registration, read

__all__ = ("ResolvedBackend",)


class ResolvedBackend:
    """A backend and the stores behind it, one for each bucket, opened when first needed.

    Args:
        backend: a StorageBackend: FSSpecBackend, or an ObstoreBackend of this package or of advanced-alchemy.
        attempts: how often obstore itself sends one request; the engine has its own retries above.
        pace: how fast the stores are spoken to; ``None`` sets no limit.
    """

    def __init__(self, backend: Any, *, attempts: int = 1, pace: StoreLimits | None = None) -> None:
        self._pace = pace
        self.backend = backend
        self.registration: Registration = read(backend)
        self._attempts = attempts
        self._stores: dict[str, Store] = {}
        self._lock = threading.Lock()
        self._capabilities: Capabilities | None = None
        self._probing = threading.Lock()

    @property
    def key(self) -> str:
        """The backend key that rows name."""
        return str(self.backend.key)

    @property
    def root(self) -> Place:
        """The place under which everything of this backend is; its ``root`` is empty when each row names a bucket."""
        return self.registration.base

    def capabilities(self, probe: Callable[[], Capabilities]) -> Capabilities:
        """Return what this side was seen to do; it is probed when first asked for.

        Args:
            probe: called once, in whichever thread comes first; the others wait for it.
        """
        with self._probing:
            if self._capabilities is None:
                self._capabilities = probe()
            return self._capabilities

    def place(self, filename: str) -> Place:
        """Where the bytes of a row's filename are."""
        return self.registration.place(filename)

    def resolve(self, filename: str) -> ObjectAt:
        """The store that holds a row's file, and its path there.

        Args:
            filename: as the row has it.

        Raises:
            KeyRefusedError: no library reaches that key as it is.
        """
        place = self.place(filename)
        local = place.service == "file"
        reason = unaddressable(place.key, local=local)
        if self.registration.driver == "fsspec":
            config = self.registration.config_at(place)
            if reason is not None or config is None:
                if self.registration.filesystem is None:
                    raise KeyRefusedError(reason or f"the key {place.key!r} is in no store")
                return ObjectAt(self._fsspec(), self.registration.path(filename))
            return ObjectAt(self._obstore(place, config), place.key)
        if reason is not None:
            raise KeyRefusedError(reason)
        config = self.registration.config_at(place) if place.service in ("s3", "gcs", "azure") else None
        if config is None:
            return ObjectAt(self._live(), filename)
        return ObjectAt(self._obstore(place, config), place.key)

    def copier(self, place: Place) -> ServerSideCopier | None:
        """What lets the service copy from a place's bucket to here; ``None`` where it is not one S3 service, or has no address.

        Whether it really copies is to be seen by trying: see :mod:`migrate_storage.engine.server_side_copy`.
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
        """The store of this side in which a place would be, whoever named it; ``None`` where it cannot be asked."""
        if self.registration.driver == "fsspec":
            config = self.registration.config_at(place)
            if config is not None:
                return ObjectAt(self._obstore(place, config), place.key)
            if self.registration.filesystem is None:
                return None
            return ObjectAt(self._fsspec(), f"/{place.key}" if place.root in ("", "/") else f"{place.root}/{place.key}")
        root = self.root
        if root.root != place.root or not place.key.startswith(root.key):
            return None
        return self.resolve(place.key[len(root.key) :])

    def candidates_on_served_disk(self, place: Place) -> Iterator[ObjectAt]:
        """Where this side would show a place of another kind of service: a disk that a server serves, say.

        Args:
            place: a place of the other side; each end of its path is a key that this side may know it by.
        """
        root = self.root
        parts = [part for part in (*place.root.split("/"), *place.key.split("/")) if part]
        for start in range(len(parts)):
            tail = parts[start:]
            bucket, key = (root.root, tail) if root.root else (tail[0], tail[1:])
            # Of a disk only what is below the root is ever touched; a server knows nothing of the folder it serves.
            below = root.key if root.service == "file" else ""
            asked = self.resolve_place(replace(root, root=bucket, key=below + "/".join(key))) if key else None
            if asked is not None:
                yield asked

    def fallback(self, filename: str) -> ObjectAt | None:
        """Another way to read the same file where the first one failed for good; ``None`` where there is none."""
        if self.registration.driver != "fsspec" or self.registration.filesystem is None:
            return None
        if self.registration.config_at(self.place(filename)) is None:
            return None
        return ObjectAt(self._fsspec(), self.registration.path(filename))

    def throttle(self, store: Store) -> Store:
        """Return the store, limited as the other stores of this backend are."""
        return store if self._pace is None else ThrottledStore(store, self._pace)

    def _fsspec(self) -> Store:
        config = self.registration.translation.config
        root = config.root if config is not None and config.service == "file" else None
        return self._once("fsspec:", lambda: FsspecStore(self.registration.filesystem, self._name(""), root=root))

    def _live(self) -> Store:
        return self._once("live:", lambda: ObstoreStore(self.backend.fs, self._name("")))

    def _obstore(self, place: Place, config: Any) -> Store:
        whole = self.registration.translation.config
        within = whole.root if whole is not None and whole.service == "file" else None

        def build() -> Store:
            prepared = replace(config, retry={"max_retries": self._attempts - 1})
            return ObstoreStore(open_store(prepared), self._name(place.root), within=within)

        return self._once(place.root, build)

    def _name(self, root: str) -> str:
        return f"{self.key} ({self.registration.protocol}{':' if root else ''}{root})"

    def _once(self, root: str, build: Any) -> Store:
        with self._lock:
            if root not in self._stores:
                self._stores[root] = self.throttle(build())
            return self._stores[root]
