"""From what a caller wrote (a URL or path, and options in any spelling) to a :class:`StoreConfig`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from migrate_storage.backend.urls import Target, known_endpoint, parse_path, parse_url
from migrate_storage.errors import ConfigurationError
from migrate_storage.model import CredentialSource, StoreConfig
from migrate_storage.stores.names import CLIENT, OPTIONS, PREFIXES, canonical, unknown
from migrate_storage.translate.keys import unaddressable

__all__ = ("read_configuration",)


def read_configuration(place: str | Path, prefix: str | None, options: Mapping[str, Any]) -> StoreConfig:
    """The configuration that a caller wrote.

    Args:
        place: a URL or a directory.
        prefix: raw key prefix below it.
        options: store options, client options, ``config``, ``client_options``, ``retry_config`` and
            ``credential_provider``, in every spelling that obstore or advanced-alchemy's guide knows.

    Raises:
        ConfigurationError: what cannot work, in one line without any secret.
        UnknownOptionError: a name that no store knows.
    """
    given = {name: value for name, value in options.items() if value is not None}
    plain = {**_mapping(given, "config"), **{n: v for n, v in given.items() if n not in _STRUCTURED}}
    for name in _mapping(given, "config"):
        if name in given and given[name] != plain[name]:
            raise ConfigurationError(f"{name} is given twice, with different values; keep one")
    target = parse_path(place) if isinstance(place, Path) else parse_url(place, _service_of(plain))
    store, client = _sort(target.service, plain)
    for name, value in _mapping(given, "client_options").items():
        bare = canonical(target.service, name)
        if client.get(bare, value) != value:
            raise ConfigurationError(f"{bare} is given twice, with different values; keep one")
        client[bare] = value
    store = _with_target(target, store)
    return StoreConfig(
        service=target.service,
        root=target.root,
        prefix=_joined(target, prefix),
        options=store,
        client_options=client,
        retry=_mapping(given, "retry_config"),
        credentials=_credentials(given.get("credential_provider")),
    )


_STRUCTURED = ("config", "client_options", "retry_config", "credential_provider")


def _mapping(options: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = options.get(name) or {}
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{name} must be a dict of options, not {type(value).__name__}")
    return {key: item for key, item in value.items() if item is not None}


def _service_of(options: Mapping[str, Any]) -> str | None:
    """Which service the options speak of, by their prefixes."""
    for service, prefixes in PREFIXES.items():
        if any(name.lower().startswith(prefixes) for name in options):
            return service
    return None


def _sort(service: str, plain: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    store: dict[str, Any] = {}
    client: dict[str, Any] = {}
    for name, value in plain.items():
        bare = canonical(service, name)
        if bare not in OPTIONS[service] and bare not in CLIENT:
            raise unknown(service, name)
        kind = store if bare in OPTIONS[service] else client
        if kind.get(bare, value) != value:
            raise ConfigurationError(f"{bare} is given twice, under two spellings and with different values; keep one")
        kind[bare] = value
    return store, client


def _with_target(target: Target, store: dict[str, Any]) -> dict[str, Any]:
    named = {"s3": "bucket", "gcs": "bucket", "azure": "container_name"}.get(target.service)
    if named and store.pop(named, target.root) != target.root:
        raise ConfigurationError(f"{named} is not the one in the URL, {target.root!r}; keep one")
    implied = dict(target.options)
    if target.service == "s3" and "endpoint" in store:
        vendor = known_endpoint(str(store["endpoint"]), target.root)
        if vendor and str(store.get("virtual_hosted_style_request", "")).lower() != "true":
            store = {"region": vendor["region"], **store, "endpoint": vendor["endpoint"]}
    return {**implied, **store}


def _joined(target: Target, prefix: str | None) -> str:
    whole = "/".join(part for part in (target.prefix, (prefix or "").strip("/")) if part)
    if whole and (reason := unaddressable(whole)):
        raise ConfigurationError(f"the prefix {whole!r} {reason}; no key below it could be addressed")
    return whole


def _credentials(provider: Any) -> CredentialSource | None:
    if provider is None:
        return None
    if isinstance(provider, CredentialSource):
        return provider
    return CredentialSource(kind="object", provider=provider)
