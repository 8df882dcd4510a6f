"""Compare-and-swap of one column: an UPDATE whose WHERE compares the old value.

It is SQLAlchemy Core on the bare columns of :mod:`migrate_storage.database.file_column`, and changes no other column.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from sqlalchemy import ColumnElement, Connection, TableClause, and_, case, false, or_, select, update

from migrate_storage.database.dialects import Dialect
from migrate_storage.database.dialects.base import as_text, untyped
from migrate_storage.database.file_json import same_json

__all__ = ("CompareAndSwap", "key_equals")

_Swap = tuple[tuple[Any, ...], str, str]


class CompareAndSwap:
    """Updates of one column.

    Args:
        dialect: the database's.
        table: the table with all columns that are named below.
        key: the columns of its primary key.
        column: the column that is updated.
        type_: its type as the server calls it, in capitals.
        set_to_themselves: names of columns that the server would change if the UPDATE did not set them.
    """

    def __init__(
        self,
        dialect: Dialect,
        table: TableClause,
        key: Sequence[ColumnElement[Any]],
        column: ColumnElement[Any],
        type_: str,
        set_to_themselves: Sequence[str],
    ) -> None:
        self._dialect, self._table, self._key, self._column, self._type = dialect, table, key, column, type_
        self._others = {table.c[name]: table.c[name] for name in set_to_themselves}

    def read(self, connection: Connection, pk: Sequence[Any]) -> str | None:
        """The value of one row now; ``None`` when the row is gone or its value is NULL."""
        statement = select(self._dialect.text_of(self._column, self._type)).select_from(self._table)
        value = connection.execute(statement.where(*key_equals(self._key, pk))).scalar()
        return None if value is None else as_text(value)

    def equals(self, connection: Connection, pk: Sequence[Any], value: str) -> bool:
        """Whether the row has this value now."""
        now = self.read(connection, pk)
        return now is not None and same_json(now, value)

    def swap(self, connection: Connection, pk: Sequence[Any], old: str, new: str) -> bool:
        """Set the row's value to ``new`` if it still is ``old``.

        Returns:
            Whether the row has ``new`` now. An earlier attempt may have set it, if the answer to its commit was lost.
        """
        if connection.execute(self._build_swap(pk, old, new)).rowcount == 1:
            return True
        return old != new and self.equals(connection, pk, new)

    def swap_all(self, connection: Connection, swaps: Sequence[_Swap]) -> list[bool]:
        """Do :meth:`swap` for many rows with few statements.

        Args:
            connection: in a transaction.
            swaps: key, old and new value of each row; no key twice.
        """
        if len(swaps) < 2:
            return [self.swap(connection, *swap) for swap in swaps]
        # The database only counts the changed rows of all together. If that is every row, each of them was changed.
        if self.swap_each(connection, swaps):
            return [True] * len(swaps)
        return [self.equals(connection, pk, new) for pk, _, new in swaps]

    def swap_each(self, connection: Connection, swaps: Sequence[_Swap]) -> bool:
        """Set all rows that still have their old values; return whether all had.

        Args:
            connection: in a transaction, which the caller rolls back if one had not.
            swaps: key, old and new value of each row, at least one; no key twice.
        """
        rows = self._dialect.swap_rows
        if rows == 1:
            changed = connection.execute(
                self._build_swap(*swaps[0]), [_name_parameters([swap]) for swap in swaps]
            ).rowcount
        else:
            batches = _split_swaps(swaps, rows, self._dialect.swap_characters)
            changed = sum(
                connection.execute(self._swap_many, _name_parameters(batch, rows)).rowcount for batch in batches
            )
        return bool(changed == len(swaps))

    def try_update(self, connection: Connection) -> None:
        """Let the server check the UPDATE of a row, without one.

        Raises:
            DBAPIError: it refuses.
        """
        nothing = (false(), *(part.is_(None) for part in self._key), self._column.is_(None))
        changes: dict[Any, Any] = {self._column: self._column, **self._others}
        self._dialect.trials.try_write(connection, update(self._table).where(*nothing).values(changes))

    def _build_swap(self, pk: Sequence[Any], old: str, new: str) -> Any:
        unchanged = (*key_equals(self._key, pk, "swap_key0_"), self._is_value("swap_old0", old))
        return update(self._table).where(*unchanged).values(self._changes(self._parameter("swap_new0", new)))

    @cached_property
    def _swap_many(self) -> Any:
        """One statement for many rows, with a parameter for each key, old and new value."""
        pk, count = [None] * len(self._key), self._dialect.swap_rows
        rows = [and_(*key_equals(self._key, pk, f"swap_key{n}_")) for n in range(count)]
        new = case(*((row, self._parameter(f"swap_new{n}", "")) for n, row in enumerate(rows)))
        unchanged = or_(*(and_(row, self._is_value(f"swap_old{n}", "")) for n, row in enumerate(rows)))
        return update(self._table).where(unchanged).values(self._changes(new))

    def _changes(self, new: ColumnElement[Any]) -> dict[Any, Any]:
        return {self._column: new, **self._others}

    def _parameter(self, name: str, value: str) -> ColumnElement[Any]:
        return self._dialect.parameter(name, value, self._type)

    def _is_value(self, name: str, value: str) -> ColumnElement[bool]:
        return self._dialect.is_value(self._column, self._type, name, value)


def key_equals(key: Sequence[ColumnElement[Any]], pk: Sequence[Any], name: str = "key") -> list[ColumnElement[bool]]:
    """Conditions that a row's primary key is ``pk``, with numbered parameters."""
    return [part == untyped(f"{name}{i}", value) for i, (part, value) in enumerate(zip(key, pk, strict=True))]


def _split_swaps(swaps: Sequence[_Swap], rows: int, characters: int) -> Iterator[list[_Swap]]:
    """Swaps in lists that fit into one statement each."""
    batch: list[_Swap] = []
    length = 0
    for swap in swaps:
        size = len(swap[1]) + len(swap[2])
        if batch and (len(batch) == rows or length + size > characters):
            yield batch
            batch, length = [], 0
        batch.append(swap)
        length += size
    if batch:
        yield batch


def _name_parameters(swaps: Sequence[_Swap], rows: int = 1) -> dict[str, Any]:
    """The parameters of a statement for so many rows.

    Those of missing rows match no row, for no key is NULL.
    """
    parameters: dict[str, Any] = {}
    missing = ((None,) * len(swaps[0][0]), "null", "null")
    for n in range(rows):
        pk, old, new = swaps[n] if n < len(swaps) else missing
        parameters[f"swap_old{n}"], parameters[f"swap_new{n}"] = old, new
        parameters.update((f"swap_key{n}_{i}", part) for i, part in enumerate(pk))
    return parameters
