"""Signed URLs, also for keys that obstore signs wrongly.

obstore signs wrongly where a key needs percent-encoding. On Google Cloud Storage it reads ``#`` and ``?`` in a key as
the end of the path; on Azure it signs the encoded name, where the service checks the plain one. Keys for Google are
encoded before they are signed. For Azure with an account key the URL is signed here.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

import obstore

from migrate_storage.core.errors import KeyRefusedError
from migrate_storage.stores.config.isolation import environment_options
from migrate_storage.stores.config.open import open_store
from migrate_storage.stores.sync_async import Caller
from migrate_storage.translate.model import StoreConfig

__all__ = ("DEFAULT_LIFETIME_SECONDS", "MAX_LIFETIME_SECONDS", "azure_url", "lifetime", "sign")

DEFAULT_LIFETIME_SECONDS = 3600
MAX_LIFETIME_SECONDS = {"s3": 604_800, "gcs": 604_800}
"""Sources: AWS Signature Version 4 query parameters; Cloud Storage "Signed URLs"."""

_SIGNING_SERVICES = ("s3", "gcs", "azure")
#: Keys that obstore signs correctly on Azure.
_PLAIN_ON_AZURE = re.compile(r"[A-Za-z0-9/._~+&@:=,;!$'()*-]*")
_AZURE_VERSION = "2022-11-02"


def lifetime(service: str, expires_in: int | None) -> int:
    """Return the lifetime of a URL in seconds.

    Raises:
        NotImplementedError: the store has no signed URLs.
        ValueError: the service refuses such a lifetime.
    """
    if service not in _SIGNING_SERVICES:
        raise NotImplementedError(f"a {service} store has no signed URLs; serve the file through the application")
    if expires_in is None:
        return DEFAULT_LIFETIME_SECONDS
    if isinstance(expires_in, bool) or not isinstance(expires_in, int) or expires_in < 1:
        raise ValueError(f"expires_in={expires_in!r} is not a whole number of seconds from 1 on")
    longest = MAX_LIFETIME_SECONDS.get(service)
    if longest is not None and expires_in > longest:
        raise ValueError(
            f"expires_in={expires_in}: {service} refuses URLs valid for more than {longest} seconds (7 days)"
        )
    return expires_in


async def sign(
    caller: Caller, store: Any, config: StoreConfig | None, key: str, *, expires_in: int, method: str
) -> str:
    """Return the signed URL of a key.

    Args:
        caller: blocking or awaiting.
        store: the obstore store.
        config: its configuration; ``None`` where that is not known.
        key: a key below the store's prefix, checked.
        expires_in: seconds, checked by :func:`lifetime`.
        method: ``GET`` or ``PUT``.

    Raises:
        NotImplementedError: the store's credentials cannot sign.
        KeyRefusedError: no correct URL can be made for a key.
    """
    if config is not None:
        _check_credentials(config)
        if config.service == "gcs":
            return await _sign_gcs(caller, store, config, key, expires_in, method)
        if config.service == "azure":
            return await _sign_azure(caller, store, config, key, expires_in, method)
    return await _sign_by_obstore(caller, store, key, expires_in, method)


async def _sign_by_obstore(caller: Caller, store: Any, key: str, expires_in: int, method: str) -> str:
    return str(await caller.call(obstore, "sign", store, method, key, timedelta(seconds=expires_in)))


def _check_credentials(config: StoreConfig) -> None:
    options = config.options
    anonymous = str(options.get("skip_signature", "")).lower() == "true"
    keys = options.get("access_key_id") or options.get("account_key")
    if config.service == "gcs":
        keys = keys or options.get("service_account") or options.get("service_account_key")
    if anonymous and not keys:
        raise NotImplementedError(f"an anonymous {config.service} store has nothing to sign with; give it credentials")
    if config.service == "gcs" and not keys and (options.get("bearer_token") or config.credentials):
        raise NotImplementedError("a token cannot sign URLs on Google Cloud Storage; give a service account")
    if config.service == "azure" and options.get("sas_key") and not keys:
        raise NotImplementedError("a SAS token cannot sign further URLs on Azure; give the account key")


async def _sign_gcs(caller: Caller, store: Any, config: StoreConfig, key: str, expires_in: int, method: str) -> str:
    prefix = store.prefix or ""
    if _encode_key(prefix) != prefix:
        # obstore joins the prefix to the encoded key without encoding it: sign at the bucket's root instead.
        store = open_store(replace(config, prefix=""))
        key = f"{prefix}/{key}"
    return await _sign_by_obstore(caller, store, _encode_key(key), expires_in, method)


def _encode_key(key: str) -> str:
    return quote(key, safe="/-._~")


async def _sign_azure(caller: Caller, store: Any, config: StoreConfig, key: str, expires_in: int, method: str) -> str:
    config = _add_ambient_account(config)
    if config.options.get("account_key") and config.options.get("account_name"):
        until = datetime.now(UTC) + timedelta(seconds=expires_in)
        return azure_url(config, f"{config.prefix}/{key}" if config.prefix else key, until, method)
    if not _PLAIN_ON_AZURE.fullmatch(key) or not _PLAIN_ON_AZURE.fullmatch(config.prefix):
        raise KeyRefusedError(
            f"{key!r} needs percent-encoding, for which obstore's signature is refused by Azure; "
            "sign with the account key, or use another filename"
        )
    return await _sign_by_obstore(caller, store, key, expires_in, method)


def _add_ambient_account(config: StoreConfig) -> StoreConfig:
    """Add the environment's account where obstore would use it."""
    own = {"account_key", "sas_key", "token", "client_secret", "federated_token_file", "credential_type"}
    if config.credentials is not None or own & set(config.options):
        return config
    ambient = environment_options("azure")
    found: dict[str, Any] = {n: ambient[n] for n in ("account_name", "account_key", "endpoint") if n in ambient}
    return replace(config, options={**found, **config.options}) if "account_key" in found else config


def azure_url(config: StoreConfig, key: str, until: datetime, method: str) -> str:
    """Return a URL with a service SAS for one blob, signed with the account key.

    Args:
        config: an Azure store with ``account_name`` and ``account_key``.
        key: the full name of the blob.
        until: when it expires, in UTC.
        method: ``GET`` permits reading, ``PUT`` creating and writing.

    Source of the fields and their order: Azure REST, "Create a service SAS", version 2022-11-02.
    """
    options = config.options
    account = str(options["account_name"])
    endpoint = str(options.get("endpoint") or f"https://{account}.blob.core.windows.net").rstrip("/")
    permissions = "r" if method == "GET" else "cw"
    expiry = until.strftime("%Y-%m-%dT%H:%M:%SZ")
    resource = f"/blob/{account}/{config.root}/{key}"
    to_sign = "\n".join(
        (permissions, "", expiry, resource, "", "", "", _AZURE_VERSION, "b", "", "", "", "", "", "", "")
    )
    secret = base64.b64decode(str(options["account_key"]))
    signature = base64.b64encode(hmac.new(secret, to_sign.encode(), hashlib.sha256).digest()).decode()
    query = urlencode({"sv": _AZURE_VERSION, "se": expiry, "sr": "b", "sp": permissions, "sig": signature})
    return f"{endpoint}/{config.root}/{_encode_key(key)}?{query}"
