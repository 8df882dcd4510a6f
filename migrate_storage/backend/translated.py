"""An obstore backend that finds each file where an fsspec backend had it."""

from __future__ import annotations

import threading
from typing import Any

from advanced_alchemy.types.file_object.base import PathLike

from migrate_storage.backend.base import text
from migrate_storage.backend.obstore import ObstoreBackend
from migrate_storage.core.errors import ConfigurationError, KeyRefusedError
from migrate_storage.core.model import Place
from migrate_storage.stores.config.open import open_store
from migrate_storage.translate.model import StoreConfig
from migrate_storage.translate.registration import Registration, read

__all__ = ("TranslatedBackend",)


class TranslatedBackend(ObstoreBackend):
    """See :meth:`ObstoreBackend.from_fsspec`.

    Attributes:
        registration: how filenames become places.
        fs: the store of the backend's own bucket; ``None`` where each filename names a bucket.
    """

    registration: Registration

    def __init__(
        self,
        backend: Any,
        *,
        key: str | None = None,
        store_metadata: bool = True,
        exact_last_modified: bool = False,
    ) -> None:
        self._source = backend
        self._open(read(backend), key=key, store_metadata=store_metadata, exact_last_modified=exact_last_modified)

    def _open(
        self,
        registration: Registration,
        *,
        key: str | None = None,
        store_metadata: bool = True,
        exact_last_modified: bool = False,
    ) -> None:
        self.registration = registration
        config = registration.translation.config
        if config is None or config.service == "memory":
            notes = registration.translation.refused
            why = notes[0].message if notes else "its files live in the memory of fsspec"
            raise ConfigurationError(f"the backend {registration.key!r} cannot be opened by obstore: {why}")
        self._stores: dict[str, tuple[Any, StoreConfig]] = {}
        self._lock = threading.Lock()
        store = open_store(config) if config.root else None
        self._describe(key or registration.key, store, config, store_metadata, exact_last_modified)

    def __reduce__(self) -> Any:
        return _again, (type(self), self._source, self.key, self.store_metadata, self.exact_last_modified)

    def _locate(self, path: PathLike) -> tuple[Any, str]:
        name = text(path)
        if not name:
            self._check(name)
        place = self.registration.place(name)
        self._check(place.key)
        self._stay_inside(name)
        return self._store(place)[0], place.key

    def _stay_inside(self, name: str) -> None:
        if not self.registration.contains(name):
            where = self.config.root if self.config else "its root"
            raise KeyRefusedError(f"the key {name!r} leads out of {where}; it was not touched")

    def _store(self, place: Place) -> tuple[Any, StoreConfig]:
        with self._lock:
            if place.root not in self._stores:
                config = self.registration.config_at(place)
                if config is None or not config.root:
                    raise KeyRefusedError(f"{place.key!r} names no bucket; write BUCKET/{place.key}")
                self._stores[place.root] = open_store(config), config
            return self._stores[place.root]

    def _config_of(self, store: Any) -> StoreConfig | None:
        return next(config for opened, config in self._stores.values() if opened is store)

    def _listing(self, prefix: PathLike) -> Any:
        folder = text(prefix).strip("/")
        if self.fs is None:
            raise NotImplementedError("each filename names its own bucket: list the bucket with a backend of its own")
        return self.fs.list(folder or None)


def _again(
    kind: type[TranslatedBackend], source: Any, key: str, store_metadata: bool, exact_last_modified: bool
) -> TranslatedBackend:
    return kind(source, key=key, store_metadata=store_metadata, exact_last_modified=exact_last_modified)
