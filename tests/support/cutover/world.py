"""A :class:`World` whose rows name a cutover from its old backend to its new one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from advanced_alchemy.types import FileObject

from migrate_storage.application.application import Application
from migrate_storage.core.model import Outcome
from migrate_storage.cutover.backend import CutoverBackend
from migrate_storage.cutover.decisions import Phase, trusted_side
from migrate_storage.cutover.outbox import Outbox
from migrate_storage.cutover.phase.source import SharedPhase
from migrate_storage.cutover.phase.transitions import PhaseController
from migrate_storage.cutover.repair import Repair, repair_all
from migrate_storage.database.connection import Database
from migrate_storage.jobs.orphans.job import OrphansJob, OrphansOptions
from migrate_storage.jobs.verify.check_object import VerifyOptions
from migrate_storage.jobs.verify.job import VerifyJob
from migrate_storage.reporting import Report
from tests.support.engine.world import World


@dataclass
class CutoverWorld:
    """The cutover has the key ``old``, as its source has, so that all rows name it."""

    world: World
    database: Database
    outbox: Outbox
    backend: CutoverBackend

    @property
    def application(self) -> Application:
        """The application with the cutover in place of the old backend."""
        return replace(self.world.application, backends={"old": self.backend})

    def save(self, name: str, content: bytes) -> None:
        """Save a file through the cutover, without a row."""
        self.backend.save_object(FileObject(backend="old", filename=name), content)

    def advance(self) -> None:
        """Take one step forth, after a repair of everything where both sides are written."""
        controller = PhaseController(self.backend, quiet=0)
        step = controller.advance()
        if not step.taken:
            repair = Repair(self.world.old, self.world.new, self.outbox, phases=(Phase.DUAL_WRITE,))
            repair.repair_pending()
            assert repair_all(self.backend, self.outbox, repair, trusted_side(self.backend.phase)).done
            step = controller.advance()
        assert step.taken, step

    def rollback(self) -> None:
        """Take one step back."""
        step = PhaseController(self.backend, quiet=0).rollback()
        assert step.taken, step

    def reach(self, phase: Phase) -> None:
        """Advance until the shared phase is this one; no process acts in it afterwards."""
        while self.backend.phase is not phase:
            self.backend.phase_source.close()
            self.restart()
            self.advance()
            self.restart()
        self.restart()

    def restart(self) -> None:
        """End this process's part in the phase, and begin a new one with the next operation."""
        self.backend.phase_source.close()
        self.backend = make_backend(self.world, self.outbox)

    @contextlib.contextmanager
    def process(self, name: str) -> Iterator[SharedPhase]:
        """Let another process act in the phase of now, and stay in it until the block ends."""
        acting = SharedPhase(self.outbox, name=name, lease=600)
        assert acting.phase
        try:
            yield acting
        finally:
            acting.close()

    def verify(self, application: Application | None = None, **options: Any) -> tuple[Report, dict[str, Outcome]]:
        """Run ``verify``; return its report, and the outcomes by filename."""
        events: list[Any] = []
        report = VerifyJob(application or self.application, VerifyOptions(**options), listener=events.append).run()
        return report, _outcomes(events)

    def orphans(self, **options: Any) -> tuple[Report, list[Outcome]]:
        """Run ``orphans``; return its report, and all outcomes."""
        events: list[Any] = []
        report = OrphansJob(self.application, OrphansOptions(min_age=0, **options), listener=events.append).run()
        return report, [event.outcome for event in events if hasattr(event, "outcome")]

    def close(self) -> None:
        """Sign off."""
        self.backend.phase_source.close()
        self.database.close()


def make_backend(world: World, outbox: Outbox) -> CutoverBackend:
    """Return the cutover of one process."""
    phase = SharedPhase(outbox, name="web-1", lease=600)
    return CutoverBackend("old", world.old, world.new, outbox=outbox, phase=phase)


def make_cutover_world(world: World) -> CutoverWorld:
    """Return the cutover over a world, in SOURCE."""
    database = Database(world.url)
    outbox = Outbox(database, "old")
    outbox.prepare()
    return CutoverWorld(world, database, outbox, make_backend(world, outbox))


def _outcomes(events: list[Any]) -> dict[str, Outcome]:
    return {event.outcome.source.path: event.outcome for event in events if hasattr(event, "outcome")}
