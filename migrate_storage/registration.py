"""Reads registered backends: what they are, what they translate to, and where the bytes of a row are.

Looks at live objects without using them: no filesystem is instantiated, no request is sent, no file is opened but the
AWS configuration of a profile.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from migrate_storage.model import Place, StoreConfig, Translation
from migrate_storage.translate import PROTOCOLS, translate
from migrate_storage.translate.notes import note
from migrate_storage.translate.places import (
    join_folder,
    join_prefix,
    normalise_endpoint,
    s3_endpoint,
    same_service,
    split,
)

__all__ = ("Registration", "read", "same_service")


@dataclass(frozen=True, kw_only=True, slots=True)
class Registration:
    """One registered backend, read."""

    key: str
    #: ``fsspec``, ``obstore``, or another backend's own word.
    driver: str
    #: Canonical protocol: ``s3``, ``gcs``, ``azure``, ``file``, ``memory``, ``http``, or fsspec's own name of another.
    protocol: str
    #: What the backend is in obstore's terms.
    translation: Translation
    #: The backend's own prefix, as it was given.
    prefix: str | None = None
    #: Which of several servers or dictionaries; see :class:`migrate_storage.model.Place`.
    endpoint: str = ""
    #: From a row's filename to the path that the innermost filesystem is given.
    path: Callable[[str], str] = field(repr=False, compare=False)

    def place(self, filename: str) -> Place:
        """Where the bytes of a row's filename physically are.

        Args:
            filename: As the row holds it.

        Returns:
            The place, with the full key. Whether obstore can address that key is another question:
            :func:`migrate_storage.translate.unaddressable`.
        """
        parts = split(self.protocol, self.path(filename))
        return Place(service=self.protocol, endpoint=self.endpoint, root=parts.root, key=parts.key)

    def relative(self, filename: str) -> str:
        """The key without the registration's bucket and prefix: what a row holds in a destination of its own.

        Args:
            filename: As the row holds it.

        Returns:
            The key below the registration's root. A file outside of it keeps its name as it is.
        """
        place = self.place(filename)
        below = self._below(place.root)
        if below and not place.key.startswith(below):
            return filename
        return place.key[len(below) :]

    def config_at(self, place: Place) -> StoreConfig | None:
        """The store for a place's root, with an empty prefix, so that ``place.key`` is the key in it.

        Args:
            place: A place of this registration.

        Returns:
            ``None`` where obstore has no counterpart, and for memory, which no configuration reaches.
        """
        config = self.translation.config
        if config is None or config.service == "memory":
            return None
        return replace(config, root=place.root, prefix="")

    def _below(self, root: str) -> str:
        config = self.translation.config
        if config is None:
            return ""
        if config.service == "file":
            folder = config.root.strip("/")
            return f"{folder}/" if folder else ""
        if not config.prefix or (config.root and config.root != root):
            return ""
        return f"{config.prefix}/"


def read(backend: Any, environment: Mapping[str, str] | None = None) -> Registration:
    """Read a registered backend.

    Args:
        backend: An ``FSSpecBackend``, an ``ObstoreBackend`` (upstream's or ours), or any other storage backend.
        environment: Environment variables; ``None`` for those of this process.

    Returns:
        What it is. A backend of an unknown kind has a translation without a configuration, and a note.
    """
    environment = os.environ if environment is None else environment
    driver = str(getattr(backend, "driver", "") or type(backend).__name__)
    if driver == "fsspec":
        return _read_fsspec(backend, environment)
    if driver == "obstore":
        return _read_obstore(backend)
    return Registration(
        key=str(backend.key),
        driver=driver,
        protocol=driver,
        translation=Translation(config=None, notes=(note("backend.unknown", driver),)),
        path=lambda filename: filename,
    )


def _read_fsspec(backend: Any, environment: Mapping[str, str]) -> Registration:
    prefix = getattr(backend, "prefix", None)
    fs = backend.fs
    folders: list[str] = []
    while True:
        name = _class_name(fs)
        if name == "DirFileSystem":
            folders.append(fs.path)
        elif name not in _CACHES:
            break
        fs = fs.fs

    def path(filename: str) -> str:
        joined = join_prefix(prefix, filename)
        for folder in folders:
            joined = join_folder(folder, joined)
        return joined

    protocol = _protocol(fs)
    # What a row named like nothing else would get: the registration's own root and prefix.
    base = path("x")[:-1].rstrip("/") or None
    translation = translate(protocol, _options(fs), base, environment)
    canonical = PROTOCOLS.get(protocol, protocol)
    return Registration(
        key=backend.key,
        driver="fsspec",
        protocol=canonical,
        translation=translation,
        prefix=prefix,
        endpoint=_endpoint(canonical, translation.config) or _memory_endpoint(fs),
        path=path,
    )


_CACHES = frozenset(
    {
        "CachingFileSystem",
        "WholeFileCacheFileSystem",
        "SimpleCacheFileSystem",
        "ChainedFileSystem",
        "AsyncFileSystemWrapper",
    }
)

#: The public class of each implementation, told by name so that nothing is imported to look at it.
_CLASSES = {
    "S3FileSystem": "s3",
    "GCSFileSystem": "gcs",
    "AzureBlobFileSystem": "azure",
    "LocalFileSystem": "file",
    "MemoryFileSystem": "memory",
    "HTTPFileSystem": "http",
    **dict.fromkeys(("DirFileSystem", "GenericFileSystem", "FsspecStore", *_CACHES), ""),
}


def _class_name(fs: Any) -> str:
    for kind in type(fs).__mro__:
        if kind.__name__ in _CLASSES:
            return kind.__name__
    return type(fs).__name__


def _protocol(fs: Any) -> str:
    known = _CLASSES.get(_class_name(fs))
    if known:
        return known
    protocol = getattr(fs, "protocol", "")
    return str(protocol if isinstance(protocol, str) else next(iter(protocol or ()), ""))


def _options(fs: Any) -> dict[str, Any]:
    """Everything that the instance was constructed with: positional arguments by their names, then keywords."""
    options = dict(getattr(fs, "storage_options", None) or {})
    arguments = tuple(getattr(fs, "storage_args", None) or ())
    if arguments:
        try:
            names = [name for name in inspect.signature(type(fs).__init__).parameters if name != "self"]
        except (TypeError, ValueError):
            names = []
        options = {**dict(zip(names, arguments, strict=False)), **options}
    return options


def _endpoint(service: str, config: StoreConfig | None) -> str:
    if config is None:
        return ""
    options = config.options
    if service == "s3":
        return s3_endpoint(
            options.get("endpoint_url_s3") or options.get("endpoint"),
            region=options.get("region"),
            bucket=config.root,
            virtual=options.get("virtual_hosted_style_request") in (True, "true", "True", "1"),
        )
    return ""


def _memory_endpoint(fs: Any) -> str:
    """Empty for the dictionary that a process shares, else the identity of a private one."""
    store = getattr(fs, "store", None)
    if _class_name(fs) != "MemoryFileSystem" or "store" not in vars(fs):
        return ""
    return f"dictionary-{id(store)}"


_SERVICES = {
    "S3Store": "s3",
    "GCSStore": "gcs",
    "AzureStore": "azure",
    "LocalStore": "file",
    "MemoryStore": "memory",
    "HTTPStore": "http",
}


def _read_obstore(backend: Any) -> Registration:
    config = getattr(backend, "config", None)
    store = backend.fs
    if not isinstance(config, StoreConfig):
        config = _store_config(store)
    prefix = config.prefix if config else ""
    service = config.service if config else "obstore"
    if service == "file" and config:
        prefix = config.root.strip("/")
    root = {"file": "/", "memory": ""}.get(service, config.root if config else "")

    def path(filename: str) -> str:
        key = filename.strip("/")
        return f"{prefix}/{key}" if prefix else key

    notes = () if config else (note("backend.unreadable", backend.key),)
    return _ObstoreRegistration(
        key=backend.key,
        driver="obstore",
        protocol=service,
        translation=Translation(config=config, notes=notes),
        prefix=prefix or None,
        endpoint=f"store-{id(store)}" if service == "memory" else _endpoint(service, config),
        path=path,
        root=root,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _ObstoreRegistration(Registration):
    root: str = ""

    def place(self, filename: str) -> Place:
        return Place(service=self.protocol, endpoint=self.endpoint, root=self.root, key=self.path(filename))


def _store_config(store: Any) -> StoreConfig | None:
    """The configuration of a live obstore store; ``None`` where it does not tell.

    A store whose client options came as plain arguments panics when it is asked: a ``BaseException`` that is no
    ``Exception``.
    """
    service = next((_SERVICES[kind.__name__] for kind in type(store).__mro__ if kind.__name__ in _SERVICES), None)
    if service is None:
        return None
    if service == "memory":
        return StoreConfig(service="memory", root="")
    prefix = _ask(store, "prefix")
    if service == "file":
        return StoreConfig(service="file", root="/" + split("file", str(prefix or "/")).key, options={"mkdir": True})
    if service == "http":
        return StoreConfig(service="http", root=normalise_endpoint(str(_ask(store, "url") or "")))
    options = _ask(store, "config")
    if options is None:
        return None
    options = {name.lower().removeprefix(f"{_PREFIXES[service]}_"): value for name, value in dict(options).items()}
    root = options.pop("container_name" if service == "azure" else "bucket", "")
    return StoreConfig(
        service=service,
        root=root,
        prefix=str(prefix or "").strip("/"),
        options=options,
        client_options=dict(_ask(store, "client_options") or {}),
        retry=dict(_ask(store, "retry_config") or {}),
    )


_PREFIXES = {"s3": "aws", "gcs": "google", "azure": "azure"}


def _ask(store: Any, attribute: str) -> Any:
    try:
        return getattr(store, attribute)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # noqa: BLE001 - a Rust panic is a BaseException
        return None
