"""Obstore's client and retry options, from values in any form."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from migrate_storage.core.errors import ConfigurationError, UnknownOptionError
from migrate_storage.stores.config.isolation import environment_options
from migrate_storage.translate.model import StoreConfig
from migrate_storage.translate.option_names import CLIENT, PREFIXES, RETRY, unknown

__all__ = ("client_options", "retry_options")

#: A body may take any time while bytes arrive. obstore's own default ends every request after 30 seconds.
_TIMEOUTS = {"timeout": "7days", "read_timeout": "120s"}

_DURATIONS = frozenset({"timeout", "connect_timeout", "read_timeout", "pool_idle_timeout", "http2_keep_alive_timeout"})
_TEXTS = frozenset({"pool_max_idle_per_host", "http2_keep_alive_interval"})
_SWITCHES = frozenset({"allow_http", "allow_invalid_certificates", "http1_only", "http2_only", "randomize_addresses"})


#: Options that decide as whom a store asks. Beside one of them no variable changes a request.
_CREDENTIALS = frozenset({
    "access_key_id", "skip_signature", "web_identity_token_file", "container_credentials_relative_uri",
    "container_credentials_full_uri", "service_account", "service_account_key", "application_credentials",
    "bearer_token", "account_key", "sas_key", "token", "client_secret", "federated_token_file", "use_azure_cli",
})  # fmt: skip


def client_options(config: StoreConfig, *, allow_http: bool) -> dict[str, Any]:
    """Return obstore's ``ClientConfig`` for a configuration.

    Client options of the environment are added where no credentials are explicit.

    Args:
        config: its ``client_options`` may give seconds as numbers, and certificates as paths.
        allow_http: whether the endpoint is plain HTTP.

    Raises:
        UnknownOptionError: obstore has no option of a name.
        ConfigurationError: a certificate cannot be read, or plain HTTP is both needed and forbidden.
    """
    for name in config.client_options:
        if name not in CLIENT:
            raise unknown(config.service, name)
    explicit = {name: _convert_value(name, value) for name, value in config.client_options.items() if value is not None}
    if allow_http:
        if explicit.get("allow_http") is False:
            raise ConfigurationError(
                f"{config.service}: the endpoint is http:// but allow_http is False; write https:// or allow_http=True"
            )
        explicit["allow_http"] = True
    # Any explicit client option makes obstore ignore all client options in the environment.
    own = config.credentials is not None or any(config.options.get(name) for name in _CREDENTIALS)
    environment = environment_options(config.service) if config.service in PREFIXES and not own else {}
    ambient = {name: value for name, value in environment.items() if name in CLIENT}
    timeouts = {} if "timeout" in explicit or "timeout" in ambient else _TIMEOUTS
    return {**timeouts, **{name: _convert_value(name, value) for name, value in ambient.items()}, **explicit}


def _convert_value(name: str, value: Any) -> Any:
    if name in _DURATIONS:
        return f"{round(value * 1000)}ms" if isinstance(value, int | float) else value
    if name in _TEXTS:
        return str(value)
    if name in ("root_certificate", "proxy_ca_certificate"):
        return _read_certificate(name, value)
    if name in _SWITCHES and isinstance(value, str):
        return value.lower() in ("true", "1", "yes", "on")
    return value


def _read_certificate(name: str, value: Any) -> Any:
    """Return PEM text, read from its file where a path is given."""
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if isinstance(text, bytes) or "-----BEGIN" in text:
        return text
    try:
        return Path(text).expanduser().read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"{name}: cannot read {text}: {error.strerror}; give PEM text or a file's path"
        ) from None


def retry_options(config: StoreConfig) -> Any:
    """Return obstore's ``RetryConfig``; ``None`` for its defaults.

    Numbers in the configuration are seconds.

    Raises:
        UnknownOptionError: a name that obstore would ignore without an error.
    """
    for name in config.retry:
        if name not in RETRY:
            raise UnknownOptionError(f"{name!r} is no option of retry_config; use {', '.join(sorted(RETRY))}")
    if not config.retry:
        return None
    retry = dict(config.retry)
    backoff = retry.get("backoff")
    if isinstance(retry.get("retry_timeout"), int | float):
        retry["retry_timeout"] = timedelta(seconds=retry["retry_timeout"])
    if isinstance(backoff, Mapping):
        retry["backoff"] = {
            name: timedelta(seconds=value) if name != "base" and isinstance(value, int | float) else value
            for name, value in backoff.items()
        }
    return retry
