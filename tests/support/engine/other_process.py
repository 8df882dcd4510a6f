"""The World's application as another process imports it, for tests that kill, stop or measure that process.

``WORLD`` in the environment names its rows and files. ``AT`` names a signal, and the number of steps after which the process
sends it to itself. A step is a request to a store, a statement of a database, or a piece of a body.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from advanced_alchemy.types.file_object import storages

from tests.support import ROOT
from tests.support.engine import registrations as places
from tests.support.engine import world  # noqa: F401 - importing the models is what an application does
from tests.support.processes.forked import run_forked

engine: sa.Engine
ARGUMENTS = (
    "--app",
    "tests.support.engine.other_process:engine",
    "--from",
    "old",
    "--to",
    "new",
    "--settle-time",
    "0.1",
    "--lease-ttl",
    "1",
)


def command(
    url: str, old: places.Registration, new: places.Registration, *arguments: str, **settings: Any
) -> tuple[list[str], dict[str, str]]:
    """Return the arguments of Python for a run, and its environment.

    Args:
        url: the database.
        old: what is registered under ``old``.
        new: what is registered under ``new``.
        arguments: more of the command line.
        settings: ``signal``, ``steps`` and ``of``: ``body`` counts only pieces of bodies, ``module:Class.method``
            only the calls of that one. Steps are counted when ``after`` rows were re-pointed. ``batch`` is how many
            go in one transaction; ``range`` how many rows PostgreSQL re-keys with one statement.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MIGRATE_STORAGE_")}
    told = json.dumps({"url": url, "backends": [old.to_dict(), new.to_dict()]})
    environment = {**kept, "WORLD": told, "AT": json.dumps(settings), "PYTHONPATH": str(ROOT)}
    return ["-m", "tests.support.engine.other_process", "run", *ARGUMENTS, *arguments], environment


def run(
    url: str, old: places.Registration, new: places.Registration, *arguments: str, **settings: Any
) -> subprocess.CompletedProcess[str]:
    """Run a migration in a new interpreter, whose memory is that of the run alone."""
    line, environment = command(url, old, new, "--json", *arguments, **settings)
    return subprocess.run(
        [sys.executable, *line], env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=240
    )


def forked(
    url: str, old: places.Registration, new: places.Registration, *arguments: str, **settings: Any
) -> subprocess.CompletedProcess[str]:
    """Run a migration in a forked process, to its end or its death."""
    line, environment = command(url, old, new, "--json", *arguments, **settings)
    return run_forked(line, environment, ROOT)


def told(done: subprocess.CompletedProcess[str], event: str) -> dict[str, Any]:
    """Return the last event of a kind that a process printed. What is not of the program goes to its standard error."""
    printed = [*done.stdout.splitlines(), *(line for line in done.stderr.splitlines() if line.startswith("{"))]
    found = [line for line in map(json.loads, printed) if line["event"] == event]
    assert found, done.stderr
    return found[-1]


class _Steps:
    """Counts what happens, and sends the signal when it is time."""

    def __init__(self, number: int, steps: int, after: int) -> None:
        self._number, self._left, self._after = number, steps, after
        self._lock = threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            if self._after:
                return
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), self._number)

    def on(self, owner: Any, name: str, before: Callable[..., None] | None = None) -> None:
        original: Callable[..., Any] = getattr(owner, name)

        def stepping(*args: Any, **kwargs: Any) -> Any:
            if before is None:
                self()
            else:
                before(*args)
            return original(*args, **kwargs)

        setattr(owner, name, stepping)

    def swapped(self, _: Any, __: Any, swaps: Any) -> None:
        with self._lock:
            self._after = max(0, self._after - len(swaps))


def _arm(settings: dict[str, Any]) -> None:
    from migrate_storage.database.compare_and_swap import CompareAndSwap
    from migrate_storage.engine import repoint_batches
    from migrate_storage.engine.rekey import batched, postgres
    from migrate_storage.engine.transfer import Digests
    from migrate_storage.jobs.run import passes
    from migrate_storage.stores.fsspec_store import FsspecStore
    from migrate_storage.stores.obstore_store import ObstoreStore
    from migrate_storage.stores.server_side_copy import ServerSideCopier

    steps = _Steps(settings["signal"], settings["steps"], settings.get("after", 0))
    steps.on(CompareAndSwap, "swap_all", steps.swapped)
    repoint_batches.REPOINT_BATCH_ROWS = settings.get("batch", repoint_batches.REPOINT_BATCH_ROWS)
    repoint_batches.REPOINT_INTERVAL_SECONDS = 60.0  # batches are whole, however slow the machine is
    if "span" in settings:
        passes.MIN_BATCHED_REKEY_ROWS, postgres.REKEY_RANGE_ROWS, batched.REKEY_WINDOW_ROWS = (
            1,
            settings["span"],
            settings["span"],
        )
    if ":" in (of := settings.get("of", "")):
        module, _, name = of.partition(":")
        steps.on(getattr(importlib.import_module(module), name.partition(".")[0]), name.partition(".")[2])
        return
    steps.on(Digests, "update")
    if of == "body":
        return
    for store in (ObstoreStore, FsspecStore):
        for name in ("head", "open", "put", "delete"):
            steps.on(store, name)
    steps.on(ObstoreStore, "head_with_attributes")
    steps.on(ServerSideCopier, "copy")
    for event in ("before_cursor_execute", "commit"):
        sa.event.listen(sa.Engine, event, lambda *_: steps())


def peak() -> int:
    """The most bytes of memory that this process ever had: not ``ru_maxrss``, in which the parent's may be."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def _prepare() -> None:
    """What the application does when it is imported."""
    global engine
    told = json.loads(os.environ["WORLD"])
    for each in told["backends"]:
        storages.register_backend(places.Registration(**each).build())
    engine = sa.create_engine(told["url"])


def _main() -> None:
    from migrate_storage.__main__ import main

    if settings := json.loads(os.environ["AT"]):
        _arm({**settings, "signal": settings.get("signal", signal.SIGKILL)})
    try:
        sys.exit(main())
    finally:
        print(json.dumps({"event": "peak", "bytes": peak()}))


if __name__ != "__main__" and "WORLD" in os.environ:
    _prepare()

if __name__ == "__main__":
    _main()
