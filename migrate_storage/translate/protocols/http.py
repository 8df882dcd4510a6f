"""HTTP: ``HTTPFileSystem`` to ``HTTPStore``, the prefix being the base URL; no fragment is sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from migrate_storage.core.model import Note
from migrate_storage.translate.assemble import Part, assemble
from migrate_storage.translate.model import Translation
from migrate_storage.translate.notes import note
from migrate_storage.translate.option_tables import Option, mapping, text, unmatched_notes, without_effect
from migrate_storage.translate.places import normalise_endpoint

__all__ = ("OPTIONS", "translate")

OPTIONS = (
    Option("headers", "default_headers"),
    Option("client_kwargs.headers", "default_headers"),
    Option("client_kwargs.auth", code="http.auth"),
    Option("client_kwargs", code="option.dropped", says="arguments of aiohttp's session; write them as client_options"),
    Option("auth", code="http.auth"),
    Option("encoded", code="http.encoded"),
    Option("simple_links", code="option.no_effect"),
    Option("same_scheme", code="option.no_effect"),
    Option("block_size", code="option.no_effect"),
    Option("size_policy", code="option.no_effect"),
    Option("cache_type", code="option.no_effect"),
    Option("cache_options", code="option.no_effect"),
    Option("get_client", code="option.dropped"),
    *without_effect(),
)


def translate(options: Mapping[str, Any], prefix: str | None, environment: Mapping[str, str]) -> Translation:  # noqa: ARG001 - one signature for all
    """Translate the options of an ``HTTPFileSystem``."""
    notes: list[Note] = [note("http.store")]
    try:
        parts = urlsplit(prefix or "")
        host = parts.hostname
    except ValueError:
        parts, host = urlsplit(""), None
    if prefix and (not host or parts.scheme not in ("http", "https")):
        notes.append(note("endpoint.scheme", "prefix"))
    if parts.username or parts.password:
        notes.append(note("http.userinfo", "prefix"))
    elif parts.query or parts.fragment:
        notes.append(note("http.query", "prefix"))
    if not prefix:
        notes.append(note("place.per_row", root="host"))
    base = normalise_endpoint(f"{parts.scheme}://{parts.netloc}") if host else ""
    headers = {**mapping(options.get("headers")), **mapping(mapping(options.get("client_kwargs")).get("headers"))}
    client: dict[str, Any] = {"allow_http": True} if parts.scheme == "http" else {}
    if headers:
        client["default_headers"] = {name: text(value) for name, value in headers.items()}
    table = OPTIONS if mapping(options.get("client_kwargs")).keys() - {"headers", "auth"} else _WITHOUT_CLIENT
    rest = Part(client_options=client, notes=(*notes, *unmatched_notes(table, options)))
    return assemble("http", base, parts.path.strip("/"), (rest,))


_WITHOUT_CLIENT = tuple(option for option in OPTIONS if option.name != "client_kwargs")
