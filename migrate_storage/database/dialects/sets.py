"""Many rows as one parameter of a statement, which a server reads as a table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from sqlalchemy import Connection, FromClause
from sqlalchemy.types import TypeEngine

__all__ = ("RowSets",)


class RowSets:
    """How a server takes rows as one parameter; this one does not. It keeps no state."""

    #: Types of columns, as the server calls them in capitals, whose values a set may compare and write.
    values: ClassVar[frozenset[str]] = frozenset()
    #: Characters of all values in a statement for several rows.
    characters: int = 1_000_000

    def are_read(self, connection: Connection) -> bool:
        """Whether a statement can search for the texts of a set."""
        return False

    def are_written(self, connection: Connection) -> bool:
        """Whether a set can also be written: each value is kept exactly, and that costs less than parameters."""
        return False

    def given(self, columns: Mapping[str, TypeEngine[Any]]) -> FromClause:
        """A table of the rows that :meth:`dump` wrote, which are the parameter ``rows``.

        Args:
            columns: their names and types: texts, numbers, booleans, and those of :meth:`key_type`.
        """
        raise NotImplementedError

    def dump(self, rows: Sequence[Mapping[str, Any]]) -> str:
        """The rows as one text."""
        return _encode(rows)

    def key_type(self, type_: TypeEngine[Any], collation: tuple[str, str] | None) -> TypeEngine[Any] | None:
        """The type in a set of a part of a key.

        Args:
            type_: of its column.
            collation: the column's character set and collation, where the server tells them.

        Returns:
            ``None`` where such a part must be a parameter of its own.
        """
        return None


def _dump_value(value: Any) -> str:
    return f"\\x{bytes(value).hex()}" if isinstance(value, (bytes, bytearray, memoryview)) else str(value)


_encode = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":"), default=_dump_value).encode
"""JSON of rows. An invalid character stays what it is, so that the driver refuses it."""
