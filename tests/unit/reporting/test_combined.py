"""The report of several runs."""

from __future__ import annotations

from typing import Any

import pytest

from migrate_storage.core.model import OutcomeKind, Strategy
from migrate_storage.reporting import Report
from migrate_storage.reporting.combined import (
    CombinedReport,
    PairNotDone,
    combined_headline,
    render_combined,
    render_combined_brief,
)


def report(key: str, state: str = "completed", **values: Any) -> Report:
    return Report(
        run=f"run-{key}", strategy=Strategy.MOVE, strategy_reason="because", source=key, destination="new", state=state,
        started=0.0, finished=1.0, **values,
    )  # fmt: skip


PROBLEM = {"counts": {OutcomeKind.FAILED: 1}}


@pytest.mark.parametrize(
    ("reports", "codes", "worst"),
    [
        ((report("a"), report("b")), (), 0),
        ((report("a"), report("b", **PROBLEM)), (), 1),
        ((report("a", "limit_reached"), report("b", **PROBLEM)), (), 4),
        ((report("a", "limit_reached"), report("b", "interrupted")), (130,), 130),
        ((report("a", **PROBLEM),), (2,), 2),
        ((report("a", "failed", error="no"), report("b", **PROBLEM)), (3,), 3),
        ((report("a", "interrupted"),), (3,), 3),
    ],
)
def test_the_exit_code_is_the_worst(reports: tuple[Report, ...], codes: tuple[int, ...], worst: int) -> None:
    left = tuple(PairNotDone(source="z", destination="new", reason="why", exit_code=code) for code in codes)
    combined = CombinedReport(reports=reports, not_done=left)
    assert combined.exit_code == worst
    assert combined.to_dict()["exit_code"] == worst
    assert combined.keys == len(reports) + len(left) == len(combined.to_dict()["runs"])
    assert (combined.state == "interrupted") is (worst == 130)


def test_the_text_has_a_line_for_each_pair_and_then_each_report() -> None:
    left = PairNotDone(source="c", destination="c", reason="a stop was requested", exit_code=130)
    combined = CombinedReport(
        reports=(report("a"), report("b\x1b[1m", **PROBLEM)), not_done=(left,), next_command="migrate-storage run"
    )
    assert combined_headline(combined) == "3 keys: 1 finished, 1 finished with problems, 1 not done."
    lines = render_combined(combined).splitlines()
    assert lines[1].startswith("  a -> new: Finished")
    assert lines[2].startswith("  b\\x1b[1m -> new: Finished, with 1 problem")
    assert lines[3] == "  c: not done: a stop was requested"
    assert [line for line in lines if line.startswith("== ")] == ["== a -> new", "== b\\x1b[1m -> new"]
    assert lines[-2:] == ["Next command", "  migrate-storage run"]
    brief = render_combined_brief(combined)
    assert "\x1b" not in render_combined(combined) + brief
    assert brief.splitlines()[-1] == "  Next command: migrate-storage run"
