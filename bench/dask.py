"""More workers: what the client's CPU bounds, done by one worker of a Dask cluster and by two (case 11).

Every row's file is opened through two keys of one folder, and both are read and hashed (``verify --with``): the files are in
memory, the database is asked for a window of rows now and then, so what bounds it is the worker's CPU. Each worker is pinned to
one core, its threads with it. The cluster runs when the clock starts; the driver's start counts for both.
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
from bench._application import Base, name_of, told, value_of
from bench._contest import Contestant, Ended, Goal
from tests.support.engine import registrations as places
from tests.support.servers import start_postgres

GOALS = (Goal(case="11", metric="per second", against="one worker", goal=1.6),)
CONTENTS = 16
"""Files that there really are; all others are links to them, so that all of it stays in memory."""


def pin(core: int) -> int:
    """Bind this process to one core, with every thread that it has; threads to come are born there. Returns its id."""
    for thread in Path("/proc/self/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})
    # The start of an application is no part of the contest.
    for module in ("bench._application", "migrate_storage.jobs.verify.job", "migrate_storage.cli"):
        importlib.import_module(module)
    return os.getpid()


@dataclass
class Ground:
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
        for number in range(CONTENTS):
            (self.folder / f"content-{number}").write_bytes(os.urandom(self.size))
        for number in range(1, self.rows + 1):
            path = self.folder / name_of(number)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.hardlink_to(self.folder / f"content-{number % CONTENTS}")
        insert = sa.text("INSERT INTO documents (id, title, file) VALUES (:id, 't', CAST(:v AS JSONB))")
        with self.engine.begin() as connection:
            Base.metadata.create_all(connection)
            connection.execute(insert, [{"id": n, "v": value_of(n, self.size)} for n in range(1, self.rows + 1)])

    @property
    def environment(self) -> dict[str, str]:
        """Where workers and driver find the application."""
        return told(self.url, places.old_local(self.folder), places.new_local(self.folder))

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
        done = report["evidence"].get("both read", 0)
        if done != self.rows or report["listed_total"] or report["state"] != "finished":
            raise RuntimeError(f"of {self.rows} files {done} were read and found equal")
        return done, {"CPU of the workers": round(cpu, 2)}

    def contestant(self, name: str, workers: int) -> Contestant:
        """A cluster of so many workers."""
        command = ("-m", "migrate_storage", "verify", "--app", "bench._application:engine", "--with", "new", "--quiet")
        return Contestant(
            name=name,
            verifies="each file read through both keys, SHA-256 of both",
            start=lambda: ((sys.executable, *command, "--dask", self.address), self.environment),
            prepare=lambda: self.serve(workers),
            count=self.counted,
        )


def main(arguments: list[str] | None = None) -> int:
    """Run the contest; returns the exit code."""
    options = _contest.options("dask", __doc__ or "", arguments, rows=12_000, size=1 << 20)
    load = os.getloadavg()[0]
    cases: dict[str, tuple[str, Sequence[Contestant], Mapping[str, Sequence[Ended]]]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="migrate-storage-bench-")))
        folder.chmod(0o755)  # PostgreSQL runs as a user of its own
        server = stack.enter_context(start_postgres(folder / "postgres"))
        url = stack.enter_context(server.database())
        ground = Ground(url, folder / "files", options.rows, options.size)
        ground.folder.mkdir()
        ground.make()
        stack.callback(lambda: ground.cluster.close())
        contestants = [ground.contestant("migrate-storage", 2), ground.contestant("one worker", 1)]
        title = f"{options.rows:,} files of {options.size:,} bytes, read through two keys: two workers of a Dask cluster, each on one core"
        cases["11"] = (title, contestants, _contest.contest("11", contestants, options.rounds))
    setting = {**_contest.machine(load), "rows": options.rows, "bytes": options.size, "files": "hard links, in memory"}
    return _contest.publish("dask", setting, cases, GOALS, write=not options.no_write)
