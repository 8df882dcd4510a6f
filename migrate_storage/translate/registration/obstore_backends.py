"""Read obstore backends: a live store, or the configuration of our own backend."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from migrate_storage.core.model import Place
from migrate_storage.translate.model import StoreConfig, Translation
from migrate_storage.translate.notes import note
from migrate_storage.translate.option_names import without_prefix
from migrate_storage.translate.places import normalise_endpoint, split
from migrate_storage.translate.registration.endpoints import endpoint_of
from migrate_storage.translate.registration.registration import Registration

__all__ = ("config_registration", "service_of", "store_config", "store_registration")

_SERVICES = {
    "S3Store": "s3", "GCSStore": "gcs", "AzureStore": "azure",
    "LocalStore": "file", "MemoryStore": "memory", "HTTPStore": "http",
}  # fmt: skip

#: Variables that name a bucket.
_ROOT_VARIABLES = {
    "s3": ("AWS_BUCKET", "AWS_BUCKET_NAME"),
    "gcs": ("GOOGLE_BUCKET", "GOOGLE_BUCKET_NAME"),
    "azure": ("AZURE_CONTAINER_NAME",),
}


def config_registration(key: str, config: StoreConfig, store: Any, environment: Mapping[str, str]) -> Registration:
    """Read a backend that was opened from a configuration."""
    service = config.service
    root = {"file": "/", "http": ""}.get(service, config.root)
    inner = config.prefix.strip("/")
    if service == "file":
        inner = "/".join(part for part in (split("file", config.root or "/").key, inner) if part)
    below = f"{inner}/" if inner else ""
    endpoint = f"store-{id(store)}" if service == "memory" else endpoint_of(config, environment)

    def place(filename: str) -> Place:
        # obstore removes slashes at both ends.
        key = below + filename.strip("/")
        if service == "file":
            key = split("file", f"/{key}").key
        return Place(service=service, endpoint=endpoint, root=root, key=key)

    def config_at(where: Place) -> StoreConfig | None:
        if service == "memory":
            return None
        return replace(config, root=where.endpoint if service == "http" else where.root, prefix="")

    return Registration(
        key=key,
        driver="obstore",
        protocol=service,
        translation=Translation(config=config),
        prefix=config.prefix or None,
        root=root,
        below=below,
        _place=place,
        config_at=config_at,
    )


def store_registration(key: str, store: Any, environment: Mapping[str, str]) -> Registration:
    """Read a backend with a live store of unknown origin."""
    config = store_config(store)
    if config is not None:
        if not config.root and config.service in _ROOT_VARIABLES:
            found = (environment.get(name) for name in _ROOT_VARIABLES[config.service])
            config = replace(config, root=next((name for name in found if name), ""))
        if config.service == "s3" and (url := environment.get("AWS_ENDPOINT_URL_S3")):
            # In a store that this package did not open, this variable takes precedence over explicit options.
            config = replace(config, options={**config.options, "endpoint": url})
        return config_registration(key, config, store, environment)
    service = service_of(store) or "obstore"
    return Registration(
        key=key,
        driver="obstore",
        protocol=service,
        translation=Translation(config=None, notes=(note("backend.unreadable", key),)),
        root=_read_root_from_repr(store),
        # A unique endpoint: whether it equals another one remains in doubt.
        _place=lambda filename: Place(
            service=service, endpoint=f"unknown-{id(store)}", root=_read_root_from_repr(store), key=filename.strip("/")
        ),
    )


def store_config(store: Any) -> StoreConfig | None:
    """Return the configuration of a live obstore store.

    Args:
        store: any of obstore's stores.

    Returns:
        Its explicit options; none from the environment. ``None`` where the store does not show them: one whose client
        options were given as plain arguments panics when its configuration is read.
    """
    service = service_of(store)
    if service is None:
        return None
    if service == "memory":
        return StoreConfig(service="memory", root="")
    prefix = _read_attribute(store, "prefix")
    if service == "file":
        return StoreConfig(service="file", root="/" + split("file", str(prefix or "/")).key, options={"mkdir": True})
    if service == "http":
        url = normalise_endpoint(str(_read_attribute(store, "url") or ""))
        scheme, _, rest = url.partition("://")
        host, _, path = rest.partition("/")
        client = dict(_read_attribute(store, "client_options") or {})
        return StoreConfig(service="http", root=f"{scheme}://{host}", prefix=path, client_options=client)
    options = _read_attribute(store, "config")
    if options is None:
        return None
    options = {without_prefix(service, name): value for name, value in dict(options).items()}
    root = options.pop("container_name" if service == "azure" else "bucket", "")
    return StoreConfig(
        service=service,
        root=root,
        prefix=str(prefix or "").strip("/"),
        options=options,
        client_options=dict(_read_attribute(store, "client_options") or {}),
        retry=dict(_read_attribute(store, "retry_config") or {}),
    )


def service_of(store: Any) -> str | None:
    """Return the service of a live obstore store; ``None`` for any other object."""
    return next((_SERVICES[kind.__name__] for kind in type(store).__mro__ if kind.__name__ in _SERVICES), None)


def _read_root_from_repr(store: Any) -> str:
    """Return the bucket, and nothing else, in the ``repr`` of a store."""
    found = re.match(r'\w+\((?:bucket|container_name)="([^"]*)"', _survive_panic(lambda: repr(store)) or "")
    return found[1] if found else ""


def _read_attribute(store: Any, attribute: str) -> Any:
    return _survive_panic(lambda: getattr(store, attribute))


def _survive_panic(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # noqa: BLE001 - a Rust panic is a BaseException
        return None
