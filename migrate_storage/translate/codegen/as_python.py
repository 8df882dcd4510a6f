"""Python to paste, with secrets as ``os.environ[...]``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from keyword import iskeyword
from typing import Any

from migrate_storage.core.model import Severity
from migrate_storage.core.text import printable
from migrate_storage.translate.codegen.entries import Entry, Reference, variables

__all__ = ("as_python", "registration_lines")


def as_python(written: Sequence[Entry]) -> str:
    """Return the registrations of all backends. The code compiles for any entries."""
    names = variables(written)
    lines: list[str] = []
    if names:
        lines += ["# Set these in the environment:", *(f"#   {name}" for name in names), "", "import os", ""]
    if any(not entry.refused for entry in written):
        lines += ["from advanced_alchemy.types.file_object import storages", ""]
        needs_source = any(
            entry.credentials and not _needs_completion(entry) and not entry.per_row for entry in written
        )
        names_used = "CredentialSource, ObstoreBackend" if needs_source else "ObstoreBackend"
        lines.append(f"from migrate_storage.backend import {names_used}")
    for entry in written:
        lines += ["", *_write_notes(entry), *registration_lines(entry)]
    return "\n".join(lines).strip("\n") + "\n"


def registration_lines(entry: Entry) -> list[str]:
    """Return the lines that register one backend; comments where that is impossible."""
    key = _write_literal(entry.key)
    if entry.refused:
        return [f"# {printable(key)}: stays as it is."]
    if entry.per_row:
        return [
            "# Each row names its own place: this opens a store for each, once the old backend is registered.",
            f"storages.register_backend(ObstoreBackend.from_fsspec(storages.get_backend({key})))",
        ]
    arguments = [f"key={key}", f"fs={_write_literal(entry.fs)}"]
    plain = {name: value for name, value in entry.options.items() if name.isidentifier() and not iskeyword(name)}
    arguments += [f"{name}={_write_literal(value)}" for name, value in plain.items()]
    if others := {name: value for name, value in entry.options.items() if name not in plain}:
        arguments.append(f"config={_write_literal(others)}")
    if entry.credentials and not _needs_completion(entry):
        options = f", options={_write_literal(entry.credential_options)}" if entry.credential_options else ""
        arguments.append(f"credential_provider=CredentialSource(kind={_write_literal(entry.credentials)}{options})")
    if entry.client_options:
        arguments.append(f"client_options={_write_literal(entry.client_options)}")
    if entry.retry:
        arguments.append(f"retry_config={_write_literal(entry.retry)}")
    lines = [
        "storages.register_backend(",
        "    ObstoreBackend(",
        *(f"        {argument}," for argument in arguments),
        "    )",
        ")",
    ]
    if _needs_completion(entry):
        advice = "# A credentials object cannot be written down: complete this by hand with credential_provider=..."
        return [advice, *(f"# {line}" for line in lines)]
    return lines


def _needs_completion(entry: Entry) -> bool:
    return entry.credentials in ("object", "static")


def _write_notes(entry: Entry) -> Iterator[str]:
    for note in entry.notes:
        yield f"# {note.severity.value}: {printable(note.message)} [{note.code}]"
        if note.todo and note.severity is not Severity.INFO:
            yield f"#   {printable(note.todo)}"


def _write_literal(value: Any) -> str:
    if isinstance(value, Reference):
        return f"os.environ[{_write_literal(value.name)}]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_write_literal(name)}: {_write_literal(item)}" for name, item in value.items()) + "}"
    if isinstance(value, str):
        plain = '"' + value + '"'
        return plain if value.isprintable() and not set('"\\') & set(value) else ascii(value)
    return repr(value)
