"""Google Cloud Storage: ``gcsfs.GCSFileSystem`` to ``GCSStore``."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from migrate_storage.core.model import Note
from migrate_storage.translate.assemble import Part, assemble, rooted
from migrate_storage.translate.model import CredentialSource, Translation
from migrate_storage.translate.notes import note
from migrate_storage.translate.option_tables import Option, mapping, text, truth, unmatched_notes, without_effect
from migrate_storage.translate.places import normalise_endpoint
from migrate_storage.translate.protocols.http_client import duration

__all__ = ("OPTIONS", "CredentialFile", "names_file", "translate")

OPTIONS = (
    Option("token", "service_account", says="in each of its forms; see the notes that begin with `gcs.token`"),
    Option("endpoint_url", "base_url", says="with `allow_http` where it is `http://`"),
    Option("project", code="option.no_effect", says="it is for listing and creating buckets"),
    Option("access", code="gcs.access"),
    Option("requester_pays", "default_headers", says="`x-goog-user-project`"),
    Option("timeout", "timeout"),
    Option("requests_timeout", "timeout"),
    Option("version_aware", code="gcs.version_aware"),
    Option(
        "session_kwargs", code="option.dropped", says="arguments of aiohttp's session; write them as client_options"
    ),
    *without_effect(
        *("block_size", "default_block_size", "consistency", "cache_timeout", "secure_serialize"),
        *("check_connection", "default_location", "finalize_on_close", "cache_type", "on_google"),
    ),
)


@dataclass(frozen=True, slots=True)
class CredentialFile:
    """A credential file of a kind that a live object has shown, as ``token``."""

    path: str
    #: The ``type`` in the file: ``service_account``, ``authorized_user``, ``external_account``, …; empty for no file.
    kind: str


def translate(options: Mapping[str, Any], prefix: str | None, environment: Mapping[str, str]) -> Translation:
    """Translate the options of a ``GCSFileSystem``."""
    bucket, inner, place = rooted("gcs", prefix, "bucket")
    parts = (
        place,
        _read_endpoint(options, environment),
        _read_credentials(options.get("token"), environment),
        _read_client_options(options),
        Part(notes=tuple(unmatched_notes(OPTIONS, options, unknown="option.no_effect"))),
    )
    return assemble("gcs", bucket, inner, parts)


def _read_endpoint(options: Mapping[str, Any], environment: Mapping[str, str]) -> Part:
    notes: list[Note] = []
    given = text(options.get("endpoint_url"))
    emulator = environment.get("STORAGE_EMULATOR_HOST", "")
    universe = environment.get("GOOGLE_CLOUD_UNIVERSE_DOMAIN", "googleapis.com")
    if not given and emulator and emulator != "default":
        given = emulator if emulator.startswith(("http://", "https://")) else f"http://{emulator}"
        notes.append(note("gcs.endpoint.environment", "STORAGE_EMULATOR_HOST"))
    elif not given and universe != "googleapis.com":
        given = f"https://storage.{universe}"
        notes.append(note("gcs.endpoint.environment", "GOOGLE_CLOUD_UNIVERSE_DOMAIN"))
    wanted = environment.get("GOOGLE_API_USE_CLIENT_CERTIFICATE", "").lower()
    if wanted == "true":
        notes.append(note("client.certificate", "GOOGLE_API_USE_CLIENT_CERTIFICATE"))
    elif not wanted:
        notes += [note("client.certificate", name) for name in _CERTIFICATES if environment.get(name)]
    if not given and environment.get("GOOGLE_BASE_URL"):
        given = "https://storage.googleapis.com"
        notes.append(note("gcs.trap", "GOOGLE_BASE_URL"))
    if not given:
        return Part(notes=tuple(notes))
    url = normalise_endpoint(given)
    if not url.startswith(("http://", "https://")):
        return Part(notes=(*notes, note("endpoint.scheme", "endpoint_url")))
    if "@" in given:
        notes.append(note("endpoint.userinfo", "endpoint_url"))
    if "?" in given or "#" in given:
        notes.append(note("endpoint.query", "endpoint_url"))
    allow_http = {"allow_http": True} if url.startswith("http:") else {}
    return Part(options={"base_url": url}, client_options=allow_http, notes=tuple(notes))


#: Variables that name files in which google-auth may find a client certificate.
_CERTIFICATES = ("GOOGLE_API_CERTIFICATE_CONFIG", "CLOUDSDK_CONTEXT_AWARE_CERTIFICATE_CONFIG_FILE_PATH")
#: Variables that obstore would use instead of the explicit token.
_TRAPS = ("GOOGLE_BEARER_TOKEN", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_KEY", "SERVICE_ACCOUNT")
_KINDS_OF_FILE = {"service_account": "service_account", "authorized_user": "application_credentials"}


def _read_credentials(token: Any, environment: Mapping[str, str]) -> Part:
    part = _read_token(token, environment)
    notes = list(part.notes)
    options = dict(part.options)
    explicit = bool(options) or part.credentials is not None
    if explicit and "GOOGLE_SKIP_SIGNATURE" in environment and "skip_signature" not in options:
        options["skip_signature"] = False
        notes.append(note("gcs.trap", "GOOGLE_SKIP_SIGNATURE"))
    if explicit:
        notes += [note("gcs.trap", name) for name in _TRAPS if name in environment]
    return Part(options=options, credentials=part.credentials, notes=tuple(notes))


def _read_token(token: Any, environment: Mapping[str, str]) -> Part:
    if token is None or token == "google_default":  # noqa: S105 - a value of gcsfs, no secret
        return _read_default(environment, silent=token is None)
    if token == "cloud":  # noqa: S105
        return Part(notes=(note("gcs.token.cloud", "token"),))
    if token == "anon":  # noqa: S105
        return Part(options={"skip_signature": True}, notes=(note("gcs.token.anon", "token"),))
    if token in ("cache", "browser"):
        return Part(notes=(note("gcs.token.interactive", "token"),))
    if token == "":
        return Part(notes=(note("gcs.token.empty", "token"),))
    if isinstance(token, CredentialFile) and not token.kind:
        return Part(notes=(note("gcs.token.missing", "token"),))
    if isinstance(token, CredentialFile):
        option = _KINDS_OF_FILE.get(token.kind)
        if option is None:
            return Part(notes=(note("gcs.token.federated", "token"),))
        return Part(options={option: token.path})
    if isinstance(token, Mapping):
        return _read_token_mapping(mapping(token))
    if isinstance(token, str):
        return _read_token_text(token)
    if isinstance(token, os.PathLike):
        return Part(notes=(note("gcs.token.path", "token"),))
    return Part(credentials=CredentialSource(kind="object", provider=token), notes=(note("gcs.token.object", "token"),))


def _read_default(environment: Mapping[str, str], *, silent: bool) -> Part:
    notes = [note("gcs.token.default", "token")]
    if silent:
        notes.append(note("gcs.token.silent", "token"))
    if environment.get("GOOGLE_APPLICATION_CREDENTIALS"):
        notes.append(note("gcs.token.environment", "GOOGLE_APPLICATION_CREDENTIALS"))
    return Part(credentials=CredentialSource(kind="google"), notes=tuple(notes))


def _read_token_mapping(token: Mapping[str, Any]) -> Part:
    if token.get("type") == "service_account" or "private_key" in token:
        try:
            return Part(options={"service_account_key": json.dumps(token)})
        except (TypeError, ValueError):
            return Part(notes=(note("option.invalid", "token", expected="a service account"),))
    return Part(notes=(note("gcs.token.user", "token"),))


def names_file(token: str) -> bool:
    """Return whether a text is a path rather than an access token."""
    return token.endswith(".json") or ("/" in token and not token.startswith("ya29."))


def _read_token_text(token: str) -> Part:
    if token.lstrip().startswith("{"):
        return Part(notes=(note("gcs.token.json", "token"),))
    if names_file(token):
        return Part(options={"service_account": token}, notes=(note("gcs.token.file", "token"),))
    return Part(options={"bearer_token": token}, notes=(note("credentials.expires", "token"),))


def _read_client_options(options: Mapping[str, Any]) -> Part:
    result: dict[str, Any] = {}
    notes: list[Note] = []
    pays = options.get("requester_pays")
    project = pays if isinstance(pays, str) else text(options.get("project")) if truth(pays) else ""
    if project:
        result["default_headers"] = {"x-goog-user-project": project}
        notes.append(note("gcs.requester_pays", "requester_pays"))
    elif truth(pays):
        notes.append(note("option.dropped", "requester_pays", why=": there is no project to bill"))
    if written := duration(options.get("timeout") or options.get("requests_timeout")):
        result["timeout"] = written
    return Part(client_options=result, notes=tuple(notes))
