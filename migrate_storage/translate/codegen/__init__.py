"""Write translations as Python, TOML or JSON. No secret is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from migrate_storage.translate.codegen.as_json import as_json
from migrate_storage.translate.codegen.as_python import as_python, registration_lines
from migrate_storage.translate.codegen.as_toml import as_toml
from migrate_storage.translate.codegen.entries import Entry, entries, variables

__all__ = ("FORMATS", "Entry", "as_json", "as_python", "as_toml", "entries", "registration_lines", "variables")

FORMATS: Mapping[str, Callable[[Sequence[Entry]], str]] = {"python": as_python, "toml": as_toml, "json": as_json}
