"""The runs of one move: those between two backend keys since the last revert between them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from migrate_storage.core.text import amount, size
from migrate_storage.reporting.report import Report

if TYPE_CHECKING:
    from migrate_storage.journal import Journal

__all__ = ("MoveRun", "describe_move_run", "find_move", "sum_move")


@dataclass(frozen=True, kw_only=True, slots=True)
class MoveRun:
    """What one run of a move did, or all of them together."""

    #: The run's id; empty for the sum.
    run: str
    #: Seconds since the epoch.
    started: float
    state: str
    rows_repointed: int
    #: Objects of all outcomes.
    objects: int
    problems: int
    bytes_copied: int
    bytes_copied_by_service: int

    @classmethod
    def of_report(cls, report: Report) -> MoveRun:
        """Return what a run did."""
        return cls(
            run=report.run, started=report.started, state=report.state, rows_repointed=report.rows_repointed,
            objects=report.objects, problems=report.problem_count, bytes_copied=report.bytes_copied,
            bytes_copied_by_service=report.bytes_copied_by_service,
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


def find_move(report: Report, journal: Journal) -> tuple[MoveRun, ...]:
    """Return the runs of the move to which a run belongs, the first one first, up to this run.

    Returns:
        Nothing for another job, a dry run, and a run that is the only one of its move.
    """
    if report.kind != "run" or report.dry_run:
        return ()
    reverts = journal.runs.between("revert", report.destination, report.source)
    begun = max((revert.started for revert in reverts if revert.started <= report.started), default=0.0)
    records = journal.runs.between("run", report.source, report.destination)
    reports = [
        Report.from_dict(json.loads(record.report))
        for record in records
        if record.report is not None and begun <= record.started <= report.started
    ]
    found = tuple(MoveRun.of_report(each) for each in reversed(reports) if not each.dry_run)
    return found if len(found) > 1 else ()


def sum_move(runs: Sequence[MoveRun]) -> MoveRun:
    """Return the sums of the runs. Problems are those of the last run: a later run handles an object again."""
    return MoveRun(
        run="", started=runs[0].started, state=runs[-1].state,
        rows_repointed=sum(each.rows_repointed for each in runs), objects=sum(each.objects for each in runs),
        problems=runs[-1].problems, bytes_copied=sum(each.bytes_copied for each in runs),
        bytes_copied_by_service=sum(each.bytes_copied_by_service for each in runs),
    )  # fmt: skip


def describe_move_run(each: MoveRun) -> str:
    """Return the figures of a run of a move in one line."""
    by_service = f", {size(each.bytes_copied_by_service)} by the service" if each.bytes_copied_by_service else ""
    return (
        f"{amount(each.rows_repointed, 'row')}, {amount(each.objects, 'object')}, {size(each.bytes_copied)}{by_service}, "
        f"{amount(each.problems, 'problem')}, {each.state.replace('_', ' ')}"
    )
