"""The endpoint of a store's configuration, as a ``Place`` has it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from migrate_storage.translate.model import StoreConfig
from migrate_storage.translate.places import normalise_endpoint, s3_endpoint

__all__ = ("endpoint_of", "endpoint_url")


def endpoint_of(config: StoreConfig, environment: Mapping[str, str] = {}) -> str:
    """Return the normalised endpoint of a configuration.

    Args:
        config: the store. An explicit endpoint takes precedence, as in a store that this package opens.
        environment: the variables that obstore would also read; empty for a complete configuration.
    """
    if config.service == "http":
        return config.root
    rules = {"s3": _read_s3_endpoint, "gcs": _read_gcs_endpoint, "azure": _read_azure_endpoint}
    return rules[config.service](config, environment) if config.service in rules else ""


def endpoint_url(config: StoreConfig) -> str:
    """Return the address that obstore asks on Google Cloud Storage or Azure, normalised.

    Args:
        config: a complete configuration; the environment is not read.
    """
    options = config.options
    if config.service == "gcs":
        return _read_gcs_endpoint(config, {}) or "https://storage.googleapis.com"
    return normalise_endpoint(
        _to_text(options.get("endpoint")) or f"https://{_to_text(options.get('account_name'))}.blob.core.windows.net"
    )


def _read_s3_endpoint(config: StoreConfig, environment: Mapping[str, str]) -> str:
    options = config.options
    endpoint = options.get("endpoint_url_s3") or options.get("endpoint") or options.get("endpoint_url")
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"):
        endpoint = endpoint or environment.get(name)
    region = options.get("region") or environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    virtual = str(options.get("virtual_hosted_style_request", "")).lower() in ("true", "1", "yes", "on", "y")
    return s3_endpoint(_to_text(endpoint), region=_to_text(region), bucket=config.root, virtual=virtual)


def _read_gcs_endpoint(config: StoreConfig, environment: Mapping[str, str]) -> str:
    url = _to_text(config.options.get("base_url")) or _read_account_url(config.options)
    url = url or environment.get("GOOGLE_BASE_URL", "")
    normal = normalise_endpoint(url) if url else ""
    return "" if normal == "https://storage.googleapis.com" else normal


def _read_account_url(options: Mapping[str, Any]) -> str:
    """Return the server that a service account names itself, as those of emulators do."""
    content = _to_text(options.get("service_account_key"))
    path = _to_text(options.get("service_account"))
    try:
        account = json.loads(content or (Path(path).expanduser().read_text() if path else "{}"))
    except (OSError, ValueError):
        return ""
    return _to_text(account.get("gcs_base_url")) if isinstance(account, dict) else ""


def _read_azure_endpoint(config: StoreConfig, environment: Mapping[str, str]) -> str:
    options = config.options
    account = _to_text(options.get("account_name")) or environment.get("AZURE_STORAGE_ACCOUNT_NAME", "")
    endpoint = _to_text(options.get("endpoint"))
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
        # The secondary and the hierarchical endpoint serve the same blobs.
        rest = f"{first.removesuffix('-secondary')}{dot}blob.{others.partition('.')[2]}"
    return f"{scheme}://{rest}"


def _to_text(value: Any) -> str:
    return value if isinstance(value, str) else ""
