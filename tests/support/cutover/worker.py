"""A process of an application under a shared phase, for tests: ``python -m tests.support.cutover.worker URL FOLDER LEASE DRAIN WHAT``.

``act`` takes a lease on the phase again and again, and prints when it acted in which phase. ``sleep`` saves a stream in the
middle of which the process is stopped. Each prints JSON lines; all processes of a machine share one monotonic clock.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from advanced_alchemy.types.file_object import FileObject

from migrate_storage import CutoverBackend, ObstoreBackend
from migrate_storage.core.errors import PhaseLostError
from migrate_storage.cutover.outbox import Outbox
from migrate_storage.cutover.phase.source import SharedPhase
from migrate_storage.database.connection import Database


def tell(**words: object) -> None:
    print(json.dumps(words), flush=True)


def act(backend: CutoverBackend) -> None:
    switch = backend.phase_source
    while True:
        try:
            with switch.acquire(writing=True) or switch.renew(writing=True) as held:
                began = last = time.monotonic()
                held.check()
                for _ in range(random.randrange(1, 6)):  # noqa: S311 - jitter
                    time.sleep(0.01)
                    # Read the clock before the check: a process that may act now could act then.
                    now = time.monotonic()
                    held.check()
                    last = now
        except PhaseLostError:
            tell(lost=True)
            time.sleep(0.01)
        else:
            tell(phase=held.phase.value, began=began, last=last)


def sleep(backend: CutoverBackend) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"before"
        os.kill(os.getpid(), signal.SIGSTOP)
        yield b"after"

    with backend.phase_source.acquire(writing=True) or backend.phase_source.renew(writing=True) as held:
        tell(phase=held.phase.value)
    for name, content in (("slept", pieces()), ("awake", b"1")):
        try:
            backend.save_object(FileObject(backend=backend, filename=name), content)
        except PhaseLostError as error:
            tell(name=name, refused=str(error))
        else:
            tell(name=name, refused=None)
    tell(phase=backend.phase.value)


def main(url: str, folder: str, lease: str, drain: str, what: str) -> None:
    outbox = Outbox(Database(url), "files")
    switch = SharedPhase(outbox, lease=float(lease), drain=float(drain))
    sides = [ObstoreBackend(name, (Path(folder) / name).as_uri()) for name in ("old", "new")]
    backend = CutoverBackend("files", *sides, outbox=outbox, phase=switch)
    {"act": act, "sleep": sleep}[what](backend)


if __name__ == "__main__":
    main(*sys.argv[1:])
