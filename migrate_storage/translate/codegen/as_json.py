"""JSON for programs: one list of backends, a secret as ``{"environment": NAME}``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from migrate_storage.translate.codegen.entries import Entry, Reference

__all__ = ("as_json",)


def as_json(written: Sequence[Entry]) -> str:
    """Return the backends as a JSON list, in order."""
    return json.dumps([_write_backend(entry) for entry in written], indent=2) + "\n"


def _write_backend(entry: Entry) -> dict[str, Any]:
    store = None
    if not entry.refused:
        store = {
            "service": entry.service,
            "fs": entry.fs or None,
            "options": _to_plain(entry.options),
            "client_options": _to_plain(entry.client_options),
            "retry_config": _to_plain(entry.retry),
            "credentials": {"kind": entry.credentials, **_to_plain(entry.credential_options)}
            if entry.credentials
            else None,
        }
    return {"key": entry.key, "store": store, "notes": [asdict(note) for note in entry.notes]}


def _to_plain(value: Any) -> Any:
    if isinstance(value, Reference):
        return {"environment": value.name}
    if isinstance(value, Mapping):
        return {str(name): _to_plain(item) for name, item in value.items()}
    return value if isinstance(value, str | int | float | bool | None) else str(value)
