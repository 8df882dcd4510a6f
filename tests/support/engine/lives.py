"""Short lives of a job in processes of their own, each killed with SIGKILL at one exact step. Forked, because starting
Python anew takes longer than such a life: the process they are forked from has imported everything and touched nothing.

A step is the moment before or after a request to a store, a statement, or a commit; and every piece of a body.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.default import DefaultDialect

from migrate_storage.application.application import Application
from migrate_storage.engine import listing_evidence, repoint_batches
from migrate_storage.engine import verify as engine_verify
from migrate_storage.engine.transfer import Digests
from migrate_storage.jobs.run import passes
from migrate_storage.jobs.run.job import RunJob
from migrate_storage.jobs.run.options import RunOptions
from migrate_storage.stores.fsspec_store import FsspecStore
from migrate_storage.stores.obstore_store import ObstoreStore
from migrate_storage.stores.server_side_copy import ServerSideCopier
from tests.support.engine import registrations as places
from tests.support.engine import world

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(
    [
        "tests.support.engine.lives",
        "tests.support.engine.orphans_lives",
        "tests.support.engine.other_process",
        "tests.support.engine.preloaded",
    ]
)

BATCH = 10
"""Rows re-pointed in one transaction: fewer than usual, so that small jobs have many."""


@dataclass(frozen=True, kw_only=True)
class Life:
    """One process that runs a job, until a step at which it is killed."""

    url: str
    backends: tuple[places.Registration, places.Registration]
    #: After which step it dies; 0 lets it live to its end.
    steps: int
    #: Whether the steps are counted from the first pass over the rows on: more than half of all come before it.
    after_preflight: bool = False
    #: Where it notes each copy that it begins, a path a line, and at its end the number of its steps and how it ended.
    notes: Path
    options: dict[str, Any]
    #: Whether the last checks use listings, however few the objects are.
    listed: bool = False

    def live(self) -> tuple[int, list[str]]:
        """Returns the exit code (negative for the signal that ended it), and the notes."""
        self.notes.unlink(missing_ok=True)
        process = context.Process(target=_live, args=(self,))
        process.start()
        process.join(120)
        assert process.exitcode is not None, f"a life hangs: {self}"
        return process.exitcode, self.notes.read_text().splitlines() if self.notes.exists() else []


class _Steps:
    def __init__(self, steps: int, *, begun: bool) -> None:
        self.count, self._steps, self._lock, self._begun = 0, steps, threading.Lock(), begun

    def begin(self, *_: Any) -> None:
        self._begun = True

    def __call__(self, *_: Any) -> None:
        with self._lock:
            if not self._begun:
                return
            self.count += 1
            if self.count == self._steps:
                os.kill(os.getpid(), signal.SIGKILL)

    def around(self, owner: Any, name: str, note: Callable[..., None] = lambda *_: None) -> None:
        original = getattr(owner, name)

        def stepping(*args: Any, **kwargs: Any) -> Any:
            self()
            note(*args)
            result = original(*args, **kwargs)
            self()
            return result

        setattr(owner, name, stepping)


def _live(life: Life) -> None:
    engine = sa.create_engine(life.url)
    if sa.inspect(engine).has_table("migrate_storage_lease"):
        # The life before was killed, so its lease need not be waited out.
        with engine.begin() as connection:
            connection.execute(sa.text("UPDATE migrate_storage_lease SET expires = 0"))
    backends = {each.key: each.build() for each in life.backends}
    application = Application(engine=engine, columns=world.COLUMNS, backends=backends)
    options = {"source": "old", "destination": "new", "settle_time": 0.0, "lease_ttl": 1, **life.options}
    notes = os.open(life.notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(line: str) -> None:
        os.write(notes, f"{line}\n".encode())

    steps = _armed(life, note)
    report = RunJob(application, RunOptions(**options)).run()
    note(f"ended {steps.count} {report.state} {report.exit_code} {report.rows_remaining}")


def _armed(life: Life, note: Callable[[str], None]) -> _Steps:
    steps = _Steps(life.steps, begun=not life.after_preflight)
    steps.around(passes.RunPasses, "run", steps.begin)
    for store in (ObstoreStore, FsspecStore):
        for name in ("head", "open", "delete"):
            steps.around(store, name)
        steps.around(store, "put")
    steps.around(engine_verify, "copy_bytes", lambda source, *_: note(f"copy {source.key}"))
    steps.around(ServerSideCopier, "copy", lambda _, path, *__: note(f"copy {path}"))
    steps.around(ObstoreStore, "head_with_attributes")
    steps.around(Digests, "update")
    steps.around(DefaultDialect, "do_commit")
    sa.event.listen(sa.Engine, "before_cursor_execute", steps)
    sa.event.listen(sa.Engine, "after_cursor_execute", steps)
    steps.around(ObstoreStore, "list")
    repoint_batches.REPOINT_BATCH_ROWS = BATCH
    listing_evidence.MIN_WANTED_OBJECTS = 1 if life.listed else 10**9
    return steps
