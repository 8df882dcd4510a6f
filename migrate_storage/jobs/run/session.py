"""What one run works with, found before its first object."""

from __future__ import annotations

from dataclasses import dataclass

from migrate_storage.engine.known_losses import KnownLosses
from migrate_storage.engine.recorder import RunRecorder
from migrate_storage.engine.scheduler import Scheduler
from migrate_storage.jobs.run.preflight import RunPreflight
from migrate_storage.jobs.run.row_counts import RowCounts
from migrate_storage.journal import Journal

__all__ = ("RunSession",)


@dataclass(frozen=True, kw_only=True)
class RunSession:
    """The parts of one run, of one of its shards, or of a dry run."""

    preflight: RunPreflight
    recorder: RunRecorder
    #: A temporary one in a dry run.
    journal: Journal
    scheduler: Scheduler
    row_counts: RowCounts
    known_losses: KnownLosses
    #: Whether earlier runs between the same two keys did a part of the work.
    resumed: bool

    @property
    def run(self) -> str:
        """The run's id."""
        return self.recorder.run
