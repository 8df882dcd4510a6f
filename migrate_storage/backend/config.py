"""Read a URL or path and options in any spelling as a :class:`StoreConfig`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from migrate_storage.backend.urls import Target, parse_path, parse_url
from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.object_keys import unaddressable
from migrate_storage.translate.model import CredentialSource, StoreConfig
from migrate_storage.translate.option_names import CLIENT, OPTIONS, PREFIXES, SECRETS, canonical, unknown
from migrate_storage.translate.option_tables import truth
from migrate_storage.translate.places import normalise_endpoint
from migrate_storage.translate.protocols.azure_connection import emulator, parse_connection_string
from migrate_storage.translate.protocols.s3_hosts import fit_endpoint
from migrate_storage.translate.registration import store_config
from migrate_storage.translate.registration.filesystem_options import s3_options

__all__ = ("read_configuration", "read_store")


def read_configuration(place: str | Path, prefix: str | None, options: Mapping[str, Any]) -> StoreConfig:
    """Return the configuration that a caller wrote.

    Args:
        place: a URL or a directory.
        prefix: raw key prefix below it.
        options: store options, client options, ``config``, ``client_options``, ``retry_config`` and
            ``credential_provider``, in every spelling of obstore or advanced-alchemy's guide.

    Raises:
        ConfigurationError: it cannot work; one line without any secret.
        UnknownOptionError: no store has an option of a name.
    """
    given = {name: value for name, value in options.items() if value is not None}
    for name in ("config", "client_options"):
        if isinstance(given.get(name), Mapping):
            given[name] = {key: value for key, value in given[name].items() if value != ""}
    _refuse_empty(options)
    given = {name: value for name, value in given.items() if value != ""}
    plain = {**_read_mapping(given, "config"), **{n: v for n, v in given.items() if n not in _STRUCTURED}}
    for name, value in _read_mapping(given, "config").items():
        if plain[name] != value:
            raise ConfigurationError(f"{name} is given twice, with different values; keep one")
    target = parse_path(place) if isinstance(place, Path) else parse_url(place, _guess_service(plain))
    store, client = _split_options(target.service, plain)
    for name, value in _read_mapping(given, "client_options").items():
        bare = canonical(target.service, name)
        if client.get(bare, value) != value:
            raise ConfigurationError(f"{bare} is given twice, with different values; keep one")
        client[bare] = value
    profile = str(store.pop("profile", None) or "")
    # Explicit keys come before those of a profile, whose address counts all the same.
    explicit = "access_key_id" in store or truth(store.get("skip_signature"))
    credentials = _make_credential_source(given.get("credential_provider"), "" if explicit else profile)
    if target.service == "s3" and credentials is not None and credentials.kind == "boto3":
        profile = str(credentials.options.get("profile_name") or "")
    store = _merge_target(target, _expand_azure(store) if target.service == "azure" else store, profile)
    if target.service == "s3":
        store = _add_address(target.root, store, profile)
    return StoreConfig(
        service=target.service,
        root=target.root,
        prefix=_join_prefix(target, prefix),
        options=store,
        client_options=client,
        retry=_read_mapping(given, "retry_config"),
        credentials=credentials,
    )


def _refuse_empty(options: Mapping[str, Any]) -> None:
    """Refuse empty credentials, as ``os.environ.get(NAME, "")`` gives them; other empty options are not given."""
    config = options.get("config")
    for name, value in {**(config if isinstance(config, Mapping) else {}), **options}.items():
        bare = next((canonical(service, name) for service in PREFIXES if canonical(service, name) in _NEVER_EMPTY), "")
        if value == "" and bare:
            raise ConfigurationError(f"{name} is empty; is its variable set? Write None to leave it out")


_NEVER_EMPTY = SECRETS - {"session_token"} | {
    "access_key_id",
    "service_account",
    "account_name",
    "client_id",
    "tenant_id",
}


_STRUCTURED = ("config", "client_options", "retry_config", "credential_provider")


def _read_mapping(options: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = options.get(name) or {}
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{name} must be a dict of options, not {type(value).__name__}")
    return {key: item for key, item in value.items() if item is not None}


def _guess_service(options: Mapping[str, Any]) -> str | None:
    """Return the service to which the prefixes of the options belong."""
    names = [name.lower() for name in options]
    return next((service for service, own in PREFIXES.items() if any(name.startswith(own) for name in names)), None)


def _split_options(service: str, plain: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
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


def _merge_target(target: Target, store: dict[str, Any], profile: str) -> dict[str, Any]:
    named = {"s3": "bucket", "gcs": "bucket", "azure": "container_name"}.get(target.service)
    if named and store.pop(named, target.root) != target.root:
        raise ConfigurationError(f"{named} is not the one in the URL, {target.root!r}; keep one")
    implied = dict(target.options)
    _require_equal({name: value for name, value in implied.items() if name == "account_name"}, store, "the URL")
    endpoint = str(store.get("endpoint") or "")
    # An explicit style means the endpoint as it is written. User, query and fragment are refused where the store is opened.
    fits = store.get("virtual_hosted_style_request") is None and not {"@", "?", "#"} & set(endpoint)
    if target.service == "s3" and endpoint and fits:
        vendor = fit_endpoint(normalise_endpoint(endpoint), target.root)
        if profile:
            # A profile has a region of its own, or botocore's for it.
            vendor.pop("region", None)
        store = {**vendor, **store, **{name: value for name, value in vendor.items() if name != "region"}}
    return {**implied, **store}


def _join_prefix(target: Target, prefix: str | None) -> str:
    whole = "/".join(part for part in (target.prefix, (prefix or "").strip("/")) if part)
    if whole and (reason := unaddressable(whole)):
        raise ConfigurationError(f"the prefix {whole!r} {reason}; no key below it could be addressed")
    return whole


def _expand_azure(store: dict[str, Any]) -> dict[str, Any]:
    """Replace a connection string and ``use_emulator`` by options that obstore reads."""
    text = store.pop("connection_string", None)
    if text is not None:
        parsed = parse_connection_string(str(text))
        _require_equal(parsed, store, "the connection string")
        store = {**store, **parsed}
    if str(store.pop("use_emulator", "")).lower() in ("true", "1"):
        store = {**emulator(store.pop("endpoint", None)), **store}
    return store


#: botocore's values of ``addressing_style``, and the one that its files name.
_STYLES = ("auto", "path", "virtual", "default")


def _add_address(bucket: str, store: dict[str, Any], profile: str) -> dict[str, Any]:
    """Add the address that botocore takes for a profile, or for one of its styles, where no other one is explicit."""
    style = str(store.get("virtual_hosted_style_request")).lower()
    if style not in _STYLES:
        if not profile or {"region", "virtual_hosted_style_request"} <= store.keys():
            return store
        style = ""
    given = {
        "profile": profile or None,
        "endpoint_url": store.get("endpoint"),
        "client_kwargs": {"region_name": store.get("region")} if store.get("region") else {},
        "config_kwargs": {"s3": {"addressing_style": style}} if style not in ("", "default") else {},
    }
    if style:
        store = {name: value for name, value in store.items() if name != "virtual_hosted_style_request"}
    found = s3_options(given, os.environ).translate(bucket)
    if any(note.code == "s3.profile.missing" for note in found.notes):
        # Registered where the profile does not exist: the first request reports it, as that of s3fs does.
        return store
    if found.config is None:
        raise ConfigurationError(f"s3://{bucket}: {found.refused[0].message}")
    asked = found.config.options
    if "virtual_hosted_style_request" in store:
        return {"region": asked["region"], **store}
    names = ("region", "endpoint", "virtual_hosted_style_request")
    return {**store, **{name: asked[name] for name in names if name in asked}}


def _require_equal(one: Mapping[str, Any], other: Mapping[str, Any], what: str) -> None:
    for name, value in one.items():
        if str(other.get(name, value)) != str(value):
            raise ConfigurationError(f"{name} is not the one in {what}; keep one of them")


def _make_credential_source(provider: Any, profile: str) -> CredentialSource | None:
    if provider is None:
        return CredentialSource(kind="boto3", options={"profile_name": profile}) if profile else None
    if isinstance(provider, CredentialSource):
        return provider
    return CredentialSource(kind="object", provider=provider)


def read_store(store: Any) -> StoreConfig | None:
    """Return the configuration of a live obstore store; ``None`` where it is hidden."""
    config = store_config(store)
    if config is None or config.service not in PREFIXES:
        return config
    options = {canonical(config.service, name): value for name, value in config.options.items()}
    provider = getattr(store, "credential_provider", None)
    return replace(config, options=options, credentials=_make_credential_source(provider, ""))
