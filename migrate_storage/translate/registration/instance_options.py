"""Options in the attributes of a live filesystem, which a subclass may have set itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from migrate_storage.translate.model import CredentialSource, StoreConfig
from migrate_storage.translate.option_names import CLIENT, without_prefix
from migrate_storage.translate.protocols.gcs import CredentialFile, names_file

__all__ = ("given_session", "instance_options")


def instance_options(
    protocol: str, filesystem: Any, options: Mapping[str, Any], environment: Mapping[str, str]
) -> dict[str, Any]:
    """Return the options of a filesystem, corrected by its attributes.

    Args:
        protocol: canonical protocol.
        filesystem: the live instance. Only plain attributes are read.
        options: its arguments.
        environment: environment variables, to leave out values that came from there.
    """
    rules = {
        "s3": _read_s3_options, "gcs": _read_gcs_options, "azure": _read_azure_options, "obstore": _read_obstore_options,
    }  # fmt: skip
    return rules[protocol](filesystem, dict(options), environment) if protocol in rules else dict(options)


_S3 = (
    *("anon", "endpoint_url", "key", "secret", "token", "use_ssl", "client_kwargs", "config_kwargs"),
    *("s3_additional_kwargs", "requester_pays", "version_aware"),
)


def _read_s3_options(filesystem: Any, options: dict[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:  # noqa: ARG001 - one signature
    for name in _S3:
        value = getattr(filesystem, name, None)
        # A default value is no explicit option.
        if value is not None and (name in options or value not in (False, {}, True if name == "use_ssl" else None)):
            options[name] = value
    if options.get("key"):
        options.pop("username", None)
    if options.get("secret"):
        options.pop("password", None)
    extra = getattr(filesystem, "kwargs", None)
    for name, value in (extra if isinstance(extra, Mapping) else {}).items():
        options.setdefault(name, value)
    base = next((kind for kind in type(filesystem).__mro__ if kind.__name__ == "S3FileSystem"), None)
    for name in ("connect_timeout", "read_timeout"):
        value = getattr(filesystem, name, None)
        if value is not None and value != getattr(base, name, None):
            options.setdefault(name, value)
    session = options.pop("session", None)
    return {**options, **_read_session_options(session)} if session is not None else options


def given_session(filesystem: Any, options: Mapping[str, Any]) -> Any:
    """Return the session that an ``S3FileSystem`` was given; ``None`` where it makes its own."""
    if getattr(filesystem, "_session_is_owned", True):
        return options.get("session")
    return getattr(filesystem, "session", None)


def _read_session_options(session: Any) -> dict[str, Any]:
    """Return the keys or profile of a botocore session; else the session itself."""
    credentials: Any = getattr(session, "_credentials", None)
    if isinstance(getattr(credentials, "access_key", None), str) and not hasattr(credentials, "refresh_needed"):
        token = getattr(credentials, "token", None)
        return {"key": credentials.access_key, "secret": credentials.secret_key, "token": token}
    variables = getattr(session, "_session_instance_vars", None)
    of_variables = variables.get("profile") if isinstance(variables, Mapping) else None
    profile = getattr(session, "_profile", None) or of_variables
    return {"profile": profile} if isinstance(profile, str) else {"session": session}


def _read_gcs_options(filesystem: Any, options: dict[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:  # noqa: ARG001 - one signature
    for name in ("endpoint_url", "requester_pays", "project"):
        if value := getattr(filesystem, "_endpoint" if name == "endpoint_url" else name, None):
            options[name] = value
    credentials = getattr(filesystem, "credentials", None)
    if getattr(credentials, "method", None) == "anon":
        return {**options, "token": "anon"}
    # Where no token is given, the method shows which credentials were found.
    token = options.get("token", getattr(credentials, "token", None))
    if token is None:
        token = getattr(credentials, "method", None)
    live = getattr(credentials, "credentials", None)
    if isinstance(token, str) and token not in ("google_default", "cloud", "cache", "browser") and live is not None:
        kind = _guess_file_kind(live)
        if kind or (_is_plain_token(live) and names_file(token) and not token.lstrip().startswith("{")):
            token = CredentialFile(token, kind)
    return {**options, "token": token}


def _is_plain_token(live: Any) -> bool:
    """Return whether credentials are an access token that nothing renews."""
    return type(live).__module__ == "google.oauth2.credentials" and not getattr(live, "refresh_token", None)


def _guess_file_kind(live: Any) -> str:
    """Return the kind of a ``token`` file, by the credentials made from it."""
    module = type(live).__module__
    if module == "google.oauth2.service_account":
        return "service_account"
    if module == "google.oauth2.credentials" and getattr(live, "refresh_token", None):
        return "authorized_user"
    return ""


_AZURE = (
    *("account_name", "account_key", "connection_string", "sas_token", "client_id", "client_secret", "tenant_id"),
    *("anon", "location_mode", "account_host"),
)


def _read_azure_options(filesystem: Any, options: dict[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    for name in _AZURE:
        value = getattr(filesystem, name, None)
        if value is None or (name == "location_mode" and value == "primary"):
            continue
        # What is not given is decided by the version of adlfs: older ones ask anonymously.
        if name in options or name == "anon" or value != environment.get(f"AZURE_STORAGE_{name.upper()}"):
            options[name] = value
    credential = getattr(filesystem, "credential", None)
    if credential is not None and getattr(filesystem, "sync_credential", None) is None:
        options["credential"] = credential
    return options


def _read_obstore_options(filesystem: Any, options: dict[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:  # noqa: ARG001 - one signature
    """Return an ``FsspecStore``'s configuration; arguments may be client options."""
    service = options["service"]
    plain: dict[str, Any] = {}
    client = dict(getattr(filesystem, "_client_options", None) or {})
    given = {**(getattr(filesystem, "_config", None) or {}), **(getattr(filesystem, "_config_kwargs", None) or {})}
    for name, value in given.items():
        bare = without_prefix(service, name)
        (client if bare in CLIENT else plain)[bare] = value
    provider = getattr(filesystem, "_credential_provider", None)
    config = StoreConfig(
        service=service,
        root="",
        options=plain,
        client_options=client,
        retry=dict(getattr(filesystem, "_retry_config", None) or {}),
        credentials=CredentialSource(kind="object", provider=provider) if provider is not None else None,
    )
    return {"config": config}
