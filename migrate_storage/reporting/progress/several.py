"""Show several runs that follow each other, each by a display of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from migrate_storage.core.events import Event, RunStarted
from migrate_storage.reporting.progress.plain import Shown

__all__ = ("EachShown",)


class EachShown(Shown):
    """Opens a display at the first event of each run, and closes that of the run before.

    Args:
        make: Makes the display of a run.
    """

    def __init__(self, make: Callable[[], Shown]) -> None:
        self._make = make
        self._shown: Shown | None = None

    def __call__(self, event: Event) -> None:
        """Pass one event to the display of its run."""
        if isinstance(event, RunStarted):
            self._close()
            self._shown = self._make().__enter__()
        if self._shown is not None:
            self._shown(event)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        if self._shown is not None:
            self._shown.__exit__(None, None, None)
            self._shown = None
