"""The compare-and-swap of rows: a value is set where the old one still stands, inside the UPDATE, and no other column changes.

SQLAlchemy Core on bare columns, as :mod:`migrate_storage.database.file_column` has them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    TableClause,
    and_,
    bindparam,
    case,
    cast,
    or_,
    select,
    text,
    types,
    update,
)
from sqlalchemy.types import NullType

from migrate_storage.database.connection import Database
from migrate_storage.database.file_json import same_json

__all__ = ("CompareAndSwap", "as_text", "untyped")

_TOGETHER = 100
"""Rows that MySQL and MariaDB swap in one statement, at most,"""
_LETTERS = 250_000
"""and letters of their values: each may be four bytes, and an old server takes 4 MiB."""
_Swap = tuple[tuple[Any, ...], str, str]


class CompareAndSwap:
    """Swaps of one column's values; what :class:`migrate_storage.database.file_column.FileColumn` is over this."""

    database: Database
    #: The column's type as the server calls it, in capitals.
    type: str
    table: TableClause
    key: list[ColumnElement[Any]]
    raw: ColumnElement[Any]
    _text: ColumnElement[Any]
    #: Names of columns that must be set to themselves.
    _columns_set_to_self: tuple[str, ...]

    def swap(self, connection: Connection, pk: Sequence[Any], old: str, new: str) -> bool:
        """Set the row's value to ``new`` if it still is ``old``; no other column changes.

        Returns:
            Whether the row now holds ``new``: also when an earlier attempt, whose commit was not answered, had set it.
        """
        if connection.execute(self._swapping(pk, old, new)).rowcount == 1:
            return True
        return old != new and self.equals(connection, pk, new)

    def swap_all(self, connection: Connection, swaps: Sequence[_Swap]) -> list[bool]:
        """As :meth:`swap` for many rows, sent to the database in one go.

        Args:
            connection: in a transaction.
            swaps: key, old and new value of each; no key twice.
        """
        if len(swaps) < 2:
            return [self.swap(connection, *each) for each in swaps]
        # The database only tells how many rows were changed in all. Where that is every one of them nothing is left open.
        if self.swap_each(connection, swaps):
            return [True] * len(swaps)
        return [self.equals(connection, pk, new) for pk, _, new in swaps]

    def swap_each(self, connection: Connection, swaps: Sequence[_Swap]) -> bool:
        """Set rows to their new values where they still hold the old ones, and tell whether each of them did.

        Args:
            connection: in a transaction, which is to be rolled back where not all of them did.
            swaps: key, old and new value of each, at least one; no key twice.
        """
        if self.database.dialect in ("mysql", "mariadb"):
            parts = ((self._together, _named(part, _TOGETHER)) for part in _parts(swaps))
            changed = sum(connection.execute(statement, values).rowcount for statement, values in parts)
        else:
            changed = connection.execute(self._swapping(*swaps[0]), [_named([each]) for each in swaps]).rowcount
        return bool(changed == len(swaps))

    def _swapping(self, pk: Sequence[Any], old: str, new: str) -> Any:
        changes = self._changes(self._value("swap_new0", new))
        return update(self.table).where(*self._is(pk, "swap_key0_"), self._unchanged(old)).values(changes)

    @cached_property
    def _together(self) -> Any:
        """One statement for many rows: MySQL and MariaDB are asked for each row of an ``executemany`` by itself."""
        pk = [None] * len(self.key)
        these = [and_(*self._is(pk, f"swap_key{n}_")) for n in range(_TOGETHER)]
        each = case(*((this, self._value(f"swap_new{n}", "")) for n, this in enumerate(these)))
        unchanged = or_(*(and_(this, self._unchanged("", f"swap_old{n}")) for n, this in enumerate(these)))
        return update(self.table).where(unchanged).values(self._changes(each))

    def _changes(self, new: ColumnElement[Any]) -> dict[Any, Any]:
        return {self.raw: new, **{self.table.c[name]: self.table.c[name] for name in self._columns_set_to_self}}

    def equals(self, connection: Connection, pk: Sequence[Any], value: str) -> bool:
        """Whether the row holds this value now."""
        now = self.read(connection, pk)
        return now is not None and same_json(now, value)

    def _is(self, pk: Sequence[Any], name: str = "key") -> list[ColumnElement[bool]]:
        return [part == untyped(f"{name}{i}", value) for i, (part, value) in enumerate(zip(self.key, pk, strict=True))]

    def _value(self, name: str, value: str) -> ColumnElement[Any]:
        bound = bindparam(name, value, type_=NullType())
        if self.database.dialect == "postgresql" and self.type in ("JSONB", "JSON"):
            return cast(bindparam(name, value, type_=types.Text()), _PostgresType(self.type))
        return bound

    def _unchanged(self, old: str, name: str = "swap_old0") -> ColumnElement[bool]:
        if self.database.dialect == "postgresql" and self.type == "JSONB":
            return self.raw == self._value(name, old)
        if self.database.dialect == "mysql" and self.type == "JSON":
            return self.raw == text(f"CAST(:{name} AS JSON)").bindparams(**{name: old})
        if self.database.dialect in ("mysql", "mariadb"):
            return self._text.collate("utf8mb4_bin") == bindparam(name, old, type_=types.Text())
        return self._text == bindparam(name, old, type_=types.Text())

    def read(self, connection: Connection, pk: Sequence[Any]) -> str | None:
        """The value of one row now; ``None`` when the row is gone or holds NULL."""
        value = connection.execute(select(self._text).select_from(self.table).where(*self._is(pk))).scalar()
        return None if value is None else as_text(value)


class _PostgresType(types.UserDefinedType[str]):
    """``json`` or ``jsonb`` by name, without SQLAlchemy's own JSON serializer in between."""

    cache_ok = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_col_spec(self, **_: Any) -> str:
        return self.name


def _parts(swaps: Sequence[_Swap]) -> Iterator[list[_Swap]]:
    """Swaps of which each part goes into one statement: servers bound its length."""
    part: list[_Swap] = []
    length = 0
    for swap in swaps:
        size = len(swap[1]) + len(swap[2])
        if part and (len(part) == _TOGETHER or length + size > _LETTERS):
            yield part
            part, length = [], 0
        part.append(swap)
        length += size
    if part:
        yield part


def _named(swaps: Sequence[_Swap], size: int = 1) -> dict[str, Any]:
    """The parameters of a statement that swaps so many rows; those it has too many are of no row, for no key is NULL."""
    found: dict[str, Any] = {}
    nothing = ((None,) * len(swaps[0][0]), "null", "null")
    for n in range(size):
        pk, old, new = swaps[n] if n < len(swaps) else nothing
        found[f"swap_old{n}"], found[f"swap_new{n}"] = old, new
        found.update((f"swap_key{n}_{i}", part) for i, part in enumerate(pk))
    return found


def untyped(name: str, value: Any) -> Any:
    """A parameter that reaches the driver as it is, whatever its type."""
    return bindparam(name, value, type_=NullType(), unique=False)


def as_text(value: Any) -> str:
    """A value that some databases give back as bytes."""
    return (
        bytes(value).decode("utf-8", "surrogateescape")
        if isinstance(value, (bytes, bytearray, memoryview))
        else str(value)
    )
