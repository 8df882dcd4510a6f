"""Compare-and-swap of one column: an UPDATE whose WHERE compares the old value, and what became of each row."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from migrate_storage.core.errors import WrongUpdateError
from migrate_storage.database.dialects.base import TableFacts
from migrate_storage.database.file_json import same_json
from migrate_storage.database.row_statements import RowStatements, Swap

__all__ = ("SWAPPED", "WRITTEN_BY_ANOTHER", "CompareAndSwap", "SwapResult")

LEFT_AS_IT_IS = (
    "an UPDATE leaves the row as it is, though no other write changed it: a trigger, rule, view or policy of the database "
    "keeps its value"
)
WRITTEN_OTHERWISE = "a trigger or rule of the database writes another value than the UPDATE sets; it was rolled back"


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
"""Another program changed or deleted the row, and its write stays."""


class CompareAndSwap:
    """Updates of one column.

    Args:
        statements: its statements.
        facts: what the database enforces and does by itself.
        key: the names of the columns of its primary key.
    """

    def __init__(self, statements: RowStatements, facts: TableFacts, key: Sequence[str]) -> None:
        self._statements = statements
        self._key_is_unique = facts.enforces(key)
        self._reads_back = facts.intercepts_updates or not self._key_is_unique

    def read(self, connection: Connection, pk: Sequence[Any]) -> str | None:
        """The value of one row now; ``None`` when the row is gone or its value is NULL.

        Raises:
            WrongUpdateError: several rows have this key.
        """
        [values] = self._statements.read_all(connection, [pk])
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
        changed = self._statements.update(connection, pk, old, new)
        if changed == 1 and not self._reads_back:
            return SWAPPED
        [values] = self._statements.read_all(connection, [pk])
        if changed > 1:
            raise WrongUpdateError(f"its UPDATE changed {changed} rows instead of one; it was rolled back")
        if changed == 0 and old != new and (now := _only_value(values)) is not None and same_json(now, old):
            # Another program may have put the old value back just now.
            return self._swap_again(connection, pk, old, new)
        return _judge(values, old, new, updated=changed == 1)

    def _swap_again(self, connection: Connection, pk: Sequence[Any], old: str, new: str) -> SwapResult:
        changed = self._statements.update(connection, pk, old, new)
        [values] = self._statements.read_all(connection, [pk])
        return _judge(values, old, new, updated=changed == 1)

    def result_of(self, connection: Connection, pk: Sequence[Any], old: str, new: str) -> SwapResult:
        """How an earlier :meth:`swap` ended, by the row's value now."""
        try:
            [values] = self._statements.read_all(connection, [pk])
            return _judge(values, old, new, updated=False)
        except WrongUpdateError:
            return WRITTEN_BY_ANOTHER

    def swap_all(self, connection: Connection, swaps: Sequence[Swap]) -> list[SwapResult]:
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
        changed = self._statements.update_many(connection, swaps)
        all_changed = changed == len(swaps)
        if all_changed and not self._reads_back:
            return [SWAPPED] * len(swaps)
        read = self._statements.read_all(connection, [pk for pk, _, _ in swaps])
        results = [
            _judge(values, old, new, updated=all_changed) for (_, old, new), values in zip(swaps, read, strict=True)
        ]
        done = sum(result.done for result in results)
        if self._reads_back and done < len(swaps) and not 0 <= changed <= done:
            # A trigger changed one of the others, or the driver does not count: one row at a time shows it.
            raise WrongUpdateError(WRITTEN_OTHERWISE)
        return results

    def swap_each(self, connection: Connection, swaps: Sequence[Swap]) -> bool:
        """Set all rows that still have their old values; return whether all had, and have exactly the new ones.

        Args:
            connection: in a transaction, which the caller rolls back if one had not.
            swaps: key, old and new value of each row, at least one; no key twice.
        """
        if not self._key_is_unique or self._statements.update_many(connection, swaps) != len(swaps):
            return False
        if not self._reads_back:
            return True
        read = self._statements.read_all(connection, [pk for pk, _, _ in swaps])
        return all(
            len(values) == 1 and values[0] is not None and same_json(values[0], new)
            for (_, _, new), values in zip(swaps, read, strict=True)
        )


def _only_value(values: Sequence[str | None]) -> str | None:
    """Return the value of the one row with a key; ``None`` where there is no row, or its value is NULL."""
    if len(values) > 1:
        raise WrongUpdateError(f"{len(values)} rows have its key, so they cannot be distinguished")
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
