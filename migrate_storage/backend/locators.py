"""Locate the obstore store and the key of a path."""

from __future__ import annotations

import os
import re
import threading
from dataclasses import replace
from typing import Any

from migrate_storage.core.errors import ConfigurationError, KeyRefusedError
from migrate_storage.core.model import Place
from migrate_storage.core.object_keys import unaddressable
from migrate_storage.stores.config.open import open_store
from migrate_storage.translate.codegen.entries import store_url
from migrate_storage.translate.model import StoreConfig, Translation
from migrate_storage.translate.registration import Registration
from migrate_storage.translate.registration.obstore_backends import config_registration, service_of

__all__ = ("BucketLocator", "StoreLocator", "reason_to_keep", "reason_to_refuse", "refused_by_successor")

#: Keys that need no check: by far most of them.
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_. -]{0,199}(?:/[A-Za-z0-9_][A-Za-z0-9_. -]{0,199}){0,3}")
#: Sources: Amazon S3 "Naming objects"; Cloud Storage "Object naming"; Azure "Naming blobs".
_MAX_KEY_BYTES = 1024
_SCHEMES = {"s3": "s3", "gcs": "gs", "azure": "az"}


class StoreLocator:
    """Locates all files in one store, each path being a key.

    Args:
        store: the obstore store; ``None`` only in a subclass that opens stores itself.
        config: what the store was made from; ``None`` where that is not known.
    """

    #: How an fsspec backend's filenames become places; ``None`` where each path is a key.
    registration: Registration | None = None

    def __init__(self, store: Any, config: StoreConfig | None) -> None:
        self.store = store
        self.config = config
        self.protocol = config.service if config else service_of(store) or "obstore"
        #: The store's name in messages.
        self.where = _name_store(config, self.protocol)

    def locate(self, path: str) -> tuple[Any, str]:
        """Return the store and the key in it that a path means.

        Raises:
            KeyRefusedError: the store cannot have such a key.
        """
        if _PLAIN_KEY.fullmatch(path) is None:
            self._check_key(path)
        return self.store, path

    def config_of(self, store: Any) -> StoreConfig | None:  # noqa: ARG002 - there is one store
        """Return what a store that :meth:`locate` returned was made from."""
        return self.config

    def list(self, folder: str) -> Any:
        """Start obstore's listing of a folder; empty for all.

        Raises:
            NotImplementedError: each path names its own bucket.
        """
        return self.store.list(self.locate(folder)[1] if folder else None)

    def _check_key(self, key: str) -> None:
        """Refuse a key that the service cannot have or obstore cannot address."""
        reason = reason_to_refuse(key, self.config, self.protocol)
        if reason:
            shown = key if key.isprintable() else ascii(key)
            raise KeyRefusedError(
                f"the key {shown[:200]!r} {reason}: {self.where} cannot have it; use another filename"
            )


def reason_to_refuse(key: str, config: StoreConfig | None, protocol: str) -> str | None:
    """Return why a store cannot have a key, in a few words; ``None`` where it can.

    Args:
        key: the key as a backend is given it, without the store's own prefix.
        config: what the store was made from; ``None`` where that is not known.
        protocol: the service.
    """
    reason = unaddressable(key, local=protocol == "file")
    if reason is not None or protocol not in _SCHEMES:
        return reason
    whole = f"{config.prefix}/{key}" if config and config.prefix else key
    if len(whole.encode()) > _MAX_KEY_BYTES:
        return f"is longer than {_MAX_KEY_BYTES} bytes"
    if "\ufffe" in key or "\uffff" in key:
        return "has a character that XML cannot, in which services list and delete"
    return "has a backslash, which Azure takes for a slash" if protocol == "azure" and "\\" in key else None


def refused_by_successor(registration: Registration, filename: str) -> str | None:
    """Return why the registration that replaces an fsspec one does not open the same object; ``None`` where it does.

    The successor is what ``translate`` and ``convert`` write: a URL with the prefix inside, which gets the filename as its
    key. Where each row names its own bucket it is :meth:`ObstoreBackend.from_fsspec`, which gets the place.

    Args:
        registration: the fsspec backend, read.
        filename: as in the row.
    """
    config = registration.translation.config
    if config is None:
        return None
    place = registration.place(filename)
    if not store_url(config):
        return reason_to_refuse(place.key, replace(config, prefix=""), config.service)
    if reason := reason_to_refuse(filename, config, config.service):
        # A prefix removes slashes in front for fsspec, but not for obstore.
        helps = reason_to_refuse(place.key, replace(config, prefix=""), config.service) is None
        advice = "; ObstoreBackend.from_fsspec takes it" if helps and registration.contains(filename) else ""
        return f"{reason}{advice}"
    successor = config_registration(registration.key, config, None, os.environ).place(filename)
    if (successor.root, successor.key) != (place.root, place.key):
        return f"would mean {successor.key!r} in place of {place.key!r}"
    return None


class BucketLocator(StoreLocator):
    """Locates each file where an fsspec backend has it.

    There is one store for each bucket, made when it is first needed.

    Args:
        registration: the fsspec backend, read.
        backend: the fsspec backend itself, for pickles; ``None`` where the owner pickles itself.

    Raises:
        ConfigurationError: its filesystem has no counterpart in obstore; the message has the reason.
    """

    registration: Registration

    def __init__(self, registration: Registration, backend: Any = None) -> None:
        config, why = registration.translation.config, reason_to_keep(registration.translation)
        if config is None or why:
            raise ConfigurationError(f"the backend {registration.key!r} cannot be opened by obstore: {why}")
        super().__init__(open_store(config) if config.root else None, config)
        self.registration, self.backend = registration, backend
        self._stores: dict[str, tuple[Any, StoreConfig]] = {}
        self._lock = threading.Lock()

    def locate(self, path: str) -> tuple[Any, str]:
        """See :class:`StoreLocator`."""
        if not path:
            self._check_key(path)
        place = self.registration.place(path)
        self._check_key(place.key)
        if not self.registration.contains(path):
            where = self.config.root if self.config else "its root"
            raise KeyRefusedError(f"the key {path!r} leads out of {where}; it was not touched")
        return self._open_bucket(place), place.key

    def config_of(self, store: Any) -> StoreConfig | None:
        """See :class:`StoreLocator`."""
        return next(config for opened, config in self._stores.values() if opened is store)

    def list(self, folder: str) -> Any:
        """See :class:`StoreLocator`."""
        if self.store is None:
            raise NotImplementedError("each filename names its own bucket: list the bucket with a backend of its own")
        return self.store.list(folder or None)

    def _open_bucket(self, place: Place) -> Any:
        with self._lock:
            if place.root not in self._stores:
                config = self.registration.config_at(place)
                if config is None or not config.root:
                    raise KeyRefusedError(f"{place.key!r} names no bucket; write BUCKET/{place.key}")
                self._stores[place.root] = open_store(config), config
            return self._stores[place.root][0]


def reason_to_keep(translation: Translation) -> str:
    """Return why a translation cannot replace the fsspec backend; empty where it can."""
    if translation.config is None:
        return translation.refused[0].message if translation.refused else "it has no counterpart"
    return "its files live in the memory of fsspec" if translation.config.service == "memory" else ""


def _name_store(config: StoreConfig | None, protocol: str) -> str:
    if config is None or protocol == "memory":
        return protocol
    inner = f"/{config.prefix}" if config.prefix else ""
    return f"{_SCHEMES[protocol]}://{config.root}{inner}" if protocol in _SCHEMES else f"{config.root}{inner}"
