"""Which conditional writes a destination honours: as a probe has shown, until an answer contradicts it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from migrate_storage.stores.server_side_copy import ServerSideCopier

__all__ = ("WriteConditions",)


class WriteConditions:
    """The conditions that a job still relies on. Any thread may use it.

    Args:
        create_only: whether a probe showed that a PUT refuses to replace an object.
        on_contradiction: called once for each condition that is given up, with a line that gives the reason.
    """

    def __init__(self, *, create_only: bool, on_contradiction: Callable[[str], None]) -> None:
        self._create_only, self._on_contradiction = create_only, on_contradiction
        self._dropped: list[ServerSideCopier] = []
        self._lock = threading.Lock()

    @property
    def create_only(self) -> bool:
        """Whether PUTs are sent on the condition that there is no object."""
        return self._create_only

    def usable(self, copier: ServerSideCopier | None) -> ServerSideCopier | None:
        """Return a copier; ``None`` where its condition was given up, so that objects pass through this process."""
        return None if any(copier is dropped for dropped in self._dropped) else copier

    def drop_puts(self, reason: str) -> None:
        """Send no conditional PUT any more. A HEAD precedes each PUT instead."""
        with self._lock:
            known, self._create_only = not self._create_only, False
        if not known:
            self._on_contradiction(
                f"{reason}, although a probe showed that the destination honours If-None-Match: from now on a HEAD precedes each PUT"
            )

    def drop_copies(self, copier: ServerSideCopier, reason: str) -> None:
        """Let no object be copied by the service any more: a copy without its condition could replace an object."""
        with self._lock:
            known = self.usable(copier) is None
            if not known:
                self._dropped.append(copier)
        if not known:
            self._on_contradiction(
                f"{reason}, although a probe showed that the service honours If-None-Match: from now on objects pass through this process"
            )
