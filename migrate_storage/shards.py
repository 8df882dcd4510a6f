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
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from migrate_storage.errors import ConfigurationError, LeaseHeldError, RunError, StoppedError
from migrate_storage.journal import UNCUT, Journal, Range, digest, new_run_id, range_lease
from migrate_storage.keys import dump_key
from migrate_storage.lease import hold
from migrate_storage.rows import Rows
from migrate_storage.share import Share, Work

__all__ = ("Part", "begun", "cut_rows", "plan_of", "taken", "uncut")


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
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
    def read(cls, text: str) -> Part:
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


def cut_rows(rows: Sequence[Rows], into: int) -> list[str]:
    """Cut each column's rows into ranges of about one size.

    Returns:
        For each range its bounds as JSON: by column the key behind which it begins and the key with which it ends.
    """
    found: list[dict[str, list[str | None]]] = [{} for _ in range(into)]
    for each in rows:
        edges = [None, *map(dump_key, each.cut(into)), None]
        for number, bounds in enumerate(itertools.pairwise(edges)):
            found[number][str(each.column)] = list(bounds)
    return [json.dumps(bounds) for bounds in found]


def uncut(into: int) -> list[str]:
    """Ranges that need no bounds: those of digests of keys, see :meth:`Share.has`."""
    return ["{}"] * into


def begun(
    journal: Journal,
    work: Work,
    *,
    total: int | None,
    into: int,
    stopping: threading.Event,
    lost: Callable[[RunError], None],
) -> str:
    """The run that is under way, or a new one.

    Args:
        journal: of both.
        work: what is done.
        total: joined is only a run of so many ranges; ``None`` joins any.
        into: into how many a new one is cut.
        stopping: set to give up waiting.
        lost: called when the lease is lost while a new one is cut.

    Returns:
        Its id.

    Raises:
        LeaseHeldError: something else is at work.
        StoppedError: told to stop while waiting.
    """
    waiting: dict[str, Any] = {"stopping": stopping, "lost": lost}
    run = _joined(journal, work, total, into, **waiting)
    # Whoever comes first cuts it, which takes a while where there are many rows; the others wait, or do it where he died.
    with hold(journal, work.seconds, name=work.lease, owner=run, **waiting) as job:
        while any(each.bounds == UNCUT for each in journal.ranges(run)):
            with contextlib.suppress(LeaseHeldError), hold(journal, work.seconds, name=f"cut-{run}", **waiting):
                if any(each.bounds == UNCUT for each in journal.ranges(run)):
                    bounds = work.cut(journal.ranges(run)[0].total)
                    job.check()
                    journal.bound(run, bounds)
    return run


def _joined(
    journal: Journal,
    work: Work,
    total: int | None,
    into: int,
    *,
    stopping: threading.Event,
    lost: Callable[[RunError], None],
) -> str:
    """The run that is under way, or a new one, which need not be cut yet."""
    mine, until = new_run_id(), 0.0
    while True:
        for run in journal.divided(work.plan, total):
            # The lease tells whether anything else was at work since: then what that run did is past.
            with contextlib.suppress(LeaseHeldError):
                journal.renew(run, name=work.lease, seconds=work.seconds)
                return run
        left = journal.acquire(mine, name=work.lease, seconds=work.seconds)
        if not left:
            break
        until = until or time.monotonic() + max(work.seconds, left) + 1
        if time.monotonic() > until:
            # It says who.
            with hold(journal, work.seconds, stopping=stopping, lost=lost, name=work.lease, owner=mine):
                break
        if stopping.wait(min(left, 0.5)):
            raise StoppedError("stopped while waiting for the lease")
    with hold(journal, work.seconds, stopping=stopping, lost=lost, name=work.lease, owner=mine) as held:
        work.before()
        held.check()
        made = [Range(run=mine, number=n, total=into, plan=work.plan, bounds=UNCUT) for n in range(into)]
        end = [Range(run=mine, number=into, total=into, plan=work.plan)] if work.ends else []
        journal.divide(work.line(mine), made + end)
    return mine


@contextmanager
def taken(
    journal: Journal, work: Work, run: str, number: int, *, stopping: threading.Event, lost: Callable[[RunError], None]
) -> Iterator[Share]:
    """Hold one range of a run while the block runs.

    Raises:
        LeaseHeldError: somebody else has this range, or something else was at work since the run was.
        StoppedError: told to stop while waiting.
    """
    journal.renew(run, name=work.lease, seconds=work.seconds)
    with (
        hold(journal, work.seconds, stopping=stopping, lost=lost, name=work.lease, owner=run) as job,
        hold(journal, work.seconds, stopping=stopping, lost=lost, name=range_lease(run, number)) as own,
    ):
        ranges = {each.number: each for each in journal.ranges(run)}
        if number not in ranges:
            raise ConfigurationError(f"run {run} has no range {number}")
        yield Share(journal, work, ranges[number], (job, own))
