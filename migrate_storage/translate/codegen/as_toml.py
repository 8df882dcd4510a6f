"""TOML for the configuration file, with secrets as ``${ENV}``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from migrate_storage.core.text import printable
from migrate_storage.translate.codegen.entries import Entry, Reference, variables

__all__ = ("as_toml",)


def as_toml(written: Sequence[Entry]) -> str:
    """Return the backends as destinations.

    A configuration file has one: several are written as comments to choose from.
    """
    lines: list[str] = []
    if names := variables(written):
        lines += ["# Set these in the environment:", *(f"#   {name}" for name in names), ""]
    several = sum(bool(entry.fs) for entry in written) > 1
    if several:
        lines += ["# A configuration file has one [destination]: uncomment the one that you mean.", ""]
    for entry in written:
        lines += [f"# {note.severity.value}: {printable(note.message)} [{note.code}]" for note in entry.notes]
        if not entry.fs:
            why = "each row names its own place" if entry.per_row else "it stays as it is"
            lines += [f"# {_quote_text(entry.key)}: {why}.", ""]
            continue
        if entry.credentials:
            lines.append(f"# The credentials came from {entry.credentials}: here they come from the environment.")
        lines += [*(f"# {line}" if several else line for line in _write_table(entry)), ""]
    return "\n".join(lines).strip("\n") + "\n"


def _write_table(entry: Entry) -> list[str]:
    options: dict[str, Any] = dict(entry.options)
    if profile := entry.credential_options.get("profile_name"):
        options["aws_profile"] = profile
    if entry.client_options:
        options["client_options"] = entry.client_options
    if entry.retry:
        options["retry_config"] = entry.retry
    lines = ["[destination]", f"key = {_quote_text(entry.key)}", f"fs = {_quote_text(entry.fs)}"]
    if options:
        lines += ["", "[destination.options]"]
        lines += [f"{_write_name(name)} = {_write_value(value)}" for name, value in options.items()]
    return lines


def _write_value(value: Any) -> str:
    if isinstance(value, Reference):
        return f'"${{{value.name}}}"'
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_quote_text(name)} = {_write_value(item)}" for name, item in value.items()) + " }"
    if isinstance(value, bool):
        return "true" if value else "false"
    return _quote_text(value) if isinstance(value, str) else repr(value)


def _write_name(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _quote_text(name)


def _quote_text(text: str) -> str:
    """Return a TOML basic string, with JSON's escapes and ``${`` as ``$${``."""
    safe = text.encode(errors="replace").decode()
    return json.dumps(safe, ensure_ascii=False).replace("\x7f", "\\u007f").replace("${", "$${")
