"""The text of a report stays short: equal reasons together, wrapped at the terminal's width."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from migrate_storage.core.model import Column, Location, Note, Outcome, OutcomeKind, RowRef, Severity, Strategy
from migrate_storage.reporting import Report, render
from migrate_storage.reporting.text import render_brief

COLUMN = Column(table="documents", column="file", key=("id",))
GONE = "the row names an object that 'old' does not have"


def listed(number: int, reason: str = GONE, kind: OutcomeKind = OutcomeKind.MISSING) -> Outcome:
    name = f"2026/{number:04}.pdf"
    refs = (RowRef(COLUMN, (number,)),)
    return Outcome(kind=kind, source=Location("old", name), destination=Location("new", name), reason=reason, refs=refs)


def a_report(*outcomes: Outcome, **changes: Any) -> Report:
    counts: dict[OutcomeKind, int] = {OutcomeKind.REPOINTED: 10}
    for outcome in outcomes:
        counts[outcome.kind] = counts.get(outcome.kind, 0) + 1
    report = Report(
        run="20260101-abc", strategy=Strategy.MOVE, strategy_reason="another place", source="old", destination="new", state="completed",
        started=1.7e9, finished=1.7e9 + 20, rows_remaining=len(outcomes), counts=counts, problems=outcomes[:1000],
        next_command="migrate-storage run --app myapp.storage --from old --to new --journal sqlite:////var/lib/journal.db",
    )  # fmt: skip
    return replace(report, **changes)


def test_566_equal_problems_are_one_reason_with_the_first_objects_and_where_the_rest_is() -> None:
    lines = render(a_report(*map(listed, range(566))), width=80).splitlines()
    assert len(lines) < 40
    start = lines.index("Problems (566)")
    assert lines[start + 1 : start + 8] == [
        f"  missing    566 objects: {GONE}",
        "             old:2026/0000.pdf (documents.file[0])",
        "             old:2026/0001.pdf (documents.file[1])",
        "             old:2026/0002.pdf (documents.file[2])",
        "             and 563 more",
        "  and 563 more objects: `report 20260101-abc --json` lists all of them, `--html",
        "    FILE` writes a page",
    ]


def test_quiet_is_less_than_five_lines_with_the_counts_and_where_to_read_on() -> None:
    report = a_report(*map(listed, range(566)), listed(566, "no answer", OutcomeKind.FAILED))
    assert render_brief(report).splitlines() == [
        "Finished, with 567 problems. 567 rows still name 'old'.",
        f"  566 missing, 1 failed, first old:2026/0000.pdf: {GONE}",
        "  `report 20260101-abc --json` lists all of them, `--html FILE` writes a page",
        f"  Next command: {report.next_command}",
    ]
    assert render_brief(a_report(next_command="")) == "Finished: no row of the columns that are known names 'old' any more (nothing else was searched: --census full)."  # fmt: skip


def test_several_reasons_come_the_most_frequent_first_and_one_object_stays_a_line() -> None:
    others = [listed(number, "the destination has other bytes", OutcomeKind.DESTINATION_EXISTS) for number in range(3)]
    lines = render(a_report(listed(9, "no answer", OutcomeKind.FAILED), *others)).splitlines()
    start = lines.index("Problems (4)")
    assert lines[start + 1 : start + 7] == [
        "  destination exists  3 objects: the destination has other bytes",
        "                      old:2026/0000.pdf (documents.file[0])",
        "                      old:2026/0001.pdf (documents.file[1])",
        "                      old:2026/0002.pdf (documents.file[2])",
        "  failed              old:2026/0009.pdf: no answer",
        "                      documents.file[9]",
    ]


def test_reasons_that_differ_in_the_objects_names_only_are_one_reason() -> None:
    outcomes = [listed(number, f"its copy new:2026/{number:04}.pdf is gone") for number in range(50)]
    text = render(a_report(*outcomes))
    assert "  missing    50 objects: its copy … is gone\n" in text
    assert "its copy new:2026/0000.pdf is gone" in render(a_report(outcomes[0]))


def test_many_reasons_stay_short_too() -> None:
    report = a_report(*(listed(number, f"reason number {number % 100}") for number in range(566)))
    text = render(report, width=80)
    assert len(text.splitlines()) < 60
    assert "more objects with 95 more reasons: `report" in text


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"dry_run": True}, "`--json` lists all of them"),
        ({"kind": "check"}, "`--json` lists all of them, `--combined FILE` writes a line for each object"),
        ({"counts": {OutcomeKind.MISSING: 2000}}, "`report 20260101-abc --json` lists the first 1,000, `--html FILE` writes a page"),
    ],
)  # fmt: skip
def test_where_the_rest_is_depends_on_what_keeps_it(changes: dict[str, Any], where: str) -> None:
    assert f"objects: {where}\n" in render(a_report(*map(listed, range(20)), **changes))


def test_text_wraps_below_its_first_word_and_the_next_command_stays_one_line() -> None:
    note = Note(severity=Severity.WARNING, code="s3.tags", subject="tags", message="word " * 40 + "end")
    report = a_report(listed(1, "word " * 40), strategy_reason="word " * 40, notes=(note,))
    lines = render(report, width=80).splitlines()
    assert all(len(line) <= 80 for line in lines if line != f"  {report.next_command}")
    assert lines[-1] == f"  {report.next_command}"
    label = next(number for number, line in enumerate(lines) if line.startswith("  strategy"))
    assert lines[label + 1].startswith("             word word")
    wrapped = "".join(lines).replace(" ", "")
    assert wrapped == "".join(render(report).splitlines()).replace(" ", ""), "words were lost"
