"""``run --workers auto`` against one process, where no server is the bound (case 17).

The files are in memory on both sides, so the CPU of the client is the bound; rows and journal are in PostgreSQL on the same
cores. ``auto`` counts the cores that were idle in the last minute. So each of its turns begins when the load of the machine is
low, as a job on a machine of its own does.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from bench import _contest
from bench._application import environment_for, name_of
from bench._contest import Contestant, Goal
from bench._dataset import create_rows, write_files
from migrate_storage.jobs.distributed.worker_count import count_idle_cores
from tests.support.engine import registrations as places
from tests.support.servers import start_postgres

GOALS = (Goal(case="17", metric="per second", against="one process", goal=1.6),)
_POLL_SECONDS = 5.0
_MAX_WAIT_SECONDS = 600.0


@dataclass
class Scenario:
    """A database with one row a file, and the folders of source and destination."""

    url: str
    folder: Path
    rows: int
    size: int
    engine: sa.Engine = field(init=False)

    def __post_init__(self) -> None:
        self.engine = sa.create_engine(self.url)
        self.source, self.destination = self.folder / "source", self.folder / "destination"

    def write_files(self) -> None:
        """Write the files of the source."""
        self.source.mkdir()
        write_files(self.folder, self.source, self.rows, self.size)

    def reset(self) -> None:
        """Restore the rows, drop the journal, and empty the destination."""
        shutil.rmtree(self.destination, ignore_errors=True)
        self.destination.mkdir()
        with self.engine.begin() as connection:
            for table in sa.inspect(connection).get_table_names():
                connection.execute(sa.text(f'DROP TABLE "{table}"'))
            create_rows(connection, self.rows, self.size)
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text("VACUUM ANALYZE documents"))

    def reset_and_wait(self) -> None:
        """Reset, then wait until all cores count as idle.

        Raises:
            RuntimeError: other processes keep them busy.
        """
        self.reset()
        deadline = time.monotonic() + _MAX_WAIT_SECONDS
        while count_idle_cores() < (os.cpu_count() or 1):
            if time.monotonic() > deadline:
                raise RuntimeError(f"the load of the machine was not low within {_MAX_WAIT_SECONDS:.0f} seconds")
            time.sleep(_POLL_SECONDS)

    def count_arrived(self) -> tuple[int, Mapping[str, Any]]:
        """Count the copies with the right size and the re-pointed rows.

        Raises:
            RuntimeError: one is missing.
        """
        arrived = sum(
            (self.destination / name_of(number)).stat().st_size == self.size for number in range(1, self.rows + 1)
        )
        with self.engine.connect() as connection:
            moved = connection.execute(
                sa.text("SELECT count(*) FROM documents WHERE file->>'backend' = 'new'")
            ).scalar_one()
            ranges = connection.execute(sa.text("SELECT count(*) FROM migrate_storage_shard")).scalar_one()
        if (arrived, moved) != (self.rows, self.rows):
            raise RuntimeError(f"of {self.rows} files {arrived} arrived, and {moved} rows were re-pointed")
        return arrived, {"ranges of several processes": ranges}

    def count_several(self) -> tuple[int, Mapping[str, Any]]:
        """Count as :meth:`count_arrived` does.

        Raises:
            RuntimeError: one process did it all.
        """
        done, checked = self.count_arrived()
        if not checked["ranges of several processes"]:
            raise RuntimeError(
                "--workers auto chose one process: each needs 10,000 rows, and more than one core must be idle"
            )
        return done, checked

    def contestant(self, name: str, workers: str) -> Contestant:
        """Return a run with that option."""
        backends = places.old_local(self.source), places.new_local(self.destination)
        command = (
            sys.executable, "-m", "migrate_storage", "run", "--app", "bench._application:engine", "--from", "old", "--to", "new",
            "--workers", workers,
        )  # fmt: skip
        auto = workers == "auto"
        return Contestant(
            name=name, verifies="both ends of each object, each row by compare-and-swap, each source again at the end",
            start=lambda: (command, environment_for(self.url, *backends)),
            prepare=self.reset_and_wait if auto else self.reset,
            count=self.count_several if auto else self.count_arrived,
        )  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Measure, show, and write ``docs/benchmarks``; 1 when a goal was missed."""
    options = _contest.parse_options("workers", __doc__, arguments, rows=30_000, size=32_768)
    load = os.getloadavg()[0]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        folder.chmod(0o755)  # PostgreSQL runs as a user of its own
        memory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm", ignore_cleanup_errors=True)))
        url = stack.enter_context(stack.enter_context(start_postgres(folder / "postgres")).database())
        scenario = Scenario(url, memory, options.rows, options.size)
        scenario.write_files()
        contestants: Sequence[Contestant] = (
            scenario.contestant("migrate-storage", "auto"),
            scenario.contestant("one process", "1"),
        )
        title = f"{options.rows:,} files of {options.size:,} bytes from disk to disk, --workers auto on {os.cpu_count()} cores"
        cases = {"17": (title, contestants, _contest.run_contest("17", contestants, options.rounds))}
        scenario.engine.dispose()
    setting = {
        **_contest.describe_machine(load), "rows": options.rows, "size": options.size, "rounds": options.rounds,
        "files": "files in memory; PostgreSQL 15 on loopback, on the same cores as the client",
    }  # fmt: skip
    return _contest.publish("workers", setting, cases, GOALS, write=not options.no_write)


if __name__ == "__main__":
    raise SystemExit(main())
