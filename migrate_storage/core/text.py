"""Text from data made safe to show: one line, no terminal escapes, no secrets."""

from __future__ import annotations

import re
import unicodedata

from migrate_storage.core.extras import install_advice

__all__ = ("MiB", "age", "amount", "duration", "masked", "masked_literals", "one_line", "printable", "size", "visible")

MiB = 1024 * 1024
_URL_PASSWORD = re.compile(r"(?P<head>[A-Za-z][A-Za-z0-9+.\-]*://[^\s/:@'\"]*):(?P<password>[^\s'\"]*)@")
_ASSIGNED = re.compile(
    r"(?i)(?P<name>[\w\-]*(?:password|passwd|pwd|secret|token|account_?key|access_?key|api_?key|credential)[\w\-]*)"
    r"(?P<sign>['\"]?\s*[=:]\s*)(?P<quote>['\"]?)(?P<value>[^\s'\",;)}\]]+)(?P=quote)"
)
# Categories that move the cursor, change colours, reorder text or show nothing.
_UNSHOWABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def visible(text: str) -> str:
    r"""Return ``text`` as one line that a terminal shows literally.

    Control characters (terminal escapes and line breaks among them), characters that reorder text and lone
    surrogates become escapes such as ``\x1b`` or ``\u202e``; all other characters stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char.encode("unicode_escape").decode("ascii") if unicodedata.category(char) in _UNSHOWABLE else char
        for char in text
    )


def printable(text: str) -> str:
    """Return ``text`` with ``?`` for each character that cannot be printed."""
    return "".join(char if char.isprintable() else "?" for char in text)


def masked(text: str) -> str:
    """Return ``text`` with ``***`` for passwords of URLs and values of secrets."""
    text = _URL_PASSWORD.sub(r"\g<head>:***@", text)
    return _ASSIGNED.sub(r"\g<name>\g<sign>\g<quote>***\g<quote>", text)


def masked_literals(text: str) -> str:
    """Return source code with ``***`` for passwords of URLs and for literals that are secrets; other values stay."""
    text = _URL_PASSWORD.sub(r"\g<head>:***@", text)
    return _ASSIGNED.sub(lambda found: _mask_match(found) if found["quote"] else found[0], text)


def _mask_match(found: re.Match[str]) -> str:
    return found.expand(r"\g<name>\g<sign>\g<quote>***\g<quote>")


def one_line(error: BaseException) -> str:
    """Return an error's type and the first line of its message, without secrets; and how to install what it misses."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return visible(masked(": ".join(filter(None, (type(error).__name__, *lines[:1], install_advice(error))))))


def amount(count: int, noun: str, plural: str = "") -> str:
    """Return a count with its noun, such as ``1 row`` or ``1,200 rows``."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def size(count: float) -> str:
    """Return bytes for a person, in powers of 1024, such as ``4.2 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:,.1f} TiB"


def age(seconds: float) -> str:
    """Return a time span in the largest unit of which it is a whole number, such as ``7 days``."""
    for unit, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds and seconds % unit == 0:
            return amount(int(seconds // unit), name)
    return f"{seconds:g} second{'' if seconds == 1 else 's'}"


def duration(seconds: float) -> str:
    """Return seconds for a person in at most two units, such as ``0.8 s``, ``2 h 05 min`` or ``30 d``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min" + (f" {rest:02d} s" if rest else "")
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h" + (f" {minutes:02d} min" if minutes else "")
    days, hours = divmod(hours, 24)
    return f"{days:,} d" + (f" {hours:02d} h" if hours else "")
