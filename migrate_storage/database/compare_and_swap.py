"""Compare-and-swap of one column: an UPDATE whose WHERE compares the old value.

It is SQLAlchemy Core on the bare columns of :mod:`migrate_storage.database.file_column`, and changes no other column.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy import ColumnElement, Connection, TableClause, and_, case, false, or_, select, update

from migrate_storage.core.errors import WrongUpdateError
from migrate_storage.database.dialects import Dialect
from migrate_storage.database.dialects.base import TableFacts, as_text, untyped
from migrate_storage.database.file_json import same_json
from migrate_storage.database.primary_keys import dump_key

__all__ = ("SWAPPED", "WRITTEN_BY_ANOTHER", "CompareAndSwap", "SwapResult", "key_equals")

READ_BACK_ROWS = 100
"""Rows that one statement reads back after their UPDATE."""
LEFT_AS_IT_IS = (
    "an UPDATE leaves the row as it is, though nobody changed it: a trigger, rule, view or policy of the database "
    "keeps its value"
)
WRITTEN_OTHERWISE = "a trigger or rule of the database writes another value than the UPDATE sets; it was rolled back"

_Swap = tuple[tuple[Any, ...], str, str]


@dataclass(frozen=True, slots=True)
class SwapResult:
    """How the compare-and-swap of one row ended."""

    #: Whether the row names the new files now.
    done: bool
    #: Its value now, where a trigger added to what was written.
    value: str | None = None


SWAPPED = SwapResult(True)
"""The row has the new value."""
WRITTEN_BY_ANOTHER = SwapResult(False)
"""The row was changed or deleted by somebody else, whose write stands."""


class CompareAndSwap:
    """Updates of one column.

    Args:
        dialect: the database's.
        table: the table with all columns that are named below.
        key: the columns of its primary key.
        column: the column that is updated.
        type_: its type as the server calls it, in capitals.
        facts: what the database enforces and does by itself.
    """

    def __init__(
        self,
        dialect: Dialect,
        table: TableClause,
        key: Sequence[ColumnElement[Any]],
        column: ColumnElement[Any],
        type_: str,
        facts: TableFacts,
    ) -> None:
        self._dialect, self._table, self._key, self._column, self._type = dialect, table, key, column, type_
        self._others = {table.c[name]: table.c[name] for name in facts.set_on_update}
        self._key_is_unique = facts.enforces([str(part.key) for part in key])
        self._reads_back = facts.intercepts_updates or not self._key_is_unique

    def read(self, connection: Connection, pk: Sequence[Any]) -> str | None:
        """The value of one row now; ``None`` when the row is gone or its value is NULL.

        Raises:
            WrongUpdateError: several rows have this key.
        """
        [values] = self._read_all(connection, [pk])
        return _only_value(values)

    def equals(self, connection: Connection, pk: Sequence[Any], value: str) -> bool:
        """Whether the row has this value now."""
        now = self.read(connection, pk)
        return now is not None and same_json(now, value)

    def swap(self, connection: Connection, pk: Sequence[Any], old: str, new: str) -> SwapResult:
        """Set the row's value to ``new`` if it still is ``old``.

        Returns:
            :data:`SWAPPED` also where an earlier attempt set it, if the answer to its commit was lost.

        Raises:
            WrongUpdateError: the UPDATE changed more than this row, or leaves it as it is. The caller rolls back.
        """
        changed = connection.execute(self._build_swap(pk, old, new)).rowcount
        if changed == 1 and not self._reads_back:
            return SWAPPED
        [values] = self._read_all(connection, [pk])
        if changed > 1:
            raise WrongUpdateError(f"its UPDATE changed {changed} rows instead of one; it was rolled back")
        if changed == 0 and old != new and (now := _only_value(values)) is not None and same_json(now, old):
            # Somebody may have put the old value back just now.
            return self._swap_again(connection, pk, old, new)
        return _judge(values, old, new, updated=changed == 1)

    def _swap_again(self, connection: Connection, pk: Sequence[Any], old: str, new: str) -> SwapResult:
        changed = connection.execute(self._build_swap(pk, old, new)).rowcount
        [values] = self._read_all(connection, [pk])
        return _judge(values, old, new, updated=changed == 1)

    def result_of(self, connection: Connection, pk: Sequence[Any], old: str, new: str) -> SwapResult:
        """How an earlier :meth:`swap` ended, by the row's value now."""
        try:
            [values] = self._read_all(connection, [pk])
            return _judge(values, old, new, updated=False)
        except WrongUpdateError:
            return WRITTEN_BY_ANOTHER

    def swap_all(self, connection: Connection, swaps: Sequence[_Swap]) -> list[SwapResult]:
        """Do :meth:`swap` for many rows, with few statements where the database enforces the key.

        Args:
            connection: in a transaction.
            swaps: key, old and new value of each row; no key twice.

        Raises:
            WrongUpdateError: as :meth:`swap` does, for one of the rows.
        """
        if len(swaps) < 2 or not self._key_is_unique:
            return [self.swap(connection, *swap) for swap in swaps]
        # The database only counts the changed rows of all together. If that is every row, each of them was changed.
        changed = self._update_many(connection, swaps)
        all_changed = changed == len(swaps)
        if all_changed and not self._reads_back:
            return [SWAPPED] * len(swaps)
        read = self._read_all(connection, [pk for pk, _, _ in swaps])
        results = [
            _judge(values, old, new, updated=all_changed) for (_, old, new), values in zip(swaps, read, strict=True)
        ]
        done = sum(result.done for result in results)
        if self._reads_back and done < len(swaps) and not 0 <= changed <= done:
            # A trigger changed one of the others, or the driver does not count: one row at a time shows it.
            raise WrongUpdateError(WRITTEN_OTHERWISE)
        return results

    def swap_each(self, connection: Connection, swaps: Sequence[_Swap]) -> bool:
        """Set all rows that still have their old values; return whether all had, and have exactly the new ones.

        Args:
            connection: in a transaction, which the caller rolls back if one had not.
            swaps: key, old and new value of each row, at least one; no key twice.
        """
        if not self._key_is_unique or self._update_many(connection, swaps) != len(swaps):
            return False
        if not self._reads_back:
            return True
        read = self._read_all(connection, [pk for pk, _, _ in swaps])
        return all(
            len(values) == 1 and values[0] is not None and same_json(values[0], new)
            for (_, _, new), values in zip(swaps, read, strict=True)
        )

    def _update_many(self, connection: Connection, swaps: Sequence[_Swap]) -> int:
        """Update rows with few statements; return how many were changed."""
        rows = self._dialect.swap_rows
        if rows == 1:
            statement, parameters = self._build_swap(*swaps[0]), [_name_parameters([swap]) for swap in swaps]
            return int(connection.execute(statement, parameters).rowcount)
        batches = _split_swaps(swaps, rows, self._dialect.swap_characters)
        return sum(connection.execute(self._swap_many, _name_parameters(batch, rows)).rowcount for batch in batches)

    def _read_all(self, connection: Connection, pks: Sequence[Sequence[Any]]) -> list[list[str | None]]:
        """Return for each key the values of all rows that have it, with one statement for many keys."""
        found: dict[str, list[str | None]] = {}
        names = [dump_key(pk) for pk in pks]
        if len(pks) > 1:
            for start in range(0, len(pks), READ_BACK_ROWS):
                parameters = _name_keys(pks[start : start + READ_BACK_ROWS], READ_BACK_ROWS)
                for *pk, value in connection.execute(self._select_many, parameters):
                    found.setdefault(dump_key(pk), []).append(None if value is None else as_text(value))
        # Keys that are equal to the database may be spelled in several ways, so a missing one is asked for by itself.
        return [found.get(name) or self._read_one(connection, pk) for name, pk in zip(names, pks, strict=True)]

    def _read_one(self, connection: Connection, pk: Sequence[Any]) -> list[str | None]:
        statement = select(self._dialect.text_of(self._column, self._type)).select_from(self._table)
        found = connection.execute(statement.where(*key_equals(self._key, pk))).scalars()
        return [None if value is None else as_text(value) for value in found]

    @cached_property
    def _select_many(self) -> Any:
        """One SELECT for many rows, with a parameter for each key."""
        keys = [and_(*key_equals(self._key, [None] * len(self._key), f"swap_key{n}_")) for n in range(READ_BACK_ROWS)]
        return (
            select(*self._key, self._dialect.text_of(self._column, self._type))
            .select_from(self._table)
            .where(or_(*keys))
        )

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
    parameters = _name_keys([pk for pk, _, _ in swaps], rows)
    for n in range(rows):
        _, old, new = swaps[n] if n < len(swaps) else ((), "null", "null")
        parameters[f"swap_old{n}"], parameters[f"swap_new{n}"] = old, new
    return parameters


def _name_keys(pks: Sequence[Sequence[Any]], rows: int) -> dict[str, Any]:
    missing = (None,) * len(pks[0])
    return {f"swap_key{n}_{i}": part for n in range(rows) for i, part in enumerate(pks[n] if n < len(pks) else missing)}


def _only_value(values: Sequence[str | None]) -> str | None:
    """Return the value of the one row with a key; ``None`` where there is no row, or its value is NULL."""
    if len(values) > 1:
        raise WrongUpdateError(f"{len(values)} rows have its key, so that nothing tells them apart")
    return values[0] if values else None


def _judge(values: Sequence[str | None], old: str, new: str, *, updated: bool) -> SwapResult:
    """Return how a swap ended, by the value that the row has after it.

    Args:
        values: of all rows with the key.
        old: the value before.
        new: the value that was to be written.
        updated: whether the database reports that it changed the row.
    """
    now = _only_value(values)
    if now is not None and same_json(now, new):
        return SWAPPED
    if now is not None and same_json(now, old):
        raise WrongUpdateError(LEFT_AS_IT_IS)
    files = _find_files(new)
    # Some databases do not count the rows that a trigger of a view changes.
    if now is not None and (updated or files != _find_files(old)) and _find_files(now) == files:
        return SwapResult(True, now)
    if updated:
        raise WrongUpdateError(WRITTEN_OTHERWISE)
    return WRITTEN_BY_ANOTHER


def _find_files(text: str) -> dict[tuple[Any, ...], tuple[Any, Any]]:
    """Return backend and filename of each file in a JSON text, by its position."""
    found: dict[tuple[Any, ...], tuple[Any, Any]] = {}

    def search(value: Any, path: tuple[Any, ...]) -> None:
        if isinstance(value, dict) and "backend" in value and "filename" in value:
            found[path] = value["backend"], value["filename"]
        for name, part in (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        ):
            search(part, (*path, name))

    with suppress(ValueError, RecursionError):
        search(json.loads(text), ())
    return found
