"""What a cutover counts: a plain object that whoever watches may read."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping

from migrate_storage.cutover.phases import Side

__all__ = ("Counters",)


class Counters:
    """Requests by kind and side, safe to use from several threads.

    Kinds: ``read``, ``write``, ``delete``, ``failure`` (a side that failed), ``fallback`` (read from the source because the
    destination had nothing), ``left`` (acknowledged with an open entry).
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, kind: str, side: Side) -> None:
        """Count one."""
        with self._lock:
            self._counts[kind, side.value] += 1

    def get(self, kind: str, side: Side) -> int:
        """How many so far."""
        with self._lock:
            return self._counts[kind, side.value]

    def all(self) -> Mapping[tuple[str, str], int]:
        """All counts so far, by kind and side."""
        with self._lock:
            return dict(self._counts)

    def prometheus(self) -> str:
        """The counts as a Prometheus text file."""
        name = "migrate_storage_cutover_total"
        lines = [f"# HELP {name} Requests of the cutover, by kind and side.", f"# TYPE {name} counter"]
        lines += [
            f'{name}{{kind="{kind}",side="{side}"}} {count}' for (kind, side), count in sorted(self.all().items())
        ]
        return "\n".join(lines) + "\n"
