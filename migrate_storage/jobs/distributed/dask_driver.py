"""One job on a Dask cluster: each range is a task, and the journal says which of them are left to do.

A task says what to do as a person would type it, the run and the number of the range; what opens a database or a store stays
out of it, and the worker finds that in its own environment or file. The driver gives each worker as many ranges as it has
threads, and gives a range to another one where its worker is gone, silent, or came back without having done it.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from migrate_storage.core.errors import ConfigurationError, RunError, StoppedError
from migrate_storage.core.events import Listener, RangesAdvanced, RunFinished, RunStarted
from migrate_storage.core.model import Way
from migrate_storage.journal import Journal, RunRecord
from migrate_storage.journal.lease_holder import hold_lease
from migrate_storage.reporting import Report

if TYPE_CHECKING:
    from distributed import Client
from migrate_storage.jobs.distributed.dask_cluster import WorkerHealth, workers_of
from migrate_storage.jobs.distributed.dask_task import Task, TaskResult

__all__ = (
    "DaskDriver",
    "Shared",
)


_LOOK = 0.3
"""Seconds between two looks at the journal and the cluster."""


_TRIES = 3
"""How often a range may fail before the job does."""


_LOSSES = 10
"""How often a range may lose its worker before the job fails: a worker may be taken away for reasons of its own."""


_RANGES = 4
"""Ranges for each thread of the cluster: a lost worker loses little, and none waits long for the last one."""


_SILENT = 5.0
"""Seconds without a heartbeat, or the lease's if those are more, after which a worker gets no range any more, and those
it has go to others."""


class Shared(Protocol):
    """A job that can be cut: a migration, a verify, a sync."""

    def begin(self, ranges: int) -> tuple[str, str]:
        """Join the one that is under way or begin one; its id and the name of its lease."""

    def stop(self) -> None:
        """End soon."""


class DaskDriver:
    """Sees to it that all ranges of a job are done.

    Args:
        job: makes the run, and does none of it.
        arguments: the command of a task.
        work: what a worker runs for a task.
        cluster: reaches the workers.
        journal: opens the journal.
        lease: seconds for which leases are good.
        grace: seconds that objects in flight get when it is to stop.
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
        lease: float,
        grace: float,
        listener: Listener,
    ) -> None:
        self._job, self._arguments, self._tell = job, tuple(arguments), listener
        self._work = work
        self._cluster, self._opened, self._lease, self._grace = cluster, journal, lease, grace
        self._stopping, self._landing = threading.Event(), threading.Event()
        self._fatal: RunError | None = None
        self._worked = False
        self._flying: dict[int, tuple[Any, str]] = {}
        self._tries: dict[int, int] = {}
        self._failures: dict[int, int] = {}
        self._losses: dict[int, int] = {}
        self._resting: dict[int, float] = {}

    def stop(self) -> None:
        """End soon: the workers are told through the journal."""
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
            run, lease = self._job.begin(max(1, threads) * _RANGES)
            with (
                self._opened() as (_, journal),
                hold_lease(journal, self._lease, stopping=self._stopping, lost=self._lost, name=lease, owner=run),
            ):
                line = journal.runs.find(run)
                self._tell(
                    RunStarted(
                        run=run, source=line.source, destination=line.destination, way=Way(line.way), dry_run=False,
                        reason=f"{threads} threads of a cluster", resumed=False, rows=None, kind=line.kind,
                    )
                )  # fmt: skip
                return self._driven(client, journal, line)

    def _lost(self, error: RunError) -> None:
        self._fatal = error
        self._stopping.set()

    def _driven(self, client: Client, journal: Journal, line: RunRecord) -> Report:
        state, error = "finished", ""
        try:
            self._drive(client, journal, line)
        except StoppedError:
            state = "stopped"
        except ConfigurationError:
            journal.runs.request_control(line.id, stop=True)
            self._wait_for_tasks(client, journal, line)
            journal.runs.update(line.id, state="failed", finished=time.time())
            raise
        except RunError as failure:
            state, error = "failed", str(failure)
        if state != "finished":
            journal.runs.request_control(line.id, stop=True)
        self._wait_for_tasks(client, journal, line)
        ended = journal.runs.find(line.id)
        if ended.report is not None:
            report = Report.from_dict(json.loads(ended.report))
            report = replace(report, state=report.state if state == "finished" else state, error=error)
        else:
            report = Report(
                kind=line.kind, run=line.id, way=Way(line.way), way_reason="", source=line.source,
                destination=line.destination, state=state, error=error, started=line.started, finished=time.time(),
            )  # fmt: skip
        if state != "finished":
            journal.runs.update(line.id, state=state, report=json.dumps(report.to_dict()), finished=report.finished)
        self._tell(RunFinished(run=line.id, state=report.state))
        return report

    def _drive(self, client: Client, journal: Journal, line: RunRecord) -> None:
        """Give ranges to workers until the journal calls all of them done, or the run is at its end otherwise."""
        fit = WorkerHealth(max(_SILENT, self._lease))
        while True:
            self._show(journal, line.id)
            if self._fatal is not None:
                raise self._fatal
            if self._stopping.is_set():
                raise StoppedError("stopped")
            for number, (future, _) in list(self._flying.items()):
                if future.done():
                    del self._flying[number]
                    self._collect(number, future)
            if journal.runs.state_of(line.id)[0] != "running":
                return  # all is done; or a limit was reached, or somebody stopped it
            able = fit.live_threads(workers_of(client))
            for number, (future, address) in list(self._flying.items()):
                if address not in able:
                    # Gone, or silent. Its lease runs out, and if it wakes up it finds that.
                    del self._flying[number]
                    future.cancel(force=True)
                    losses = self._losses[number] = self._losses.get(number, 0) + 1
                    if losses >= _LOSSES:
                        raise RunError(
                            f"range {number} lost its worker {losses} times: see whether workers run out of memory, then run the same command again to go on"
                        )
            self._send(client, journal, line, able)
            # Until a task comes back, or it is time for another look.
            self._landing.wait(_LOOK)
            self._landing.clear()

    def _send(self, client: Client, journal: Journal, line: RunRecord, able: Mapping[str, int]) -> None:
        """Give those that have a thread free what is left to do."""
        states = journal.shards.states(line.id)
        total = max(states) if line.kind == "run" else len(states)
        left = [number for number, done in states.items() if not done and number < total]
        if not left:
            # The end; or one that is done, so that its worker finds the whole job done and says so.
            left = [max(states)]
        now = time.monotonic()
        waiting = [each for each in left if each not in self._flying and self._resting.get(each, 0.0) <= now]
        free = [
            address
            for address, threads in able.items()
            for _ in range(threads - sum(address == at for _, at in self._flying.values()))
        ]
        for number, address in zip(waiting, free, strict=False):
            task = Task(arguments=self._arguments, run=line.id, number=number)
            attempt = self._tries[number] = self._tries.get(number, 0) + 1
            future = client.submit(
                self._work, task, key=task.key(line.kind, total, attempt), workers=[address], allow_other_workers=False,
                pure=False, retries=0,
            )  # fmt: skip
            self._flying[number] = (future, address)
            future.add_done_callback(lambda _: self._landing.set())  # type: ignore[no-untyped-call]

    def _collect(self, number: int, future: Any) -> None:
        """Take what a task brought back; whether its range is done, only the journal says."""
        ended = TaskResult(state="failed", error="its worker was lost")
        with contextlib.suppress(Exception):
            ended = future.result()
        self._worked = self._worked or ended.state == "finished"
        if ended.state == "refused":
            message = f"a worker cannot do it: {ended.error}"
            raise RunError(f"{message}, and others did") if self._worked else ConfigurationError(message)
        if ended.state == "held":
            self._resting[number] = time.monotonic() + 1.0
        elif ended.state == "failed":
            failures = self._failures[number] = self._failures.get(number, 0) + 1
            self._resting[number] = time.monotonic() + 1.0
            if failures >= _TRIES:
                raise RunError(ended.error)

    def _wait_for_tasks(self, client: Client, journal: Journal, line: RunRecord) -> None:
        """Wait for what is under way yet where the job is over, or was told to stop."""
        until = time.monotonic() + self._grace + 5.0
        fit = WorkerHealth(max(_SILENT, self._lease))
        while self._flying and time.monotonic() < until:
            able = fit.live_threads(workers_of(client))
            self._flying = {
                number: (future, address)
                for number, (future, address) in self._flying.items()
                if not future.done() and address in able
            }
            self._show(journal, line.id)
            time.sleep(_LOOK)

    def _show(self, journal: Journal, run: str) -> None:
        """Tell the sum of what all of them did."""
        told = [json.loads(each) for each in journal.shards.progress_of(run).values() if each]
        states = journal.shards.states(run)
        self._tell(
            RangesAdvanced(
                objects=sum(each["objects"] for each in told), listed=sum(each["listed"] for each in told),
                bytes=sum(each["bytes"] for each in told), rows=sum(each["rows_moved"] for each in told),
                ranges=len(states), done=sum(states.values()), under_way=len(self._flying),
            )
        )  # fmt: skip
