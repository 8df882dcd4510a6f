"""What is written to a stream every few seconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import IO, Self

from migrate_storage.progress.seen import Seen

__all__ = ("Periodic",)


class Periodic:
    """Writes to a stream, what is due every few seconds among it.

    Args:
        stream: where to.
        every: seconds.
        clock: seconds, for tests.
    """

    def __init__(self, stream: IO[str], every: float, clock: Callable[[], float]) -> None:
        self._stream, self._every, self._clock = stream, every, clock
        self._tally = Seen(clock)
        self._due = clock() + every

    def _is_due(self) -> bool:
        """Whether it is time again; asked once for each time."""
        if (now := self._clock()) < self._due:
            return False
        self._due = now + self._every
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.flush()
