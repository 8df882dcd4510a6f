"""The JSON of one file, or of a list of files, in a StoredObject column."""

from __future__ import annotations

import decimal
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from migrate_storage.core.model import Column, RowRef, Slot

__all__ = ("BrokenValueError", "Row", "exchange_files", "parse_slots", "rewrite_value", "same_json")


class BrokenValueError(ValueError):
    """A row's value is not JSON of a FileObject, for the reason in the message."""


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
    value = _parse(row.value)
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
    """The row's JSON with some of its files changed. All else stays, in its order.

    Args:
        value: the JSON text as read.
        changes: the fields to set, by slot index (``None`` for a single file).
    """
    loaded = _parse(value)
    for index, change in changes.items():
        target = loaded if index is None else loaded[index]
        target.update(change)
    return json.dumps(loaded)


def exchange_files(value: str, given: str, taken: str) -> str | None:
    """A row's list of files with some of them replaced, at their present positions.

    Args:
        value: the list as JSON text.
        given: a list of files. Those that differ from ``taken`` at the same position are replaced.
        taken: the list of their replacements.

    Returns:
        ``None`` when the value has none of them, or one of the values is no list.
    """
    files, old_files, new_files = _parse(value), _parse(given), _parse(taken)
    if not (isinstance(files, list) and isinstance(old_files, list) and isinstance(new_files, list)):
        return None
    replaced = False
    for old, new in zip(old_files, new_files, strict=False):
        if old != new and old in files:
            files[files.index(old)] = new
            replaced = True
    return json.dumps(files) if replaced else None


def same_json(one: str, other: str) -> bool:
    """Whether two texts are the same JSON value, in any order and spacing."""
    try:
        return bool(json.loads(one) == json.loads(other))
    except ValueError:
        return one == other


def _parse(value: str) -> Any:
    try:
        return _decoder.decode(value)
    except BrokenValueError:
        raise
    except (ValueError, RecursionError) as error:
        raise BrokenValueError(f"its value is not JSON: {str(error)[:80]}") from error


def _parse_exact_float(literal: str) -> float:
    number = float(literal)
    if decimal.Decimal(literal) != decimal.Decimal(repr(number)):
        raise BrokenValueError(f"its JSON holds a number that cannot be kept exactly: {literal[:40]}")
    return number


def _parse_unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise BrokenValueError("its JSON holds the same key twice")
    return value


def _refuse_constant(name: str) -> float:
    raise BrokenValueError(f"its JSON holds {name}")


_decoder = json.JSONDecoder(
    parse_float=_parse_exact_float, object_pairs_hook=_parse_unique_keys, parse_constant=_refuse_constant
)
