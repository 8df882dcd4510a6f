"""Register the new backend beside the old one, so that both keys resolve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from advanced_alchemy.types.file_object import StorageBackend
from advanced_alchemy.types.file_object.registry import StorageRegistry
from sqlalchemy import Engine, MetaData
from sqlalchemy.ext.asyncio import AsyncEngine

from migrate_storage.application.application import running_application
from migrate_storage.application.inspection import inspect
from migrate_storage.backend import ObstoreBackend
from migrate_storage.core.errors import ConfigurationError

__all__ = ("BackendPair", "BackendPairHealth", "register_pair", "registered_pairs")

_registered: dict[str, str] = {}
"""The pairs of keys that this process registered, in the order in which it did."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BackendPairHealth:
    """The state of the two registrations in one process."""

    #: The two keys, and whether each resolves in this process.
    resolves: Mapping[str, bool]
    #: Count of files by backend key, always with the two keys; ``None`` if no engine was given.
    files: Mapping[str, int] | None = None
    #: Keys that rows name and this process cannot resolve.
    unknown: tuple[str, ...] = ()
    #: Count of values that cannot be read as files. They may name any key.
    unreadable: int = 0

    @property
    def healthy(self) -> bool:
        """Whether every key that rows name resolves in this process."""
        return all(self.resolves.values()) and not self.unknown and not self.unreadable

    def as_dict(self) -> dict[str, Any]:
        """Return values that JSON can represent, for a health endpoint."""
        return {
            "healthy": self.healthy,
            "resolves": dict(self.resolves),
            "files": None if self.files is None else dict(self.files),
            "unknown": list(self.unknown),
            "unreadable": self.unreadable,
        }


@dataclass(frozen=True, slots=True)
class BackendPair:
    """Two keys of one registry."""

    storages: StorageRegistry
    from_key: str
    to_key: str

    def health(self, engine: Engine | AsyncEngine | None = None, metadata: MetaData | None = None) -> BackendPairHealth:
        """Report whether both keys resolve in this process, and which keys rows name.

        The call blocks, also for an asynchronous engine. A coroutine calls it with ``asyncio.to_thread``.

        Args:
            engine: The application's engine. Every row of every StoredObject column is read once, on a new
                connection. ``None`` reads no row, which suits health probes every few seconds.
            metadata: The metadata of the models in that database, if the process has several.

        Raises:
            ConfigurationError: the database cannot be reached.
            ApplicationError: no model with a StoredObject column is loaded in this process.
        """
        resolves = {key: self.storages.is_registered(key) for key in (self.from_key, self.to_key)}
        if engine is None:
            return BackendPairHealth(resolves=resolves)
        inspection = inspect(running_application(engine, metadata))
        named = {use.key: use.total for use in inspection.backends if use.total or use.key in resolves}
        return BackendPairHealth(
            resolves=resolves,
            files={**dict.fromkeys(resolves, 0), **named},
            unknown=tuple(key for key in named if not self.storages.is_registered(key)),
            unreadable=sum(inspection.broken.values()),
        )


def register_pair(storages: StorageRegistry, from_key: str, to_key: str, fs: Any = None, **options: Any) -> BackendPair:
    """Register the new backend beside the old one, in each process of an application.

    A process cannot open a file whose key it cannot resolve. Therefore call this function where the application
    registers its backends, deploy, check :meth:`BackendPair.health`, and then use ``run``.

    Args:
        storages: The registry of the models, usually advanced-alchemy's ``storages``.
        from_key: The registered key that rows name today.
        to_key: The key that rows will name.
        fs: The place of the new backend, as for :class:`ObstoreBackend`, or a backend with the key ``to_key``.
            ``None`` means the backend registered under ``to_key``, or else the place of ``from_key``, through obstore.
        **options: Further arguments of :class:`ObstoreBackend`.

    Returns:
        The two keys, with their health.

    Raises:
        ConfigurationError: the keys are the same, or ``from_key`` is not registered, or ``to_key`` is registered and ``fs``
            is given, or the new backend cannot be made. Then nothing is registered.
    """
    if from_key == to_key:
        raise ConfigurationError(
            f"both keys are {from_key!r}: rows could not distinguish the backends; choose another to_key"
        )
    if not storages.is_registered(from_key):
        raise ConfigurationError(
            f"no backend is registered under {from_key!r}: register it before register_pair is called"
        )
    registered = storages.is_registered(to_key)
    if registered and (fs is not None or options):
        raise ConfigurationError(f"a backend is registered under {to_key!r} already: leave out fs and its options")
    if not registered:
        storages.register_backend(_make_backend(storages.get_backend(from_key), to_key, fs, options))
    _registered[from_key] = to_key
    return BackendPair(storages, from_key, to_key)


def registered_pairs(backends: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the pairs of keys that :func:`register_pair` registered in this process, in their order.

    Args:
        backends: The application's backends by their keys; a pair of which a key is missing is left out.
    """
    return [pair for pair in _registered.items() if set(pair) <= set(backends)]


def _make_backend(source: StorageBackend, key: str, fs: Any, options: dict[str, Any]) -> StorageBackend:
    if isinstance(fs, StorageBackend):
        if options or fs.key != key:
            raise ConfigurationError(
                f"the backend given has the key {fs.key!r}: make it with key={key!r}, and pass no options"
            )
        return fs
    if fs is None:
        return ObstoreBackend.from_fsspec(source, key=key, **options)
    return ObstoreBackend(key, fs, **options)
