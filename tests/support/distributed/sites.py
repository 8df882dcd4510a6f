"""A world that several processes share, and the command line in each of them."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from migrate_storage.database.connection import Database
from migrate_storage.journal import Journal, ShardRecord
from tests.support import ROOT
from tests.support.distributed.gate import ROWS_BEFORE_GATE
from tests.support.engine import registrations as places
from tests.support.engine.fixtures import worlds  # noqa: F401 - a fixture
from tests.support.engine.world import Album, Document, Note, Page, World
from tests.support.processes.forked import ForkedProcess
from tests.support.servers import DatabaseServer, S3Server

LEASE = 3


@dataclass
class Site:
    """Rows in PostgreSQL, objects in two buckets of a server, and the file by which processes find them."""

    url: str
    server: S3Server
    buckets: tuple[str, str]
    file: Path

    def __post_init__(self) -> None:
        old, new = (
            places.old_s3(self.server, self.buckets[0]),
            places.new_s3(self.server.by_another_name, self.buckets[1]),
        )
        self.gate = self.file.with_suffix(".gate")
        backends = [old.to_dict(), new.to_dict()]
        self.file.write_text(json.dumps({"url": self.url, "backends": backends, "gate": str(self.gate)}))
        self.world = World(self.url, old.build(), new.build(), seed=7)

    def close_gate(self) -> None:
        """Let each process that has re-pointed some rows wait before its next request to a store."""
        self.gate.touch()

    def open_gate(self) -> None:
        """Let all processes continue."""
        self.gate.unlink()

    def fill(self, count: int) -> None:
        """Add rows with keys of every kind; one object is named by many of them."""
        world, rng = self.world, random.Random(7)
        files = world.files_at_once([f"docs/{i % 7}/d{i}.bin" for i in range(count)])
        shared = world.file("notes/shared.wav")
        names = [f"{i:04}-ä" for i in range(count // 8)]
        world.add(
            *(Document(id=i * 3, title=f"t{i}", file=file) for i, file in enumerate(files)),
            *(
                Album(id=uuid.UUID(int=rng.getrandbits(128)), pictures=[world.file(f"albums/{i}/{j}") for j in range(i % 3)])
                for i in range(count // 8)
            ),
            *(Note(owner=f"o{i % 5}", number=i, voice=shared) for i in range(count // 4)),
            *(Page(slug=name, image=world.file(f"pages/{name}.png")) for name in names),
        )  # fmt: skip

    @property
    def rows(self) -> dict[str, list[Any]]:
        """The values of every file column, without the times that a store gave."""
        columns = (("documents", "file"), ("albums", "pictures"), ("notes", "voice"), ("pages", "image"))
        found = {table: self.world.raw(table, column) for table, column in columns}
        for value in found.values():
            for each in value:
                for file in each if isinstance(each, list) else [each]:
                    file.pop("last_modified", None)
        return found

    def objects(self, bucket: int = 1) -> dict[str, tuple[bytes, str]]:
        """Return every object of a bucket: its bytes and its content type."""
        store = self.server.client
        found = {}
        for page in store.get_paginator("list_objects_v2").paginate(Bucket=self.buckets[bucket]):
            for each in page.get("Contents", ()):
                got = store.get_object(Bucket=self.buckets[bucket], Key=each["Key"])
                found[each["Key"]] = (got["Body"].read(), got["ContentType"])
        return {key: value for key, value in found.items() if not key.startswith(".migrate-storage/")}

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MIGRATE_STORAGE_")}
        return {**kept, "WORLD_FILE": str(self.file), "PYTHONPATH": str(ROOT)}

    def start(self, command: str, *arguments: str, **environment: str) -> ForkedProcess:
        """Start a command."""
        line = ["-m", "migrate_storage", command, *arguments, "--app", "tests.support.distributed.app:application"]
        if command == "run":
            line += ["--from", "old", "--to", "new", "--settle-time", "0.1"]
        if command in ("run", "sync"):
            line += ["--lease-ttl", str(LEASE)]
        return ForkedProcess(line, {**self.environment, **environment}, ROOT)

    def do(self, command: str, *arguments: str, code: int = 0, **environment: str) -> tuple[str, str]:
        """Run a command to its end, and return its two outputs."""
        return ended(self.start(command, *arguments, **environment), code)

    @property
    def ranges(self) -> list[ShardRecord]:
        """The ranges of the latest run."""
        with closing(Database(self.url)) as database:
            journal = Journal(database)
            return journal.shards.of_run(journal.runs.latest()[0].id)

    def moved(self) -> int:
        """Count the rows that were re-pointed so far."""
        if not self.world.sql("SELECT 1 FROM pg_tables WHERE tablename = 'migrate_storage_row'"):
            return 0
        return int(self.world.sql("SELECT count(*) FROM migrate_storage_row WHERE state = 'repointed'")[0][0])

    def moved_at_rest(self) -> int:
        """Count the rows that were re-pointed, once the count is the same for a second."""
        found = [-1]

        def at_rest() -> bool:
            found.append(self.moved())
            if found[-2] == found[-1]:
                return True
            time.sleep(1)
            return False

        until(at_rest)
        return found[-1]

    def report(self) -> dict[str, Any]:
        """Return the report of the latest run."""
        found = self.world.sql(
            "SELECT report FROM migrate_storage_run WHERE kind <> 'census' ORDER BY started DESC LIMIT 1"
        )
        return dict(json.loads(found[0][0]))


def ended(process: ForkedProcess, *codes: int) -> tuple[str, str]:
    """Wait for a process to end with one of the exit codes, and return its two outputs."""
    try:
        said, errors = process.communicate(timeout=150)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        raise
    assert process.returncode in codes, f"{process.returncode}\n{said}\n{errors}"
    assert "Traceback" not in said + errors, said + errors
    return said, errors


def until(true: Callable[[], object], seconds: float = 120.0) -> None:
    """Wait until a condition is true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.05)


def start_halfway(site: Site, *commands: Sequence[str]) -> list[ForkedProcess]:
    """Start commands with the gate closed, and wait until some rows are re-pointed, and most are not.

    Few objects are under way at once, so that most have not begun when the gate is reached.
    """
    site.close_gate()
    few = {"run": ("--concurrency", "2"), "sync": ("--concurrency", "2")}
    processes = [site.start(*command, *few.get(command[0], ())) for command in commands]

    def some_moved() -> bool:
        for process in processes:
            if process.poll() is not None:
                ended(process)
        return site.moved() > ROWS_BEFORE_GATE

    until(some_moved)
    return processes


def suspend_between_transactions(site: Site, process: psutil.Process) -> None:
    """Suspend a process at a moment when no transaction is open: its locks would keep every other process waiting."""
    open_transactions = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL"
    )

    def suspended() -> bool:
        process.suspend()
        if site.world.sql(open_transactions)[0][0] == 0:
            return True
        process.resume()
        return False

    until(suspended)


Sites = Callable[[], Site]


@pytest.fixture
def sites(rclone_s3: S3Server, tmp_path: Path) -> Iterator[Sites]:
    """Return a function that makes a site with a database and buckets of its own."""
    from tests.support.server_fixtures import ensure_service

    made: list[Site] = []
    databases = []

    def make() -> Site:
        databases.append(DatabaseServer(service=ensure_service("postgres")).database())
        number = len(made)
        buckets = (rclone_s3.new_bucket(), rclone_s3.new_bucket())
        made.append(Site(databases[-1].__enter__(), rclone_s3, buckets, tmp_path / f"world-{number}.json"))
        return made[-1]

    yield make
    for site in made:
        site.world.close()
    for database in databases:
        database.__exit__(None, None, None)


@pytest.fixture
def site(sites: Sites) -> Site:
    return sites()
