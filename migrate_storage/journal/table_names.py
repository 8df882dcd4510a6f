"""The names of our tables, as a statement writes them."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, inspect
from sqlalchemy.sql.compiler import IdentifierPreparer

__all__ = ("PREFIX", "TableNames")

PREFIX = "migrate_storage_"


@dataclass(frozen=True)
class TableNames:
    """The names of our tables in one database. Each method takes a name without the prefix, such as ``row``."""

    #: Quotes identifiers as the database does.
    preparer: IdentifierPreparer
    #: The database schema of the tables; ``None`` is the connection's default.
    schema: str | None

    def quote(self, name: str) -> str:
        """The quoted name without the schema."""
        return self.preparer.quote_identifier(PREFIX + name)

    def qualify(self, name: str) -> str:
        """The quoted name with the schema."""
        return (
            self.quote(name) if self.schema is None else f"{self.preparer.quote_schema(self.schema)}.{self.quote(name)}"
        )

    def has_table(self, connection: Connection, name: str) -> bool:
        """Whether the table exists."""
        return inspect(connection).has_table(PREFIX + name, schema=self.schema)

    def has_column(self, connection: Connection, name: str, column: str) -> bool:
        """Whether the table has a column."""
        return column in {each["name"] for each in inspect(connection).get_columns(PREFIX + name, schema=self.schema)}

    def has_index(self, connection: Connection, name: str, index: str) -> bool:
        """Whether the table has an index."""
        found = inspect(connection).get_indexes(PREFIX + name, schema=self.schema)
        return PREFIX + index in {each["name"] for each in found}

    def length(self, connection: Connection, name: str, column: str) -> int | None:
        """The length of a VARCHAR column."""
        found = inspect(connection).get_columns(PREFIX + name, schema=self.schema)
        return next(getattr(each["type"], "length", None) for each in found if each["name"] == column)
