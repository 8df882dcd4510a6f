"""Report files in the form of ``rclone check``: one path a line.

====  =======================================================
sign  meaning
====  =======================================================
=     equal on both sides
-     missing at the source that the row names, or only in the store (no row names it, or ``--compare-with``)
+     missing at the destination; for ``verify``: a row names it, and it is in no store
*     on both sides, and different
!     not compared because of an error, or not proved equal
====  =======================================================
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.events import Event, Listener, ObjectFinished
from migrate_storage.core.model import Outcome, OutcomeKind
from migrate_storage.core.text import visible

__all__ = ("KINDS", "Differences", "sign")

_SIGNS = {
    OutcomeKind.UNCHANGED: "=",
    OutcomeKind.REPOINTED: "=",
    OutcomeKind.COPIED: "=",
    OutcomeKind.QUARANTINED: "-",
    OutcomeKind.ORPHAN: "-",
    OutcomeKind.KNOWN_MISSING: "+",
    OutcomeKind.MISSING: "+",
    OutcomeKind.MISMATCH: "*",
    OutcomeKind.MODIFIED: "*",
    OutcomeKind.CONFLICT: "*",
}
KINDS = {"combined": "", "match": "=", "missing-on-src": "-", "missing-on-dst": "+", "differ": "*", "error": "!"}
"""The sign of the objects in each report file, by the name of its option. The combined file has all objects."""


def sign(outcome: Outcome) -> str:
    """Return the sign of an outcome. What is not proved equal is never ``=``.

    A missing object whose size is known exists at the other side only.
    """
    if outcome.kind is OutcomeKind.MISSING and outcome.size is not None:
        return "-"
    return _SIGNS.get(outcome.kind, "!")


class Differences(contextlib.ExitStack):
    """Report files, which are open until the end of the block.

    Args:
        files: Paths by the names of click parameters, ``None`` for a file that is not wanted.

    Raises:
        ConfigurationError: a file cannot be written.
    """

    def __init__(self, files: Mapping[str, Path | None]) -> None:
        super().__init__()
        self._open: dict[str, IO[str]] = {}
        for kind in KINDS:
            if (path := files.get(kind.replace("-", "_"))) is not None:
                try:
                    self._open[kind] = self.enter_context(path.open("w", encoding="utf-8"))
                except OSError as error:
                    self.close()
                    raise ConfigurationError(f"--{kind} {path}: cannot be written: {error.strerror}") from error

    def write(self, outcome: Outcome) -> None:
        """Write one outcome to each file that lists its kind."""
        mark = sign(outcome)
        path = visible(outcome.source.path)
        for kind, file in self._open.items():
            if kind == "combined":
                file.write(f"{mark} {path}\n")
            elif KINDS[kind] == mark:
                file.write(f"{path}\n")

    def beside(self, listener: Listener) -> Listener:
        """Return a listener that writes each outcome and then calls another listener."""

        def write_and_listen(event: Event) -> None:
            if isinstance(event, ObjectFinished):
                self.write(event.outcome)
            listener(event)

        return write_and_listen
