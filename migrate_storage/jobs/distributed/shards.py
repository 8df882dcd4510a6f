"""One job, several processes: it is cut into ranges once, each is one process's at a time, and the journal knows how far they are.

A range may run twice without harm. Who does it holds a lease on it and makes sure of that right before each write; what
is done is found done. The job's own lease is held by all of them together, in the name of the run: whoever takes it for
something else has ended the job, and the next shard begins another.
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
    """Which range of a job a process does: of a run that is named, or of the one that is under way."""

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
        """What ``I/N`` says.

        Raises:
            ConfigurationError: it says nothing of the kind.
        """
        number, sign, total = text.partition("/")
        if not (sign and number.isdecimal() and total.isdecimal()):
            raise ConfigurationError(f"--shard {text!r}: write I/N, such as 0/8 for the first of eight")
        return cls(number=int(number), total=int(total))


def plan_of(kind: str, *values: Any) -> str:
    """A digest of what is done, and how: only those who would do the same share it."""
    return digest(kind, *map(repr, values))


def cut_rows(rows: Sequence[FileColumn], into: int) -> list[str]:
    """Cut each column's rows into ranges of about one size.

    Returns:
        For each range its bounds as JSON: by column the key behind which it begins and the key with which it ends.
    """
    found: list[dict[str, list[str | None]]] = [{} for _ in range(into)]
    for each in rows:
        edges = [None, *map(dump_key, each.split_points(into)), None]
        for number, bounds in enumerate(itertools.pairwise(edges)):
            found[number][str(each.column)] = list(bounds)
    return [json.dumps(bounds) for bounds in found]


def uncut(into: int) -> list[str]:
    """Ranges that need no bounds: those of digests of keys, see :meth:`ShardRun.has`."""
    return ["{}"] * into


class ShardCoordinator:
    """Shares a job out over processes, of which this is one.

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

    def _held(self, **how: Any) -> AbstractContextManager[Lease]:
        return hold_lease(self._journal, self._work.seconds, **self._waiting, **how)

    def begin(self, *, total: int | None, into: int) -> str:
        """The run that is under way, or a new one.

        Args:
            total: joined is only a run of so many ranges; ``None`` joins any.
            into: into how many a new one is cut.

        Returns:
            Its id.

        Raises:
            LeaseHeldError: something else is at work.
            StoppedError: told to stop while waiting.
        """
        run = self._joined(total, into)
        # Whoever comes first cuts it, which takes a while where there are many rows; the others wait, or do it where he died.
        with self._held(name=self._work.lease, owner=run) as job:
            while any(each.bounds == NO_BOUNDS for each in self._journal.shards.of_run(run)):
                with contextlib.suppress(LeaseHeldError), self._held(name=f"cut-{run}"):
                    if any(each.bounds == NO_BOUNDS for each in self._journal.shards.of_run(run)):
                        bounds = self._work.cut(self._journal.shards.of_run(run)[0].total)
                        job.check()
                        self._journal.shards.set_bounds(run, bounds)
        return run

    def _joined(self, total: int | None, into: int) -> str:
        """The run that is under way, or a new one, which need not be cut yet."""
        mine, until = new_run_id(), 0.0
        while True:
            for run in self._journal.shards.open_runs(self._work.plan, total):
                # The lease tells whether anything else was at work since: then what that run did is past.
                with contextlib.suppress(LeaseHeldError):
                    self._journal.leases.renew(run, name=self._work.lease, seconds=self._work.seconds)
                    return run
            left = self._journal.leases.acquire(mine, name=self._work.lease, seconds=self._work.seconds)
            if not left:
                break
            until = until or time.monotonic() + max(self._work.seconds, left) + 1
            if time.monotonic() > until:
                # It says who.
                with self._held(name=self._work.lease, owner=mine):
                    break
            if self._stopping.wait(min(left, 0.5)):
                raise StoppedError("stopped while waiting for the lease")
        with self._held(name=self._work.lease, owner=mine) as held:
            self._work.before()
            held.check()
            made = [
                ShardRecord(run=mine, number=n, total=into, plan=self._work.plan, bounds=NO_BOUNDS) for n in range(into)
            ]
            end = [ShardRecord(run=mine, number=into, total=into, plan=self._work.plan)] if self._work.ends else []
            self._journal.shards.begin(self._work.line(mine), made + end)
        return mine

    @contextmanager
    def take(self, run: str, number: int) -> Iterator[ShardRun]:
        """Hold one range of a run while the block runs.

        Raises:
            LeaseHeldError: somebody else has this range, or something else was at work since the run was.
            StoppedError: told to stop while waiting.
        """
        self._journal.leases.renew(run, name=self._work.lease, seconds=self._work.seconds)
        with (
            self._held(name=self._work.lease, owner=run) as job,
            self._held(name=shard_lease(run, number)) as own,
        ):
            ranges = {each.number: each for each in self._journal.shards.of_run(run)}
            if number not in ranges:
                raise ConfigurationError(f"run {run} has no range {number}")
            yield ShardRun(self._journal, self._work, ranges[number], (job, own))
