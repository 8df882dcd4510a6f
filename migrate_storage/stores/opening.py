"""Open an obstore store from values, so that what is written in them is what is used.

Constructing a store sends nothing and starts nothing. What cannot work is refused here, in one line.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from obstore.exceptions import BaseError, UnknownConfigurationKeyError
from obstore.store import AzureStore, GCSStore, HTTPStore, LocalStore, MemoryStore, S3Store

from migrate_storage.errors import ConfigurationError, UnknownOptionError
from migrate_storage.model import CredentialSource, StoreConfig
from migrate_storage.stores.credentials import Provider, StaticCredentials, provider
from migrate_storage.stores.environment import client_settings, settings
from migrate_storage.stores.names import CLIENT, OPTIONS, PREFIXES, RETRY, unknown

__all__ = ("Store", "is_panic", "open_store", "text_values")

Store = S3Store | GCSStore | AzureStore | LocalStore | MemoryStore | HTTPStore

#: A body may take as long as it likes while bytes flow; obstore's own default ends every request after 30 seconds.
_PATIENCE = {"timeout": "7days", "read_timeout": "120s"}


class _Parts(NamedTuple):
    """What a constructor is called with."""

    options: dict[str, Any]
    provider: Provider | None


def open_store(config: StoreConfig) -> Store:
    """Open the store that a configuration says.

    Explicit configuration wins over the environment, source by source. Never touches obstore's runtime, so that a
    process may fork afterwards.

    Args:
        config: what to open. ``root`` must name the bucket, container, directory or base URL.

    Returns:
        The obstore store, with ``config.prefix`` inside.

    Raises:
        ConfigurationError: when it cannot work, in one line without any secret.
    """
    opener = _OPENERS.get(config.service)
    if opener is None:
        raise ConfigurationError(f"there is no store for {config.service!r}; use {', '.join(_OPENERS)}")
    if not config.root and config.service != "memory":
        raise ConfigurationError(f"a {config.service} store needs {_ROOTS[config.service]}; none is given")
    _check_names(config)
    return opener(config)


_ROOTS = {
    "s3": "a bucket: s3://BUCKET/",
    "gcs": "a bucket: gs://BUCKET/",
    "azure": "a container: az://CONTAINER/",
    "file": "a directory: file:///DIRECTORY/",
    "http": "a base URL",
}


def _open_memory(config: StoreConfig) -> Store:
    return MemoryStore()


def _open_file(config: StoreConfig) -> Store:
    folder = Path(config.root).expanduser().absolute() / config.prefix
    options = {"mkdir": True, **config.options}
    return _construct(config, lambda: LocalStore(folder, **options))


def _open_http(config: StoreConfig) -> Store:
    url = config.root.rstrip("/") + (f"/{config.prefix}" if config.prefix else "")
    client = _client_options(config, allow_http=url.startswith("http:"))
    return _construct(config, lambda: HTTPStore(url, client_options=client or None, retry_config=_retry(config)))


def _open_cloud(config: StoreConfig) -> Store:
    factory: Any
    kind, root_name, refine = _CLOUDS[config.service]
    factory = kind
    given = text_values(config.options)
    given.pop(root_name, None)
    source = provider(config.credentials, config.service) if config.credentials else None
    options, source = refine(config, _Parts(given, source))
    endpoint = str(options.get("endpoint") or options.get("base_url") or "")
    client = _client_options(config, allow_http=endpoint.startswith("http:"))
    arguments: dict[str, Any] = {
        "prefix": config.prefix or None,
        "config": options,
        "client_options": client,
        "retry_config": _retry(config),
        "credential_provider": source,
    }
    return _construct(config, lambda: factory(config.root, **arguments))


def _refine_s3(config: StoreConfig, parts: _Parts) -> _Parts:
    options, source = parts
    ambient = settings("s3")
    endpoint = options.get("endpoint")
    if endpoint:
        _check_endpoint("aws_endpoint", endpoint)
        _check_virtual_host(config.root, options)
        options.setdefault("virtual_hosted_style_request", "false")
        if "endpoint_url_s3" in ambient:
            options["endpoint_url_s3"] = options.pop("endpoint")
    elif "endpoint" not in ambient and "endpoint_url_s3" not in ambient:
        region = options.get("region", "")
        if region.startswith("cn-"):
            options["endpoint"] = f"https://s3.{region}.amazonaws.com.cn"
    keys = [name for name in ("access_key_id", "secret_access_key") if options.get(name)]
    if len(keys) == 1:
        missing = {"access_key_id": "aws_secret_access_key", "secret_access_key": "aws_access_key_id"}[keys[0]]
        raise ConfigurationError(f"s3://{config.root}: aws_{keys[0]} is given without {missing}; give both or neither")
    federated = "web_identity_token_file" in options or any(name.startswith("container_") for name in options)
    if federated and not keys and source is None and "access_key_id" in ambient:
        raise ConfigurationError(
            f"s3://{config.root}: AWS_ACCESS_KEY_ID in the environment would be used instead of the role that is "
            "configured; unset it"
        )
    if (keys or source or federated) and "skip_signature" in ambient:
        options.setdefault("skip_signature", "false")
    if keys and not options.get("session_token") and ambient.get("session_token") is not None and source is None:
        names = {"access_key_id": "access_key_id", "secret_access_key": "secret_access_key"}
        source = StaticCredentials({**{name: options[name] for name in names}, "token": None})
    return _Parts(options, source)


def _check_virtual_host(bucket: str, options: Mapping[str, str]) -> None:
    host = urlsplit(options["endpoint"]).netloc
    if _is_true(options.get("virtual_hosted_style_request")) and not host.startswith(f"{bucket}."):
        scheme = urlsplit(options["endpoint"]).scheme
        raise ConfigurationError(
            f"s3://{bucket}: a virtual-hosted endpoint must hold the bucket; write {scheme}://{bucket}.{host}"
        )


def _refine_gcs(config: StoreConfig, parts: _Parts) -> _Parts:
    options, source = parts
    ambient = settings("gcs")
    if base := options.get("base_url"):
        _check_endpoint("google_base_url", base)
    if options.get("service_account", "").lstrip().startswith("{"):
        options["service_account_key"] = options.pop("service_account")
    for name in ("service_account", "application_credentials"):
        if name in options:
            options[name] = _readable(f"google_{name}", options[name])
    own = [
        n for n in ("service_account", "service_account_key", "application_credentials", "bearer_token") if n in options
    ]
    anonymous = _is_true(options.get("skip_signature"))
    if (own or source) and "skip_signature" in ambient:
        options.setdefault("skip_signature", "false")
    if anonymous and not own and source is None:
        # obstore reads the default credentials even to send none, and asks for a token to write.
        source = StaticCredentials({"token": ""})
    account = options.get("service_account") or options.get("service_account_key")
    if account and "bearer_token" in ambient and "bearer_token" not in options and source is None:
        # A bearer token outranks a service account, a provider outranks both; the account still signs URLs.
        source = provider(CredentialSource(kind="object", provider=_service_account(account)), "gcs")
    if "service_account" in options and "service_account_key" in ambient:
        options["service_account_key"] = Path(options.pop("service_account")).read_text()
    if not own and source is None and not anonymous and not set(ambient) & {"service_account", "service_account_key"}:
        source = _google_beyond_obstore(ambient)
    return _Parts(options, source)


def _service_account(account: str) -> Any:
    from google.oauth2 import service_account

    info = json.loads(account if account.lstrip().startswith("{") else Path(account).read_text())
    scope = "https://www.googleapis.com/auth/devstorage.full_control"
    info.setdefault("token_uri", "https://oauth2.googleapis.com/token")
    return service_account.Credentials.from_service_account_info(info, scopes=[scope])  # type: ignore[no-untyped-call]


def _google_beyond_obstore(ambient: Mapping[str, str]) -> Provider | None:
    """google.auth, where the default credentials are of a kind that obstore does not read (federation, impersonation)."""
    path = ambient.get("application_credentials")
    if path is None:
        path = str(Path("~/.config/gcloud/application_default_credentials.json").expanduser())
    try:
        kind = json.loads(Path(path).read_text()).get("type")
    except (OSError, ValueError, AttributeError):
        return None
    if kind in ("service_account", "authorized_user"):
        return None
    return provider(CredentialSource(kind="google"), "gcs")


#: Which options are which source, in the order in which a configuration with several is read.
_AZURE_SOURCES = {
    "account_key": "access_key",
    "sas_key": "sas_token",
    "token": "bearer_token",
    "client_secret": "client_secret",
    "federated_token_file": "workload_identity",
}


def _refine_azure(config: StoreConfig, parts: _Parts) -> _Parts:
    options, source = parts
    ambient = settings("azure")
    account = options.get("account_name")
    endpoint = options.get("endpoint")
    if endpoint:
        _check_endpoint("azure_storage_endpoint", endpoint)
        options["endpoint"] = endpoint.rstrip("/")
    elif account and "endpoint" in ambient:
        options["endpoint"] = f"https://{account}.blob.core.windows.net"
    if account and "use_emulator" in ambient:
        options["use_emulator"] = "false"
    if account and "use_fabric_endpoint" in ambient:
        options.setdefault("use_fabric_endpoint", "false")
    if not account and "account_name" not in ambient and "use_emulator" not in ambient:
        raise ConfigurationError(f"az://{config.root}: no account; write azure_storage_account_name=…")
    if key := options.get("account_key"):
        _check_base64(config.root, key)
    chosen = next((kind for name, kind in _AZURE_SOURCES.items() if options.get(name)), None)
    if chosen and source is None:
        options.setdefault("credential_type", chosen)
    if (chosen or source) and "skip_signature" in ambient:
        options.setdefault("skip_signature", "false")
    return _Parts(options, source)


def _check_base64(container: str, key: str) -> None:
    try:
        base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        raise ConfigurationError(
            f"az://{container}: azure_storage_account_key is not base64; copy the whole key from the portal"
        ) from None


def _check_endpoint(name: str, value: str) -> None:
    address = urlsplit(value)
    if address.scheme not in ("http", "https") or not address.netloc:
        plain = value.partition("://")[2] or value
        if "@" in plain:
            plain = "HOST"
        raise ConfigurationError(f"{name}={plain!r} has no scheme; write https://{plain} (or http://{plain})")
    if address.username or address.password or address.query or address.fragment:
        raise ConfigurationError(f"{name} must be scheme, host and port only; take user, query and fragment out of it")


def _readable(name: str, value: str) -> str:
    path = Path(value).expanduser()
    try:
        content = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not text"
        raise ConfigurationError(f"{name}: cannot read {path}: {why}; write the path of the JSON key file") from None
    try:
        json.loads(content)
    except ValueError:
        raise ConfigurationError(f"{name}: {path} is not JSON; download the key file again") from None
    return str(path)


def _client_options(config: StoreConfig, *, allow_http: bool) -> dict[str, Any]:
    explicit = {name: _client_value(name, value) for name, value in config.client_options.items() if value is not None}
    if allow_http:
        if explicit.get("allow_http") is False:
            raise ConfigurationError(
                f"{config.service}: the endpoint is http:// but allow_http is False; write https:// or allow_http=True"
            )
        explicit["allow_http"] = True
    # Any explicit client option makes obstore forget all of those in the environment.
    ambient = client_settings(config.service) if config.service in PREFIXES else {}
    patience = {} if "timeout" in explicit or "timeout" in ambient else _PATIENCE
    return {**patience, **ambient, **explicit}


def _client_value(name: str, value: Any) -> Any:
    if name in ("timeout", "connect_timeout", "read_timeout", "pool_idle_timeout", "http2_keep_alive_timeout"):
        return f"{round(value * 1000)}ms" if isinstance(value, int | float) else value
    if name in ("pool_max_idle_per_host", "http2_keep_alive_interval"):
        return str(value)
    if name in ("root_certificate", "proxy_ca_certificate"):
        return _certificate(name, value)
    if (
        isinstance(value, str)
        and value.lower() in ("true", "false")
        and name not in ("default_content_type", "user_agent")
    ):
        return value.lower() == "true"
    return value


def _certificate(name: str, value: Any) -> Any:
    """PEM, read from its file where a path is given."""
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if isinstance(text, bytes) or "-----BEGIN" in text:
        return text
    try:
        return Path(text).expanduser().read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"{name}: cannot read {text}: {error.strerror}; give PEM text or a file's path"
        ) from None


def _retry(config: StoreConfig) -> Any:
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


def _check_names(config: StoreConfig) -> None:
    for name in config.options:
        if config.service in ("file", "memory", "http") and name not in OPTIONS[config.service]:
            raise unknown(config.service, name)
    for name in config.client_options:
        if name not in CLIENT:
            raise unknown(config.service, name)
    for name in config.retry:
        if name not in RETRY:
            raise UnknownOptionError(f"{name!r} is no option of retry_config; use {', '.join(sorted(RETRY))}")


def text_values(options: Mapping[str, Any]) -> dict[str, str]:
    """The options as obstore takes them: text, without those that are ``None``."""
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


def _is_true(value: str | None) -> bool:
    return str(value).lower() in ("true", "1", "yes", "on", "y")


def is_panic(error: BaseException) -> bool:
    """Whether an error is a panic of obstore's Rust side, which is no ``Exception``."""
    return type(error).__name__ == "PanicException" and not isinstance(error, Exception)


def _construct(config: StoreConfig, construct: Callable[[], Store]) -> Store:
    try:
        return construct()
    except UnknownConfigurationKeyError as error:
        name = str(error).partition("'")[2].partition("'")[0]
        raise unknown(config.service, name) from None
    except (BaseError, ValueError, TypeError, OSError) as error:
        raise ConfigurationError(f"{config.service} store {config.root!r}: {_first_line(error)}") from None
    except BaseException as error:
        if not is_panic(error):
            raise
        raise ConfigurationError(
            f"{config.service} store {config.root!r}: obstore cannot read this configuration"
        ) from None


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:200]


_OPENERS: Mapping[str, Callable[[StoreConfig], Store]] = {
    "s3": _open_cloud,
    "gcs": _open_cloud,
    "azure": _open_cloud,
    "file": _open_file,
    "memory": _open_memory,
    "http": _open_http,
}

_Refine = Callable[[StoreConfig, _Parts], _Parts]
_CLOUDS: Mapping[str, tuple[type[Store], str, _Refine]] = {
    "s3": (S3Store, "bucket", _refine_s3),
    "gcs": (GCSStore, "bucket", _refine_gcs),
    "azure": (AzureStore, "container_name", _refine_azure),
}
