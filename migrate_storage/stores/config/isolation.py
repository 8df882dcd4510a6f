"""Complete explicit options so that the environment cannot change what they mean.

obstore merges explicit options with environment variables one by one, so that a variable can change where or as whom an
explicit configuration connects. For each such variable an explicit option or a credential provider is added here. Where
that is not possible the configuration is refused.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.stores.config.credentials import Provider, StaticCredentials, provider
from migrate_storage.stores.config.nobody import make_service_account
from migrate_storage.translate.model import CredentialSource, StoreConfig
from migrate_storage.translate.option_names import PREFIXES, canonical

__all__ = ("check_endpoint", "environment_options", "is_true", "isolate_azure", "isolate_gcs")


def environment_options(service: str, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the options in the environment that obstore reads, by canonical name.

    Args:
        service: ``s3``, ``gcs`` or ``azure``.
        environment: environment variables; ``None`` for those of this process.
    """
    environment = os.environ if environment is None else environment
    prefix = PREFIXES[service][-1].upper()
    found: dict[str, str] = {}
    for name, value in environment.items():
        if name.startswith(prefix):
            bare = name.lower()
            # This variable takes precedence over the other spellings of the same option.
            found["endpoint_url_s3" if bare == "aws_endpoint_url_s3" else canonical(service, bare)] = value
    if service == "gcs" and "SERVICE_ACCOUNT" in environment:
        found.setdefault("service_account", environment["SERVICE_ACCOUNT"])
    if service == "azure" and "IDENTITY_ENDPOINT" in environment:
        found.setdefault("msi_endpoint", environment["IDENTITY_ENDPOINT"])
    return found


def isolate_gcs(
    _: StoreConfig, options: dict[str, str], source: Provider | None, until_constructed: ExitStack
) -> Provider | None:
    """Keep tokens and key files of the environment away; see :func:`migrate_storage.stores.config.s3_isolation.isolate_s3`."""
    ambient = environment_options("gcs")
    if base := options.get("base_url"):
        check_endpoint("google_base_url", base)
    if options.get("service_account", "").lstrip().startswith("{"):
        options["service_account_key"] = options.pop("service_account")
    for name in ("service_account", "application_credentials"):
        if name in options:
            options[name] = _check_key_file(f"google_{name}", options[name])
    own = [
        n for n in ("service_account", "service_account_key", "application_credentials", "bearer_token") if n in options
    ]
    anonymous = is_true(options.get("skip_signature"))
    if (own or source) and "skip_signature" in ambient:
        options.setdefault("skip_signature", "false")
    if anonymous and not own and source is None:
        # obstore reads the default credentials even for anonymous requests, and needs a token to write.
        source = StaticCredentials({"token": ""})
    account = options.get("service_account") or options.get("service_account_key")
    if account and "bearer_token" in ambient and "bearer_token" not in options and source is None:
        # A bearer token takes precedence over a service account, a provider over both; the account still signs URLs.
        source = provider(CredentialSource(kind="object", provider=_load_service_account(account)), "gcs")
    named = [name for name in ("service_account", "service_account_key") if name in ambient]
    if named and not account and (own or source or anonymous):
        # obstore reads the account of the environment though it would not use it.
        source = source or _make_own_provider(options)
        options[named[0]] = make_service_account()
        if named[0] == "service_account":
            options["service_account_key"] = options.pop("service_account")
    if len(named) > 1 and (own or source):
        raise ConfigurationError(
            "both GOOGLE_SERVICE_ACCOUNT and GOOGLE_SERVICE_ACCOUNT_KEY are in the environment, and obstore refuses the "
            "one beside the other; unset one of them"
        )
    _avoid_key_beside_path(options, ambient, until_constructed)
    if not own and source is None and not anonymous and not set(ambient) & {"service_account", "service_account_key"}:
        source = _make_default_provider(ambient)
    return source


def _make_own_provider(options: dict[str, str]) -> Provider | None:
    """Return the provider of explicit credentials that are no account."""
    if token := options.get("bearer_token"):
        return StaticCredentials({"token": token})
    if path := options.pop("application_credentials", None):
        return provider(CredentialSource(kind="google_file", options={"path": path}), "gcs")
    return None


def _avoid_key_beside_path(options: dict[str, str], ambient: Mapping[str, str], until_constructed: ExitStack) -> None:
    """Give a key as a path, or a path as a key: obstore refuses one beside the other."""
    if "service_account" in options and "service_account_key" in ambient:
        options["service_account_key"] = Path(options.pop("service_account")).read_text()
    elif "service_account_key" in options and "service_account" in ambient:
        if not Path("/dev/fd").is_dir():
            raise ConfigurationError(
                "google_service_account_key: GOOGLE_SERVICE_ACCOUNT or SERVICE_ACCOUNT in the environment names another "
                "account; unset it"
            )
        # Only this process can read the path of a pipe, which contains the key until the store is constructed.
        reading, writing = os.pipe()
        until_constructed.callback(os.close, reading)
        with os.fdopen(writing, "w") as pipe:
            pipe.write(options.pop("service_account_key"))
        options["service_account"] = f"/dev/fd/{reading}"


def _load_service_account(account: str) -> Any:
    try:
        from google.oauth2 import service_account
    except ImportError:
        raise ConfigurationError(
            "GOOGLE_BEARER_TOKEN in the environment would be used before the service account; unset it, or install google-auth"
        ) from None
    info = json.loads(account if account.lstrip().startswith("{") else Path(account).read_text())
    scope = "https://www.googleapis.com/auth/devstorage.full_control"
    info.setdefault("token_uri", "https://oauth2.googleapis.com/token")
    found = service_account.Credentials.from_service_account_info(info, scopes=[scope])  # type: ignore[no-untyped-call]
    # A token signed by the account itself, as obstore makes it: no request for one.
    return found.with_always_use_jwt_access(True)


def _make_default_provider(ambient: Mapping[str, str]) -> Provider | None:
    """Return a provider for federated and impersonated default credentials."""
    path = ambient.get("application_credentials")
    if path is None:
        path = str(Path("~/.config/gcloud/application_default_credentials.json").expanduser())
    try:
        kind = json.loads(Path(path).read_text()).get("type")
    except (OSError, ValueError, AttributeError):
        return None
    known = kind in ("service_account", "authorized_user")
    return None if known else provider(CredentialSource(kind="google"), "gcs")


def _check_key_file(name: str, value: str) -> str:
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


#: The ``credential_type`` of each option, in order of precedence.
_AZURE_CREDENTIAL_TYPES = {
    "account_key": "access_key", "sas_key": "sas_token", "token": "bearer_token", "client_secret": "client_secret",
    "federated_token_file": "workload_identity",
}  # fmt: skip


def isolate_azure(
    config: StoreConfig, options: dict[str, str], source: Provider | None, _: ExitStack
) -> Provider | None:
    """Make Azure use the explicit kind of credentials; see :func:`migrate_storage.stores.config.s3_isolation.isolate_s3`."""
    ambient = environment_options("azure")
    account, endpoint = options.get("account_name"), options.get("endpoint")
    if endpoint:
        check_endpoint("azure_storage_endpoint", endpoint)
        options["endpoint"] = endpoint.rstrip("/")
    elif account and "endpoint" in ambient:
        options["endpoint"] = f"https://{account}.blob.core.windows.net"
    if account and "use_emulator" in ambient:
        options["use_emulator"] = "false"
    if account and "use_fabric_endpoint" in ambient:
        options.setdefault("use_fabric_endpoint", "false")
    if not account and "account_name" not in ambient and "use_emulator" not in ambient:
        raise ConfigurationError(f"az://{config.root}: no account; write azure_storage_account_name=…")
    anonymous = is_true(options.get("skip_signature"))
    if "encryption_key" in ambient and "encryption_key" not in options:
        raise ConfigurationError(
            f"az://{config.root}: AZURE_STORAGE_ENCRYPTION_KEY in the environment would change each request; "
            "unset it, or write azure_storage_encryption_key=…"
        )
    if key := options.get("account_key"):
        _check_base64(config.root, key)
    chosen = next((kind for name, kind in _AZURE_CREDENTIAL_TYPES.items() if options.get(name)), None)
    if chosen and source is None:
        options.setdefault("credential_type", chosen)
    if (chosen or source) and "skip_signature" in ambient:
        options.setdefault("skip_signature", "false")
    if anonymous and not chosen and source is None and "credential_type" in ambient:
        # obstore needs credentials of that type, though nothing is signed.
        return StaticCredentials({"token": ""})
    return source


def _check_base64(container: str, key: str) -> None:
    try:
        base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        raise ConfigurationError(
            f"az://{container}: azure_storage_account_key is not base64; copy the whole key from the portal"
        ) from None


def check_endpoint(name: str, value: str) -> None:
    """Refuse an endpoint that is not scheme, host, port and path.

    Args:
        name: the option, for the message.
        value: the endpoint.

    Raises:
        ConfigurationError: with the option's name.
    """
    address = urlsplit(value)
    if address.scheme not in ("http", "https") or not address.netloc:
        plain = value.partition("://")[2] or value
        if "@" in plain:
            plain = "HOST"
        raise ConfigurationError(f"{name}={plain!r} has no scheme; write https://{plain} (or http://{plain})")
    if address.username or address.password or address.query or address.fragment:
        raise ConfigurationError(f"{name} must be scheme, host and port only; take user, query and fragment out of it")


def is_true(value: str | None) -> bool:
    """Return whether obstore reads a value as true."""
    return str(value).lower() in ("true", "1", "yes", "on", "y")
