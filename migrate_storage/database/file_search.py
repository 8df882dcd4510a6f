"""Find FileObjects in any text: the keys that they name, wherever in JSON and however it is spelled."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Collection, Iterable, Iterator
from itertools import product
from typing import Any

from sqlalchemy import ColumnElement, and_, false, or_, true

from migrate_storage.database.dialects.base import Dialect, ValueKind

__all__ = ("FileFinder", "may_name")

_FIELD = "backend"
_START = re.compile(r'\{\s*"|"[{\[]')
"""The beginning of an object, or of a string with JSON in it."""
_ESCAPED = re.compile(r'\\(["\\])')
_HEXADECIMAL = re.compile(r"\\x((?:[0-9a-f]{2}){20,})")
"""Bytes that are a member of an array or a record, as PostgreSQL spells them."""
_ENDS = ('"', "\\", "&")
"""What follows a key: the end of its string, also of one in a string or in HTML."""
_MAX_DEPTH = 20
"""How deep JSON in strings of JSON is read."""


def may_name(
    dialect: Dialect, column: ColumnElement[Any], kind: ValueKind, keys: Iterable[str], *, field: str = _FIELD
) -> ColumnElement[bool]:
    """A condition that every value fulfils which names one of the keys, and few others. :class:`FileFinder` decides.

    Args:
        dialect: the database's.
        column: the column.
        kind: how its text is found.
        keys: backend keys.
        field: the field that must be in the value too; empty also finds broken values, which have a key and no field.
    """
    searched = dialect.searchable(column, kind)
    has_bytes: ColumnElement[bool] = false()
    if field and kind is ValueKind.COMPOSED:
        has_bytes = or_(*(dialect.contains(searched, part.encode().hex()) for part in (field, "\\u00")))
    plain = [key for key in keys if _is_plain(key)]
    others = [key for key in keys if not _is_plain(key)]
    has_field = dialect.contains(searched, field) if field else true()
    # The key first: most values do not have it, and each condition may make the text of a value anew.
    spelled = or_(*(_contains_name(dialect, searched, key) for key in plain)) if plain else false()
    if not dialect.matches_patterns:
        escaped = dialect.contains(searched, "\\u00")
        return or_(and_(spelled, has_field), escaped, has_field if others else false(), has_bytes)
    patterns = or_(*(searched.regexp_match(_to_pattern(key)) for key in (*plain, *others)))
    escaped = and_(searched.regexp_match(_to_pattern(field)), patterns) if field else patterns
    # A pattern costs much more than a search for fixed text, so it is tried only where characters are escaped.
    escaped = escaped if others else and_(dialect.contains(searched, "\\u00"), escaped)
    return or_(and_(spelled, has_field), escaped, has_bytes)


def _contains_name(dialect: Dialect, searched: ColumnElement[Any], key: str) -> ColumnElement[bool]:
    """Whether a text contains a key and what ends it as a string: so a longer name or a path does not match."""
    return and_(dialect.contains(searched, key), or_(*(dialect.contains(searched, key + end) for end in _ENDS)))


def _is_plain(key: str) -> bool:
    r"""Whether JSON spells the key as it is, or else with ``\u00``."""
    return key.isascii() and key.isprintable() and not set(key) & set('"\\/')


def _to_pattern(name: str) -> str:
    """A regular expression for all spellings of a name in JSON, also in JSON within strings of JSON."""
    return "".join(map(_to_alternatives, name))


def _to_alternatives(char: str) -> str:
    if not char.isascii() or not char.isprintable():
        # Itself, an escape of JSON, or bytes in the notation of the database.
        return r"([^ -~]|\\+u[0-9a-fA-F]{4}|\\+[0-7bfnrt]+)+"
    hexadecimal = "".join(f"[{digit}{digit.upper()}]" if digit.isalpha() else digit for digit in f"{ord(char):04x}")
    itself = char if char.isalnum() else f"[{char}]" if char not in "\\^]" else f"\\{char}"
    return rf"(\\*{itself}|\\+u{hexadecimal})"


class FileFinder:
    """Finds the keys that FileObjects in a value name.

    A FileObject is a JSON object with ``"backend"`` and ``"filename"``, at any depth, also in JSON within a string.

    Args:
        keys: the keys that are searched.
    """

    def __init__(self, keys: Collection[str]) -> None:
        self._keys = frozenset(keys)
        self._found: set[tuple[str, str]] = set()
        #: The texts that were in quotes in the value, so that none is read twice.
        self._unquoted: set[str] = set()
        self._decoder = json.JSONDecoder(object_pairs_hook=self._read_object, strict=False)

    def keys_in(self, value: str | bytes) -> frozenset[str]:
        """The keys that a value names: a text or bytes, whether JSON or with JSON in it."""
        return frozenset(key for key, _ in self.files_in(value))

    def files_in(self, value: str | bytes) -> frozenset[tuple[str, str]]:
        """The files that a value names, as :meth:`keys_in`: key and filename, which is empty where it is no text."""
        self._found.clear()
        self._unquoted.clear()
        for text in _decode(value):
            self._search(text, 0)
        return frozenset(self._found)

    def _read_object(self, pairs: list[tuple[str, Any]]) -> list[Any]:
        filenames = [value if isinstance(value, str) else "" for name, value in pairs if name == "filename"]
        if filenames:
            keys = [value for name, value in pairs if name == _FIELD and isinstance(value, str) and value in self._keys]
            self._found.update(product(keys, filenames))
        return [value for _, value in pairs]

    def _search(self, text: str, depth: int) -> None:
        whole = self._read_whole(text)
        for value in (*whole, *(self._read_values(text) if not whole else ())):
            for inner in _strings_in(value):
                if depth < _MAX_DEPTH and ("{" in inner or "\\" in inner):
                    self._search(inner, depth + 1)
        if depth < _MAX_DEPTH and ("&quot;" in text or "&#34;" in text):
            self._search(html.unescape(text), depth + 1)
        if not whole and depth < _MAX_DEPTH:
            for inner in set(_read_quoted(text)) - self._unquoted:
                self._unquoted.add(inner)
                self._search(inner, depth + 1)

    def _read_whole(self, text: str) -> list[Any]:
        """The value of a JSON text; none of another text."""
        try:
            return [self._decoder.decode(text)]
        except (ValueError, RecursionError):
            return []

    def _read_values(self, text: str) -> Iterator[Any]:
        """Each object in a text, and each string with JSON in it."""
        start = _START.search(text)
        while start is not None:
            position = start.start()
            try:
                value, end = self._decoder.raw_decode(text, position)
                yield value
                # What begins like a string may be a quote before an object.
                position = position + 1 if isinstance(value, str) else end
            except (ValueError, RecursionError):
                position += 1
            start = _START.search(text, position)


def _read_quoted(text: str) -> Iterator[str]:
    """A text that is no JSON, as it was before something quoted it: a log, a line of CSV, a range, bytes in an array."""
    if '\\"' in text:
        yield _ESCAPED.sub(r"\1", text)
    if '""' in text:
        single = text.replace('""', '"')
        yield from (single, single.replace("\\\\", "\\"))
    for digits in _HEXADECIMAL.findall(text):
        yield from _decode(bytes.fromhex(digits))


def _decode(value: str | bytes) -> Iterator[str]:
    if isinstance(value, str):
        yield value
        return
    stored = bytes(value)
    yield stored.decode("utf-8", "surrogateescape")
    if b"\0" in stored:
        yield from (stored.decode(encoding, "replace") for encoding in ("utf-16-le", "utf-16-be"))


def _strings_in(value: Any) -> Iterator[str]:
    pending = [value]
    while pending:
        part = pending.pop()
        if isinstance(part, str):
            yield part
        elif isinstance(part, list):
            pending.extend(part)
