"""The codes of all notes that translation makes, with their severity and what they mean: one table, printed in the docs."""

from __future__ import annotations

from dataclasses import dataclass

from migrate_storage.model import Note, Severity

__all__ = ("CODES", "Code", "note")

_INFO, _WARNING, _REFUSED = Severity.INFO, Severity.WARNING, Severity.REFUSED


@dataclass(frozen=True, slots=True)
class Code:
    """One kind of note. ``message`` and ``todo`` are formats; their fields never hold a secret."""

    severity: Severity
    message: str
    todo: str = ""


CODES: dict[str, Code] = {
    # any protocol
    "option.no_effect": Code(_INFO, "{subject} does not change where or how bytes are stored; it has no counterpart"),
    "option.dropped": Code(_WARNING, "{subject} has no counterpart in obstore{why}", "Check that nothing relies on it"),
    "option.unknown": Code(_WARNING, "{subject} is not an option that this translation knows; it is left out"),
    "option.invalid": Code(_WARNING, "{subject} is not {expected}; it is left out", "Correct the value in the source"),
    "translation.failed": Code(
        _REFUSED,
        "The options could not be read: {why}",
        "Report it with the names (not the values) of the options; use it as a source through fsspec meanwhile",
    ),
    "protocol.source_only": Code(
        _REFUSED,
        "{subject} has no counterpart as a destination; it can be a source, read through fsspec",
        "Move its files to S3, GCS, Azure or a local disk",
    ),
    "backend.unknown": Code(
        _REFUSED,
        "Neither an fsspec nor an obstore backend, but {subject}",
        "Move its files with code of your own, or register an FSSpecBackend that reaches them",
    ),
    "backend.unreadable": Code(
        _REFUSED,
        "The store of backend {subject} does not tell its configuration",
        "Construct it with client_options={{...}} instead of plain allow_http or timeout arguments",
    ),
    "place.per_row": Code(
        _INFO,
        "There is no {root} in the prefix: each row names its own in its filename",
        "Each {root} becomes a store of its own",
    ),
    "place.prefix": Code(
        _REFUSED,
        "The prefix {why}, so obstore cannot address any key below it",
        "Copy the objects to another prefix, reading them through fsspec",
    ),
    "place.version_suffix": Code(
        _INFO,
        "A version suffix in a filename is cut off, as the source does; obstore would take it for a part of the key",
    ),
    "memory.process": Code(
        _WARNING,
        "The files live in the memory of the process that wrote them; a MemoryStore starts empty",
        "Read them inside that process, or leave them behind",
    ),
    # s3
    "s3.credentials.incomplete": Code(
        _REFUSED, "Only one half of the access key is given", "Give both key and secret, or neither"
    ),
    "s3.credentials.conflict": Code(
        _REFUSED,
        "{subject} is given twice with different values; the source fails at first use",
        "Keep one of the two",
    ),
}


def note(code: str, subject: str = "", **fields: str) -> Note:
    """Make the note of a code.

    Args:
        code: A key of :data:`CODES`.
        subject: The option, column or store that it speaks of.
        **fields: What the code's message asks for, without any secret.
    """
    kind = CODES[code]
    fields = {"why": "", **fields, "subject": subject or "This"}
    return Note(
        severity=kind.severity,
        code=code,
        message=kind.message.format_map(fields),
        subject=subject,
        todo=kind.todo.format_map(fields),
    )
