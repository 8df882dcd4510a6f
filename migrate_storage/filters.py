"""Which filenames a run deals with: patterns in the usual meaning of a glob.

=========  =====================================================================
pattern    matches
=========  =====================================================================
``*``      any characters within one path segment
``**``     any characters, slashes too; ``**/`` also nothing
``?``      one character, no slash
``[a-c]``  one character of a set; ``[!a-c]`` one that is not
``x/``     everything below a folder ``x``
=========  =====================================================================

A pattern without a slash is compared to the last segment, wherever it is; any other to the whole filename, as the row
holds it. Case matters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from migrate_storage.errors import ConfigurationError

__all__ = ("Filters",)


class Filters:
    """Include and exclude patterns.

    Args:
        include: only filenames that match one of these; none at all includes every filename.
        exclude: filenames that match one of these are left alone, included or not.

    Raises:
        ConfigurationError: a pattern is empty, or a set in it is not closed or not in order.
    """

    def __init__(self, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> None:
        self._include = tuple(_compiled("--include", pattern) for pattern in include)
        self._exclude = tuple(_compiled("--exclude", pattern) for pattern in exclude)

    def __bool__(self) -> bool:
        """Whether anything is left out."""
        return bool(self._include or self._exclude)

    def __call__(self, filename: str) -> bool:
        """Whether a run deals with this filename."""
        if any(pattern.fullmatch(filename) for pattern in self._exclude):
            return False
        return not self._include or any(pattern.fullmatch(filename) for pattern in self._include)


_TOKENS = re.compile(
    r"(?P<deep>\*\*/)|(?P<all>\*\*)|(?P<some>\*)|(?P<one>\?)|\[(?P<set>!?\]?[^\]]*)\]|(?P<plain>.)", re.DOTALL
)

_SPECIAL = re.compile(r"[\\\[\]^&~|]")
"""What means more in a set of a regular expression than in one of a glob."""


def _compiled(option: str, pattern: str) -> re.Pattern[str]:
    glob = pattern.removeprefix("/")
    if not glob:
        raise ConfigurationError(f"{option} {pattern!r} is no pattern: give one such as '*.jpg' or 'uploads/**'")
    if glob.endswith("/"):
        glob += "**"
    elif "/" not in pattern:
        glob = f"**/{glob}"
    try:
        return re.compile("".join(_part(found) for found in _TOKENS.finditer(glob)), re.DOTALL)
    except re.error:
        raise ConfigurationError(
            f"{option} {pattern!r} is no pattern: a set in it is not in order, write it as [a-z]"
        ) from None


def _part(found: re.Match[str]) -> str:
    kind = found.lastgroup
    if kind == "set":
        chars = _SPECIAL.sub(r"\\\g<0>", found["set"].removeprefix("!"))
        return f"(?!/)[{'^' if found['set'].startswith('!') else ''}{chars}]"
    if kind == "plain":
        return re.escape(found["plain"])
    return {"deep": "(?:.*/)?", "all": ".*", "some": "[^/]*", "one": "[^/]"}[str(kind)]
