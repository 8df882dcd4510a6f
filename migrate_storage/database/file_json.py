"""What a row of a StoredObject column holds: the JSON of one file, or of a list of them, read and changed as it was written."""

from __future__ import annotations

import decimal
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from migrate_storage.core.model import Column, RowRef, Slot

__all__ = ("BrokenValueError", "Row", "exchange_files", "parse_slots", "rewrite_value", "same_json")


class BrokenValueError(ValueError):
    """A row's value is not JSON that a FileObject could have written; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row's key and the raw text of its column."""

    pk: tuple[Any, ...]
    value: str


def parse_slots(of: Column, row: Row) -> tuple[Slot, ...]:
    """The files that a row names, in order; empty for JSON ``null`` and empty lists.

    Raises:
        BrokenValueError: the value is not what a FileObject writes: not JSON, not an object or a list of them, or
            without a filename or backend.
    """
    value = _load(row.value)
    if value is None:
        return ()
    entries: list[tuple[int | None, Any]] = list(enumerate(value)) if isinstance(value, list) else [(None, value)]
    slots = []
    for index, entry in entries:
        if entry is None:
            continue
        if not isinstance(entry, Mapping):
            raise BrokenValueError(f"its value holds a {type(entry).__name__} where a file should be")
        if not isinstance(entry.get("backend"), str):
            raise BrokenValueError("a file in it names no backend")
        if not isinstance(entry.get("filename"), str) or not entry["filename"]:
            raise BrokenValueError("a file in it has no filename")
        slots.append(Slot(RowRef(of, row.pk, index), entry))
    return tuple(slots)


def rewrite_value(value: str, changes: Mapping[int | None, Mapping[str, Any]]) -> str:
    """The row's JSON with some of its files changed; all else stays as it was, in its order.

    Args:
        value: the JSON text as read.
        changes: what to set, by slot index (``None`` for a single file).
    """
    loaded = _load(value)
    for index, change in changes.items():
        target = loaded if index is None else loaded[index]
        target.update(change)
    return json.dumps(loaded)


def exchange_files(value: str, given: str, taken: str) -> str | None:
    """A row's list of files with some of them exchanged, wherever in it they are now.

    Args:
        value: the list as JSON text.
        given: a list that holds, at some positions, other files than ``taken``: these are looked for.
        taken: what is put in their places.

    Returns:
        ``None`` when none of them is there, or one of the values is no list.
    """
    now, wanted, files = _load(value), _load(given), _load(taken)
    if not (isinstance(now, list) and isinstance(wanted, list) and isinstance(files, list)):
        return None
    found = False
    for old, new in zip(wanted, files, strict=False):
        if old != new and old in now:
            now[now.index(old)] = new
            found = True
    return json.dumps(now) if found else None


def same_json(one: str, other: str) -> bool:
    """Whether two texts are the same value: a database may give it back in an order and spacing of its own."""
    try:
        return bool(json.loads(one) == json.loads(other))
    except ValueError:
        return one == other


def _load(value: str) -> Any:
    try:
        return _decoder.decode(value)
    except BrokenValueError:
        raise
    except (ValueError, RecursionError) as error:
        raise BrokenValueError(f"its value is not JSON: {str(error)[:80]}") from error


def _exact_float(literal: str) -> float:
    number = float(literal)
    if decimal.Decimal(literal) != decimal.Decimal(repr(number)):
        raise BrokenValueError(f"its JSON holds a number that cannot be kept exactly: {literal[:40]}")
    return number


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise BrokenValueError("its JSON holds the same key twice")
    return value


def _constant(name: str) -> float:
    raise BrokenValueError(f"its JSON holds {name}")


_decoder = json.JSONDecoder(parse_float=_exact_float, object_pairs_hook=_unique, parse_constant=_constant)
