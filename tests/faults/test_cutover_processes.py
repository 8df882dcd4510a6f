"""Real processes under a shared phase: stopped and woken, while one takes steps, and with a database that goes away."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from advanced_alchemy.types.file_object import FileObject

from migrate_storage import ObstoreBackend
from migrate_storage.core.errors import PhaseLostError, RunError
from migrate_storage.cutover.backend import CutoverBackend
from migrate_storage.cutover.decisions import Phase, are_adjacent
from migrate_storage.cutover.outbox import Outbox
from migrate_storage.cutover.phase.source import SharedPhase
from migrate_storage.database.connection import Database
from tests.support import ROOT
from tests.support.evidence import Evidence
from tests.support.processes.forked import ForkedProcess
from tests.support.servers import start_postgres

SOURCE, DUAL, FIRST, DESTINATION = Phase


@pytest.fixture(params=[pytest.param("sqlite", marks=pytest.mark.soak), "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    found = str(request.getfixturevalue(f"{request.param}_url"))
    return found.replace("postgresql://", "postgresql+psycopg://")


@pytest.fixture
def outbox(url: str) -> Iterator[Outbox]:
    database = Database(url)
    made = Outbox(database, "files")
    made.prepare()
    yield made
    database.close()


@pytest.fixture
def base() -> Iterator[Path]:
    """A short path that the servers' own users reach."""
    with tempfile.TemporaryDirectory(prefix="ms-phase-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


def started(url: str, folder: Path, lease: float, drain: float, what: str) -> ForkedProcess:
    for name in ("old", "new"):
        (folder / name).mkdir(exist_ok=True)
    line = ["-m", "tests.support.cutover.worker", url, str(folder), str(lease), str(drain), what]
    return ForkedProcess(line, os.environ, ROOT)


def move(outbox: Outbox, phase: Phase) -> bool:
    table = SharedPhase(outbox).table
    return not table.transaction(lambda connection: table.set_phase(connection, phase))


def soon(what: object, condition: object, patience: float = 120) -> None:
    deadline = time.monotonic() + patience
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@pytest.mark.slow
def test_stopped_past_its_lease_and_woken_it_writes_nothing_of_what_it_had_begun(
    url: str, outbox: Outbox, tmp_path: Path
) -> None:
    assert move(outbox, DUAL)
    # Within the lease, in seconds, this test takes two steps and finds that the process counts as alive.
    process = started(url, tmp_path, 5.0, 1.0, "sleep")
    try:
        asleep = psutil.Process(process.pid)
        soon("it sleeps", lambda: asleep.status() == psutil.STATUS_STOPPED)
        assert move(outbox, FIRST)
        assert not move(outbox, DESTINATION)
        soon("it counts as gone", lambda: move(outbox, DESTINATION))
        process.send_signal(signal.SIGCONT)
        said = [json.loads(line) for line in process.communicate(timeout=60)[0].splitlines()]
    finally:
        process.kill()
    assert said[0] == {"phase": "dual_write"}
    assert said[1]["name"] == "slept"
    assert "no valid lease" in said[1]["refused"]
    assert said[2:] == [{"name": "awake", "refused": None}, {"phase": "destination"}]
    assert outbox.count_open() == 0
    assert [each.name for each in sorted(tmp_path.glob("*/*"))] == ["awake"]
    assert (tmp_path / "new" / "awake").exists()


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seconds", [5, pytest.param(120, marks=pytest.mark.soak)])
def test_two_are_never_two_phases_apart_while_steps_are_taken_and_processes_stopped(
    url: str, outbox: Outbox, tmp_path: Path, seconds: int, seed: int, evidence: Evidence
) -> None:
    chance = random.Random(seed)  # noqa: S311 - what is tried, not a secret
    processes = [started(url, tmp_path, 0.6, 0.2, "act") for _ in range(3)]
    said: list[list[str]] = [[] for _ in processes]
    readers = [threading.Thread(target=lambda into=into, process=process: into.extend(process.stdout)) for into, process in zip(said, processes, strict=True)]  # fmt: skip
    over = threading.Event()

    def disturb() -> None:
        while not over.wait(chance.uniform(0.1, 0.5)):
            process = chance.choice(processes)
            process.send_signal(signal.SIGSTOP)
            over.wait(chance.choice([0.1, 2.0]))
            process.send_signal(signal.SIGCONT)

    def acted(phase: Phase) -> bool:
        return any(f'"phase": "{phase.value}"' in line for lines in said for line in list(lines))

    disturber = threading.Thread(target=disturb)
    try:
        for reader in readers:
            reader.start()
        soon("all act", lambda: all(said))
        disturber.start()
        table = SharedPhase(outbox).table
        steps, phase, forth = 0, table.read_locked()[0].phase, True
        until = time.monotonic() + seconds
        order = list(Phase)
        while time.monotonic() < until or not (steps > seconds / 2 and all(map(acted, (SOURCE, DUAL, FIRST)))):
            assert time.monotonic() < until + 120, steps
            if phase in (order[0], order[-1]):
                forth = phase is order[0]
            elif chance.random() < 0.2:
                forth = not forth
            after = order[order.index(phase) + (1 if forth else -1)]
            with contextlib.suppress(RunError):
                if move(outbox, after):
                    steps, phase = steps + 1, after
            time.sleep(0.02)
    finally:
        over.set()
        if disturber.ident:
            disturber.join()
        for process in processes:
            process.kill()
            process.wait()
        for reader in readers:
            reader.join()
    assert steps > seconds / 2
    held = [
        [(each["began"], each["last"], Phase(each["phase"])) for each in map(json.loads, lines) if "phase" in each]
        for lines in ([line for line in lines if line.endswith("}\n")] for lines in said)
    ]
    assert {phase for lines in held for _, _, phase in lines} >= {SOURCE, DUAL, FIRST}
    for one, other in itertools.combinations(held, 2):
        for begins, ends, phase in one:
            for began, last, acted in other:
                if began <= ends and begins <= last:
                    assert are_adjacent(phase, acted), (begins, ends, phase, began, last, acted)
    lost = sum("lost" in line for lines in said for line in lines)
    evidence.record(
        "Processes under a shared phase are never two phases apart, while steps are taken and processes stopped past their lease.",
        processes=len(processes), seconds=seconds, steps=steps, operations=sum(map(len, held)), refused=lost,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_database_that_goes_away_stops_the_writes_and_not_the_reads(base: Path) -> None:
    with start_postgres(base / "p") as server:
        service = server.service
        outbox = Outbox(Database(server.url("postgres")), "files")
        outbox.prepare()
        switch = SharedPhase(outbox, lease=0.6, drain=0.1)
        sides = ObstoreBackend("old", "memory://"), ObstoreBackend("new", "memory://")
        backend = CutoverBackend("files", *sides, outbox=outbox, phase=switch)

        def save(name: str) -> bool:
            try:
                backend.save_object(FileObject(backend=backend, filename=name), b"1")
            except PhaseLostError:
                return False
            return True

        assert save("before")
        service.kill()
        soon("it refuses", lambda: not save("meanwhile"))
        assert backend.get_content("before") == b"1"
        with start_postgres(base / "p", service.port):
            soon("it writes again", lambda: save("after"))
            assert backend.phase is SOURCE
            switch.close()
        outbox.database.close()


def test_a_forked_child_takes_a_phase_of_its_own(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    outbox = Outbox(database, "files")
    outbox.prepare()
    switch = SharedPhase(outbox, name="one")
    assert switch.phase is SOURCE
    switch._lock.acquire()
    child = os.fork()
    if not child:
        # With the parent's lease it would act after the parent lost it; with its lock it would wait for ever.
        os._exit(0 if switch.last_known is None and switch.acquire(writing=True) is None else 1)
    switch._lock.release()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert switch.last_known is SOURCE
    switch.close()
    database.close()
