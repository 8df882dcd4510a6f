"""One range of a job on a worker of a cluster: what travels there, what runs, and what comes back."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from migrate_storage.jobs.distributed.shards import ShardRef

__all__ = ("Task", "TaskResult", "assigned_shard")


@dataclass(frozen=True, kw_only=True)
class Task:
    """What travels to a worker."""

    #: A command and its arguments, without anything that opens a database or a store.
    arguments: tuple[str, ...]
    run: str
    number: int

    def key(self, command: str, total: int, attempt: int) -> str:
        """Its name on the cluster's pages: everybody there may read it."""
        which = f"{self.number}-of-{total}" if self.number < total else "end"
        return f"migrate-storage-{command}-{self.run}-range-{which}-try-{attempt}"


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """What comes back: the state of the range, or ``refused`` (it cannot be done like that) or ``held`` (by another)."""

    state: str
    error: str = ""


assigned_shard: ContextVar[ShardRef | None] = ContextVar("assigned_shard", default=None)
"""The shard that the command which a worker runs has to do; ``None`` in every other process."""
