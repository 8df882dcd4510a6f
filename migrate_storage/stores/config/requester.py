"""Whose credentials requests have, and which project pays for them. No request is sent, and no secret is kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from migrate_storage.translate.model import StoreConfig
from migrate_storage.translate.option_tables import mapping, text, truth

__all__ = ("Requester", "configured_requester", "filesystem_requester")

_NOBODY = "anonymous"
_SIGNATURE = "a shared access signature"
_DEFAULT = "application default credentials"
_MACHINE = "the machine's service account"
_TOKEN = "an access token"  # noqa: S105 - a description


@dataclass(frozen=True, slots=True)
class Requester:
    """Who asks a service."""

    #: The kind of credentials, with the name by which the service knows them.
    credentials: str
    #: The project that Google Cloud Storage bills; empty where none is named.
    project: str = ""

    def __str__(self) -> str:
        return f"{self.credentials}, billed to {self.project}" if self.project else self.credentials


def filesystem_requester(service: str, filesystem: Any) -> Requester | None:
    """Return who asks through a live gcsfs or adlfs filesystem; ``None`` where that is not known.

    Args:
        service: ``gcs`` or ``azure``; nothing is known of others.
        filesystem: the live instance. Only plain attributes are read.
    """
    if service == "gcs" and hasattr(filesystem, "credentials"):
        holder, pays = filesystem.credentials, getattr(filesystem, "requester_pays", False)
        live = getattr(holder, "credentials", None)
        default = getattr(holder, "method", None) == "google_default"
        project = pays if isinstance(pays, str) else text(getattr(filesystem, "project", "")) if truth(pays) else ""
        return Requester(_DEFAULT if default else _describe_google(live), project)
    if service == "azure" and hasattr(filesystem, "service_client"):
        client = filesystem.service_client
        credential = getattr(client, "credential", None)
        if credential is None:
            return Requester(_SIGNATURE if "sig=" in getattr(client, "_query_str", "") else _NOBODY)
        return Requester(_describe_azure(credential))
    return None


def configured_requester(config: StoreConfig) -> Requester | None:
    """Return who asks through the store of a configuration; ``None`` where that is not known.

    Args:
        config: a complete configuration; the environment is not read. A file of credentials is opened.
    """
    if config.service == "gcs":
        headers = mapping(config.client_options.get("default_headers"))
        return Requester(_describe_google_config(config), text(headers.get("x-goog-user-project")))
    return Requester(_describe_azure_config(config)) if config.service == "azure" else None


def _describe_google(live: Any) -> str:
    if live is None or type(live).__name__ == "AnonymousCredentials":
        return _NOBODY
    match type(live).__module__:
        case "google.oauth2.service_account":
            return f"service account {live.service_account_email}"
        case "google.auth.compute_engine.credentials":
            return _MACHINE
        case "google.oauth2.credentials":
            return f"user of client {live.client_id}" if live.refresh_token else _TOKEN
    return f"a {type(live).__name__}"


def _describe_google_config(config: StoreConfig) -> str:
    options, source = config.options, config.credentials
    if truth(options.get("skip_signature")):
        return _NOBODY
    if options.get("bearer_token"):
        return _TOKEN
    path = text(options.get("service_account")) or text(options.get("application_credentials"))
    if account := _read_account(text(options.get("service_account_key")), path):
        email, client = text(account.get("client_email")), text(account.get("client_id"))
        return f"service account {email}" if email else f"user of client {client}"
    if source is None:
        return f"the file {path}" if path else _MACHINE
    return _describe_google(source.provider) if source.kind == "object" else _DEFAULT


def _read_account(content: str, path: str) -> Mapping[str, Any]:
    try:
        return mapping(json.loads(content or (Path(path).expanduser().read_text() if path else "{}")))
    except (OSError, ValueError):
        return {}


def _describe_azure(credential: Any) -> str:
    if hasattr(credential, "account_key"):
        return f"the key of account {credential.account_name}"
    return _SIGNATURE if hasattr(credential, "signature") else f"a {type(credential).__name__}"


def _describe_azure_config(config: StoreConfig) -> str:
    options, source = config.options, config.credentials
    if options.get("account_key"):
        return f"the key of account {options.get('account_name')}"
    if options.get("sas_key"):
        return _SIGNATURE
    if options.get("client_secret"):
        return "a ClientSecretCredential"
    if source is not None:
        return _describe_azure(source.provider) if source.kind == "object" else "a DefaultAzureCredential"
    return _NOBODY if truth(options.get("skip_signature")) else "a token"
