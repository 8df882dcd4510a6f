"""Azure: ``adlfs.AzureBlobFileSystem`` to ``AzureStore``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.model import Note
from migrate_storage.translate.assemble import Part, assemble, rooted
from migrate_storage.translate.model import CredentialSource, Translation
from migrate_storage.translate.notes import note
from migrate_storage.translate.option_tables import Option, mapping, text, unmatched_notes, without_effect
from migrate_storage.translate.places import normalise_endpoint
from migrate_storage.translate.protocols.azure_connection import parse_connection_string
from migrate_storage.translate.protocols.http_client import duration

__all__ = ("OPTIONS", "translate")

OPTIONS = (
    Option("account_name", "account_name"),
    Option("account_key", "account_key"),
    Option("connection_string", "account_name", says="taken apart; it wins over every other option"),
    Option("sas_token", "sas_key"),
    Option("credential", "account_key", says="a key, a SAS, or an azure.identity credential as credential provider"),
    Option("client_id", "client_id"),
    Option("client_secret", "client_secret"),
    Option("tenant_id", "tenant_id"),
    Option("anon", "skip_signature"),
    Option("account_host", "endpoint"),
    Option("location_mode", "endpoint", says="`secondary` is a host of its own, read only"),
    Option("connection_timeout", "connect_timeout"),
    Option("read_timeout", "read_timeout"),
    Option("timeout", code="option.no_effect", says="it is for one operation of the SDK"),
    Option("request_session", code="option.dropped"),
    Option("version_aware", code="azure.version_aware"),
    *without_effect(
        *("blocksize", "max_concurrency", "assume_container_exists", "socket_timeout"),
        *("default_fill_cache", "default_cache_type", "default_block_size"),
    ),
)

#: Query parameters that only a shared access signature has; the SDK distinguishes a SAS from a key by them.
_SAS = frozenset({"sig", "sv", "se", "sp", "sr", "ss", "srt", "skoid"})


def translate(options: Mapping[str, Any], prefix: str | None, environment: Mapping[str, str]) -> Translation:
    """Translate the options of an ``AzureBlobFileSystem``."""
    container, inner, place = rooted("azure", prefix, "container")
    connection = text(options.get("connection_string")) or environment.get("AZURE_STORAGE_CONNECTION_STRING", "")
    if connection:
        account = _read_connection_string(options, connection)
    else:
        credentials = _read_credentials(options, environment)
        account = _merge_parts(_read_account(options, environment, credentials.options), credentials)
    # adlfs passes unknown options to DefaultAzureCredential where it makes one, and ignores them otherwise.
    default = account.credentials is not None and account.credentials.kind == "azure"
    unknown = "azure.default_credential" if default else "option.unknown"
    rest = Part(notes=tuple(unmatched_notes(OPTIONS, options, unknown=unknown)))
    return assemble("azure", container, inner, (place, account, _read_client_options(options), rest))


_SPACES = re.compile(r"\s[;=]|[;=]\s")
#: The SDK goes there, whatever proxy is named.
_EMULATOR = "http://127.0.0.1:10000"


def _merge_parts(one: Part, other: Part) -> Part:
    return Part(
        options={**one.options, **other.options},
        client_options={**one.client_options, **other.client_options},
        credentials=one.credentials or other.credentials,
        notes=(*one.notes, *other.notes),
    )


def _read_connection_string(options: Mapping[str, Any], connection: str) -> Part:
    notes: list[Note] = []
    if not options.get("connection_string"):
        notes.append(note("azure.connection.environment", "AZURE_STORAGE_CONNECTION_STRING"))
    if any(options.get(name) for name in ("account_name", "account_key", "sas_token", "credential")):
        notes.append(note("azure.connection.wins", "connection_string"))
    if _SPACES.search(connection.strip()):
        # adlfs takes a space for a part of a name or a value: what it asks then is not what is meant.
        return Part(notes=(*notes, note("azure.connection.malformed", "connection_string")))
    try:
        parsed = parse_connection_string(connection, _EMULATOR)
    except (ConfigurationError, ValueError):
        return Part(notes=(*notes, note("azure.connection.malformed", "connection_string")))
    if "sas_key" in parsed:
        notes.append(note("credentials.expires", "connection_string"))
    elif "account_key" not in parsed:
        parsed["skip_signature"] = True
    allow_http = {"allow_http": True} if str(parsed.get("endpoint", "")).startswith("http:") else {}
    return Part(options=parsed, client_options=allow_http, notes=tuple(notes))


def _read_account(options: Mapping[str, Any], environment: Mapping[str, str], credentials: Mapping[str, Any]) -> Part:
    notes: list[Note] = []
    credential = options.get("credential")
    name = text(options.get("account_name")) or environment.get("AZURE_STORAGE_ACCOUNT_NAME", "")
    if not name and isinstance(credential, Mapping):
        name = text(mapping(credential).get("account_name"))
    if not name:
        return Part(notes=(note("azure.account.missing", "account_name"),))
    if not re.fullmatch(r"[\w.-]+", name):
        return Part(notes=(note("azure.account.invalid", "account_name"),))
    host = text(options.get("account_host"))
    if "://" in host or "@" in host or "?" in host:
        return Part(notes=(note("azure.host", "account_host"),))
    # Without any credentials adlfs does not pass the mode on.
    secondary = text(options.get("location_mode")) == "secondary" and "skip_signature" not in credentials
    if secondary and host and ".blob.core." not in host:
        return Part(notes=(note("azure.secondary.unknown", "account_host"),))
    if secondary:
        notes.append(note("azure.secondary", "location_mode"))
    signer = text(credentials.get("account_name"))
    if "account_key" in credentials and not signer:
        signer = _find_signer(host or f"{name}.blob.core.windows.net")
        if not signer:
            return Part(notes=(*notes, note("azure.account.unsigned", "account_host")))
    result: dict[str, Any] = {"account_name": signer or name}
    if host or secondary or signer not in ("", name):
        asked = host or f"{name}.blob.core.windows.net"
        result["endpoint"] = normalise_endpoint(f"https://{_find_secondary(asked) if secondary else asked}")
    if authority := next((login for suffix, login in _AUTHORITIES.items() if host.endswith(suffix)), None):
        result["authority_host"] = authority
    return Part(options=result, notes=tuple(notes))


#: What the SDK takes for no part of the account's name in a host.
_FEATURES = ("-ipv6", "-dualstack")


def _find_signer(host: str) -> str:
    """Return the account in a host, in whose name the SDK signs; empty where it is not read from it."""
    netloc, _, path = host.partition("/")
    if netloc.startswith(("localhost", "127.0.0.1")):
        return path.strip("/")
    account, found, _ = netloc.partition(".blob.core.")
    account, secondary, _ = account.partition("-secondary")
    feature = "" if secondary else next((each for each in _FEATURES if account.endswith(each)), "")
    return account.removesuffix(feature) if found else ""


def _find_secondary(host: str) -> str:
    """Return the host of the secondary endpoint, as the SDK makes it."""
    account, infix, rest = host.partition(".blob.core.")
    if "-secondary" in account:
        return host
    feature = next((each for each in _FEATURES if account.endswith(each)), "")
    return f"{account.removesuffix(feature)}-secondary{feature}{infix}{rest}"


#: Hosts that issue tokens in the sovereign clouds.
_AUTHORITIES = {
    ".core.chinacloudapi.cn": "https://login.chinacloudapi.cn",
    ".core.usgovcloudapi.net": "https://login.microsoftonline.us",
}


def _read_credentials(options: Mapping[str, Any], environment: Mapping[str, str]) -> Part:
    """Read what adlfs prefers: credential, key, SAS, principal, anonymous, default."""
    if options.get("credential") is not None:
        return _read_credential_object(options["credential"])
    notes: list[Note] = []
    key = _read_or_environment(options, environment, "account_key", "AZURE_STORAGE_ACCOUNT_KEY", notes)
    sas = _read_or_environment(options, environment, "sas_token", "AZURE_STORAGE_SAS_TOKEN", notes)
    principal = {
        name: text(options.get(name)) or environment.get(f"AZURE_STORAGE_{name.upper()}", "")
        for name in ("tenant_id", "client_id", "client_secret")
    }
    if key:
        if not options.get("account_key") and (options.get("sas_token") or options.get("client_id")):
            notes.append(note("azure.environment_wins", "AZURE_STORAGE_ACCOUNT_KEY"))
        return Part(options={"account_key": key}, notes=(*notes, *_note_traps(environment)))
    if sas and not sas.strip("?"):
        return Part(notes=(*notes, note("azure.credential.unknown", "sas_token")))
    if sas:
        return Part(
            options={"sas_key": sas.lstrip("?")},
            notes=(*notes, note("credentials.expires", "sas_token"), *_note_traps(environment)),
        )
    if principal["client_id"]:
        if not all(principal.values()):
            return Part(notes=(*notes, note("azure.principal.incomplete", "client_id")))
        return Part(options=principal, notes=(*notes, *_note_traps(environment)))
    anonymous = options.get("anon")
    if anonymous is None and not environment.get("AZURE_STORAGE_ANON"):
        return Part(notes=(*notes, note("azure.anon.unknown", "anon")))
    if anonymous is None:
        anonymous = environment["AZURE_STORAGE_ANON"].lower() not in ("false", "0", "f")
    # adlfs tests "is False", so 0 and "" are anonymous too.
    if anonymous is not False:
        return Part(options={"skip_signature": True}, notes=tuple(notes))
    known = {option.name.partition(".")[0] for option in OPTIONS}
    extra = {name: value for name, value in options.items() if name not in known and isinstance(value, str | bool)}
    return Part(
        credentials=CredentialSource(kind="azure", options=extra), notes=(*notes, note("azure.credentials.default"))
    )


def _read_or_environment(
    options: Mapping[str, Any], environment: Mapping[str, str], name: str, variable: str, notes: list[Note]
) -> str:
    given = text(options.get(name))
    if not given and environment.get(variable):
        notes.append(note("azure.credentials.environment", variable))
    return given or environment.get(variable, "")


def _note_traps(environment: Mapping[str, str]) -> list[Note]:
    """Note the variables that obstore would use instead of the explicit credential."""
    names = ["AZURE_STORAGE_TOKEN", "AZURE_SKIP_SIGNATURE", "AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"]
    found = [name for name in names if name in environment]
    if all(environment.get(name) for name in ("AZURE_FEDERATED_TOKEN_FILE", "AZURE_CLIENT_ID", "AZURE_TENANT_ID")):
        found.append("AZURE_FEDERATED_TOKEN_FILE")
    return [note("azure.trap", name) for name in found]


def _read_credential_object(credential: Any) -> Part:
    if credential == "":
        # adlfs would ask anonymously: the variable that it comes from is not set.
        return Part(notes=(note("azure.credential.unknown", "credential"),))
    if isinstance(credential, str):
        if _SAS & set(parse_qs(credential.lstrip("?"))):
            return Part(options={"sas_key": credential.lstrip("?")}, notes=(note("credentials.expires", "credential"),))
        return Part(options={"account_key": credential})
    if isinstance(credential, Mapping):
        if key := text(mapping(credential).get("account_key")):
            named = text(mapping(credential).get("account_name"))
            return Part(options={"account_key": key, **({"account_name": named} if named else {})})
        return Part(notes=(note("azure.credential.unknown", "credential"),))
    kind = type(credential).__name__
    if kind == "AzureNamedKeyCredential":
        return Part(
            options={"account_key": text(credential.named_key.key), "account_name": text(credential.named_key.name)}
        )
    if kind == "AzureSasCredential":
        signature = text(credential.signature).lstrip("?")
        return Part(options={"sas_key": signature}, notes=(note("credentials.expires", "credential"),))
    if not hasattr(credential, "get_token"):
        return Part(notes=(note("azure.credential.unknown", "credential"),))
    return Part(
        credentials=CredentialSource(kind="object", provider=credential),
        notes=(note("azure.credential.object", "credential"),),
    )


def _read_client_options(options: Mapping[str, Any]) -> Part:
    given = {"connect_timeout": options.get("connection_timeout"), "read_timeout": options.get("read_timeout")}
    return Part(client_options={name: written for name, value in given.items() if (written := duration(value))})
