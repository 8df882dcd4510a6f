r"""Which names a job deals with, in rclone's filter language.

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

Include patterns of several segments are looked for where rclone would look: it does not enter a folder in which none of
them could match. Case matters. Source of the rules: rclone's "Filtering" page, and rclone itself, which the tests ask.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from migrate_storage.core.errors import ConfigurationError

__all__ = ("Filters", "names_in", "patterns_in")


class Filters:
    """Include and exclude patterns, or a list of names.

    Args:
        include: only names that match one of these; none at all includes every name.
        exclude: names that match one of these are left alone, included or not.
        only: exactly these names; ``None`` sets no such bound.

    Raises:
        ConfigurationError: a pattern is empty, or something in it is not closed or not in order.
    """

    def __init__(
        self, include: Iterable[str] = (), exclude: Iterable[str] = (), only: Collection[str] | None = None
    ) -> None:
        include, exclude = tuple(include), tuple(exclude)
        self._include = tuple(_compiled("--include", pattern) for pattern in include)
        self._exclude = tuple(_compiled("--exclude", pattern) for pattern in exclude)
        self._folders = tuple(_regex(folder) for pattern in include for folder in _folders(pattern))
        self._only = only
        #: All of it, as it was given.
        self.given = (include, exclude, None if only is None else tuple(sorted(only)))

    def __bool__(self) -> bool:
        """Whether anything is left out."""
        return bool(self._include or self._exclude or self._only is not None)

    def matches(self, name: str) -> bool:
        """Whether a job deals with this name."""
        if self._only is not None:
            return name in self._only
        name = name.removeprefix("/")
        if any(pattern.search(name) for pattern in self._exclude):
            return False
        if not self._include:
            return True
        return any(pattern.search(name) for pattern in self._include) and self._entered(name)

    def _entered(self, name: str) -> bool:
        return all(
            any(folder.search(name[: slash.end()]) for folder in self._folders) for slash in re.finditer("/", name)
        )


def names_in(path: Path) -> frozenset[str]:
    """The names in a file, one a line, as rclone's ``--files-from`` reads it: ``#`` and ``;`` begin a comment.

    Raises:
        ConfigurationError: it cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"--files-from {path}: cannot be read: {getattr(error, 'strerror', error)}") from None
    stripped = (line.strip() for line in lines)
    return frozenset(line.removeprefix("/") for line in stripped if line and not line.startswith(("#", ";")))


def patterns_in(text: str) -> tuple[str, ...]:
    r"""The patterns of a list separated by commas; a comma in braces, in a set or after ``\`` is part of a pattern."""
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


_TOO_HARD = re.compile(r"\{[^{}]*/|\{\{")
"""What tells nobody in which folders it may match."""


def _folders(pattern: str) -> Iterator[str]:
    """The folders in which an include pattern could match something, as patterns that end with a slash."""
    if _TOO_HARD.search(pattern):
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


def _compiled(option: str, pattern: str) -> re.Pattern[str]:
    if not pattern.removeprefix("/"):
        raise ConfigurationError(f"{option} {pattern!r} is no pattern: give one such as '*.jpg' or 'uploads/**'")
    try:
        return _regex(pattern + "**" * pattern.endswith("/"))
    except (re.error, ValueError) as error:
        reason = error if type(error) is ValueError else "a set or a regular expression in it is not in order"
        raise ConfigurationError(f"{option} {pattern!r} is no pattern: {reason}") from None


_TOKENS = re.compile(
    r"\{\{(?P<regex>.*?)\}\}|(?P<escaped>\\.)|(?P<stars>\*+)|(?P<one>\?)|(?P<open>\{)|(?P<close>\})|(?P<comma>,)"
    r"|(?P<set>\[(?:\\.|\[[^\]]*\]|[^\\\[\]])*\])|(?P<plain>.)",
    re.DOTALL,
)


def _regex(pattern: str) -> re.Pattern[str]:
    """A pattern as a regular expression. What is open and never closed raises ``ValueError``."""
    glob = pattern.removeprefix("/")
    parts, inside = ["^" if glob != pattern else "(?:^|/)"], False
    for found in _TOKENS.finditer(glob):
        kind, text = str(found.lastgroup), found[0]
        if kind == "open" or kind == "close":
            if inside is (kind == "open"):
                raise ValueError("braces in it are not closed, or one stands in another: write it as {jpg,png}")
            inside = kind == "open"
        parts.append(_part(kind, text, found["regex"], inside=inside))
    if inside:
        raise ValueError("braces in it are not closed: write it as {jpg,png}")
    return re.compile("".join(parts) + r"\Z", re.DOTALL | re.ASCII)


def _part(kind: str, text: str, regex: str | None, *, inside: bool) -> str:
    if kind == "regex":
        return f"(?:{regex})"
    if kind == "stars":
        if len(text) > 2:
            raise ValueError("it has too many stars: ** is the most")
        return "[^/]*" if text == "*" else ".*"
    if kind == "set":
        if text.startswith("[!"):
            raise ValueError("write [^...] for what is not in a set: rclone takes ! for a character of it")
        return (
            "[" + text[1:-1].replace("[", r"\[").replace("&&", r"\&&").replace("||", r"\||").replace("~~", r"\~~") + "]"
        )
    if kind == "plain":
        if text in "[]\\":
            raise ValueError("a set in it is not closed: write it as [a-z], or \\[ for the character itself")
        return re.escape(text)
    return {"escaped": text, "one": "[^/]", "open": "(?:", "close": ")", "comma": "|" if inside else ","}[kind]
