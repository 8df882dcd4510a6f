"""A cutover forth, back and forth again under four real processes, on two failing S3 servers: what was acknowledged is true."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from migrate_storage.cutover.backend import CutoverBackend
from migrate_storage.cutover.decisions import Phase, trusted_side
from migrate_storage.cutover.phase.source import SharedPhase
from migrate_storage.cutover.phase.transitions import PhaseController
from migrate_storage.cutover.repair import Repair, RepairResult, repair_all
from tests.support import ROOT
from tests.support.cutover.fleet import BEFORE, Client, Histories, Read, Write, digest, look, told
from tests.support.cutover.fleet_app import Picture, backend
from tests.support.evidence import Evidence
from tests.support.fault_proxy import FaultProxy, fault_proxy
from tests.support.processes.forked import ForkedProcess
from tests.support.servers import S3Server
from tests.support.services import free_port

SOURCE, DUAL, FIRST, DESTINATION = Phase

#: Forth, back, and forth again.
WAY = (DUAL, FIRST, DUAL, SOURCE, DUAL, FIRST, DESTINATION)
LEASES = (1.0, 1.3, 1.6, 2.0)
"""Seconds, of each process: they learn of a step at different moments."""
DRAIN = 0.5
GRACE = 5.0
"""Seconds after which repair takes a key whose writer was killed; none of these writes takes as long."""
LONG = 30.0
"""Seconds for which a step waits amid all writes."""
FAULTS = ("reset", "cut_request", "lost_answer", "error", "late_error", "throttle", "stall", "truncate")
RATE = 0.05


class Fleet:
    """The processes of the application."""

    def __init__(self, settings: dict[str, Any], folder: Path) -> None:
        self.settings, self._folder = settings, folder
        self._ports = [free_port() for _ in LEASES]
        self.endpoints = [f"http://127.0.0.1:{port}" for port in self._ports]
        self.processes: list[ForkedProcess] = []

    def start(self, number: int) -> ForkedProcess:
        told = json.dumps({**self.settings, "name": f"web-{number}", "lease": LEASES[number]})
        line = ["-m", "uvicorn", "--factory", "tests.support.cutover.fleet_app:app", "--no-access-log"]
        with (self._folder / f"web-{number}.log").open("ab") as log:
            return ForkedProcess([*line, "--port", str(self._ports[number])], {**os.environ, "FLEET": told}, ROOT, log)

    def wait(self, number: int) -> None:
        """Until it answers, with a part in the phase."""
        until = time.monotonic() + 120
        while True:
            log = (self._folder / f"web-{number}.log").read_text()
            assert self.processes[number].poll() is None, log
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.endpoints[number]}/objects/nothing", timeout=30).status_code == 404:
                    return
            assert time.monotonic() < until, log
            time.sleep(0.05)

    def disturb(self, steps: list[Phase], dice: random.Random) -> None:
        """After the second step one is stopped for longer than its lease; after the fourth another is killed, and comes again."""
        stopped, killed = dice.sample(range(len(LEASES)), 2)
        if len(steps) == 2:
            self.processes[stopped].send_signal(signal.SIGSTOP)
            time.sleep(2 * (LEASES[stopped] + DRAIN))
            self.processes[stopped].send_signal(signal.SIGCONT)
        elif len(steps) == 4:
            self.processes[killed].kill()
            self.processes[killed].wait()
            self.processes[killed] = self.start(killed)
            self.wait(killed)

    def close(self) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()


@pytest.fixture
def proxies(rclone_s3: S3Server, moto_s3: S3Server, seed: int) -> Iterator[list[FaultProxy]]:
    with (
        fault_proxy(rclone_s3.service.port, seed=seed, stall=0.3) as source,
        fault_proxy(moto_s3.service.port, seed=seed + 1, stall=0.3) as destination,
    ):
        yield [source, destination]


@pytest.fixture
def fleet(
    proxies: list[FaultProxy], rclone_s3: S3Server, moto_s3: S3Server, postgres_url: str, tmp_path: Path
) -> Iterator[Fleet]:
    sides = [
        {
            "fs": f"s3://{server.new_bucket()}/",
            "aws_endpoint": proxy.endpoint,
            "aws_access_key_id": server.key,
            "aws_secret_access_key": server.secret,
            "aws_region": server.region,
            "client_options": {"allow_http": True},
        }
        for server, proxy in zip((rclone_s3, moto_s3), proxies, strict=True)
    ]
    made = Fleet(
        {
            "database": postgres_url,
            "source": sides[0],
            "destination": sides[1],
            "drain": DRAIN,
            "grace": GRACE,
        },
        tmp_path,
    )
    yield made
    made.close()


@pytest.fixture
def own(fleet: Fleet) -> Iterator[CutoverBackend]:
    """The backend in this process, for steps and repair."""
    made = backend(**fleet.settings, name="backfill", lease=3.0)
    outbox = made.outbox
    assert outbox is not None
    outbox.prepare()
    outbox.database.transaction(lambda connection: Picture.__table__.create(connection))  # type: ignore[attr-defined]
    yield made
    made.phase_source.close()
    outbox.database.close()


class Backfill(threading.Thread):
    """Settles what waits and compares both sides in full, again and again, and takes steps in between."""

    def __init__(self, own: CutoverBackend, stop: threading.Event) -> None:
        super().__init__(name="backfill", daemon=True)
        assert isinstance(own.phase_source, SharedPhase) and own.outbox is not None
        self._own, self._switch, self._stopping = own, own.phase_source, stop
        self._repair = Repair(own.source, own.destination, own.outbox, phases=own.phase_source, lease=10)
        self._steps = PhaseController(own, quiet=0.5)
        # One after the other: a repair holds the phase where it is.
        self._turn = threading.Lock()
        self.settled = self.failed = 0

    def run(self) -> None:
        while not self._stopping.wait(0.2):
            # A listing meets a fault, or the lease is lost: then the next round does it.
            with contextlib.suppress(Exception), self._turn:
                self._settle()
                outbox = self._own.outbox
                assert outbox is not None
                self._add(
                    repair_all(self._own, outbox, self._repair, trusted_side(self.phase), self._stopping.is_set).result
                )

    def go(self, phase: Phase, patience: float, clients: Sequence[Client]) -> None:
        """Take the step to a phase as soon as its conditions are met.

        On a busy machine there may be an open entry at each moment. So clients that have written for long write less often.
        """
        began, said = time.monotonic(), ""
        until = began + patience
        back = list(Phase).index(self.phase) > list(Phase).index(phase)
        while True:
            assert time.monotonic() < until, f"no step to {phase.name}: {said}"
            with contextlib.suppress(Exception), self._turn:
                self._settle()
                step = self._steps.rollback() if back else self._steps.advance()
                said = str([each.message for each in step.conditions if not each.holds])
                if step.taken:
                    assert step.after is phase
                    return
            if time.monotonic() - began > LONG:
                for client in clients:
                    client.pause = 10.0
            time.sleep(0.05)

    @property
    def phase(self) -> Phase:
        """The one that is to be, whoever acts in it by now."""
        return self._switch.table.snapshot()[0].phase

    def _settle(self) -> None:
        self._add(self._repair.repair_pending(self._stopping.is_set))

    def _add(self, result: RepairResult) -> None:
        self.settled += result.settled
        self.failed += len(result.failures)


def _at(own: CutoverBackend, key: str) -> Read:
    began = time.monotonic()
    try:
        value = digest(own.destination.get_content(key))
    except FileNotFoundError:
        value = None
    return Read(value=value, began=began, ended=time.monotonic(), by="the bare destination")


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize(
    ("dwell", "disturbed"),
    [
        (0.3, False),
        pytest.param(8.0, False, marks=pytest.mark.soak),
        pytest.param(8.0, True, marks=pytest.mark.soak),
    ],
    ids=["short", "a minute", "a minute, one stopped and one killed"],
)
def test_what_a_fleet_was_acknowledged_is_true_forth_and_back_and_forth_again(
    fleet: Fleet, own: CutoverBackend, proxies: list[FaultProxy], dwell: float, disturbed: bool, seed: int,
    evidence: Evidence,
) -> None:  # fmt: skip
    dice = random.Random(seed)
    fleet.processes = [fleet.start(number) for number in range(len(LEASES))]
    for number in range(len(LEASES)):
        fleet.wait(number)

    histories, over, repaired = Histories(), threading.Event(), threading.Event()
    # Each client has keys of its own, and shares some with the next.
    owned = [[f"{client}-{number}.png" for number in range(6)] for client in range(6)]
    shared = [[f"shared-{client}-{number}.png" for number in range(2)] for client in range(6)]
    everything = [key for keys in owned + shared for key in keys]
    clients = [
        Client(
            number, fleet.endpoints, owned[number] + shared[number] + shared[number - 1], everything, histories, over,
            seed, lingers=3.0,
        )
        for number in range(6)
    ]  # fmt: skip
    backfill = Backfill(own, repaired)
    mixed = 0
    began = time.monotonic()
    for proxy in proxies:
        proxy.set(**dict.fromkeys(FAULTS, RATE / len(FAULTS)))
    for client in clients:
        client.start()
    backfill.start()
    taken: list[Phase] = []
    switch = own.phase_source
    assert isinstance(switch, SharedPhase)
    for phase in WAY:
        until, here = time.monotonic() + dwell, switch.table.snapshot()[0].phase
        # Clients have been told that they acted in this phase.
        while time.monotonic() < until or not told(clients)[f"in {here}"]:
            assert time.monotonic() < until + 240, here
            web = [each for each in switch.table.snapshot()[1] if each.alive and each.name.startswith("web-")]
            mixed += len({each.phases for each in web}) > 1
            time.sleep(0.05)
        usual = clients[0].pause
        backfill.go(phase, 240, clients)
        for client in clients:
            client.pause = usual
        taken.append(phase)
        if disturbed:
            fleet.disturb(taken, dice)
    until = time.monotonic() + dwell
    while time.monotonic() < until or not (
        backfill.settled and all(sum(each.counts.values()) > 10 for each in proxies)
    ):
        assert time.monotonic() < until + 240, (backfill.settled, [each.counts for each in proxies])
        time.sleep(0.05)
    over.set()
    for client in clients:
        client.join(120)
        assert not client.is_alive(), client
    seconds = time.monotonic() - began
    faults = [proxy.counts for proxy in proxies]
    for proxy in proxies:
        proxy.set()
    repaired.set()
    backfill.join(60)
    counts = told(clients)

    # What is there now, asked of one process after the other, by its row and without, and of the bare destination.
    with httpx.Client(timeout=60) as http:
        for number, key in enumerate(everything):
            endpoint = fleet.endpoints[number % len(LEASES)]
            found = [look(http, endpoint, key, how) for how in ("files", "objects")]
            found.append(_at(own, key))
            for each in found:
                assert each is not None, (endpoint, key)
                histories.read(key, each)
            # A delete that failed has taken the row with it; the object itself is the same for all.
            assert len({each.value for each in found[1:] if each is not None}) == 1, found
    assert histories.wrong() == []

    live = sum(own.destination.exists(key) for key in everything)
    assert {f"in {phase}" for phase in Phase} <= counts.keys()
    assert all(sum(each.values()) > 10 for each in faults), faults
    assert mixed > 0
    assert 0 < live < len(everything)
    assert backfill.settled > 0
    evidence.record(
        "A fleet goes from one failing store to the other, back, and forth again, and every read is of what was acknowledged.",
        processes=len(LEASES),
        stopped_and_killed=disturbed,
        seconds=round(seconds),
        steps=len(taken),
        keys=len(everything),
        **{word.replace(" ", "_"): count for word, count in sorted(counts.items())},
        settled=backfill.settled,
        repairs_failed=backfill.failed,
        faults=sum(sum(each.values()) for each in faults),
    )


def test_a_history_tells_what_is_wrong() -> None:
    def found(*writes: Write, value: str | None, began: float = 10.0) -> bool:
        histories = Histories()
        for write in writes:
            histories.write("a", write)
        histories.read("a", Read(value=value, began=began, ended=began + 1, by=""))
        return not histories.wrong()

    one = Write(value="one", began=1, ended=2, acknowledged=True)
    two = Write(value="two", began=3, ended=4, acknowledged=True)
    gone = Write(value=None, began=5, ended=6, acknowledged=True)
    failed = Write(value="failed", began=3, ended=4, acknowledged=False)
    late = Write(value="late", began=9, ended=12, acknowledged=True)
    assert BEFORE.value is None
    assert found(value=None)
    assert not found(value="never written")
    assert found(one, two, value="two")
    assert not found(one, two, value="one"), "old"
    assert not found(one, value=None), "lost"
    assert not found(one, gone, value="one"), "came back"
    assert found(one, gone, value=None)
    assert found(one, failed, value="one")
    assert found(one, failed, value="failed")
    assert not found(one, failed, gone, value="failed"), "what failed came later"
    assert found(one, late, value="one")
    assert found(one, late, value="late")
    assert found(one, late, value="one", began=11.5)
    assert not found(one, late, value="one", began=12.5)
