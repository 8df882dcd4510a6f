"""The rule by which copies get other filenames than their sources: a regular expression, or a function of the application."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from migrate_storage.application.importing import import_function
from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.text import masked, one_line

__all__ = ("FLAG", "Rename", "RenameError")

FLAG = "--rename"
"""The option of the rule, for messages."""
_ARROW = "=>"
_SHOWN_CHARS = 200
"""Characters of a filename in a message."""


class RenameError(ValueError):
    """The rule gives a file no filename that a row may have."""


@dataclass(frozen=True)
class Rename:
    """Maps the filename that a copy would have to the one that it gets.

    It must give the same name each time, because a resumed run asks again.
    """

    #: The rule as it was written. The journal keeps it with the run.
    text: str
    _give_name: Callable[[str], object] = field(repr=False)

    @classmethod
    def read(cls, text: str) -> Self:
        """Read ``PATTERN=>REPLACEMENT``, or ``module:function``.

        Raises:
            ConfigurationError: it is neither, the expression is wrong, or the module cannot be imported.
        """
        pattern, arrow, replacement = text.rpartition(_ARROW)
        if not arrow:
            if ":" not in text:
                raise ConfigurationError(
                    f"{FLAG} {shlex.quote(masked(text))}: write PATTERN{_ARROW}REPLACEMENT, or a function as module:function"
                )
            return cls(text, import_function(FLAG, text))
        try:
            expression = re.compile(pattern)
            expression.sub(replacement, "")  # which reads the replacement, also where nothing matches
        except (re.error, IndexError, OverflowError, RecursionError) as error:
            raise ConfigurationError(
                f"{FLAG} {shlex.quote(text)} is no regular expression with its replacement: {error}"
            ) from None

        def give_name(filename: str) -> str:
            found = expression.fullmatch(filename)
            return filename if found is None else found.expand(replacement)

        return cls(text, give_name)

    def name_copy(self, filename: str) -> str:
        """Return the filename that a copy gets.

        Args:
            filename: that it would have without the rule: the key below the source's bucket and prefix.

        Raises:
            RenameError: the function fails, or its result is no filename that a row may have.
        """
        shown = repr(filename[:_SHOWN_CHARS])
        try:
            new = self._give_name(filename)
        except Exception as error:
            raise RenameError(f"{FLAG} fails for {shown}: {one_line(error)}") from error
        if not isinstance(new, str):
            raise RenameError(f"{FLAG} gives {shown} no text, but {type(new).__name__}")
        if reason := _reason_to_refuse(new):
            raise RenameError(f"{FLAG} gives {shown} the name {new[:_SHOWN_CHARS]!r}, which {reason}")
        return new


def _reason_to_refuse(name: str) -> str:
    """Return why no row may have a filename; empty where one may. A destination may refuse more."""
    if not name:
        return "is empty"
    if name.startswith("/"):
        return "is absolute"
    if part := next((part for part in name.split("/") if part in (".", "..")), ""):
        return f"has the part {part!r}"
    if "\0" in name:
        return "has a NUL character"
    try:
        name.encode()
    except UnicodeEncodeError:
        return "is no valid Unicode"
    return ""
