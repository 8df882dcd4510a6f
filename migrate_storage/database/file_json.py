"""The JSON of a column's value: one file, a list of files, or any document that contains files."""

from __future__ import annotations

import decimal
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from migrate_storage.core.model import Column, RowRef, Slot

__all__ = (
    "BrokenValueError",
    "Row",
    "SlotPath",
    "exchange_files",
    "parse_single_file",
    "parse_slots",
    "rewrite_value",
    "same_json",
    "set_fields",
)

SlotPath = tuple[str | int, ...]
"""Where a file is in a value, see :class:`.RowRef`."""
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]')
"""A string of a JSON text, or a character between its values."""
_Edit = tuple[Collection[str], Mapping[str, Any]]
"""Names of fields to replace, and a file that has their new values; a field that it lacks is removed."""


class BrokenValueError(ValueError):
    """A row's value is not JSON of a FileObject, for the reason in the message."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row's key and the raw text of its column."""

    pk: tuple[Any, ...]
    value: str


def parse_slots(of: Column, row: Row) -> tuple[Slot, ...]:
    """The files that a row names, in order, also those inside of others (metadata); empty for JSON ``null`` and empty lists.

    Raises:
        BrokenValueError: the value is not what a FileObject writes: not JSON, not an object or a list of them, or
            without a filename or backend. In a nested column only JSON that may have a file, and cannot be
            written back unchanged, is broken.
    """
    try:
        row.value.encode()
    except UnicodeEncodeError:
        raise BrokenValueError("its text is not valid UTF-8") from None
    if of.nested:
        found: Iterable[tuple[SlotPath, Any]] = _find_files(row.value)
    else:
        value = _parse(row.value)
        files: list[tuple[SlotPath, Any]] = (
            [((i,), entry) for i, entry in enumerate(value)] if isinstance(value, list) else [((), value)]
        )
        found = files
        if row.value.count("filename") > len(files) or "\\u00" in row.value:
            # A file may be inside of another one.
            found = [each for path, entry in files for each in ((path, entry), *_search_files(_parts_of(path, entry)))]
    return tuple(Slot(RowRef(of, row.pk, path), _check_file(entry)) for path, entry in found if entry is not None)


def parse_single_file(value: str) -> dict[str, Any] | None:
    """The file of a value that has this one only, also in its metadata; ``None`` for every other value."""
    # A second file would have a second "backend", unless it is spelled with escapes.
    if value.count("backend") != 1 or "\\u00" in value:
        return None
    try:
        file = _parse(value)
    except BrokenValueError:
        return None
    return file if isinstance(file, dict) and _is_file(file) else None


def _check_file(entry: Any) -> Mapping[str, Any]:
    if not isinstance(entry, Mapping):
        raise BrokenValueError(f"its value has a {type(entry).__name__} where a file should be")
    if not isinstance(entry.get("backend"), str):
        raise BrokenValueError("a file in it names no backend")
    if not isinstance(entry.get("filename"), str) or not entry["filename"]:
        raise BrokenValueError("a file in it has no filename")
    return entry


def _find_files(text: str) -> Iterator[tuple[SlotPath, dict[str, Any]]]:
    """The files at any depth of a JSON text, each with its path; also in JSON that is a string of the JSON."""
    if _may_hold_file(text):
        yield from _search_files([((), _parse(text))])


def _search_files(left: list[tuple[SlotPath, Any]]) -> Iterator[tuple[SlotPath, dict[str, Any]]]:
    """The files in these values, each given with its path, the last value first."""
    while left:
        path, node = left.pop()
        while isinstance(node, str):
            node = _parse_inner(node)
        if isinstance(node, dict) and _is_file(node):
            yield path, node
        left.extend(_parts_of(path, node))


def _is_file(node: Mapping[str, Any]) -> bool:
    return isinstance(node.get("backend"), str) and isinstance(node.get("filename"), str) and bool(node["filename"])


def _parts_of(path: SlotPath, node: Any) -> list[tuple[SlotPath, Any]]:
    """The parts of a JSON object or list with their paths, the last one first."""
    if isinstance(node, dict):
        return [((*path, name), node[name]) for name in reversed(node)]
    return [((*path, i), node[i]) for i in reversed(range(len(node)))] if isinstance(node, list) else []


def _may_hold_file(text: str) -> bool:
    r"""Whether a file can be in a JSON text. Any character of a key may be spelled as ``\u00`` and its number."""
    return ("backend" in text and "filename" in text) or "\\u00" in text


def _parse_inner(text: str) -> Any:
    """A string of a document as JSON; ``None`` if it is anything else that a person wrote."""
    if not text.lstrip().startswith(("{", "[", '"')) or not _may_hold_file(text):
        return None
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return None
    return _parse(text)


def rewrite_value(value: str, changes: Mapping[SlotPath, Mapping[str, Any]]) -> str:
    """The row's JSON with some of its files changed. All else stays, in its order.

    Args:
        value: the JSON text as read.
        changes: the fields to set, by the path of the file.

    Raises:
        BrokenValueError: the value cannot be parsed, or is too deep.
    """
    return _edit_files(value, {path: (change.keys(), change) for path, change in changes.items()})


def set_fields(value: str, fields: Mapping[str, Any]) -> str:
    """The JSON text of an object with some members set. The text of all others stays as it is, whatever numbers it has."""
    members: dict[str, str] = {}
    depth, start, name = 0, 0, ""
    for token in _TOKEN.finditer(value):
        mark = token[0]
        depth += (mark in "{[") - (mark in "}]")
        if depth == 1 and mark == ":":
            name, start = value[start : token.start()].strip(), token.end()
        elif (depth == 1 and mark in "{,") or depth == 0:
            if name:
                members[json.loads(name)] = value[start : token.start()].strip()
            name, start = "", token.end()
    members.update((name, json.dumps(given)) for name, given in fields.items())
    return "{" + ", ".join(f"{json.dumps(name)}: {text}" for name, text in members.items()) + "}"


def _edit_files(value: str, edits: Mapping[SlotPath, _Edit]) -> str:
    loaded = _parse(value)
    try:
        for path, edit in edits.items():
            loaded = _edit(loaded, path, edit)
        return json.dumps(loaded)
    except RecursionError:
        raise BrokenValueError("its JSON is too deep to be written") from None


def _edit(node: Any, path: SlotPath, edit: _Edit) -> Any:
    if isinstance(node, str):
        return json.dumps(_edit(_parse(node), path, edit))
    if path:
        node[path[0]] = _edit(node[path[0]], path[1:], edit)
        return node
    names, new = edit
    kept = {name: node[name] for name in node if name in new or name not in names}
    return kept | {name: new[name] for name in names if name in new}


def exchange_files(value: str, given: str, taken: str) -> str | None:
    """A row's value with some of its files replaced, wherever in it they are now.

    Only the fields of a file that differ between ``given`` and ``taken`` are replaced.

    Args:
        value: the value.
        given: an earlier value. Its files that differ from those of ``taken`` at the same path are replaced.
        taken: the value with their replacements.

    Returns:
        ``None`` when the value has none of them.

    Raises:
        BrokenValueError: one of the values cannot be parsed, or is too deep.
    """
    present, replacements = dict(_find_files(value)), dict(_find_files(taken))
    edits: dict[SlotPath, _Edit] = {}
    for path, old in _find_files(given):
        new = replacements.get(path, old)
        names = [name for name in old | new if _field(old, name) != _field(new, name)]
        # At its own path first: a list may have the same file twice.
        identity = ("backend", "filename", *names)
        for at in (path, *present) if names else ():
            now = present.get(at)
            if now is not None and all(_field(now, name) == _field(old, name) for name in identity):
                edits[at] = (names, new)
                del present[at]
                break
    return _edit_files(value, edits) if edits else None


def _field(file: Mapping[str, Any], name: str) -> tuple[bool, Any]:
    return name in file, file.get(name)


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
        raise BrokenValueError(f"its JSON has a number that cannot be kept exactly: {literal[:40]}")
    return number


def _parse_unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise BrokenValueError("its JSON has the same key twice")
    return value


def _refuse_constant(name: str) -> float:
    raise BrokenValueError(f"its JSON has {name}")


_decoder = json.JSONDecoder(
    parse_float=_parse_exact_float, object_pairs_hook=_parse_unique_keys, parse_constant=_refuse_constant
)
