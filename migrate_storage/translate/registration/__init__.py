"""Read registered backends: kind, translation, and the places of their files.

Live objects are read without being used: no filesystem is instantiated and no request is sent. For an ``S3FileSystem``
botocore makes a client from its session, and stops before it sends; hooks of that session run as for any request. Only
two kinds of files are read: the AWS configuration, by botocore, and a service account that names its own server.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from migrate_storage.translate.model import StoreConfig, Translation
from migrate_storage.translate.notes import note
from migrate_storage.translate.places import same_service
from migrate_storage.translate.registration.fsspec_backends import filesystem_registration, protocol_registration
from migrate_storage.translate.registration.obstore_backends import (
    config_registration,
    store_config,
    store_registration,
)
from migrate_storage.translate.registration.own_class import (
    DIRECT,
    find_overrides,
    own_registration,
    prefers_async,
    reads_its_own_way,
)
from migrate_storage.translate.registration.registration import Registration

__all__ = (
    "DIRECT",
    "Registration",
    "backend_pair",
    "prefers_async",
    "protocol_registration",
    "read",
    "read_filesystem",
    "same_service",
    "store_config",
)


def backend_pair(backend: Any) -> tuple[Any, Any] | None:
    """Return the source and the destination of a ``CutoverBackend``; ``None`` for a backend with one place."""
    return (backend.source, backend.destination) if getattr(backend, "driver", None) == "cutover" else None


def read(backend: Any, environment: Mapping[str, str] | None = None) -> Registration:
    """Read a registered backend.

    Args:
        backend: an ``FSSpecBackend``, an ``ObstoreBackend`` (advanced-alchemy's or ours), or any other storage backend.
        environment: environment variables; ``None`` for those of this process.

    Returns:
        The registration. For a backend of the application's own class its translation has no configuration, and a note.
    """
    key, overrides = str(getattr(backend, "key", "")), find_overrides(backend)
    if reads_its_own_way(overrides):
        return own_registration(key, backend, overrides)
    found = _read_known(key, backend, os.environ if environment is None else environment)
    return replace(found, overrides=overrides) if overrides else found


def _read_known(key: str, backend: Any, environment: Mapping[str, str]) -> Registration:
    """Read a backend that reads as a library's backend does."""
    driver = str(getattr(backend, "driver", "") or type(backend).__name__)
    if driver == "fsspec":
        prefix = getattr(backend, "prefix", None)
        return filesystem_registration(
            key, backend.fs, prefix, environment, prepare=getattr(backend, "_prepare_path", None)
        )
    if driver == "obstore":
        translated = getattr(backend, "registration", None)
        if isinstance(translated, Registration):
            # An obstore backend made from an fsspec one has the files of that one.
            return replace(translated, key=key)
        config = getattr(backend, "config", None)
        if isinstance(config, StoreConfig):
            return config_registration(key, config, backend.fs, environment)
        return store_registration(key, backend.fs, environment)
    return Registration(
        key=key,
        driver=driver,
        protocol=driver,
        translation=Translation(config=None, notes=(note("backend.unknown", driver),)),
    )


def read_filesystem(
    filesystem: Any, prefix: str | None = None, *, key: str = "", environment: Mapping[str, str] | None = None
) -> Registration:
    """Read an fsspec filesystem as if a backend used it.

    Args:
        filesystem: a live fsspec filesystem.
        prefix: the prefix of the backend.
        key: the key of the backend.
        environment: environment variables; ``None`` for those of this process.
    """
    return filesystem_registration(key, filesystem, prefix, os.environ if environment is None else environment)
