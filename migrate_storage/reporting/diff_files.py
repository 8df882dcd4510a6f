"""Differences in the form that users of rclone know: one sign and one path a line, and one file for each kind.

====  =======================================================
sign  meaning
====  =======================================================
=     equal on both sides
-     missing on the source (where the row says that it is), only in the store (no row names it, or ``--with``)
+     missing at the destination; for ``verify``: a row names it, and no store holds it
*     on both sides, and different
!     could not be compared: an error, or nothing that proves it
====  =======================================================
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.events import Event, ItemFinished, Listener
from migrate_storage.core.model import Outcome, OutcomeKind
from migrate_storage.core.text import visible

__all__ = ("KINDS", "Differences", "sign", "written")

_SIGNS = {
    OutcomeKind.SKIPPED: "=",
    OutcomeKind.REWRITTEN: "=",
    OutcomeKind.COPIED: "=",
    OutcomeKind.QUARANTINED: "-",
    OutcomeKind.ORPHAN: "-",
    OutcomeKind.KNOWN: "+",
    OutcomeKind.MISSING: "+",
    OutcomeKind.DIFFERS: "*",
    OutcomeKind.CHANGED: "*",
    OutcomeKind.CONFLICT: "*",
}
KINDS = {"combined": "", "match": "=", "missing-on-src": "-", "missing-on-dst": "+", "differ": "*", "error": "!"}
"""Report files by their option's name, and the sign of the lines that each takes; the combined one takes all."""


def sign(outcome: Outcome) -> str:
    """The sign of an outcome. What is not proved equal is never ``=``.

    A missing object whose size is known is held by the other side only.
    """
    if outcome.kind is OutcomeKind.MISSING and outcome.size is not None:
        return "-"
    return _SIGNS.get(outcome.kind, "!")


class Differences:
    """Writes the report files that were asked for.

    Args:
        files: path by the name of its kind, see :data:`KINDS`.

    Raises:
        ConfigurationError: a file cannot be written.
    """

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._stack = contextlib.ExitStack()
        self._open: dict[str, IO[str]] = {}
        for kind, path in files.items():
            try:
                self._open[kind] = self._stack.enter_context(path.open("w", encoding="utf-8"))
            except OSError as error:
                self._stack.close()
                raise ConfigurationError(f"--{kind} {path}: cannot be written: {error.strerror}") from error

    @classmethod
    def to(cls, files: Mapping[str, Path | None]) -> Self:
        """The files that were asked for on a command line, by the names of its parameters.

        Raises:
            ConfigurationError: a file cannot be written.
        """
        return cls({kind: path for kind in KINDS if (path := files.get(kind.replace("-", "_"))) is not None})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def write(self, outcome: Outcome) -> None:
        """Take one outcome."""
        mark = sign(outcome)
        path = visible(outcome.source.path)
        for kind, file in self._open.items():
            if kind == "combined":
                file.write(f"{mark} {path}\n")
            elif KINDS[kind] == mark:
                file.write(f"{path}\n")


def written(differences: Differences, listener: Listener) -> Listener:
    """A listener that writes every outcome that it is told, and passes all on."""

    def told(event: Event) -> None:
        if isinstance(event, ItemFinished):
            differences.write(event.outcome)
        listener(event)

    return told
