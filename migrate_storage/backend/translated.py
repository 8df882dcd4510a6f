"""An obstore backend that finds each file where an fsspec backend had it."""

from __future__ import annotations

import threading
from typing import Any

from advanced_alchemy.types.file_object.base import PathLike

from migrate_storage.backend.located import text
from migrate_storage.backend.obstore import ObstoreBackend
from migrate_storage.errors import ConfigurationError, KeyRefusedError
from migrate_storage.model import Place, StoreConfig
from migrate_storage.registration import Registration, read
from migrate_storage.stores.opening import open_store

__all__ = ("TranslatedBackend",)


class TranslatedBackend(ObstoreBackend):
    """See :meth:`ObstoreBackend.from_fsspec`.

    Attributes:
        registration: how filenames become places.
        fs: the store of the backend's own bucket; ``None`` where each filename names a bucket.
    """

    registration: Registration

    def __init__(self, backend: Any, *, key: str | None = None, **options: Any) -> None:
        self._source = backend
        self._given = options
        self.registration = read(backend)
        config = self.registration.translation.config
        if config is None or config.service == "memory":
            notes = self.registration.translation.refused
            why = notes[0].message if notes else "its files live in the memory of fsspec"
            raise ConfigurationError(f"the backend {backend.key!r} cannot be opened by obstore: {why}")
        self._stores: dict[str, tuple[Any, StoreConfig]] = {}
        self._lock = threading.Lock()
        if config.root:
            super().__init__(key or backend.key, config, **options)
        else:
            # A store is needed to construct with, and there is none before the first filename names its bucket.
            super().__init__(key or backend.key, None, **options)
            self._describe(config)

    def __reduce__(self) -> Any:
        return _again, (type(self), self._source, self.key, self._given)

    def _locate(self, path: PathLike) -> tuple[Any, str]:
        name = text(path)
        if not name:
            self._check(name)
        place = self.registration.place(name)
        self._check(place.key)
        self._stay_inside(name, place)
        return self._store(place)[0], place.key

    def _stay_inside(self, name: str, place: Place) -> None:
        config = self.config
        if place.service == "file" and config and config.root.strip("/"):
            below = f"{config.root.strip('/')}/"
            if not place.key.startswith(below):
                raise KeyRefusedError(f"the key {name!r} leads out of {config.root}; it was not touched")

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


def _again(kind: type[TranslatedBackend], source: Any, key: str, options: dict[str, Any]) -> TranslatedBackend:
    return kind(source, key=key, **options)
