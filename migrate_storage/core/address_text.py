"""The characters of an address in a text, however the text escapes them: as JSON, as HTML, or in percent.

Each function reads a bounded number of characters, so that a text costs time in proportion to its length.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from html.entities import html5
from typing import NamedTuple

__all__ = (
    "COLON",
    "NEXT",
    "SLASH",
    "SLASH_IN_PERCENT",
    "Extent",
    "Token",
    "Unit",
    "ends_address",
    "read_extent",
    "read_tokens",
    "read_units",
)

NEXT = "next"
"""What is behind an address that another one follows at once."""
MAX_BACKSLASHES = 16
"""Backslashes before one escaped character: JSON in strings of JSON, four times."""
MAX_ENTITY_CHARACTERS = 32
_JSON = re.compile(rf"\\{{1,{MAX_BACKSLASHES}}}(?:(/)|u([0-9a-fA-F]{{4}})|([bfnrt])|([\"']))")
_NUMBER = re.compile(r"#(?:(\d{1,7})|[xX]([0-9a-fA-F]{1,6}))")
_HEX = frozenset("0123456789abcdefABCDEF")
_ENDING_ASCII = frozenset('"<>\\^`{|}[]')
"""Characters of ASCII that no URL has (RFC 3986, appendix A), brackets included, which only a host may have."""

_BACKSLASHES = rf"\\{{1,{MAX_BACKSLASHES}}}"
SLASH = rf"(?:\\{{0,{MAX_BACKSLASHES}}}/|{_BACKSLASHES}u002[fF]|&#0{{0,4}}47;|&#[xX]0{{0,4}}2[fF];|&sol;)"
"""A pattern of a slash as JSON and HTML spell it."""
SLASH_IN_PERCENT = rf"(?:{SLASH[3:-1]}|%(?:25)?2[fF])"
"""The same, also in percent."""
COLON = rf"(?::|{_BACKSLASHES}u003[aA]|&#0{{0,4}}58;|&#[xX]0{{0,4}}3[aA];|&colon;|%(?:25)?3[aA])"
"""A pattern of a colon, also in percent."""


class Token(NamedTuple):
    """One character of an address, in which percent is not decoded."""

    char: str
    #: Where its spelling is in the text.
    start: int
    end: int
    #: Whether it is spelled as an entity of HTML.
    entity: bool = False


class Unit(NamedTuple):
    """One character of an address, decoded."""

    char: str
    start: int
    end: int
    #: Whether it is spelled in percent.
    percent: bool = False


class Extent(NamedTuple):
    """How far an address may reach."""

    tokens: Sequence[Token]
    #: The character behind it, or :data:`NEXT`; empty at the end of the text, and where it is cut.
    closing: str
    #: Whether neither the limit nor the next address cut it.
    whole: bool


def read_tokens(text: str, start: int, end: int) -> Iterator[Token]:
    """Yield the characters between two positions of a text."""
    while start < end:
        token = _read_token(text, start)
        yield token
        start = token.end


def read_extent(
    text: str, start: int, stop: int, limit: int, *, until: str = "", within: Collection[str] = ()
) -> Extent:
    """Read on from a position to the first character that cannot be in an address.

    Args:
        text: the text.
        start: where to begin.
        stop: where the next address begins, or the text ends.
        limit: characters to read at most.
        until: characters that end it too.
        within: characters that do not end it, though no URL has them.
    """
    tokens: list[Token] = []
    while start < stop:
        token = _read_token(text, start)
        char = token.char
        if char in until or (ends_address(char) and (char in '"<>\\' or char not in within)):
            return Extent(tokens, char, True)
        if len(tokens) == limit:
            return Extent(tokens, "", False)
        tokens.append(token)
        start = token.end
    return Extent(tokens, "", True) if stop == len(text) else Extent(tokens, NEXT, False)


def ends_address(char: str) -> bool:
    """Whether a character, spelled as it is, cannot be in an address: a space, a bracket, punctuation beyond ASCII."""
    if char.isascii():
        return char in _ENDING_ASCII or char <= " " or char == "\x7f"
    return unicodedata.category(char)[0] in "ZPCS"


def read_units(tokens: Sequence[Token]) -> tuple[list[Unit], bool]:
    """Decode percent; return the characters, and whether all were decoded. They end before bytes that are no UTF-8."""
    units: list[Unit] = []
    position = 0
    while position < len(tokens):
        token = tokens[position]
        if (value := _read_byte(tokens, position)) is None:
            units.append(Unit(token.char, token.start, token.end))
            position += 1
            continue
        size = 1 if value < 0x80 else 2 if value >> 5 == 6 else 3 if value >> 4 == 14 else 4
        parts = [_read_byte(tokens, position + 3 * number) for number in range(size)]
        try:
            char = bytes(part for part in parts if part is not None).decode()
        except UnicodeDecodeError:
            char = ""
        if len(char) != 1 or None in parts:
            return units, False
        position += 3 * size
        units.append(Unit(char, token.start, tokens[position - 1].end, True))
    return units, True


def _read_byte(tokens: Sequence[Token], position: int) -> int | None:
    """The byte that three characters spell in percent."""
    spelled = tokens[position : position + 3]
    if len(spelled) < 3 or spelled[0].char != "%" or spelled[1].char not in _HEX or spelled[2].char not in _HEX:
        return None
    return int(spelled[1].char + spelled[2].char, 16)


def _read_token(text: str, start: int) -> Token:
    char, end = _read_json(text, start)
    if char != "&":
        return Token(char, start, end)
    name, stop = "", end
    while stop < len(text) and len(name) < MAX_ENTITY_CHARACTERS:
        part, stop = _read_json(text, stop)
        if part == ";":
            decoded = _decode_entity(name)
            return Token(decoded, start, stop, True) if decoded else Token(char, start, end)
        if not part.isascii() or not (part.isalnum() or (part == "#" and not name)):
            break
        name += part
    return Token(char, start, end)


def _read_json(text: str, start: int) -> tuple[str, int]:
    """A character as JSON escapes it, and where its spelling ends. A backslash that escapes none of these is itself."""
    if text[start] != "\\" or (found := _JSON.match(text, start)) is None:
        return text[start], start + 1
    slash, digits, space, quote = found.groups()
    if digits is None:
        return slash or quote or ("\n" if space else ""), found.end()
    char = chr(int(digits, 16))
    if "\ud800" <= char < "\udc00" and (low := _JSON.match(text, found.end())) and low[2]:
        pair = (char + chr(int(low[2], 16))).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if len(pair) == 1:
            return pair, low.end()
    return char, found.end()


def _decode_entity(name: str) -> str:
    """The character that an entity of HTML names; empty where it names none, or several."""
    if found := _NUMBER.fullmatch(name):
        number = int(found[1]) if found[1] else int(found[2], 16)
        return chr(number) if 0 < number < 0x110000 and not 0xD800 <= number < 0xE000 else ""
    decoded = html5.get(f"{name};", "")
    return decoded if len(decoded) == 1 else ""
