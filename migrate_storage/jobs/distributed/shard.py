"""One shard of a job that several processes share, while its lease is valid: what belongs to it, and its progress."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from migrate_storage.core.model import Note, Severity
from migrate_storage.core.timetable import current_rate
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.primary_keys import load_key
from migrate_storage.jobs.context import JobPace
from migrate_storage.jobs.distributed.merge_reports import merge_reports
from migrate_storage.journal import Journal, RunRecord, ShardRecord
from migrate_storage.journal.lease_holder import Lease
from migrate_storage.reporting import Report

__all__ = ("ShardRun", "ShardedJob")


@dataclass(frozen=True, kw_only=True)
class ShardedJob:
    """What the processes that share a job must agree on."""

    #: Name of the job's lease.
    lease: str
    #: Seconds for which leases are good.
    seconds: float
    #: See :func:`plan_of`.
    plan: str
    #: The limits of the whole job, which its shards divide.
    limits: JobPace
    #: Makes the journal record of a run, from its id and when it begins.
    line: Callable[[str, float], RunRecord]
    #: Cuts the job into so many shards; returns the bounds of each.
    cut: Callable[[int], Sequence[str]]
    #: Whether something is left to do when all shards are done.
    ends: bool
    #: Called before a run begins, while no other process is at work.
    before: Callable[[], None] = lambda: None


class ShardRun:
    """One shard of a job, while its lease is valid. It is the control channel of the job's control loop."""

    def __init__(self, journal: Journal, work: ShardedJob, range_: ShardRecord, leases: Sequence[Lease]) -> None:
        self._journal, self._work, self._range, self._leases = journal, work, range_, leases
        self.run, self.number, self.total = range_.run, range_.number, range_.total
        #: Whether there was nothing left to do when it was taken.
        self.done = range_.done
        #: When the whole job began, in seconds since the epoch.
        _, self.began = journal.runs.state_of(range_.run)
        #: Whether another process worked on it before, and left copies that are to be checked once more.
        self.again = range_.progress is not None
        #: Bytes that earlier holders of this shard moved.
        self.bytes_before = int(json.loads(range_.progress)["bytes"]) if range_.progress else 0
        #: Bytes that the other shards moved.
        self.bytes_elsewhere = 0
        self._stopped = False
        self._progress: dict[str, Any] = {}

    def __str__(self) -> str:
        return f"{self.number}/{self.total}" if self.number < self.total else "the end"

    def found(self) -> Report:
        """Return the report of a shard that was done when it was taken, or of the whole job where all shards are."""
        report = Report.from_dict(json.loads(self._range.report or "{}"))
        return self._conclude_job(report) or report

    @property
    def closes(self) -> bool:
        """Whether this is the end of the job, and not one of its shards."""
        return self.number == self.total

    def left(self, seconds: float | None) -> float | None:
        """Return the seconds left of a limit that counts from the beginning of the whole job; ``None`` for no limit."""
        return None if seconds is None else max(0.0, self.began + seconds - self._journal.database.time())

    def check(self) -> None:
        """Make sure, right before a write, that the lease of the shard is still valid.

        Raises:
            StoppedError: it is lost.
        """
        for lease in self._leases:
            lease.check()

    def rows(self, rows: Sequence[FileColumn]) -> tuple[FileColumn, ...]:
        """Return the rows of each column that belong to the shard."""
        if self.closes:
            return tuple(rows)
        bounds = json.loads(self._range.bounds)
        found = []
        for each in rows:
            if (edges := bounds.get(str(each.column))) is not None:
                after, until = (None if edge is None else load_key(edge) for edge in edges)
                found.append(each.between_keys(after, until))
        return tuple(found)

    def has(self, key: str) -> bool:
        """Whether an object's key belongs to the shard, by the digest of the key: all processes compute the same."""
        name = key.encode("utf-8", "surrogateescape")
        place = int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big")
        return place * self.total >> 64 == self.number

    # -- the control channel

    def control(self, run: str) -> Mapping[str, Any]:
        """Return what is requested of the run, its limits divided by the shards at work."""
        requested, limits = self._journal.runs.control(run), self._work.limits
        self._stopped = bool(requested.get("stop"))
        at_work = sorted({*self._journal.shards.leased(run), self.number})
        whole = int(requested.get("concurrency", limits.concurrency))
        more = at_work.index(self.number) < whole % len(at_work)
        rates = {
            "bandwidth": requested.get("bandwidth", current_rate(limits.bandwidth)),
            "requests_per_second": limits.max_requests_per_second,
        }
        return {
            **requested,
            "concurrency": max(1, whole // len(at_work) + more),
            **{name: rate and rate / len(at_work) for name, rate in rates.items()},
        }

    def update(self, run: str, *, progress: str) -> None:
        """Write the progress of this shard, and of all of them."""
        if any(lease.lost for lease in self._leases):
            return
        own = json.loads(progress)
        self._progress = {**own, "bytes": own["bytes"] + self.bytes_before}
        self._journal.shards.update(run, self.number, progress=json.dumps(self._progress))
        ranges = self._journal.shards.progress_of(run)
        at_work = sorted(self._journal.shards.leased(run) & ranges.keys())
        by_number = {number: json.loads(each) for number, each in ranges.items() if each}
        self.bytes_elsewhere = sum(each["bytes"] for number, each in by_number.items() if number != self.number)
        if at_work and at_work[0] == self.number:
            self._journal.runs.update(run, progress=json.dumps(_sum_progress(by_number, at_work)))

    def finish(self, report: Report) -> Report:
        """Write how the shard ended.

        Returns:
            The report of the whole job where that is over, else of the shard.
        """
        if any(lease.lost for lease in self._leases):
            return report
        self.check()
        report = replace(report, bytes_copied=report.bytes_copied + self.bytes_before)
        state = "done" if report.state == "completed" else "open"
        progress = {
            **(self._progress or PROGRESS_AT_START), "bytes": report.bytes_copied,
            "objects": report.objects, "problems": report.problem_count, "rows_repointed": report.rows_repointed,
        }  # fmt: skip
        text = json.dumps(report.to_dict())
        self._journal.shards.update(self.run, self.number, state=state, report=text, progress=json.dumps(progress))
        return self._conclude_job(report) or self._note_shard(report)

    def _conclude_job(self, report: Report) -> Report | None:
        """Write how the whole job ended, where it did; return its report where all shards are done."""
        shards = self._journal.shards.of_run(self.run)
        over = all(shard.done for shard in shards)
        if not over and report.state != "limit_reached" and not (report.state == "interrupted" and self._stopped):
            return None
        if over and (run := self._journal.runs.find(self.run)).state != "running" and run.report is not None:
            # Another process ended the job while this one slept between its two writes: that report is the whole one.
            return Report.from_dict(json.loads(run.report))
        whole = merge_reports(self._journal, shards, report, closes=self.closes, ends=self._work.ends, began=self.began)
        text = json.dumps(whole.to_dict())
        self._journal.runs.update(self.run, state=whole.state, report=text, finished=whole.finished)
        if not over:
            return None
        self._journal.leases.release(self.run, name=self._work.lease)
        return whole

    def _note_shard(self, report: Report) -> Report:
        """Return a shard's report, with a note that it is one."""
        left = sum(not each for each in self._journal.shards.states(self.run).values())
        message = f"this is range {self} of run {self.run}; {left} are not done yet, its end included"
        note = Note(severity=Severity.INFO, code="shard", subject=str(self), message=message)
        return replace(report, notes=(*report.notes, note), next_command="migrate-storage status")


PROGRESS_AT_START = {
    "paused": "", "concurrency": 0, "most_concurrency": 0, "bandwidth": None, "requests_per_second": None,
}  # fmt: skip
"""Progress of a shard that ended before its control loop ran."""
SUMMED_COUNTS = ("objects", "problems", "bytes", "rows_repointed")


def _sum_progress(progress: Mapping[int, Mapping[str, Any]], at_work: Sequence[int]) -> dict[str, Any]:
    """Sum the progress of all shards: the counts of all, the pace of those at work."""
    now = [progress[number] for number in at_work if number in progress]
    rates = {
        name: sum(each[name] for each in now) if now and all(each[name] for each in now) else None
        for name in ("bandwidth", "requests_per_second")
    }
    return {
        "paused": next((each["paused"] for each in now if each["paused"]), ""),
        "concurrency": sum(each["concurrency"] for each in now),
        "most_concurrency": sum(each["most_concurrency"] for each in now),
        **rates,
        **{name: sum(each.get(name, 0) for each in progress.values()) for name in SUMMED_COUNTS},
        "shards": len(at_work),
    }
