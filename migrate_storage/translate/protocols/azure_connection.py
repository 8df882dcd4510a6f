"""Azure storage connection strings, as values.

Source of the format: Microsoft Learn, "Configure Azure Storage connection strings".
"""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import parse_qs, urlsplit

from migrate_storage.core.errors import ConfigurationError

__all__ = ("EMULATOR_ACCOUNT", "EMULATOR_KEY", "emulator", "parse_connection_string")

EMULATOR_ACCOUNT = "devstoreaccount1"
EMULATOR_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Published by Microsoft for the local emulator; it is no secret."""

_NAMES = {
    name.lower(): name
    for name in (
        "AccountName", "AccountKey", "SharedAccessSignature", "BlobEndpoint", "BlobSecondaryEndpoint",
        "DefaultEndpointsProtocol", "EndpointSuffix", "UseDevelopmentStorage", "DevelopmentStorageProxyUri",
        "FileEndpoint", "FileSecondaryEndpoint", "QueueEndpoint", "QueueSecondaryEndpoint", "TableEndpoint",
        "TableSecondaryEndpoint", "DfsEndpoint", "WebEndpoint",
    )
}  # fmt: skip


def emulator(endpoint: str | None = None) -> dict[str, Any]:
    """Return the options for Azurite.

    They do not include obstore's ``use_emulator``, which ignores an explicit endpoint.

    Args:
        endpoint: the account's URL; where it is ``None``, ``AZURITE_BLOB_STORAGE_URL`` or port 10000 on this machine.
    """
    base = endpoint or os.environ.get("AZURITE_BLOB_STORAGE_URL") or "http://127.0.0.1:10000"
    base = base.rstrip("/")
    if not urlsplit(base).path:
        base = f"{base}/{EMULATOR_ACCOUNT}"
    return {"account_name": EMULATOR_ACCOUNT, "account_key": EMULATOR_KEY, "endpoint": base}


def parse_connection_string(text: str, emulator_url: str | None = None) -> dict[str, Any]:
    """Return the obstore options of a connection string.

    Args:
        text: ``Name=value`` pairs joined by ``;``. A value may contain ``=``.
        emulator_url: where ``UseDevelopmentStorage`` leads whatever else the string has, as in adlfs; ``None`` for the
            place of :func:`emulator`, and then a proxy in the string is refused.

    Returns:
        Some of ``account_name``, ``account_key``, ``sas_key``, ``endpoint`` (no slash at its end), ``skip_signature``.

    Raises:
        ConfigurationError: it cannot be read; the message never contains a value.
    """
    parts = _split_pairs(text)
    if parts.get("UseDevelopmentStorage", "").lower() == "true":
        if emulator_url is None and "DevelopmentStorageProxyUri" in parts:
            raise ConfigurationError(
                "Azure connection string: DevelopmentStorageProxyUri is ignored by the SDK, which goes to 127.0.0.1:10000; "
                "take it out, or name another emulator with use_emulator and azure_storage_endpoint"
            )
        return emulator(emulator_url)
    options: dict[str, Any] = {}
    suffix = parts.get("EndpointSuffix", "core.windows.net")
    if not suffix or suffix.startswith("."):
        raise ConfigurationError("Azure connection string: EndpointSuffix is no domain; write it as core.windows.net")
    account = parts.get("AccountName")
    endpoint = parts.get("BlobEndpoint", "").rstrip("/")
    # Like the SDK: the protocol counts together with a suffix only.
    if not endpoint and account and "EndpointSuffix" in parts:
        protocol = parts.get("DefaultEndpointsProtocol", "https").lower()
        endpoint = f"{protocol}://{account}.blob.{suffix}"
    if endpoint:
        endpoint, _, query = endpoint.partition("?")
        if urlsplit(endpoint).scheme not in ("http", "https"):
            raise ConfigurationError("Azure connection string: BlobEndpoint has no scheme; write it as https://HOST")
        options["endpoint"] = endpoint.rstrip("/")
        if query and "SharedAccessSignature" not in parts:
            parts["SharedAccessSignature"] = query
    account = account or _read_account(endpoint)
    if not account:
        raise ConfigurationError("Azure connection string: it names no account; add AccountName=… or BlobEndpoint=…")
    options["account_name"] = account
    if parts.get("AccountKey") == "":
        raise ConfigurationError("Azure connection string: AccountKey is empty; copy it whole")
    if "AccountKey" in parts:
        options["account_key"] = parts["AccountKey"]
    elif "SharedAccessSignature" in parts:
        signature = parts["SharedAccessSignature"].lstrip("?")
        if "sig" not in parse_qs(signature):
            raise ConfigurationError("Azure connection string: SharedAccessSignature has no sig=…; copy it whole")
        options["sas_key"] = signature
    return options


def _split_pairs(text: str) -> dict[str, str]:
    parts: dict[str, str] = {}
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        raise ConfigurationError("Azure connection string: it is wrapped in quotes; write it without them")
    for number, piece in enumerate(filter(None, (piece.strip() for piece in text.split(";"))), 1):
        name, equals, value = piece.partition("=")
        known = _NAMES.get(name.strip().lower())
        if not equals or known is None:
            raise ConfigurationError(
                f"Azure connection string: part {number} is not NAME=VALUE with a known name "
                "(AccountName, AccountKey, SharedAccessSignature, BlobEndpoint, EndpointSuffix, …)"
            )
        if known in parts:
            raise ConfigurationError(f"Azure connection string: {known} is given twice; keep one")
        parts[known] = value.strip()
    if not parts:
        raise ConfigurationError("Azure connection string: it is empty; copy it from the storage account's access keys")
    return parts


def _read_account(endpoint: str) -> str | None:
    """Return the first label of a vendor's host, the first path segment of another."""
    address = urlsplit(endpoint)
    host = address.hostname or ""
    if ".blob." in host or ".dfs." in host:
        return host.partition(".")[0].removesuffix("-secondary")
    return address.path.strip("/").partition("/")[0] or None
