"""What the journal's lines add up to, against the same sums taken the long way."""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from dataclasses import replace

import pytest

from migrate_storage.core.model import OutcomeKind
from migrate_storage.journal import Journal
from migrate_storage.reporting import figures, render
from migrate_storage.reporting.statistics import BANDS, SLOWEST
from tests.support.evidence import Evidence
from tests.support.reporting.journaled import BEGAN, SECONDS, journaled


def test_the_sums_are_those_of_the_lines(journal: Journal) -> None:
    report = journaled(journal, 700, one_in=50)
    found = figures(report, journal)
    lines = [entry for batch in journal.objects.of_run(report.run) for entry in batch]
    assert found.objects == len(lines) == 700
    assert {kind: share.objects for kind, share in found.outcomes.items()} == dict(report.counts)
    assert {how: share.objects for how, share in found.verified_by.items()} == dict(report.verified_by)
    total = sum(entry.size or 0 for entry in lines)
    for shares in (found.outcomes.values(), found.sizes, found.spans):
        assert (sum(each.objects for each in shares), sum(each.bytes for each in shares)) == (700, total)
    assert sum(span.problems for span in found.spans) == report.problem_count == 14
    for low, high, share in zip((-1, *BANDS), (*BANDS, 1 << 60), found.sizes, strict=True):
        assert share.objects == sum(low < (entry.size or 0) <= high for entry in lines)
    slowest = sorted((entry.seconds or 0 for entry in lines), reverse=True)[:SLOWEST]
    assert [each.seconds for each in found.slowest] == slowest
    assert {column: counts["repointed"] for column, counts in found.columns.items()} == {
        "albums.pictures": 98,
        "documents.file": 588,
    }
    kinds: Counter[str] = Counter()
    for counts in found.columns.values():
        kinds.update(counts)
    assert kinds == {"repointed": 686, "missing": 5, "destination_exists": 5, "failed": 4}
    assert json.loads(json.dumps(found.to_dict()))["outcomes"]["repointed"]["objects"] == 686


@pytest.mark.parametrize("seconds", [0.0, 0.004, 0.9, 59.0, 3599.0, SECONDS, 40 * 86400.0, 4000 * 86400.0])
def test_a_run_of_any_length_has_a_few_spans(journal: Journal, seconds: float) -> None:
    report = replace(journaled(journal, 1), finished=BEGAN + seconds)
    found = figures(report, journal)
    assert 1 <= len(found.spans) <= 62
    assert (len(found.spans) - 1) * found.step <= seconds + 1e-6 <= len(found.spans) * found.step + 1e-3
    assert found.elsewhen + sum(span.objects for span in found.spans) == 1


def test_what_a_later_purge_wrote_is_in_no_span(journal: Journal) -> None:
    report = journaled(journal, 10)
    line = next(entry for batch in journal.objects.of_run(report.run) for entry in batch)
    journal.objects.set_state(line.id, "source_deleted")
    found = figures(report, journal)
    assert (found.objects, found.elsewhen, sum(span.objects for span in found.spans)) == (10, 1, 9)


def test_another_run_has_its_own(journal: Journal) -> None:
    report = journaled(journal, 10)
    assert figures(replace(report, run="another", problems=()), journal).to_dict()["objects"] == 0


def test_the_text_names_columns_and_the_slowest(journal: Journal) -> None:
    report = journaled(journal, 100, hostile=True, one_in=50)
    text = render(report, figures(report, journal))
    assert "\n  documents.file: 84 repointed, 1 destination exists" in text
    assert text.count("old:") >= 5
    assert "\x1b" not in text
    assert "\u202e" not in text


@pytest.mark.parametrize("count", [10_000, pytest.param(100_000, marks=pytest.mark.soak)])
def test_memory_does_not_grow_with_the_run(journal: Journal, count: int, evidence: Evidence) -> None:
    report = journaled(journal, count)
    figures(report, journal)
    tracemalloc.start()
    try:
        found = figures(report, journal)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.outcomes[OutcomeKind.REPOINTED].objects == report.counts[OutcomeKind.REPOINTED]
    assert peak < 12 * 1024**2
    evidence.record("the report's figures are summed in bounded memory", objects=count, peak_bytes=peak)
