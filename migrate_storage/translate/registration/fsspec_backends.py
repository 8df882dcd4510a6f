"""Read fsspec backends: a live filesystem, or a protocol with options."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from migrate_storage.core.model import Place
from migrate_storage.translate import PROTOCOLS
from migrate_storage.translate.model import StoreConfig, Translation
from migrate_storage.translate.notes import note
from migrate_storage.translate.places import Split, join_prefix, root_and_prefix, split
from migrate_storage.translate.protocols.unsupported import WRAPPERS
from migrate_storage.translate.registration.adlfs_rule import with_default_of_anon
from migrate_storage.translate.registration.chain import (
    Chain,
    class_name,
    constructor_options,
    protocol_of,
    unwrap_filesystem,
)
from migrate_storage.translate.registration.endpoints import endpoint_of
from migrate_storage.translate.registration.filesystem_options import (
    FilesystemOptions,
    read_service_url,
    s3_options,
)
from migrate_storage.translate.registration.instance_options import given_session, instance_options
from migrate_storage.translate.registration.obstore_backends import config_registration
from migrate_storage.translate.registration.registration import Registration
from migrate_storage.translate.wrappers import unwrap

__all__ = ("filesystem_registration", "protocol_registration")


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
    chain = unwrap_filesystem(filesystem, prepare or functools.partial(join_prefix, prefix))
    innermost = chain.innermost
    readers = {"FsspecStore": _read_fsspec_store, "GenericFileSystem": _read_generic}
    found = readers.get(class_name(innermost), _read_plain)(key, innermost, chain, environment)
    notes = (*chain.notes, *found.translation.notes)
    translation = replace(found.translation, notes=notes)
    return replace(found, prefix=prefix, translation=translation, filesystem=innermost, path=chain.path)


def _read_plain(key: str, filesystem: Any, chain: Chain, environment: Mapping[str, str]) -> Registration:
    protocol = protocol_of(filesystem)
    canonical = PROTOCOLS.get(protocol, protocol)
    given = constructor_options(filesystem)
    options: Mapping[str, Any] = instance_options(canonical, filesystem, given, environment)
    if canonical == "s3":
        source = s3_options(options, environment, given_session(filesystem, given))
    else:
        url = read_service_url(filesystem) if canonical in ("gcs", "azure") else ""
        certificate = getattr(filesystem, "_use_client_cert", None)
        if canonical == "gcs" and isinstance(certificate, bool):
            # google-auth searches for one in several files.
            environment = {**environment, "GOOGLE_API_USE_CLIENT_CERTIFICATE": str(certificate).lower()}
        source = FilesystemOptions(canonical, options, environment, service_url=url)
    endpoint = _read_endpoint(source, filesystem)
    strip = None if canonical in PROTOCOLS else getattr(type(filesystem), "_strip_protocol", None)

    def place(filename: str) -> Place:
        path = chain.path(filename)
        return _make_place(canonical, endpoint, _split_foreign(strip, path) if strip else split(canonical, path))

    return _make_registration(key, source, chain.whole_prefix, chain.path, place)


def _make_place(service: str, endpoint: str, parts: Split) -> Place:
    if service == "http":
        return Place(service="http", endpoint=parts.root, root="", key=parts.key)
    return Place(service=service, endpoint=endpoint, root=parts.root, key=parts.key)


def _make_registration(
    key: str,
    source: FilesystemOptions,
    prefix: str | None,
    path: Callable[[str], str],
    place: Callable[[str], Place],
) -> Registration:
    """Make the registration of a filesystem with its options and path rules."""
    service = source.service
    root, inner = root_and_prefix(service, prefix) if service in PROTOCOLS else ("", "")

    @functools.cache
    def configured(bucket: str) -> StoreConfig | None:
        return source.translate(bucket).config

    def config_at(where: Place) -> StoreConfig | None:
        if service == "memory" or service not in PROTOCOLS:
            return None
        config = configured(where.endpoint if service == "http" else where.root or "/")
        return None if config is None else replace(config, prefix="")

    return Registration(
        key=key,
        driver="fsspec",
        protocol=service,
        translation=source.translate(prefix),
        root=root,
        below=f"{inner}/" if inner else "",
        path=path,
        _place=place,
        config_at=config_at,
        requested_url=source.requested_url,
        signed_url=source.signed_url,
    )


def _split_foreign(strip: Callable[[str], str], path: str) -> Split:
    try:
        return Split("/", str(strip(path)).lstrip("/"))
    except Exception:  # noqa: BLE001 - another package's rule, on a key of any shape
        return Split("/", path.lstrip("/"))


def _read_endpoint(source: FilesystemOptions, filesystem: Any) -> str:
    if source.service == "memory":
        # Empty for the dictionary of the process, otherwise the identity of a private one.
        return f"dictionary-{id(filesystem.store)}" if "store" in getattr(filesystem, "__dict__", {}) else ""
    if source.service not in PROTOCOLS:
        host, port = (getattr(filesystem, name, None) or source.options.get(name) for name in ("host", "port"))
        return f"{host or ''}:{port}" if port else str(host or "")
    return source.endpoint


def _read_fsspec_store(key: str, filesystem: Any, chain: Chain, environment: Mapping[str, str]) -> Registration:
    """Read an ``FsspecStore``, which is obstore already: its configuration is copied."""
    protocol = str(filesystem.protocol if isinstance(filesystem.protocol, str) else filesystem.protocol[0])
    service = PROTOCOLS.get(protocol, "")
    if not service:
        translation = Translation(config=None, notes=(note("protocol.source_only", protocol),))
        return Registration(key=key, driver="fsspec", protocol=protocol, translation=translation)
    config = instance_options("obstore", filesystem, {"service": service}, environment)["config"]
    base = chain.whole_prefix
    root, inner = root_and_prefix(service, base)
    config = replace(config, root=f"/{inner}" if service == "file" else root, prefix="" if service == "file" else inner)
    found = config_registration(key, config, filesystem, environment)

    def place(filename: str) -> Place:
        parts = split(service, chain.path(filename))
        endpoint = endpoint_of(replace(config, root=parts.root), environment)
        return Place(service=service, endpoint=endpoint, root=parts.root, key=parts.key)

    notes = () if root else (note("place.per_row", root="bucket"),)
    return replace(found, driver="fsspec", translation=Translation(config=config, notes=notes), _place=place)


def _read_generic(key: str, filesystem: Any, chain: Chain, environment: Mapping[str, str]) -> Registration:
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
        source = s3_options(options, environment, options.get("session"))
    elif service == "azure":
        source = FilesystemOptions(service, with_default_of_anon(options, environment), environment)
    else:
        source = FilesystemOptions(service, options, environment)
    endpoint = source.endpoint
    path = functools.partial(join_prefix, prefix)

    def place(filename: str) -> Place:
        return _make_place(service, endpoint, split(service, path(filename)))

    return _make_registration(key, source, prefix, path, place)
