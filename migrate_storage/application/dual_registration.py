"""Two registrations side by side: both keys resolve in every process before the first row is re-pointed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from advanced_alchemy.types.file_object import StorageBackend
from sqlalchemy import Engine, MetaData
from sqlalchemy.ext.asyncio import AsyncEngine

from migrate_storage.application.application import running_application
from migrate_storage.application.inspection import inspect
from migrate_storage.backend import ObstoreBackend
from migrate_storage.core.errors import ConfigurationError

__all__ = ("Dual", "DualHealth", "Registry", "dual_register")


class Registry(Protocol):
    """What is used of advanced-alchemy's ``storages``."""

    def is_registered(self, key: str) -> bool:
        """Whether a backend has the key."""

    def get_backend(self, key: str) -> StorageBackend:
        """The backend under a key."""

    def register_backend(self, value: StorageBackend) -> None:
        """Register a backend under its own key."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DualHealth:
    """What one process says of its two registrations."""

    #: The two keys, and whether each resolves in this process.
    resolves: Mapping[str, bool]
    #: Files that rows name, by backend key, the two keys always among them; ``None`` where no engine was given.
    files: Mapping[str, int] | None = None
    #: Keys that rows name and this process cannot resolve.
    unknown: tuple[str, ...] = ()
    #: Values that cannot be read as files, and may name any key.
    unreadable: int = 0

    @property
    def healthy(self) -> bool:
        """Whether every row can be opened through a registration of this process, as far as keys go."""
        return all(self.resolves.values()) and not self.unknown and not self.unreadable

    def as_dict(self) -> dict[str, Any]:
        """In JSON's terms, for a health endpoint."""
        return {
            "healthy": self.healthy,
            "resolves": dict(self.resolves),
            "files": None if self.files is None else dict(self.files),
            "unknown": list(self.unknown),
            "unreadable": self.unreadable,
        }


@dataclass(frozen=True, slots=True)
class Dual:
    """Two keys of one registry."""

    storages: Registry
    from_key: str
    to_key: str

    def health(self, engine: Engine | AsyncEngine | None = None, metadata: MetaData | None = None) -> DualHealth:
        """Whether both keys resolve here and now, and what the rows name.

        Blocks, also for an asynchronous engine: call it by ``asyncio.to_thread`` from a coroutine.

        Args:
            engine: the application's; every row of every StoredObject column is then read once, on a connection of
                its own. ``None`` reads none, which is for probes that ask every few seconds.
            metadata: of the models in that database, where the process has models in several.

        Raises:
            ConfigurationError: the database cannot be reached.
            ApplicationError: no model with a StoredObject column is loaded in this process.
        """
        resolves = {key: self.storages.is_registered(key) for key in (self.from_key, self.to_key)}
        if engine is None:
            return DualHealth(resolves=resolves)
        found = inspect(running_application(engine, metadata))
        named = {use.key: use.total for use in found.backends if use.total or use.key in resolves}
        return DualHealth(
            resolves=resolves,
            files={**dict.fromkeys(resolves, 0), **named},
            unknown=tuple(key for key in named if not self.storages.is_registered(key)),
            unreadable=sum(found.broken.values()),
        )


def dual_register(storages: Registry, from_key: str, to_key: str, fs: Any = None, **options: Any) -> Dual:
    """Register the new backend beside the old one, in each process of an application, before any row is re-pointed.

    A row that names a key which some process cannot resolve is a file that this process cannot open. So call this where
    the application registers its backends, deploy, let :meth:`Dual.health` prove it, and only then ``run``.

    Args:
        storages: the registry that models use; advanced-alchemy's ``storages`` by default.
        from_key: the key that rows name today; registered already.
        to_key: the key that rows shall name.
        fs: where the new backend stores, as for :class:`ObstoreBackend`, or a backend whose key is ``to_key``. ``None``
            takes what is registered under ``to_key``, or else the same place as ``from_key``, through obstore.
        **options: further arguments of :class:`ObstoreBackend`.

    Returns:
        The two, with their health.

    Raises:
        ConfigurationError: the keys are the same, ``from_key`` is not registered, ``to_key`` is already and ``fs`` is given
            too, or the new backend cannot be made. Nothing is registered then.
    """
    if from_key == to_key:
        raise ConfigurationError(
            f"both keys are {from_key!r}: rows could not tell the backends apart; choose another to_key"
        )
    if not storages.is_registered(from_key):
        raise ConfigurationError(
            f"no backend is registered under {from_key!r}: register it before dual_register is called"
        )
    registered = storages.is_registered(to_key)
    if registered and (fs is not None or options):
        raise ConfigurationError(f"a backend is registered under {to_key!r} already: leave out fs and its options")
    if not registered:
        storages.register_backend(_made(storages.get_backend(from_key), to_key, fs, options))
    return Dual(storages, from_key, to_key)


def _made(source: StorageBackend, key: str, fs: Any, options: dict[str, Any]) -> StorageBackend:
    if isinstance(fs, StorageBackend):
        if options or fs.key != key:
            raise ConfigurationError(
                f"the backend given has the key {fs.key!r}: make it with key={key!r}, and pass no options"
            )
        return fs
    if fs is None:
        return ObstoreBackend.from_fsspec(source, key=key, **options)
    return ObstoreBackend(key, fs, **options)
