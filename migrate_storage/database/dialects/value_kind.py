"""How text is found in the values of a column."""

from __future__ import annotations

import enum

__all__ = ("ValueKind",)


class ValueKind(enum.Enum):
    """How the text in a column's values is found."""

    TEXT = "text"
    """Text, or a type whose text is its value, such as JSON and XML."""
    COMPOSED = "composed"
    """Arrays, records and maps: the text is in their members."""
    BYTES = "bytes"
    ANY = "any"
    """Each row has a type of its own (SQLite)."""
