"""Open an obstore store from a configuration.

Constructing a store sends nothing and starts nothing. A configuration that cannot work is refused here, in one line.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from obstore.exceptions import BaseError, UnknownConfigurationKeyError
from obstore.store import AzureStore, GCSStore, HTTPStore, LocalStore, MemoryStore, S3Store

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.stores.config.client_options import client_options, retry_options
from migrate_storage.stores.config.credentials import Provider, provider
from migrate_storage.stores.config.isolation import isolate_azure, isolate_gcs
from migrate_storage.stores.config.s3_isolation import isolate_s3
from migrate_storage.translate.model import StoreConfig
from migrate_storage.translate.option_names import OPTIONS, unknown

__all__ = ("LiveStore", "open_across", "open_store")

LiveStore = S3Store | GCSStore | AzureStore | LocalStore | MemoryStore | HTTPStore


def open_store(config: StoreConfig) -> LiveStore:
    """Open the store of a configuration.

    Explicit configuration takes precedence over the environment, source by source. It does not start obstore's runtime,
    so that a process may fork afterwards.

    Args:
        config: what to open. ``root`` must name the bucket, container, directory or base URL.

    Returns:
        The obstore store, with ``config.prefix`` inside.

    Raises:
        ConfigurationError: it cannot work; one line without any secret.
    """
    opener = _OPENERS.get(config.service)
    if opener is None:
        raise ConfigurationError(f"there is no store for {config.service!r}; use {', '.join(_OPENERS)}")
    if not config.root and config.service != "memory":
        raise ConfigurationError(f"a {config.service} store needs {_ROOTS[config.service]}; none is given")
    for name in config.options:
        if config.service in ("file", "memory", "http") and name not in OPTIONS[config.service]:
            raise unknown(config.service, name)
    return opener(config)


def open_across(config: StoreConfig, endpoint: str, bucket: str, headers: Mapping[str, str]) -> S3Store:
    """Open a store whose copies go from another S3 bucket to the one of ``config``.

    Args:
        config: the destination; its region, credentials and client options are used for the copies.
        endpoint: the service's address, without any bucket.
        bucket: the bucket to copy from.
        headers: sent, and signed, with each copy: obstore's ``copy`` takes none.

    Returns:
        A store whose ``copy`` copies between the buckets. Its other methods cannot be used.

    Raises:
        ConfigurationError: see :func:`open_store`.
    """
    options = {name: value for name, value in config.options.items() if name not in _ADDRESSES}
    prepared = replace(
        config,
        root=bucket,
        prefix="",
        options={**options, "endpoint": f"{endpoint}/{config.root}"},
        client_options={
            **config.client_options,
            "default_headers": {**config.client_options.get("default_headers", {}), **headers},
        },
    )
    # obstore writes to the address that it takes for the bucket's own.
    store = _open_cloud(prepared, virtual_hosted_style_request="true")
    assert isinstance(store, S3Store)
    return store


_ADDRESSES = ("endpoint", "endpoint_url", "endpoint_url_s3", "virtual_hosted_style_request")
_ROOTS = {
    "s3": "a bucket: s3://BUCKET/",
    "gcs": "a bucket: gs://BUCKET/",
    "azure": "a container: az://CONTAINER/",
    "file": "a directory: file:///DIRECTORY/",
    "http": "a base URL",
}


def _open_file(config: StoreConfig) -> LiveStore:
    folder = Path(config.root).expanduser().absolute() / config.prefix
    options = {"mkdir": True, **config.options}
    return _construct_store(config, lambda: LocalStore(folder, **options))


def _open_http(config: StoreConfig) -> LiveStore:
    url = config.root.rstrip("/") + (f"/{config.prefix}" if config.prefix else "")
    client: Any = client_options(config, allow_http=url.startswith("http:"))
    return _construct_store(config, lambda: HTTPStore(url, client_options=client, retry_config=retry_options(config)))


def _open_cloud(config: StoreConfig, **forced: str) -> LiveStore:
    factory: Any
    factory, root_name, isolate = _CLOUDS[config.service]
    options = _to_text(config.options)
    options.pop(root_name, None)
    source = provider(config.credentials, config.service) if config.credentials else None
    with ExitStack() as until_constructed:
        source = isolate(config, options, source, until_constructed)
        options.update(forced)
        endpoint = str(options.get("endpoint") or options.get("aws_endpoint_url_s3") or options.get("base_url") or "")
        arguments = {
            "prefix": config.prefix or None,
            "config": options,
            "client_options": client_options(config, allow_http=endpoint.startswith("http:")),
            "retry_config": retry_options(config),
            "credential_provider": source,
        }
        return _construct_store(config, lambda: factory(config.root, **arguments))


def _to_text(options: Mapping[str, Any]) -> dict[str, str]:
    """Return the options as obstore takes them: text, without those that are ``None``."""
    values: dict[str, str] = {}
    for name, value in options.items():
        if value is None:
            continue
        if isinstance(value, bool):
            values[name] = "true" if value else "false"
        elif isinstance(value, Mapping):
            values[name] = json.dumps(dict(value))
        elif isinstance(value, bytes):
            values[name] = value.decode()
        else:
            values[name] = str(value)
    return values


def _construct_store(config: StoreConfig, construct: Callable[[], LiveStore]) -> LiveStore:
    try:
        return construct()
    except UnknownConfigurationKeyError as error:
        name = str(error).partition("'")[2].partition("'")[0]
        raise unknown(config.service, name) from None
    except (BaseError, ValueError, TypeError, OSError) as error:
        reason = str(error).strip().partition("\n")[0][:200]
        raise ConfigurationError(f"{config.service} store {config.root!r}: {reason}") from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # a panic of obstore's Rust code, which is no ``Exception``
            raise
        raise ConfigurationError(
            f"{config.service} store {config.root!r}: obstore cannot read this configuration"
        ) from None


_OPENERS: Mapping[str, Callable[[StoreConfig], LiveStore]] = {
    **dict.fromkeys(("s3", "gcs", "azure"), _open_cloud),
    "file": _open_file,
    "memory": lambda _: MemoryStore(),
    "http": _open_http,
}

_Isolate = Callable[[StoreConfig, dict[str, str], Provider | None, ExitStack], Provider | None]
_CLOUDS: Mapping[str, tuple[type[LiveStore], str, _Isolate]] = {
    "s3": (S3Store, "bucket", isolate_s3),
    "gcs": (GCSStore, "bucket", isolate_gcs),
    "azure": (AzureStore, "container_name", isolate_azure),
}
