"""Read fsspec backends: a live filesystem, or a protocol with options."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from migrate_storage.core.model import Note, Place
from migrate_storage.translate import PROTOCOLS, translate
from migrate_storage.translate.model import StoreConfig, Translation
from migrate_storage.translate.notes import note
from migrate_storage.translate.places import Split, join_folder, join_prefix, root_and_prefix, split
from migrate_storage.translate.protocols.unsupported import WRAPPERS
from migrate_storage.translate.registration.aws_profile import addressing_style, profile_environment
from migrate_storage.translate.registration.endpoints import endpoint_of
from migrate_storage.translate.registration.instance_options import instance_options
from migrate_storage.translate.registration.obstore_backends import config_registration
from migrate_storage.translate.registration.registration import Registration
from migrate_storage.translate.wrappers import unwrap

__all__ = ("filesystem_registration", "protocol_registration")


@dataclass(frozen=True, slots=True)
class _Chain:
    """The filesystem below all wrappers, their common path rule, and notes."""

    innermost: Any
    path: Callable[[str], str]
    notes: tuple[Note, ...] = ()


def filesystem_registration(
    key: str,
    filesystem: Any,
    prefix: str | None,
    environment: Mapping[str, str],
    prepare: Callable[[str], str] | None = None,
) -> Registration:
    """Read a live filesystem.

    Args:
        key: the backend's key.
        filesystem: the backend's filesystem.
        prefix: the backend's prefix.
        environment: environment variables.
        prepare: the backend's own rule to join prefix and filename, which a subclass may change.
    """
    chain = _unwrap(filesystem, prepare or functools.partial(join_prefix, prefix))
    innermost = chain.innermost
    readers = {"FsspecStore": _read_fsspec_store, "GenericFileSystem": _read_generic}
    found = readers.get(class_name(innermost), _read_plain)(key, innermost, chain, environment)
    notes = (*chain.notes, *found.translation.notes)
    translation = replace(found.translation, notes=notes)
    return replace(found, prefix=prefix, translation=translation, filesystem=innermost, path=chain.path)


_CACHES = frozenset(
    {"CachingFileSystem", "WholeFileCacheFileSystem", "SimpleCacheFileSystem", "AsyncFileSystemWrapper"}
)

#: Canonical protocol by the name of the class, so that nothing must be imported.
_CLASSES = {
    "S3FileSystem": "s3", "GCSFileSystem": "gcs", "AzureBlobFileSystem": "azure",
    "LocalFileSystem": "file", "MemoryFileSystem": "memory", "HTTPFileSystem": "http",
    **dict.fromkeys(("DirFileSystem", "GenericFileSystem", "FsspecStore", *_CACHES), ""),
}  # fmt: skip

_MAX_DEPTH = 32


def class_name(filesystem: Any) -> str:
    """Return the name of a filesystem's known base class, or of its own class."""
    names = (kind.__name__ for kind in type(filesystem).__mro__)
    return next((name for name in names if name in _CLASSES), type(filesystem).__name__)


def _unwrap(filesystem: Any, path: Callable[[str], str]) -> _Chain:
    notes: list[Note] = []
    for _ in range(_MAX_DEPTH):
        name = class_name(filesystem)
        inner = getattr(filesystem, "fs", None)
        if inner is None or (name != "DirFileSystem" and name not in _CACHES):
            break
        if name == "DirFileSystem":
            path = functools.partial(_join_in_folder, str(getattr(filesystem, "path", "")), path)
        else:
            notes.append(note("wrapper.cache", _protocol_of(filesystem)))
        filesystem = inner
    return _Chain(filesystem, path, tuple(notes))


def _join_in_folder(folder: str, path: Callable[[str], str], filename: str) -> str:
    return join_folder(folder, path(filename))


def _protocol_of(filesystem: Any) -> str:
    known = _CLASSES.get(class_name(filesystem))
    if known:
        return known
    protocol = getattr(filesystem, "protocol", "")
    return str(protocol if isinstance(protocol, str) else next(iter(protocol or ()), ""))


def _read_constructor_options(filesystem: Any) -> dict[str, Any]:
    """Return all arguments of the instance by name: positional ones, then keywords."""
    options = dict(getattr(filesystem, "storage_options", None) or {})
    arguments = tuple(getattr(filesystem, "storage_args", None) or ())
    if not arguments:
        return options
    try:
        names = [name for name in inspect.signature(type(filesystem).__init__).parameters if name != "self"]
    except (TypeError, ValueError):
        return options
    return {**dict(zip(names, arguments, strict=False)), **options}


def _find_whole_prefix(path: Callable[[str], str]) -> str | None:
    """Return everything that a path has before the filename."""
    return path("x")[:-1].rstrip("/") or None


def _read_plain(key: str, filesystem: Any, chain: _Chain, environment: Mapping[str, str]) -> Registration:
    protocol = _protocol_of(filesystem)
    canonical = PROTOCOLS.get(protocol, protocol)
    given = _read_constructor_options(filesystem)
    options: Mapping[str, Any] = instance_options(canonical, filesystem, given, environment)
    if canonical == "s3":
        options, environment = _add_profile(options, environment)
    endpoint = _read_endpoint(canonical, filesystem, options, environment)
    strip = None if canonical in PROTOCOLS else getattr(type(filesystem), "_strip_protocol", None)

    def place(filename: str) -> Place:
        path = chain.path(filename)
        return _make_place(canonical, endpoint, _split_foreign(strip, path) if strip else split(canonical, path))

    return _make_registration(key, canonical, options, environment, _find_whole_prefix(chain.path), chain.path, place)


def _make_place(service: str, endpoint: str, parts: Split) -> Place:
    if service == "http":
        return Place(service="http", endpoint=parts.root, root="", key=parts.key)
    return Place(service=service, endpoint=endpoint, root=parts.root, key=parts.key)


def _make_registration(
    key: str,
    service: str,
    options: Mapping[str, Any],
    environment: Mapping[str, str],
    prefix: str | None,
    path: Callable[[str], str],
    place: Callable[[str], Place],
) -> Registration:
    """Make the registration of a filesystem with its options and path rules."""
    root, inner = root_and_prefix(service, prefix) if service in PROTOCOLS else ("", "")

    @functools.cache
    def configured(bucket: str) -> StoreConfig | None:
        return translate(service, options, bucket, environment).config

    def config_at(where: Place) -> StoreConfig | None:
        if service == "memory" or service not in PROTOCOLS:
            return None
        config = configured(where.endpoint if service == "http" else where.root or "/")
        return None if config is None else replace(config, prefix="")

    return Registration(
        key=key,
        driver="fsspec",
        protocol=service,
        translation=translate(service, options, prefix, environment),
        root=root,
        below=f"{inner}/" if inner else "",
        path=path,
        _place=place,
        config_at=config_at,
    )


def _split_foreign(strip: Callable[[str], str], path: str) -> Split:
    try:
        return Split("/", str(strip(path)).lstrip("/"))
    except Exception:  # noqa: BLE001 - another package's rule, on a key of any shape
        return Split("/", path.lstrip("/"))


def _add_profile(
    options: Mapping[str, Any], environment: Mapping[str, str]
) -> tuple[Mapping[str, Any], Mapping[str, str]]:
    profile = options.get("profile") if isinstance(options.get("profile"), str) else None
    config = options.get("config_kwargs")
    config = dict(config) if isinstance(config, Mapping) else {}
    s3 = dict(config["s3"]) if isinstance(config.get("s3"), Mapping) else {}
    if "addressing_style" not in s3 and (style := addressing_style(profile, environment)):
        options = {**options, "config_kwargs": {**config, "s3": {**s3, "addressing_style": style}}}
    return options, profile_environment(profile, environment)


def _read_endpoint(canonical: str, filesystem: Any, options: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    if canonical == "memory":
        # Empty for the dictionary of the process, otherwise the identity of a private one.
        return f"dictionary-{id(filesystem.store)}" if "store" in getattr(filesystem, "__dict__", {}) else ""
    if canonical not in PROTOCOLS:
        host, port = (getattr(filesystem, name, None) or options.get(name) for name in ("host", "port"))
        return f"{host or ''}:{port}" if port else str(host or "")
    # Without a bucket no name of one can be refused. All buckets have the same endpoint.
    config = translate(canonical, options, None, environment).config
    return endpoint_of(config) if config else ""


def _read_fsspec_store(key: str, filesystem: Any, chain: _Chain, environment: Mapping[str, str]) -> Registration:
    """Read an ``FsspecStore``, which is obstore already: its configuration is copied."""
    protocol = str(filesystem.protocol if isinstance(filesystem.protocol, str) else filesystem.protocol[0])
    service = PROTOCOLS.get(protocol, "")
    if not service:
        translation = Translation(config=None, notes=(note("protocol.source_only", protocol),))
        return Registration(key=key, driver="fsspec", protocol=protocol, translation=translation)
    config = instance_options("obstore", filesystem, {"service": service}, environment)["config"]
    base = _find_whole_prefix(chain.path)
    root, inner = root_and_prefix(service, base)
    config = replace(config, root=f"/{inner}" if service == "file" else root, prefix="" if service == "file" else inner)
    found = config_registration(key, config, filesystem, environment)

    def place(filename: str) -> Place:
        parts = split(service, chain.path(filename))
        endpoint = endpoint_of(replace(config, root=parts.root), environment)
        return Place(service=service, endpoint=endpoint, root=parts.root, key=parts.key)

    notes = () if root else (note("place.per_row", root="bucket"),)
    return replace(found, driver="fsspec", translation=Translation(config=config, notes=notes), _place=place)


def _read_generic(key: str, filesystem: Any, chain: _Chain, environment: Mapping[str, str]) -> Registration:
    """Read a ``GenericFileSystem``: each filename is a URL that names its own service."""
    of_protocol = getattr(filesystem, "st_opts", None) or {}

    def inner(path: str) -> Registration:
        protocol = path.partition("://")[0] if "://" in path else "file"
        options = of_protocol.get(protocol) if isinstance(of_protocol, Mapping) else None
        return _read_options(key, PROTOCOLS.get(protocol, protocol), options or {}, environment)

    def place(filename: str) -> Place:
        path = chain.path(filename)
        return inner(path).place(path)

    def config_at(where: Place) -> StoreConfig | None:
        options = _find_options(of_protocol, where.service)
        return _read_options(key, where.service, options, environment).config_at(where)

    translation = Translation(config=None, notes=(note("wrapper.generic"),))
    return Registration(
        key=key, driver="fsspec", protocol="generic", translation=translation, _place=place, config_at=config_at
    )


def _find_options(of_protocol: Any, service: str) -> Mapping[str, Any]:
    items = of_protocol.items() if isinstance(of_protocol, Mapping) else ()
    return next((options for protocol, options in items if PROTOCOLS.get(protocol, protocol) == service), {})


def protocol_registration(
    key: str, protocol: str, options: Mapping[str, Any], prefix: str | None, environment: Mapping[str, str]
) -> Registration:
    """Read a protocol with its options; no filesystem is instantiated.

    Args:
        key: the backend's key.
        protocol: fsspec's name of the filesystem.
        options: its arguments; those in fsspec's configuration are added.
        prefix: the backend's prefix.
        environment: environment variables.
    """
    options = {**_read_fsspec_configuration(protocol), **options}
    if protocol in WRAPPERS:
        below = unwrap(protocol, options, prefix)
        found = protocol_registration(key, below.protocol, below.options, below.prefix, environment)
        notes = (*below.notes, *found.translation.notes)
        return replace(found, prefix=prefix, translation=replace(found.translation, notes=notes))
    found = _read_options(key, PROTOCOLS.get(protocol, protocol), options, environment, prefix)
    return replace(found, prefix=prefix)


def _read_fsspec_configuration(protocol: str) -> dict[str, Any]:
    """Return fsspec's configuration of a protocol, merged in fsspec's order."""
    from fsspec.config import conf

    merged: dict[str, Any] = {}
    for name in _NAMES.get(PROTOCOLS.get(protocol, ""), (protocol,)):
        found = conf.get(name)
        merged |= found if isinstance(found, dict) else {}
    return merged


#: The names of each filesystem's class, in its own order.
_NAMES = {
    "s3": ("s3", "s3a"), "gcs": ("gs", "gcs"), "azure": ("abfs", "az", "abfss"),
    "file": ("file", "local"), "memory": ("memory",), "http": ("http", "https"),
}  # fmt: skip


def _read_options(
    key: str, service: str, options: Mapping[str, Any], environment: Mapping[str, str], prefix: str | None = None
) -> Registration:
    """Read a filesystem that is not instantiated, from its arguments."""
    if service == "s3":
        options, environment = _add_profile(options, environment)
    anywhere = translate(service, options, None, environment).config
    endpoint = endpoint_of(anywhere) if anywhere else ""
    path = functools.partial(join_prefix, prefix)

    def place(filename: str) -> Place:
        return _make_place(service, endpoint, split(service, path(filename)))

    return _make_registration(key, service, options, environment, prefix, path, place)
