r"""Filters of names in rclone's filter language.

=============  ==============================================================
pattern        matches
=============  ==============================================================
``*``          any characters within one path segment
``**``         any characters, slashes too
``?``          one character, no slash
``[a-c]``      one character of a set; ``[^a-c]`` one that is not in it
``{jpg,png}``  one of several
``{{...}}``    a regular expression
``\*``         the character itself; ``\d`` and such are classes
``/x``         at the top only; without the slash at the end of any path, by whole segments
``x/``         everything below a folder ``x``
=============  ==============================================================

rclone does not enter a folder in which no include pattern could match, and neither do these filters. Case matters.
The rules are from rclone's "Filtering" page, and the tests compare with rclone itself.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.model import ObjectMeta

__all__ = ("Filters", "ObjectBounds", "names_in", "patterns_in")


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectBounds:
    """The sizes and ages of the objects that a job deals with; ``None`` sets no bound.

    Raises:
        ConfigurationError: a bound is negative, or a minimum is above its maximum.
    """

    #: Bytes.
    min_size: int | None = None
    max_size: int | None = None
    #: Seconds since the object was written.
    min_age: float | None = None
    max_age: float | None = None

    def __post_init__(self) -> None:
        for each in fields(self):
            if (value := getattr(self, each.name)) is not None and value < 0:
                raise ConfigurationError(f"--{each.name.replace('_', '-')} must be at least 0, not {value}")
        for what, least, most in (("size", self.min_size, self.max_size), ("age", self.min_age, self.max_age)):
            if least is not None and most is not None and least > most:
                raise ConfigurationError(f"--min-{what} is above --max-{what}: no object is within them")

    def admits(self, meta: ObjectMeta, now: float) -> bool:
        """Whether an object is within the bounds. One whose store reports no time is within the bounds of age.

        Args:
            meta: the object.
            now: seconds since the epoch.
        """
        return _is_within(meta.size, self.min_size, self.max_size) and (
            meta.last_modified is None or _is_within(now - meta.last_modified, self.min_age, self.max_age)
        )


def _is_within(value: float, least: float | None, most: float | None) -> bool:
    return (least is None or value >= least) and (most is None or value <= most)


class Filters:
    """Include and exclude patterns, or a list of names.

    Args:
        include: only names that match one of these; no pattern includes every name.
        exclude: no name that matches one of these, even if it is included.
        only: exactly these names; ``None`` filters by the patterns.

    Raises:
        ConfigurationError: a pattern is empty or malformed.
    """

    def __init__(
        self, include: Iterable[str] = (), exclude: Iterable[str] = (), only: Collection[str] | None = None
    ) -> None:
        include, exclude = tuple(include), tuple(exclude)
        self._include = tuple(_compile("--include", pattern) for pattern in include)
        self._exclude = tuple(_compile("--exclude", pattern) for pattern in exclude)
        self._folders = tuple(_to_regex(folder) for pattern in include for folder in _derive_folders(pattern))
        self._only = only
        #: The patterns and names as they were given.
        self.given = (include, exclude, None if only is None else tuple(sorted(only)))

    def __bool__(self) -> bool:
        """Whether any name may be filtered out."""
        return bool(self._include or self._exclude or self._only is not None)

    def matches(self, name: str) -> bool:
        """Whether a name passes the filters."""
        if self._only is not None:
            return name in self._only
        name = name.removeprefix("/")
        if any(pattern.search(name) for pattern in self._exclude):
            return False
        included = any(pattern.search(name) for pattern in self._include) and self._folders_match(name)
        return not self._include or included

    def _folders_match(self, name: str) -> bool:
        return all(
            any(folder.search(name[: slash.end()]) for folder in self._folders) for slash in re.finditer("/", name)
        )


def names_in(path: Path) -> frozenset[str]:
    """The names in a file, one a line, in the format of rclone's ``--files-from``.

    A line that begins with ``#`` or ``;`` is a comment.

    Raises:
        ConfigurationError: the file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"--files-from {path}: cannot be read: {getattr(error, 'strerror', error)}") from None
    stripped = (line.strip() for line in lines)
    return frozenset(line.removeprefix("/") for line in stripped if line and not line.startswith(("#", ";")))


def patterns_in(text: str) -> tuple[str, ...]:
    r"""The patterns of a list separated by commas.

    A comma in braces, in a set or after ``\`` is part of a pattern.
    """
    found, depth, escaped = [""], 0, False
    for character in text:
        if not escaped:
            depth += (character in "{[") - (character in "}]")
        if character == "," and not depth and not escaped:
            found.append("")
            continue
        found[-1] += character
        escaped = character == "\\" and not escaped
    return tuple(part.strip() for part in found if part.strip())


_MATCHES_IN_ANY_FOLDER = re.compile(r"\{[^{}]*/|\{\{")
"""Patterns whose folders cannot be derived: with a slash in braces, or a regular expression."""


def _derive_folders(pattern: str) -> Iterator[str]:
    """The folders in which an include pattern could match, as patterns with a slash."""
    if _MATCHES_IN_ANY_FOLDER.search(pattern):
        yield "/**"
        return
    rest, deepest = re.sub(r"/{2,}", "/", pattern + "**" * pattern.endswith("/")), True
    while (cut := max(rest.rfind("/"), rest.rfind("**"))) >= 0:
        what = "**" if rest.startswith("**", cut) else ""
        rest, deepest = rest[:cut], False
        if rest or what:
            yield f"{rest}{what}/"
    if deepest:
        yield "/**"


def _compile(option: str, pattern: str) -> re.Pattern[str]:
    if not pattern.removeprefix("/"):
        raise ConfigurationError(f"{option} {pattern!r} is no pattern: give one such as '*.jpg' or 'uploads/**'")
    try:
        return _to_regex(pattern + "**" * pattern.endswith("/"))
    except (re.error, ValueError) as error:
        reason = error if type(error) is ValueError else "a set or a regular expression in it is not in order"
        raise ConfigurationError(f"{option} {pattern!r} is no pattern: {reason}") from None


_TOKENS = re.compile(
    r"\{\{(?P<regex>.*?)\}\}|(?P<escaped>\\.)|(?P<stars>\*+)|(?P<one>\?)|(?P<open>\{)|(?P<close>\})|(?P<comma>,)"
    r"|(?P<set>\[(?:\\.|\[[^\]]*\]|[^\\\[\]])*\])|(?P<plain>.)",
    re.DOTALL,
)


def _to_regex(pattern: str) -> re.Pattern[str]:
    """A pattern as a regular expression; ``ValueError`` if it is malformed."""
    glob = pattern.removeprefix("/")
    parts, inside = ["^" if glob != pattern else "(?:^|/)"], False
    for found in _TOKENS.finditer(glob):
        kind, text = str(found.lastgroup), found[0]
        if kind == "open" or kind == "close":
            if inside is (kind == "open"):
                raise ValueError("braces in it are not closed, or one is inside another: write it as {jpg,png}")
            inside = kind == "open"
        parts.append(_translate_token(kind, text, found["regex"], inside=inside))
    if inside:
        raise ValueError("braces in it are not closed: write it as {jpg,png}")
    return re.compile("".join(parts) + r"\Z", re.DOTALL | re.ASCII)


def _translate_token(kind: str, text: str, regex: str | None, *, inside: bool) -> str:
    if kind == "regex":
        return f"(?:{regex})"
    if kind == "stars":
        if len(text) > 2:
            raise ValueError("it has too many stars: ** is the most")
        return "[^/]*" if text == "*" else ".*"
    if kind == "set":
        if text.startswith("[!"):
            raise ValueError("write [^...] for what is not in a set: rclone takes ! for a character of it")
        inner = text[1:-1].replace("[", r"\[").replace("&&", r"\&&").replace("||", r"\||").replace("~~", r"\~~")
        return f"[{inner}]"
    if kind == "plain":
        if text in "[]\\":
            raise ValueError("a set in it is not closed: write it as [a-z], or \\[ for the character itself")
        return re.escape(text)
    return {"escaped": text, "one": "[^/]", "open": "(?:", "close": ")", "comma": "|" if inside else ","}[kind]
