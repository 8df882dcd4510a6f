"""One job, several processes: the job is cut into shards once, and the journal records how far each shard is.

A shard may run twice without harm. Its process has a lease on it, and checks the lease right before each write. The lease of
the job is shared by all its processes, in the name of the run. A process that takes this lease for something else has ended
the job, and the next shard begins a new one.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from migrate_storage.core.errors import ConfigurationError, LeaseHeldError, RunError, StoppedError
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.primary_keys import dump_key
from migrate_storage.jobs.distributed.shard import ShardedJob, ShardRun
from migrate_storage.journal import NO_BOUNDS, Journal, ShardRecord, digest, new_run_id, shard_lease
from migrate_storage.journal.lease_holder import Lease, hold_lease

__all__ = ("ShardCoordinator", "ShardRef", "cut_rows", "plan_of", "uncut")


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardRef:
    """Which shard of a job a process does: of a named run, or of the one that is under way."""

    #: From 0; in a run that is named, ``total`` is its end.
    number: int
    #: How many there are; ``None`` where the run is named.
    total: int | None = None
    run: str | None = None

    def __post_init__(self) -> None:
        if self.total is not None and not 0 <= self.number < self.total:
            raise ConfigurationError(
                f"--shard {self.number}/{self.total}: shards are counted from 0, so that the last of {self.total} is {self.total - 1}"
            )

    @classmethod
    def read(cls, text: str) -> ShardRef:
        """Parse ``I/N``.

        Raises:
            ConfigurationError: the text has another form.
        """
        number, sign, total = text.partition("/")
        if not (sign and number.isdecimal() and total.isdecimal()):
            raise ConfigurationError(f"--shard {text!r}: write I/N, such as 0/8 for the first of eight")
        return cls(number=int(number), total=int(total))


def plan_of(kind: str, *values: Any) -> str:
    """Return a digest of what a job does, and how: only processes with the same one share a run."""
    return digest(kind, *map(repr, values))


def cut_rows(rows: Sequence[FileColumn], into: int) -> list[str]:
    """Cut each column's rows into shards of about one size.

    Returns:
        For each shard its bounds as JSON: by column the key after which it begins and the key with which it ends.
    """
    found: list[dict[str, list[str | None]]] = [{} for _ in range(into)]
    for each in rows:
        edges = [None, *map(dump_key, each.split_points(into)), None]
        for number, bounds in enumerate(itertools.pairwise(edges)):
            found[number][str(each.column)] = list(bounds)
    return [json.dumps(bounds) for bounds in found]


def uncut(into: int) -> list[str]:
    """Return the bounds of shards that need none: those of digests of keys, see :meth:`ShardRun.has`."""
    return ["{}"] * into


class ShardCoordinator:
    """Divides a job among processes, of which this is one.

    Args:
        journal: of all of them.
        work: what is done.
        stopping: set to give up waiting.
        lost: called when a lease is lost.
    """

    def __init__(
        self, journal: Journal, work: ShardedJob, *, stopping: threading.Event, lost: Callable[[RunError], None]
    ) -> None:
        self._journal, self._work, self._stopping = journal, work, stopping
        self._waiting: dict[str, Any] = {"stopping": stopping, "lost": lost}

    def _hold_lease(self, **how: Any) -> AbstractContextManager[Lease]:
        return hold_lease(self._journal, self._work.seconds, **self._waiting, **how)

    def begin(self, *, total: int | None, into: int) -> str:
        """Join the run that is under way, or begin a new one.

        Args:
            total: join only a run of so many shards; ``None`` joins any.
            into: how many shards a new one gets.

        Returns:
            Its id.

        Raises:
            LeaseHeldError: something else is at work.
            StoppedError: a stop was requested while waiting.
        """
        run = self._join_or_begin(total, into)
        # The first process computes the bounds, one pass over the keys. Others wait for its lease, or take over if it expires.
        with self._hold_lease(name=self._work.lease, owner=run) as job:
            while any(each.bounds == NO_BOUNDS for each in self._journal.shards.of_run(run)):
                with contextlib.suppress(LeaseHeldError), self._hold_lease(name=f"cut-{run}"):
                    if any(each.bounds == NO_BOUNDS for each in self._journal.shards.of_run(run)):
                        bounds = self._work.cut(self._journal.shards.of_run(run)[0].total)
                        job.check()
                        self._journal.shards.set_bounds(run, bounds)
        return run

    def _join_or_begin(self, total: int | None, into: int) -> str:
        """Return the run that is under way, or a new one, which may have no bounds yet."""
        mine, until = new_run_id(), 0.0
        while True:
            for run in self._journal.shards.open_runs(self._work.plan, total):
                # Another owner of the lease means that another job was at work since: then that run is over.
                with contextlib.suppress(LeaseHeldError):
                    self._journal.leases.renew(run, name=self._work.lease, seconds=self._work.seconds)
                    return run
            left = self._journal.leases.acquire(mine, name=self._work.lease, seconds=self._work.seconds)
            if not left:
                break
            until = until or time.monotonic() + max(self._work.seconds, left) + 1
            if time.monotonic() > until:
                # Raises an error that names the holder.
                with self._hold_lease(name=self._work.lease, owner=mine):
                    break
            if self._stopping.wait(min(left, 0.5)):
                raise StoppedError("stopped while waiting for the lease")
        with self._hold_lease(name=self._work.lease, owner=mine) as held:
            self._work.before()
            held.check()
            made = [
                ShardRecord(run=mine, number=n, total=into, plan=self._work.plan, bounds=NO_BOUNDS) for n in range(into)
            ]
            end = [ShardRecord(run=mine, number=into, total=into, plan=self._work.plan)] if self._work.ends else []
            self._journal.shards.begin(self._work.line(mine, self._journal.database.time()), made + end)
        return mine

    @contextmanager
    def take(self, run: str, number: int) -> Iterator[ShardRun]:
        """Take the lease of one shard of a run while the block runs.

        Raises:
            LeaseHeldError: another process has this shard, or another job was at work since the run was.
            StoppedError: a stop was requested while waiting.
        """
        self._journal.leases.renew(run, name=self._work.lease, seconds=self._work.seconds)
        with (
            self._hold_lease(name=self._work.lease, owner=run) as job,
            self._hold_lease(name=shard_lease(run, number)) as own,
        ):
            ranges = {each.number: each for each in self._journal.shards.of_run(run)}
            if number not in ranges:
                raise ConfigurationError(f"run {run} has no range {number}")
            yield ShardRun(self._journal, self._work, ranges[number], (job, own))
