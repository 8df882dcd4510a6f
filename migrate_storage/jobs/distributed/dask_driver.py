"""One job on a Dask cluster: each shard is a task, and the journal records which are left to do.

A task has the command as it would be typed, the run, and the number of the shard. It has nothing that opens a database or a
store: the worker finds that in its own environment or file. The driver gives each worker as many shards as it has threads.
It gives a shard to another worker where the first is gone, is silent, or ended the task without finishing the shard.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from migrate_storage.core.errors import ConfigurationError, RunError, StoppedError
from migrate_storage.core.events import Listener, RunFinished, RunStarted, ShardsProgressed
from migrate_storage.core.model import Strategy
from migrate_storage.journal import Journal, RunRecord
from migrate_storage.journal.lease_holder import hold_lease
from migrate_storage.reporting import Report

if TYPE_CHECKING:
    from distributed import Client
from migrate_storage.jobs.distributed.dask_cluster import WorkerHealth, workers_of
from migrate_storage.jobs.distributed.dask_task import Task, TaskResult

__all__ = ("DaskDriver", "DriverTimes", "Shared")

POLL_SECONDS = 0.3
"""Seconds between two polls of the journal and the cluster."""
MAX_SHARD_FAILURES = 3
"""How often a shard may fail before the job fails."""
MAX_LOST_WORKERS = 10
"""How often a shard may lose its worker before the job fails. A cluster may remove a worker for its own reasons."""
SHARDS_PER_THREAD = 4
"""Shards for each thread of the cluster: a lost worker loses little, and no thread idles long at the end."""
MIN_SILENT_SECONDS = 5.0
"""Seconds without a heartbeat after which a worker gets no shard and loses those it has; at least the lease's."""


class Shared(Protocol):
    """A job that can be cut into shards: a migration, a verify, a sync."""

    def begin(self, ranges: int) -> tuple[str, str]:
        """Join the one that is under way or begin one; its id and the name of its lease."""

    def stop(self) -> None:
        """End soon."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DriverTimes:
    """How long a driver waits."""

    #: Seconds for which leases are good.
    lease: float
    #: Seconds that objects in flight get when the job is to stop.
    grace: float


class DaskDriver:
    """Gives the shards of a job to the workers of a cluster until all are done.

    Args:
        job: makes the run, and does none of it.
        arguments: the command of a task.
        work: what a worker runs for a task.
        cluster: reaches the workers.
        journal: opens the journal.
        times: how long leases and objects in flight last.
        listener: called with each event.
    """

    def __init__(
        self,
        job: Shared,
        arguments: Sequence[str],
        *,
        work: Callable[[Task], TaskResult],
        cluster: Callable[[], AbstractContextManager[Client]],
        journal: Callable[[], AbstractContextManager[tuple[Any, Journal]]],
        times: DriverTimes,
        listener: Listener,
    ) -> None:
        self._job, self._arguments, self._work, self._tell = job, tuple(arguments), work, listener
        self._cluster, self._opened, self._times = cluster, journal, times
        self._stopping, self._task_done = threading.Event(), threading.Event()
        self._fatal: RunError | None = None
        self._worked = False
        self._under_way: dict[int, tuple[Any, str]] = {}
        self._attempts: dict[int, int] = {}
        self._failures: dict[int, int] = {}
        self._losses: dict[int, int] = {}
        self._not_before: dict[int, float] = {}

    def stop(self) -> None:
        """End soon: the workers read that in the journal."""
        self._stopping.set()
        self._job.stop()

    def run(self) -> Report:
        """Do it.

        Returns:
            The report of the whole job.

        Raises:
            ConfigurationError: it cannot begin, here or on a worker.
        """
        with self._cluster() as client:
            threads = sum(int(told["nthreads"]) for told in workers_of(client).values())
            run, lease = self._job.begin(max(1, threads) * SHARDS_PER_THREAD)
            hold = partial(hold_lease, stopping=self._stopping, lost=self._on_lease_lost, name=lease, owner=run)
            with self._opened() as (_, journal), hold(journal, self._times.lease):
                line = journal.runs.find(run)
                # A run of this id that is found begun is taken up again.
                resumed = any(journal.shards.progress_of(run).values())
                self._tell(
                    RunStarted(
                        run=run, source=line.source, destination=line.destination, strategy=Strategy(line.way), dry_run=False,
                        reason=f"{threads} threads of a cluster", resumed=resumed, same_run=resumed, rows=None, job=line.kind,
                    )
                )  # fmt: skip
                return self._drive_to_end(client, journal, line)

    def _on_lease_lost(self, error: RunError) -> None:
        self._fatal = error
        self._stopping.set()

    def _drive_to_end(self, client: Client, journal: Journal, line: RunRecord) -> Report:
        state, error = "completed", ""
        try:
            self._drive(client, journal, line)
        except StoppedError:
            state = "interrupted"
        except ConfigurationError:
            journal.runs.request_control(line.id, stop=True)
            self._wait_for_tasks(client, journal, line)
            journal.runs.update(line.id, state="failed", finished=journal.database.time())
            raise
        except RunError as failure:
            state, error = "failed", str(failure)
        if state != "completed":
            journal.runs.request_control(line.id, stop=True)
        self._wait_for_tasks(client, journal, line)
        ended = journal.runs.find(line.id)
        if ended.report is not None:
            report = Report.from_dict(json.loads(ended.report))
            report = replace(report, state=report.state if state == "completed" else state, error=error)
        else:
            report = Report(
                kind=line.kind, run=line.id, strategy=Strategy(line.way), strategy_reason="", source=line.source,
                destination=line.destination, state=state, error=error, started=line.started, finished=journal.database.time(),
            )  # fmt: skip
        if state != "completed":
            journal.runs.update(line.id, state=state, report=json.dumps(report.to_dict()), finished=report.finished)
        self._tell(RunFinished(run=line.id, state=report.state))
        return report

    def _drive(self, client: Client, journal: Journal, line: RunRecord) -> None:
        """Give shards to workers until the journal records all as done, or the run ends otherwise."""
        fit = WorkerHealth(max(MIN_SILENT_SECONDS, self._times.lease))
        while True:
            self._report_progress(journal, line.id)
            if self._fatal is not None:
                raise self._fatal
            if self._stopping.is_set():
                raise StoppedError("stopped")
            for number, (future, _) in list(self._under_way.items()):
                if future.done():
                    del self._under_way[number]
                    self._collect(number, future)
            if journal.runs.state_of(line.id)[0] != "running":
                return  # all is done, a limit was reached, or the run was stopped
            able = fit.live_threads(workers_of(client))
            for number, (future, address) in list(self._under_way.items()):
                if address not in able:
                    # Gone, or silent. Its lease expires; should it wake up, it finds that before it writes.
                    del self._under_way[number]
                    future.cancel(force=True)
                    losses = self._losses[number] = self._losses.get(number, 0) + 1
                    if losses >= MAX_LOST_WORKERS:
                        raise RunError(
                            f"range {number} lost its worker {losses} times: see whether workers run out of memory, then run the same command again to resume"
                        )
            self._submit_shards(client, journal, line, able)
            # Until a task ends, or the next poll is due.
            self._task_done.wait(POLL_SECONDS)
            self._task_done.clear()

    def _submit_shards(self, client: Client, journal: Journal, line: RunRecord, able: Mapping[str, int]) -> None:
        """Submit the shards that are left to workers with a free thread."""
        states = journal.shards.states(line.id)
        total = max(states) if line.kind == "run" else len(states)
        left = [number for number, done in states.items() if not done and number < total]
        if not left:
            # The end of the job; or a done shard, so that its worker finds the whole job done and writes so.
            left = [max(states)]
        now = time.monotonic()
        waiting = [each for each in left if each not in self._under_way and self._not_before.get(each, 0.0) <= now]
        free = [
            address
            for address, threads in able.items()
            for _ in range(threads - sum(address == at for _, at in self._under_way.values()))
        ]
        for number, address in zip(waiting, free, strict=False):
            task = Task(arguments=self._arguments, run=line.id, number=number)
            attempt = self._attempts[number] = self._attempts.get(number, 0) + 1
            future = client.submit(
                self._work, task, key=task.key(line.kind, total, attempt), workers=[address], allow_other_workers=False,
                pure=False, retries=0,
            )  # fmt: skip
            self._under_way[number] = (future, address)
            future.add_done_callback(lambda _: self._task_done.set())  # type: ignore[no-untyped-call]

    def _collect(self, number: int, future: Any) -> None:
        """Take the result of a task; whether its shard is done, only the journal records."""
        ended = TaskResult(state="failed", error="its worker was lost")
        with contextlib.suppress(Exception):
            ended = future.result()
        self._worked = self._worked or ended.state == "completed"
        if ended.state == "refused":
            message = f"a worker cannot do it: {ended.error}"
            raise RunError(f"{message}, and others did") if self._worked else ConfigurationError(message)
        if ended.state == "held":
            self._not_before[number] = time.monotonic() + 1.0
        elif ended.state == "failed":
            failures = self._failures[number] = self._failures.get(number, 0) + 1
            self._not_before[number] = time.monotonic() + 1.0
            if failures >= MAX_SHARD_FAILURES:
                raise RunError(ended.error)

    def _wait_for_tasks(self, client: Client, journal: Journal, line: RunRecord) -> None:
        """Wait for the tasks that are still under way when the job is over or stopped."""
        until = time.monotonic() + self._times.grace + 5.0
        fit = WorkerHealth(max(MIN_SILENT_SECONDS, self._times.lease))
        while self._under_way and time.monotonic() < until:
            able = fit.live_threads(workers_of(client))
            tasks = self._under_way.items()
            self._under_way = {number: task for number, task in tasks if not task[0].done() and task[1] in able}
            self._report_progress(journal, line.id)
            time.sleep(POLL_SECONDS)

    def _report_progress(self, journal: Journal, run: str) -> None:
        """Report the sum of what all shards did."""
        told = [json.loads(each) for each in journal.shards.progress_of(run).values() if each]
        states = journal.shards.states(run)
        self._tell(
            ShardsProgressed(
                objects=sum(each["objects"] for each in told), problems=sum(each.get("problems", 0) for each in told),
                bytes=sum(each["bytes"] for each in told), rows=sum(each.get("rows_repointed", 0) for each in told),
                shards=len(states), done=sum(states.values()), under_way=len(self._under_way),
            )
        )  # fmt: skip
