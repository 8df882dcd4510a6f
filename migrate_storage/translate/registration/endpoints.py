"""The endpoint that a store's configuration leads to, as :class:`migrate_storage.core.model.Place` has it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from migrate_storage.translate.model import StoreConfig
from migrate_storage.translate.places import normalise_endpoint, s3_endpoint

__all__ = ("endpoint_of",)


def endpoint_of(config: StoreConfig, environment: Mapping[str, str] = {}) -> str:
    """The normalised endpoint of a configuration.

    Args:
        config: The store. An explicit endpoint wins, as in a store that we open.
        environment: What obstore would read besides; empty for a configuration that leaves nothing to it.
    """
    rule = {"s3": _s3, "gcs": _gcs, "azure": _azure, "http": _http}.get(config.service)
    return rule(config, environment) if rule else ""


def _s3(config: StoreConfig, environment: Mapping[str, str]) -> str:
    options = config.options
    endpoint = options.get("endpoint_url_s3") or options.get("endpoint") or options.get("endpoint_url")
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"):
        endpoint = endpoint or environment.get(name)
    region = options.get("region") or environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    virtual = str(options.get("virtual_hosted_style_request", "")).lower() in ("true", "1", "yes", "on", "y")
    bucket = config.root
    return s3_endpoint(_text(endpoint), region=_text(region), bucket=bucket, virtual=virtual)


def _gcs(config: StoreConfig, environment: Mapping[str, str]) -> str:
    url = (
        _text(config.options.get("base_url")) or _account_url(config.options) or environment.get("GOOGLE_BASE_URL", "")
    )
    normal = normalise_endpoint(url) if url else ""
    return "" if normal == "https://storage.googleapis.com" else normal


def _account_url(options: Mapping[str, Any]) -> str:
    """A service account may name its own server; those of emulators do."""
    content = _text(options.get("service_account_key"))
    path = _text(options.get("service_account"))
    try:
        account = json.loads(content or (Path(path).expanduser().read_text() if path else "{}"))
    except (OSError, ValueError):
        return ""
    return _text(account.get("gcs_base_url")) if isinstance(account, dict) else ""


def _azure(config: StoreConfig, environment: Mapping[str, str]) -> str:
    options = config.options
    account = _text(options.get("account_name")) or environment.get("AZURE_STORAGE_ACCOUNT_NAME", "")
    endpoint = _text(options.get("endpoint"))
    if str(options.get("use_emulator", "")).lower() in ("true", "1"):
        endpoint = "http://127.0.0.1:10000/devstoreaccount1"
    for name in ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"):
        endpoint = endpoint or environment.get(name, "")
    if not endpoint:
        return f"https://{account.lower()}.blob.core.windows.net"
    normal = normalise_endpoint(endpoint)
    scheme, _, rest = normal.partition("://")
    first, dot, others = rest.partition(".")
    if others.startswith(("blob.", "dfs.")):
        # The secondary and the hierarchical endpoint show the same blobs.
        rest = f"{first.removesuffix('-secondary')}{dot}blob.{others.partition('.')[2]}"
    return f"{scheme}://{rest}"


def _http(config: StoreConfig, environment: Mapping[str, str]) -> str:  # noqa: ARG001 - one signature for all
    return config.root


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
