"""A source that is written while it is synced, a network that fails, a process that is killed: it ends level all the same."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from migrate_storage.core.events import Event, SyncLag
from migrate_storage.core.model import OutcomeKind
from migrate_storage.engine.probe import SCRATCH
from migrate_storage.jobs.sync.job import SyncJob
from migrate_storage.jobs.sync.options import SyncOptions
from migrate_storage.stores.listing import Listing, ListingStream
from migrate_storage.stores.resolved_backend import ResolvedBackend
from tests.support.evidence import Evidence
from tests.support.fault_proxy import fault_proxy
from tests.support.servers import S3Server
from tests.support.sync.ends import objects_of, s3_backend
from tests.support.sync.fixtures import Run, end
from tests.support.sync.trees import files, write


class Writer(threading.Thread):
    """Writes, replaces and deletes files until it is stopped."""

    def __init__(self, folder: Path, seed: int) -> None:
        super().__init__(daemon=True)
        self._folder, self._chance = folder, random.Random(seed)
        self.over = threading.Event()
        self.writes = 0

    def run(self) -> None:
        while not self.over.wait(0.01):
            path = self._folder / f"d{self._chance.randrange(4)}" / str(self._chance.randrange(60))
            if self._chance.random() < 0.2:
                path.unlink(missing_ok=True)
            else:
                # As applications save: under another name first, and of one size, so that times must tell.
                draft = self._folder.parent / "draft"
                write(draft, self._chance.randbytes(100))
                path.parent.mkdir(parents=True, exist_ok=True)
                draft.replace(path)
            self.writes += 1


@pytest.mark.parametrize("to", ["folder", "s3"])
def test_under_a_live_writer_it_is_level_when_the_writer_stops(
    to: str, tmp_path: Path, seed: int, moto_s3: S3Server, evidence: Evidence
) -> None:
    source = tmp_path / "a"
    bucket = moto_s3.new_bucket()
    destination: Any = tmp_path / "b" if to == "folder" else s3_backend(moto_s3, bucket)
    writer, heard = Writer(source, seed), threading.Condition()
    lags: list[SyncLag] = []

    def listen(event: Event) -> None:
        if isinstance(event, SyncLag):
            with heard:
                lags.append(event)
                heard.notify_all()

    options = SyncOptions(
        watch=0.2,
        delete=True,
        max_delete="100%",
        min_age=0,
        journal=f"sqlite:///{tmp_path / 'journal.db'}",
        concurrency=8,
    )
    job = SyncJob(end(source), end(destination), options, listener=listen)
    source.mkdir()
    writer.start()
    reports: list[Any] = []
    thread = threading.Thread(target=lambda: reports.append(job.run()), daemon=True)
    thread.start()
    with heard:
        assert heard.wait_for(lambda: len(lags) >= 4, timeout=120)
        assert any(lag.objects for lag in lags)
        assert any(lag.seconds > 0 for lag in lags)
    writer.over.set()
    writer.join()
    with heard:
        stopped = len(lags)
        assert heard.wait_for(lambda: any(not lag.objects for lag in lags[stopped:]), timeout=120)
    job.stop()
    thread.join(60)
    assert (files(tmp_path / "b") if to == "folder" else objects_of(moto_s3, bucket)) == files(source)
    assert reports[0].exit_code == 130
    assert reports[0].problem_count == 0, reports[0].problems
    evidence.record("sync --watch is level when the writer stops", to=to, writes=writer.writes, passes=len(lags))


@pytest.mark.parametrize("count", [150, pytest.param(1500, marks=pytest.mark.soak)])
def test_behind_a_network_that_fails_one_request_in_twenty(
    count: int, tmp_path: Path, seed: int, sync: Run, rclone_s3: S3Server, evidence: Evidence
) -> None:
    chance, one, other = random.Random(seed), rclone_s3.new_bucket(), rclone_s3.new_bucket()
    contents = {f"d{number % 7}/{number}": chance.randbytes(chance.randrange(3000)) for number in range(count)}
    store = rclone_s3.store(one)
    for key, content in contents.items():
        store.put(key, content)
    rclone_s3.store(other).put("extra", b"1")
    rates = dict.fromkeys(
        ("reset", "lost_answer", "error", "late_error", "throttle", "truncate", "flip_answer"), 0.05 / 7
    )
    with fault_proxy(rclone_s3.service.port, seed=seed) as proxy:
        behind = rclone_s3.behind(proxy.endpoint)
        proxy.set(**rates)
        options = {"delete": True, "max_delete": "100%", "min_age": 0, "max_attempts": 8}
        for _ in range(4):
            # A listing flipped in its midst may show what is not there: nothing is lost for it, and the next pass knows.
            report = sync(s3_backend(behind, one), s3_backend(behind, other), **options)
            if report.exit_code == 0 and set(report.counts) == {OutcomeKind.UNCHANGED}:
                break
        faults = sum(proxy.counts.values())
    # Where the network fails, what a store was tried with may stay: it is known for what it is by its folder.
    arrived = {key: content for key, content in objects_of(rclone_s3, other).items() if not key.startswith(SCRATCH)}
    assert arrived == contents
    assert objects_of(rclone_s3, one) == contents
    assert report.exit_code == 0, (report.error, report.problems)
    assert faults > count / 100
    evidence.record("a sync behind a network that fails one request in twenty ends level", objects=count, faults=faults)


def test_a_listing_of_many_requests_ends_behind_a_network_that_fails_one_in_ten(seed: int, rclone_s3: S3Server) -> None:
    """Each empty object is asked for by a HEAD: a key that ends with a slash is listed without it."""
    bucket = rclone_s3.new_bucket()
    store, keys = rclone_s3.store(bucket), {f"d{number % 7}/{number}" for number in range(200)}
    for key in keys:
        store.put(key, b"")
    with fault_proxy(rclone_s3.service.port, seed=seed) as proxy:
        proxy.set(reset=0.05, error=0.05)
        listing = Listing.of_backend(ResolvedBackend(s3_backend(rclone_s3.behind(proxy.endpoint), bucket)))
        assert {key for key, _ in ListingStream(listing)} == keys
        assert sum(proxy.counts.values()) > 5


_CHILD = """
import sys
from migrate_storage.cli import cli
cli(["sync", *sys.argv[1:]])
"""


@pytest.mark.parametrize("kills", [1, pytest.param(10, marks=pytest.mark.soak)])
def test_killed_half_way_the_same_command_goes_on(
    kills: int, tmp_path: Path, seed: int, sync: Run, evidence: Evidence
) -> None:
    source, destination = tmp_path / "a", tmp_path / "b"
    chance = random.Random(seed)
    for number in range(400):
        write(source / f"d{number % 5}" / str(number), chance.randbytes(5000))
    arguments = [
        str(source),
        str(destination),
        "--journal",
        f"sqlite:///{tmp_path / 'journal.db'}",
        "--bandwidth",
        "300k",
    ]
    halves = []
    for kill in range(kills):
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD, *arguments, "--lease-ttl", "1", "--quiet"], env={**os.environ}
        )
        at = 400 * (kill + 1) // (kills + 2)
        deadline = time.monotonic() + 120
        while len(_finished(destination)) < at and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        child.send_signal(signal.SIGKILL)
        child.wait()
        halves.append(len(_finished(destination)))
        # Written whole or not at all: what stands under a key is what the source holds.
        assert all(content == (source / name).read_bytes() for name, content in _finished(destination).items())
    assert halves[-1] < 400
    report = sync(source, destination, lease_ttl=1.0)
    assert (report.exit_code, report.resumed) == (0, True)
    assert report.counts[OutcomeKind.COPIED] == 400 - halves[-1]
    assert _finished(destination) == files(source)
    evidence.record("a killed sync goes on where it was", kills=kills, level_at_the_kills=halves)


def _finished(folder: Path) -> dict[str, bytes]:
    """Without what obstore stages beside (a kill leaves that, and no listing shows it to a reader of obstore), and without
    what a store is tried with, which comes and goes."""
    found: dict[str, bytes] = {}
    for at, _, names in os.walk(folder):
        for path in (Path(at, name) for name in names):
            key = str(path.relative_to(folder))
            if "#" not in key and not key.startswith(SCRATCH):
                found[key] = path.read_bytes()
    return found
