"""One range of a job that several processes share, while it is held: what of the job is in it, and how it is told of."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from migrate_storage.core.model import Note, OutcomeKind, Severity
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.primary_keys import load_key
from migrate_storage.jobs.context import JobPace
from migrate_storage.journal import Journal, RunRecord, ShardRecord
from migrate_storage.journal.lease_holder import Lease
from migrate_storage.reporting import LISTED, Report

__all__ = ("ShardRun", "ShardedJob")


@dataclass(frozen=True, kw_only=True)
class ShardedJob:
    """A job that is to be shared."""

    #: Name of the job's lease.
    lease: str
    #: Seconds for which leases are good.
    seconds: float
    #: See :func:`plan_of`.
    plan: str
    #: The limits of the whole job, which its shards divide.
    limits: JobPace
    #: The line of a run that begins, by its id.
    line: Callable[[str], RunRecord]
    #: Cuts the job into so many ranges; what bounds each of them.
    cut: Callable[[int], Sequence[str]]
    #: Whether something is left to do when all ranges are done.
    ends: bool
    #: Called before a run begins, while nobody else is at work.
    before: Callable[[], None] = lambda: None


class ShardRun:
    """One range of a job, while it is held. For a :class:`migrate_storage.engine.control.ControlLoop` it is the desk."""

    def __init__(self, journal: Journal, work: ShardedJob, range_: ShardRecord, leases: Sequence[Lease]) -> None:
        self._journal, self._work, self._range, self._leases = journal, work, range_, leases
        self.run, self.number, self.total = range_.run, range_.number, range_.total
        #: Whether there was nothing left to do when it was taken.
        self.done = range_.done
        #: When the whole job began, in seconds since the epoch.
        _, self.began = journal.runs.state_of(range_.run)
        #: Whether somebody was at work in it before, and left copies that are to be looked at once more.
        self.again = range_.doing is not None
        #: Bytes that whoever had this range before moved.
        self.bytes_before = int(json.loads(range_.doing)["bytes"]) if range_.doing else 0
        #: Bytes that the other ranges moved.
        self.bytes_elsewhere = 0
        self._stopped = False
        self._told: dict[str, Any] = {}

    def __str__(self) -> str:
        return f"{self.number}/{self.total}" if self.number < self.total else "the end"

    def found(self) -> Report:
        """The report of a range that was done when it was taken, or of the whole job where all of it is."""
        report = Report.from_dict(json.loads(self._range.report or "{}"))
        return self._concluded(report) or report

    @property
    def closes(self) -> bool:
        """Whether it is the end of the job, and not one of its ranges."""
        return self.number == self.total

    def left(self, seconds: float | None) -> float | None:
        """What is left now of a limit that counts from the beginning of the whole job; ``None`` for no limit."""
        return None if seconds is None else max(0.0, self.began + seconds - time.time())

    def check(self) -> None:
        """Make sure, right before something is written, that the range still is ours.

        Raises:
            StoppedError: it is not.
        """
        for lease in self._leases:
            lease.check()

    def rows(self, rows: Sequence[FileColumn]) -> tuple[FileColumn, ...]:
        """What of each column belongs to it."""
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
        """Whether an object's key belongs to it, by the digest of the key: a rule on which all agree without a word."""
        name = key.encode("utf-8", "surrogateescape")
        place = int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big")
        return place * self.total >> 64 == self.number

    # -- a hand on it

    def control(self, run: str) -> Mapping[str, Any]:
        """What is asked of the run; of what limits it, the share of this range."""
        wishes, limits = self._journal.runs.control(run), self._work.limits
        self._stopped = bool(wishes.get("stop"))
        at_work = sorted({*self._journal.shards.leased(run), self.number})
        whole = int(wishes.get("concurrency", limits.concurrency))
        more = at_work.index(self.number) < whole % len(at_work)
        rates = {
            "bandwidth": wishes.get("bandwidth", limits.bandwidth),
            "requests_per_second": limits.max_requests_per_second,
        }
        return {
            **wishes,
            "concurrency": max(1, whole // len(at_work) + more),
            **{name: rate and rate / len(at_work) for name, rate in rates.items()},
        }

    def update(self, run: str, *, doing: str) -> None:
        """Say what is done in this range, and in all of them."""
        if any(lease.lost for lease in self._leases):
            return
        told = json.loads(doing)
        self._told = {**told, "bytes": told["bytes"] + self.bytes_before}
        self._journal.shards.update(run, self.number, doing=json.dumps(self._told))
        ranges = self._journal.shards.progress_of(run)
        at_work = sorted(self._journal.shards.leased(run) & ranges.keys())
        everywhere = {number: json.loads(each) for number, each in ranges.items() if each}
        self.bytes_elsewhere = sum(each["bytes"] for number, each in everywhere.items() if number != self.number)
        if at_work and at_work[0] == self.number:
            self._journal.runs.update(run, doing=json.dumps(_sum(everywhere, at_work)))

    def finish(self, report: Report) -> Report:
        """Write down how it ended.

        Returns:
            The report of the whole job where that is over, else what was given.
        """
        if any(lease.lost for lease in self._leases):
            return report
        self.check()
        report = replace(report, bytes_moved=report.bytes_moved + self.bytes_before)
        state = "done" if report.state == "finished" else "open"
        doing = {
            **(self._told or _NOTHING), "bytes": report.bytes_moved,
            "objects": report.objects, "listed": report.listed_total, "rows_moved": report.rows_moved,
        }  # fmt: skip
        self._journal.shards.update(
            self.run, self.number, state=state, report=json.dumps(report.to_dict()), doing=json.dumps(doing)
        )
        return self._concluded(report) or self._noted(report)

    def _concluded(self, report: Report) -> Report | None:
        """Write down how the whole job ended, where it did; its report where it was brought to its end."""
        ranges = self._journal.shards.of_run(self.run)
        over = all(each.done for each in ranges)
        if not over and report.state != "limited" and not (report.state == "stopped" and self._stopped):
            return None
        whole = self._whole(ranges, report)
        self._journal.runs.update(
            self.run, state=whole.state, report=json.dumps(whole.to_dict()), finished=whole.finished
        )
        if not over:
            return None
        self._journal.leases.release(self.run, name=self._work.lease)
        return whole

    def _noted(self, report: Report) -> Report:
        """A range's report, which says that it is one."""
        left = sum(not each for each in self._journal.shards.states(self.run).values())
        message = f"this is range {self} of run {self.run}; {left} are not done yet, its end included"
        note = Note(severity=Severity.INFO, code="shard", subject=str(self), message=message)
        return replace(report, notes=(*report.notes, note), next_command="migrate-storage status")

    def _whole(self, ranges: Sequence[ShardRecord], last: Report) -> Report:
        """The report of the job: the last one, with the sums of all."""
        reports = [Report.from_dict(json.loads(each.report)) for each in ranges if each.report]
        counts: dict[OutcomeKind, int] = {}
        evidence: dict[str, int] = {}
        for report in reports:
            for kind, count in report.counts.items():
                counts[kind] = counts.get(kind, 0) + count
            for name, count in report.evidence.items():
                evidence[name] = evidence.get(name, 0) + count
        if self._work.ends:
            counts = {OutcomeKind(kind): count for kind, count in self._journal.objects.count(self.run).items()}
            counts |= {OutcomeKind.KNOWN: known} if (known := last.counts.get(OutcomeKind.KNOWN)) else {}
            if known:
                counts[OutcomeKind.MISSING] = counts.get(OutcomeKind.MISSING, 0) - known
        listed = {str(each.source): each for report in reports for each in report.listed}
        if self._work.ends and listed:
            named = (each for batch in self._journal.objects.of_run(self.run) for each in batch if each.outcome)
            kinds = {str(each.source): str(each.outcome) for each in named if str(each.source) in listed}
            listed = {
                source: each for source, each in listed.items() if not OutcomeKind(kinds.get(source, each.kind)).done
            }
        return replace(
            last,
            started=self.began,
            finished=time.time(),
            passes=max(report.passes for report in reports),
            counts=counts,
            evidence=evidence,
            rows_moved=self._journal.rows.count_repointed(self.run) if self._work.ends else 0,
            bytes_moved=sum(report.bytes_moved for report in reports),
            rows_filtered=last.rows_filtered if self.closes else sum(report.rows_filtered for report in reports),
            listed=tuple(listed.values())[:LISTED],
        )


_NOTHING = {"paused": "", "concurrency": 0, "most_concurrency": 0, "bandwidth": None, "requests_per_second": None}
"""What is told of a range that ended before it was looked at."""
_SUMMED = ("objects", "listed", "bytes", "rows_moved")


def _sum(told: Mapping[int, Mapping[str, Any]], at_work: Sequence[int]) -> dict[str, Any]:
    """What is done in all ranges: counts of all of them, the pace of those in which somebody is at work."""
    now = [told[number] for number in at_work if number in told]
    rates = {
        name: sum(each[name] for each in now) if now and all(each[name] for each in now) else None
        for name in ("bandwidth", "requests_per_second")
    }
    return {
        "paused": next((each["paused"] for each in now if each["paused"]), ""),
        "concurrency": sum(each["concurrency"] for each in now),
        "most_concurrency": sum(each["most_concurrency"] for each in now),
        **rates,
        **{name: sum(each.get(name, 0) for each in told.values()) for name in _SUMMED},
        "ranges": len(at_work),
    }
