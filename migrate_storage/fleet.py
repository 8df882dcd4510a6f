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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import click

from migrate_storage.errors import ConfigurationError, LeaseHeldError, RunError, StoppedError
from migrate_storage.events import Listener, RangesAdvanced, RunFinished, RunStarted
from migrate_storage.journal import Journal, Run
from migrate_storage.lease import hold
from migrate_storage.model import Way
from migrate_storage.report import Report
from migrate_storage.shards import Part
from migrate_storage.text import masked, one_line

if TYPE_CHECKING:
    from distributed import Client

__all__ = ("Ended", "Errand", "Fleet", "Shared", "Task", "connected_to", "errand", "local", "work")

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


# -- on a worker


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
class Ended:
    """What comes back: the state of the range, or ``refused`` (it cannot be done like that) or ``held`` (by another)."""

    state: str
    error: str = ""


@dataclass(kw_only=True)
class Errand:
    """The one range that the command which runs now is to do, without a word."""

    part: Part
    report: Report | None = None


errand: ContextVar[Errand | None] = ContextVar("errand", default=None)
"""Set while a worker runs a command for a task."""


def work(task: Task) -> Ended:
    """Do one range, on a worker: its command runs here as it would anywhere, for this range alone."""
    from migrate_storage.cli import cli

    mine = Errand(part=Part(number=task.number, run=task.run))
    before = errand.set(mine)
    try:
        cli.main(args=list(task.arguments), prog_name="migrate-storage", standalone_mode=False)
    except LeaseHeldError as error:
        return Ended(state="held", error=masked(str(error)))
    except (ConfigurationError, click.ClickException) as error:
        return Ended(state="refused", error=masked(str(error) or one_line(error)))
    except StoppedError:
        return Ended(state="stopped")
    except Exception as error:  # noqa: BLE001 - an exception would travel with its traceback, and who knows what is in it
        return Ended(state="failed", error=masked(one_line(error)))
    finally:
        errand.reset(before)
    assert mine.report is not None
    return Ended(state=mine.report.state, error=masked(mine.report.error))


# -- the driver


class Shared(Protocol):
    """A job that can be cut: a migration, a verify, a sync."""

    def begin(self, ranges: int) -> tuple[str, str]:
        """Join the one that is under way or begin one; its id and the name of its lease."""

    def stop(self) -> None:
        """End soon."""


@contextmanager
def connected_to(address: str) -> Iterator[Client]:
    """A cluster that runs already.

    Raises:
        ConfigurationError: Dask is not installed, or nobody answers there.
    """
    distributed = _dask()
    try:
        client = distributed.Client(address, timeout=10, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise ConfigurationError(f"--dask {masked(address)}: no scheduler answers: {one_line(error)}") from error
    with client:
        yield client


@contextmanager
def local(workers: int) -> Iterator[Client]:
    """A cluster of processes on this machine, for as long as the block runs. Nobody else on it can speak to them: they use
    TLS, with a key of their own.

    Raises:
        ConfigurationError: Dask is not installed.
    """
    import logging

    distributed = _dask()
    with (
        distributed.LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address="127.0.0.1:0",
            worker_dashboard_address="127.0.0.1:0",
            memory_limit=0, silence_logs=logging.CRITICAL, security=True,
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):  # fmt: skip
        yield client


def _dask() -> Any:
    try:
        import cryptography  # noqa: F401 - what the keys of a local cluster are made with
        import distributed
    except ImportError as error:
        raise ConfigurationError("Dask is not installed: pip install 'migrate-storage[dask]'") from error
    return distributed


@dataclass
class _Fit:
    """Which workers answer: by changes of what the scheduler knows, so that no clocks are compared."""

    silent: float
    _seen: dict[str, tuple[float, float]] = field(default_factory=dict)

    def __call__(self, workers: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
        """The threads of those that gave a sign of life lately, by address."""
        now = time.monotonic()
        self._seen = {
            address: before if (before := self._seen.get(address)) and before[0] == told["last_seen"] else (told["last_seen"], now)
            for address, told in workers.items()
        }  # fmt: skip
        return {
            address: int(told["nthreads"])
            for address, told in workers.items()
            if now - self._seen[address][1] < self.silent
        }


class Fleet:
    """Sees to it that all ranges of a job are done.

    Args:
        job: makes the run, and does none of it.
        arguments: the command of a task.
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
        cluster: Callable[[], AbstractContextManager[Client]],
        journal: Callable[[], AbstractContextManager[tuple[Any, Journal]]],
        lease: float,
        grace: float,
        listener: Listener,
    ) -> None:
        self._job, self._arguments, self._tell = job, tuple(arguments), listener
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
            threads = sum(int(told["nthreads"]) for told in _workers(client).values())
            run, lease = self._job.begin(max(1, threads) * _RANGES)
            with (
                self._opened() as (_, journal),
                hold(journal, self._lease, stopping=self._stopping, lost=self._lost, name=lease, owner=run),
            ):
                line = journal.run(run)
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

    def _driven(self, client: Client, journal: Journal, line: Run) -> Report:
        state, error = "finished", ""
        try:
            self._drive(client, journal, line)
        except StoppedError:
            state = "stopped"
        except ConfigurationError:
            journal.want(line.id, stop=True)
            self._landed(client, journal, line)
            journal.progress(line.id, state="failed", finished=time.time())
            raise
        except RunError as failure:
            state, error = "failed", str(failure)
        if state != "finished":
            journal.want(line.id, stop=True)
        self._landed(client, journal, line)
        ended = journal.run(line.id)
        if ended.report is not None:
            report = Report.from_dict(json.loads(ended.report))
            report = replace(report, state=report.state if state == "finished" else state, error=error)
        else:
            report = Report(
                kind=line.kind, run=line.id, way=Way(line.way), way_reason="", source=line.source,
                destination=line.destination, state=state, error=error, started=line.started, finished=time.time(),
            )  # fmt: skip
        if state != "finished":
            journal.progress(line.id, state=state, report=json.dumps(report.to_dict()), finished=report.finished)
        self._tell(RunFinished(run=line.id, state=report.state))
        return report

    def _drive(self, client: Client, journal: Journal, line: Run) -> None:
        """Give ranges to workers until the journal calls all of them done, or the run is at its end otherwise."""
        fit = _Fit(max(_SILENT, self._lease))
        while True:
            self._show(journal, line.id)
            if self._fatal is not None:
                raise self._fatal
            if self._stopping.is_set():
                raise StoppedError("stopped")
            for number, (future, _) in list(self._flying.items()):
                if future.done():
                    del self._flying[number]
                    self._landed_one(number, future)
            if journal.stands(line.id)[0] != "running":
                return  # all is done; or a limit was reached, or somebody stopped it
            able = fit(_workers(client))
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

    def _send(self, client: Client, journal: Journal, line: Run, able: Mapping[str, int]) -> None:
        """Give those that have a thread free what is left to do."""
        states = journal.states(line.id)
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
                work, task, key=task.key(line.kind, total, attempt), workers=[address], allow_other_workers=False,
                pure=False, retries=0,
            )  # fmt: skip
            self._flying[number] = (future, address)
            future.add_done_callback(lambda _: self._landing.set())  # type: ignore[no-untyped-call]

    def _landed_one(self, number: int, future: Any) -> None:
        """Take what a task brought back; whether its range is done, only the journal says."""
        ended = Ended(state="failed", error="its worker was lost")
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

    def _landed(self, client: Client, journal: Journal, line: Run) -> None:
        """Wait for what is under way yet where the job is over, or was told to stop."""
        until = time.monotonic() + self._grace + 5.0
        fit = _Fit(max(_SILENT, self._lease))
        while self._flying and time.monotonic() < until:
            able = fit(_workers(client))
            self._flying = {
                number: (future, address)
                for number, (future, address) in self._flying.items()
                if not future.done() and address in able
            }
            self._show(journal, line.id)
            time.sleep(_LOOK)

    def _show(self, journal: Journal, run: str) -> None:
        """Tell the sum of what all of them did."""
        told = [json.loads(each) for each in journal.doings(run).values() if each]
        states = journal.states(run)
        self._tell(
            RangesAdvanced(
                objects=sum(each["objects"] for each in told), listed=sum(each["listed"] for each in told),
                bytes=sum(each["bytes"] for each in told), rows=sum(each["rows_moved"] for each in told),
                ranges=len(states), done=sum(states.values()), under_way=len(self._flying),
            )
        )  # fmt: skip


def _workers(client: Client) -> Mapping[str, Mapping[str, Any]]:
    found: Mapping[str, Mapping[str, Any]] = client.scheduler_info(n_workers=-1)["workers"]
    return found
