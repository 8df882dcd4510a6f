"""The digest by which the capabilities of a store are remembered."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from migrate_storage.core.model import Place
from migrate_storage.translate.model import StoreConfig
from migrate_storage.translate.option_names import CLIENT, OPTIONS, SECRETS

__all__ = ("compute_store_id",)

_NAMES_OF_SECRETS = {
    "secret_access_key": "access_key_id",
    "account_key": "account_name",
    "client_secret": "client_id",
}
"""The option that names whose secret an option has."""
_SAME_NAME = frozenset({"session_token"})
"""Secrets that another option names already: a session's token belongs to its key id."""
_FREE_CLIENT_OPTIONS = frozenset({"default_headers", "proxy_url"})
"""Client options with any content, a credential too."""


def compute_store_id(root: Place, config: StoreConfig | None) -> str | None:
    """Return a digest of a store's configuration and of the name of its credentials.

    No secret is an input, so none can be found by trying values until the digest is the same. The name of a credential, such
    as an access key's id, stands for it.

    Args:
        root: the place of the store.
        config: its configuration.

    Returns:
        ``None`` where the credentials have no name: tokens, a credential provider, those of the environment or of a role.
        ``None`` too where an option may contain a secret.
    """
    if config is None or root.service not in ("s3", "gcs", "azure") or not root.root or config.credentials is not None:
        return None
    if not _has_named_credentials(config):
        return None
    options = list(_public_options(config))
    if None in options or any(_may_contain_secret(part) for part in (root.endpoint, root.root, root.key)):
        return None
    text = json.dumps([root.service, root.endpoint, root.root, root.key, options], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _has_named_credentials(config: StoreConfig) -> bool:
    """Whether the options have credentials whose name they have too, or ask for none."""
    given = {name for name in SECRETS - _SAME_NAME if config.options.get(name)}
    if not given:
        key_file = config.service == "gcs" and bool(
            config.options.get("service_account") or config.options.get("application_credentials")
        )
        return key_file or str(config.options.get("skip_signature", "")).lower() == "true"
    return all(config.options.get(_NAMES_OF_SECRETS.get(name, "")) for name in given)


def _public_options(config: StoreConfig) -> Iterator[tuple[str, str] | None]:
    """Yield the options that are no secrets, in order; ``None`` for one that may contain a secret."""
    for name, value in sorted(config.options.items()):
        if name not in SECRETS and value is not None:
            yield (name, str(value)) if _is_public(name, value, OPTIONS[config.service]) else None
    for name, value in sorted(config.client_options.items()):
        if value is not None:
            yield (name, str(value)) if _is_public(name, value, CLIENT - _FREE_CLIENT_OPTIONS) else None


def _is_public(name: str, value: Any, known: Any) -> bool:
    return name in known and isinstance(value, (str, bool, int, float)) and not _may_contain_secret(str(value))


def _may_contain_secret(text: str) -> bool:
    """Whether a text may be a URL with a user or a query, or the content of a key file."""
    return any(sign in text for sign in ("@", "?", "{", "\n"))
