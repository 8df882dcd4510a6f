"""The report of a whole job, from the reports of its shards."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from migrate_storage.core.model import Outcome, OutcomeKind
from migrate_storage.journal import Journal, ShardRecord
from migrate_storage.reporting import MAX_PROBLEMS, Report

__all__ = ("count_journaled", "merge_reports")

K = TypeVar("K")


def merge_reports(
    journal: Journal, shards: Sequence[ShardRecord], last: Report, *, closes: bool, ends: bool, began: float
) -> Report:
    """Return the report of the whole job: the last one, with the sums of all.

    Args:
        journal: of the job.
        shards: all shards of the job, with their reports.
        last: the report of the shard that ended last.
        closes: whether that one was the end of the job.
        ends: whether the job has such an end. Then the journal has an object record of each object, and is counted.
        began: when the job began, in seconds since the epoch.
    """
    reports = [Report.from_dict(json.loads(shard.report)) for shard in shards if shard.report]
    problems = {str(outcome.source): outcome for report in reports for outcome in report.problems}
    if ends:
        counts, proofs = count_journaled(journal, last.run, last.counts.get(OutcomeKind.KNOWN_MISSING, 0))
        problems = _without_done(journal, last.run, problems)
    else:
        counts, proofs = _sum(report.counts for report in reports), _sum(report.verified_by for report in reports)
    return replace(
        last, started=began, finished=journal.database.time(), passes=max(report.passes for report in reports),
        counts=counts, verified_by=proofs, problems=tuple(problems[source] for source in sorted(problems))[:MAX_PROBLEMS],
        rows_repointed=journal.rows.count_repointed(last.run) if ends else 0,
        bytes_copied=sum(report.bytes_copied for report in reports),
        bytes_copied_by_service=sum(report.bytes_copied_by_service for report in reports),
        rows_excluded=last.rows_excluded if closes else sum(report.rows_excluded for report in reports),
    )  # fmt: skip


def count_journaled(
    journal: Journal, run: str, known: int, shard: int | None = None
) -> tuple[dict[OutcomeKind, int], dict[str, int]]:
    """Count the objects of a run, or of one shard of it, in the journal: by outcome, and by evidence.

    Args:
        journal: of the run.
        run: the run's id.
        known: how many of the missing objects are known losses. The journal records them as missing.
        shard: the shard's number.
    """
    counts = {OutcomeKind(kind): count for kind, count in journal.objects.count(run, shard).items()}
    if known:
        counts[OutcomeKind.KNOWN_MISSING] = known
        counts[OutcomeKind.MISSING] = counts.get(OutcomeKind.MISSING, 0) - known
    return counts, journal.objects.count_evidence(run, shard)


def _without_done(journal: Journal, run: str, listed: Mapping[str, Outcome]) -> dict[str, Outcome]:
    """Leave out the problems of one shard that another shard solved."""
    if not listed:
        return {}
    records = (record for batch in journal.objects.of_run(run) for record in batch if record.outcome)
    kinds = {str(record.source): str(record.outcome) for record in records if str(record.source) in listed}
    return {
        source: outcome for source, outcome in listed.items() if not OutcomeKind(kinds.get(source, outcome.kind)).done
    }


def _sum(counts: Iterable[Mapping[K, int]]) -> dict[K, int]:
    found: Counter[K] = Counter()
    for each in counts:
        found.update(each)
    return dict(found)
