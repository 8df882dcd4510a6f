"""Two Dask workers against one, where the client's CPU is the bound (case 11).

Every row's file is opened through two keys of one folder, and both are read and hashed (``verify --compare-with``). The files
are in memory, and the database is rarely queried, so the worker's CPU is the bound. Each worker is pinned to one core
with its threads. The cluster runs before the clock starts; the start of the driver counts for both.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa
from distributed import Client, LocalCluster

from bench import _contest
from bench._application import environment_for
from bench._contest import Contestant, Goal, TurnResult
from bench._dataset import create_rows, write_files
from tests.support.engine import registrations as places
from tests.support.servers import start_postgres

GOALS = (Goal(case="11", metric="per second", against="one worker", goal=1.6),)


def pin(core: int) -> int:
    """Bind this process and its threads to one core. Return its id."""
    for thread in Path("/proc/self/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})
    # Imports are not part of the contest.
    for module in ("bench._application", "migrate_storage.jobs.verify.job", "migrate_storage.cli"):
        importlib.import_module(module)
    return os.getpid()


@dataclass
class RowScenario:
    """A database with one row a file, and the folder of the files."""

    url: str
    folder: Path
    rows: int
    size: int
    cluster: ExitStack = field(default_factory=ExitStack)
    address: str = ""
    workers: list[psutil.Process] = field(default_factory=list)
    before: float = 0.0

    def make(self) -> None:
        """Rows and files."""
        self.engine = sa.create_engine(self.url)
        write_files(self.folder, self.folder, self.rows, self.size)
        with self.engine.begin() as connection:
            create_rows(connection, self.rows, self.size)

    @property
    def environment(self) -> dict[str, str]:
        """Where workers and driver find the application."""
        return environment_for(self.url, places.old_local(self.folder), places.new_local(self.folder))

    def serve(self, workers: int) -> None:
        """A fresh cluster."""
        self.cluster.close()
        environment = {**self.environment, "PYTHONPATH": str(_contest.ROOT)}
        cluster = self.cluster.enter_context(
            LocalCluster(
                n_workers=workers, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0", memory_limit=0,
                env=environment, silence_logs=50,
            )
        )  # fmt: skip
        client = self.cluster.enter_context(Client(cluster, set_as_default=False))
        self.address = cluster.scheduler_address
        addresses = sorted(client.scheduler_info(n_workers=-1)["workers"])
        pids = [client.run(pin, core, workers=[address])[address] for core, address in enumerate(addresses)]
        self.workers = [psutil.Process(pid) for pid in pids]
        self.before = self._cpu()

    def _cpu(self) -> float:
        return sum(sum(worker.cpu_times()[:2]) for worker in self.workers)

    def counted(self) -> tuple[int, Mapping[str, Any]]:
        """Files that were read through both keys and found equal.

        Raises:
            RuntimeError: not all of them.
        """
        cpu = self._cpu() - self.before
        with self.engine.connect() as connection:
            found = connection.execute(sa.text("SELECT report FROM migrate_storage_run ORDER BY started DESC LIMIT 1"))
            report = json.loads(found.scalar_one())
        done = report["verified_by"].get("content_compared", 0)
        if done != self.rows or report["problem_count"] or report["state"] != "completed":
            raise RuntimeError(f"of {self.rows} files {done} were read and found equal")
        return done, {"CPU of the workers": round(cpu, 2)}

    def contestant(self, name: str, workers: int) -> Contestant:
        """A cluster of so many workers."""
        command = (
            "-m",
            "migrate_storage",
            "verify",
            "--app",
            "bench._application:engine",
            "--compare-with",
            "new",
            "--quiet",
        )
        return Contestant(
            name=name,
            verifies="each file read through both keys, SHA-256 of both",
            start=lambda: ((sys.executable, *command, "--dask", self.address), self.environment),
            prepare=lambda: self.serve(workers),
            count=self.counted,
        )


def main(arguments: list[str] | None = None) -> int:
    """Run the contest; returns the exit code."""
    options = _contest.parse_options("dask", __doc__ or "", arguments, rows=12_000, size=1 << 20)
    load = os.getloadavg()[0]
    cases: dict[str, tuple[str, Sequence[Contestant], Mapping[str, Sequence[TurnResult]]]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="migrate-storage-bench-")))
        folder.chmod(0o755)  # PostgreSQL runs as a user of its own
        server = stack.enter_context(start_postgres(folder / "postgres"))
        url = stack.enter_context(server.database())
        scenario = RowScenario(url, folder / "files", options.rows, options.size)
        scenario.folder.mkdir()
        scenario.make()
        stack.callback(lambda: scenario.cluster.close())
        contestants = [scenario.contestant("migrate-storage", 2), scenario.contestant("one worker", 1)]
        title = f"{options.rows:,} files of {options.size:,} bytes, read through two keys: two workers of a Dask cluster, each on one core"
        cases["11"] = (title, contestants, _contest.run_contest("11", contestants, options.rounds))
    setting = {
        **_contest.describe_machine(load),
        "rows": options.rows,
        "bytes": options.size,
        "files": "hard links, in memory",
    }
    return _contest.publish("dask", setting, cases, GOALS, write=not options.no_write)
