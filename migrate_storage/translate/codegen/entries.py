"""One backend as it is written, with references in place of secrets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from migrate_storage.core.model import Note
from migrate_storage.translate.model import StoreConfig, Translation

__all__ = ("OPTION_PREFIXES", "Entry", "Reference", "entries", "store_url", "variables")


@dataclass(frozen=True, slots=True)
class Reference:
    """An environment variable with the value."""

    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One backend as it is to be written. Values are plain data or :class:`Reference`."""

    key: str
    #: The store's URL; empty where there is no store, or one for each row.
    fs: str = ""
    #: ``s3``, ``gcs``, ``azure``, ``file``, ``memory`` or ``http``; empty where there is no store.
    service: str = ""
    #: Plain arguments of the backend, with their service's prefix.
    options: Mapping[str, Any] = field(default_factory=dict)
    client_options: Mapping[str, Any] = field(default_factory=dict)
    retry: Mapping[str, Any] = field(default_factory=dict)
    #: ``boto3``, ``google``, ``azure``, ``object``; empty where the options include the credentials.
    credentials: str = ""
    credential_options: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()

    @property
    def refused(self) -> bool:
        """Whether there is no backend to register."""
        return not self.service

    @property
    def per_row(self) -> bool:
        """Whether each row names its own bucket or folder."""
        return bool(self.service) and not self.fs


OPTION_PREFIXES = {"s3": "aws_", "gcs": "google_", "azure": "azure_storage_"}

#: Options that are not secret, with patterns of their values. All other values become references.
_PUBLIC = {
    "region": r"[a-z0-9-]{1,63}",
    "endpoint": r"https?://[A-Za-z0-9.\-_\[\]:]+(/[A-Za-z0-9.\-_/]*)?",
    "base_url": r"https?://[A-Za-z0-9.\-_\[\]:]+(/[A-Za-z0-9.\-_/]*)?",
    "authority_host": r"https://[a-z.]+",
    "account_name": r"[a-z0-9-]{1,63}",
    "server_side_encryption": r"AES256|aws:kms|aws:kms:dsse|sse-c",
}
_PUBLIC_CLIENT = {
    "default_content_type": r"[a-z]+/[a-z0-9.+-]+",
    "connect_timeout": r"\d+m?s",
    "read_timeout": r"\d+m?s",
    "timeout": r"\d+m?s",
    "pool_max_idle_per_host": r"\d+",
    "proxy_url": r"https?://[A-Za-z0-9.\-_:]+/?",
}
_PUBLIC_HEADERS = {
    "x-amz-acl": r"[a-z-]+",
    "x-amz-storage-class": r"[A-Z_]+",
    "x-amz-expected-bucket-owner": r"\d{1,12}",
    "x-goog-user-project": r"[a-z0-9:.-]+",
    "cache-control": r"[a-z0-9=, -]+",
}


def entries(found: Iterable[tuple[str, Translation]]) -> tuple[Entry, ...]:
    """Return what to write for each backend.

    Args:
        found: backend keys with their translations.
    """
    taken: dict[str, tuple[str, str]] = {}
    return tuple(_make_entry(key, translation, taken) for key, translation in found)


def variables(written: Iterable[Entry]) -> tuple[str, ...]:
    """Return the environment variables that entries refer to, in order, each once."""
    names: dict[str, None] = {}
    for entry in written:
        for values in (entry.options, entry.client_options, entry.client_options.get("default_headers", {})):
            names |= {value.name: None for value in values.values() if isinstance(value, Reference)}
        names |= {value.name: None for value in entry.credential_options.values() if isinstance(value, Reference)}
    return tuple(names)


def store_url(config: StoreConfig) -> str:
    """Return a store's URL, percent-encoded; empty where each row names its root."""
    if config.service == "memory":
        return "memory://"
    if config.service == "file":
        path = "/".join(part for part in (config.root.rstrip("/"), config.prefix) if part)
        return Path(path).as_uri() if config.root.strip("/") else ""
    if not config.root:
        return ""
    if config.service == "http":
        return f"{config.root}/{quote(config.prefix)}"
    scheme = {"s3": "s3", "gcs": "gs", "azure": "az"}[config.service]
    return f"{scheme}://{quote(config.root, safe='')}/{quote(config.prefix)}"


def _make_entry(key: str, translation: Translation, taken: dict[str, tuple[str, str]]) -> Entry:
    config = translation.config
    if config is None:
        return Entry(key=key, notes=translation.notes)

    def shown(name: str, value: Any, pattern: str | None) -> Any:
        if isinstance(value, bool | int | float):
            return value
        if isinstance(value, Path):
            return str(value)
        if isinstance(value, str) and pattern is not None and re.fullmatch(pattern, value):
            return value
        return Reference(_make_variable_name(key, name, taken))

    prefix = OPTION_PREFIXES.get(config.service, "")
    client = {
        name: shown(name, value, _PUBLIC_CLIENT.get(name))
        for name, value in config.client_options.items()
        if name != "default_headers"
    }
    headers = config.client_options.get("default_headers")
    if headers:
        client["default_headers"] = {
            name: shown(f"header_{name}", value, _PUBLIC_HEADERS.get(name.lower())) for name, value in headers.items()
        }
    source = config.credentials
    # A local store creates missing folders in any case.
    options = {} if config.service == "file" else config.options
    return Entry(
        key=key,
        fs=store_url(config),
        service=config.service,
        options={f"{prefix}{name}": shown(prefix + name, value, _PUBLIC.get(name)) for name, value in options.items()},
        client_options=client,
        retry=dict(config.retry),
        credentials=source.kind if source else "",
        credential_options={
            name: shown(name, value, r"[\w.@ -]{1,64}" if name == "profile_name" else None)
            for name, value in (source.options.items() if source else ())
            if value is not None
        },
        notes=translation.notes,
    )


def _make_variable_name(key: str, option: str, taken: dict[str, tuple[str, str]]) -> str:
    name = re.sub(r"[^A-Za-z0-9]+", "_", f"{key}_{option}").upper().strip("_")
    name = f"STORE_{name}" if not name or name[0].isdigit() else name
    owner, number, free = (key, option), 1, name
    while taken.setdefault(free, owner) != owner:
        number += 1
        free = f"{name}_{number}"
    return free
