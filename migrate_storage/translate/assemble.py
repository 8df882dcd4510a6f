"""Combine what the rules of one protocol contribute into a :class:`Translation`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from migrate_storage.core.model import Note, Severity
from migrate_storage.core.object_keys import unaddressable
from migrate_storage.translate.model import CredentialSource, StoreConfig, Translation
from migrate_storage.translate.notes import note
from migrate_storage.translate.places import root_and_prefix

__all__ = ("Part", "assemble", "rooted")


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A part of a :class:`migrate_storage.translate.model.StoreConfig`."""

    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    client_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    retry: Mapping[str, Any] = field(default_factory=dict, repr=False)
    credentials: CredentialSource | None = None
    notes: tuple[Note, ...] = ()


def rooted(service: str, prefix: str | None, root_word: str) -> tuple[str, str, Part]:
    """Return the root and inner prefix that a prefix names, and notes about them."""
    root, inner = root_and_prefix(service, prefix)
    notes = []
    if not root:
        notes.append(note("place.per_row", root=root_word))
    elif inner and (reason := unaddressable(inner)):
        notes.append(note("place.prefix", "prefix", why=reason))
    return root, inner, Part(notes=tuple(notes))


def assemble(service: str, root: str, prefix: str, parts: Iterable[Part]) -> Translation:
    """Combine parts. Where a note refuses anything there is no configuration: a partial one would be wrong."""
    parts = tuple(parts)
    notes = tuple(entry for part in parts for entry in part.notes)
    if any(entry.severity is Severity.REFUSED for entry in notes):
        return Translation(config=None, notes=notes)
    headers: dict[str, str] = {}
    client_options: dict[str, Any] = {}
    for part in parts:
        headers |= part.client_options.get("default_headers", {})
        client_options |= part.client_options
    if headers:
        client_options["default_headers"] = headers
    config = StoreConfig(
        service=service,
        root=root,
        prefix=prefix,
        options={key: value for part in parts for key, value in part.options.items()},
        client_options=client_options,
        retry={key: value for part in parts for key, value in part.retry.items()},
        credentials=next((part.credentials for part in parts if part.credentials), None),
    )
    return Translation(config=config, notes=notes)
