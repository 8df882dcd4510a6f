"""The report: one value, two renderings."""

from __future__ import annotations

import json
import uuid
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from migrate_storage.core.census import Census, CensusColumn
from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.model import Column, Location, Note, Outcome, OutcomeKind, RowRef, Severity, Strategy
from migrate_storage.core.text import amount, duration, size
from migrate_storage.reporting import Report, outcome_from_dict, outcome_to_dict, render

COLUMN = Column(table="doc", column="file", schema="app", key=("id", "part"))
MISSING = Outcome(
    kind=OutcomeKind.MISSING,
    source=Location("old", "a\x1b[31m/b.pdf"),
    destination=Location("new", "a/b.pdf"),
    reason="the source holds no such object",
    refs=tuple(RowRef(COLUMN, (number, "x")) for number in range(5)),
)
NOTE = Note(severity=Severity.WARNING, code="s3.tags", subject="tags", message="tags stay behind", todo="copy them")


def a_census(*columns: CensusColumn, **changes: Any) -> Census:
    values: dict[str, Any] = {
        "started": 1.7e9,
        "finished": 1.7e9,
        "keys": ("old",),
        "tables": 3,
        "searched": 9,
        "rows": 70,
    }
    return Census(**(values | changes), columns=columns)


def a_column(table: str, rows: int, **changes: Any) -> CensusColumn:
    return CensusColumn(schema=None, table=table, column="file", rows={"old": rows} if rows else {}, **changes)


def a_report(**changes: Any) -> Report:
    values: dict[str, Any] = {
        "run": "20240101-abc",
        "strategy": Strategy.MOVE,
        "strategy_reason": "another place",
        "source": "old",
        "destination": "new",
        "state": "completed",
        "started": 1_700_000_000.0,
        "finished": 1_700_000_200.0,
        "passes": 2,
        "counts": {OutcomeKind.REPOINTED: 1500, OutcomeKind.UNCHANGED: 2},
        "rows_repointed": 1400,
        "rows_remaining": 0,
        "bytes_copied": 3 * 1024**3,
        "verified_by": {"digest": 1400, "destination_readback": 100},
        "census": a_census(),
        "next_command": "migrate-storage verify",
    }
    return Report(**(values | changes))


def test_json_holds_everything_and_comes_back(tmp_path: Path) -> None:
    report = a_report(
        problems=(MISSING,),
        counts={OutcomeKind.MISSING: 1},
        notes=(NOTE,),
        not_preserved=(NOTE,),
        error="x",
        resumed=True,
        dry_run=True,
    )
    data = json.loads(json.dumps(report.to_dict()))
    assert Report.from_dict(data) == replace(report, problems=Report.from_dict(data).problems)
    assert Report.from_dict(data).to_dict() == report.to_dict()
    assert {each.name for each in fields(Report)} <= data.keys(), "a field that the JSON does not have"


def test_primary_keys_of_each_kind_come_back_or_as_text() -> None:
    guid = uuid.UUID(int=5)
    outcome = replace(
        MISSING, refs=(RowRef(COLUMN, (7, "é"), (2,)), RowRef(COLUMN, (b"\x00\xff", None)), RowRef(COLUMN, (guid, 1)))
    )
    back = outcome_from_dict(json.loads(json.dumps(outcome_to_dict(outcome))))
    assert [ref.pk for ref in back.refs] == [(7, "é"), (b"\x00\xff", None), (str(guid), 1)]
    assert [ref.path for ref in back.refs] == [(2,), (), ()]
    assert [str(ref.column) for ref in back.refs] == ["app.doc.file"] * 3


def test_where_a_file_is_in_a_document_comes_back_and_an_earlier_version_reads_positions() -> None:
    paths: list[tuple[str | int, ...]] = [(), (3,), ("gallery", 0), ("a b",), ("é", "x", 0, 1)]
    outcome = replace(MISSING, refs=tuple(RowRef(COLUMN, (1,), path) for path in paths))
    written = json.loads(json.dumps(outcome_to_dict(outcome)))
    assert [ref.path for ref in outcome_from_dict(written).refs] == paths
    assert [row["index"] for row in written["rows"]] == [None, 3, None, None, None]
    for row in written["rows"]:
        del row["path"]  # as an earlier version wrote it
    assert [ref.path for ref in outcome_from_dict(written).refs] == [(), (3,), (), (), ()]


def test_a_person_reads_where_a_file_is_in_a_document() -> None:
    def shown(*path: str | int) -> str:
        return str(RowRef(COLUMN, (7,), path)).removeprefix("app.doc.file[7]")

    assert [shown(), shown(3), shown("gallery", 0)] == ["", "[3]", ".gallery[0]"]
    assert shown("a b", "3", 'x"y', "é") == '["a b"]["3"]["x\\"y"].é'


def test_what_a_purge_kept_is_said_with_its_reasons_the_most_frequent_first() -> None:
    counts = {OutcomeKind.KEPT: 1202, OutcomeKind.DELETED: 1}
    kept = {"a row or list still names it": 2, "verified less than 7 days ago (--older-than)": 1200}
    text = render(a_report(kind="purge", counts=counts, kept=kept))
    assert (
        "  kept       1,200: verified less than 7 days ago (--older-than)\n             2: a row or list still names it\n"
        in text
    )
    assert "  kept  " not in render(a_report())


def test_a_report_of_before_reasons_were_counted_is_read() -> None:
    data = a_report().to_dict()
    del data["kept"]
    assert Report.from_dict(data) == a_report()


def test_a_later_schema_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="schema 99; this version reads 2"):
        Report.from_dict({**a_report().to_dict(), "schema": 99})


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, 0),
        ({"state": "planned", "dry_run": True, "rows_remaining": 900}, 0),
        ({"counts": {OutcomeKind.MISSING: 3}}, 1),
        ({"rows_remaining": 2}, 1),
        ({"rows_remaining": None}, 0),
        ({"rows_remaining": 2, "strategy": Strategy.IN_PLACE, "destination": "old"}, 0),
        ({"rows_remaining": 2, "strategy": Strategy.MIRROR}, 0),
        ({"rows_remaining": 2, "counts": {OutcomeKind.COPIED: 2}}, 0),
        ({"state": "failed", "error": "no disk", "rows_remaining": 2, "counts": {OutcomeKind.MISSING: 1}}, 3),
        ({"state": "limit_reached", "rows_remaining": 2}, 4),
        ({"state": "interrupted", "rows_remaining": 2}, 130),
    ],
)
def test_the_exit_code_follows_from_state_and_what_is_left(changes: dict[str, Any], code: int) -> None:
    assert a_report(**changes).exit_code == code
    assert a_report(**changes).to_dict()["exit_code"] == code


UNKNOWN = "2 rows in columns that no model has name 'old': b.file (2)."


@pytest.mark.parametrize(
    ("census", "changes", "first", "code"),
    [
        (None, {}, ": no row of the columns that are known names 'old' any more (nothing else was searched: --census full).", 0),
        (a_census(narrowed=("a",)), {}, ": no row of the columns that are known names 'old' any more (only a was searched: --census full).", 0),
        (a_census(hidden="tables"), {}, ": no row that this role can see names 'old' any more.", 0),
        (a_census(hidden="tables", hidden_excused=True), {}, ": no row that this role can see names 'old' any more.", 0),
        (a_census(a_column("a", 0, unreadable="no right")), {}, ": no row that this role can see names 'old' any more.", 1),
        (a_census(a_column("a", 3, excused=True)), {}, ": no row names 'old' any more (excused: a.file (3)).", 0),
        (a_census(a_column("b", 2)), {}, f": no row of the columns that are known names 'old' any more. {UNKNOWN}", 1),
        (a_census(a_column("b", 2)), {"rows_remaining": 1}, f". 1 row still names 'old'. {UNKNOWN}", 1),
        (a_census(a_column("b", 2)), {"strategy": Strategy.IN_PLACE, "rows_remaining": None}, f". {UNKNOWN}", 1),
        (a_census(a_column("b", 2)), {"kind": "purge", "rows_remaining": None}, ": 0 objects deleted.", 0),
        (a_census(), {"narrowed": ("--where",)}, ": no row names 'old' any more.", 0),
        (a_census(a_column("a", 1, known=True)), {"narrowed": ("--where",)}, ": no row that --where chose names 'old' any more; 1 other row still does.", 0),
        (a_census(a_column("a", 9, known=True), a_column("b", 2)), {"narrowed": ("--include",)}, f": no row that --include chose names 'old' any more; 9 other rows still do. {UNKNOWN}", 1),
        (a_census(a_column("a", 9, known=True)), {"narrowed": ("--where", "--columns"), "rows_remaining": 4}, ": 4 rows that --where and --columns chose still name 'old'; 9 rows of all do.", 1),
        (None, {"narrowed": ("--where",)}, ": no row that --where chose names 'old' any more; all other rows were not counted.", 0),
    ],
)  # fmt: skip
def test_the_first_line_says_no_more_than_was_searched(
    census: Census | None, changes: dict[str, Any], first: str, code: int
) -> None:
    report = a_report(census=census, **changes)
    assert (render(report).splitlines()[0], report.exit_code) == (f"Finished{first}", code)


def test_a_plan_shows_the_latest_census_with_its_age_and_does_not_speak_of_it_first() -> None:
    plan = a_report(census=a_census(a_column("b", 2)), dry_run=True, state="planned", rows_remaining=None)
    assert "3 tables, 9 columns, 70 rows searched for 'old', taken " in render(plan)
    assert "b.file: 2 rows name it (in no model: move it with --columns)" in render(plan)
    assert (plan.exit_code, "b.file" in render(plan).splitlines()[0]) == (0, False)
    assert "census     none yet" in render(replace(plan, census=None))


@pytest.mark.parametrize(
    ("changes", "first"),
    [
        ({}, "Finished: no row names 'old' any more."),
        (
            {"resumed": True, "counts": {}},
            "Finished, nothing was left to do: no row names 'old' any more. `run --recheck` checks again what earlier runs copied.",
        ),
        (
            {"resumed": True, "counts": {}, "rechecked": {"objects": 1, "copied_again": 0, "rows_repaired": 2}},
            "Finished, 1 copy of earlier runs checked again (0 copied again, 2 rows repaired): no row names 'old' any more.",
        ),
        ({"rows_remaining": 1}, "Finished. 1 row still names 'old'."),
        (
            {"rows_remaining": 1200, "counts": {OutcomeKind.MISSING: 1}},
            "Finished, with 1 problem. 1,200 rows still name 'old'.",
        ),
        ({"rows_remaining": None}, "Finished."),
        ({"rows_remaining": 0, "strategy": Strategy.IN_PLACE}, "Finished."),
        ({"state": "failed", "error": "disk full", "rows_remaining": None}, "Stopped by an error: disk full."),
        (
            {"state": "limit_reached", "rows_remaining": 9},
            "Stopped at the limit that you set. 9 rows still name 'old'.",
        ),
        ({"state": "interrupted", "rows_remaining": 9}, "Stopped, as asked. 9 rows still name 'old'."),
        (
            {"state": "planned", "dry_run": True, "rows_remaining": 9, "counts": {OutcomeKind.REPOINTED: 7}},
            "A plan, nothing was changed: 7 objects to handle. 9 rows name 'old'.",
        ),
    ],
)
def test_the_first_line_says_how_it_ended_and_what_still_names_the_old_key(changes: dict[str, Any], first: str) -> None:
    assert render(a_report(**changes)).splitlines()[0] == first


def test_text_tells_the_facts_and_what_to_type_next() -> None:
    text = render(a_report(notes=(NOTE,), not_preserved=(replace(NOTE, subject="", message="ACLs"),)))
    for part in (
        "move: another place",
        "20240101-abc, old -> new",
        "1,500 repointed, 2 unchanged",
        "1,400 rows re-pointed",
        "3.0 GiB (15.4 MiB/s, 8 objects/s)",
        "100 by reading the copy back, 1,400 by digest",
        "3 min 20 s, 2 passes, from 2023-11-14 22:13:20 UTC",
        "Not preserved\n  ! ACLs [s3.tags]\n    copy them",
        "Notes\n  ! tags: tags stay behind [s3.tags]",
        "Next command\n  migrate-storage verify",
    ):
        assert part in text


def test_listed_objects_are_named_with_their_reason_and_rows_and_cannot_speak_to_the_terminal() -> None:
    text = render(a_report(problems=(MISSING,), counts={OutcomeKind.MISSING: 1201}))
    assert r"missing    old:a\x1b[31m/b.pdf: the source holds no such object" in text
    assert "app.doc.file[0,x], app.doc.file[1,x], app.doc.file[2,x] and 2 more" in text
    assert "Problems (1,201)" in text
    assert "and 1,200 more objects" in text
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("kind", "counts", "first", "parts", "never"),
    [
        ("revert", {OutcomeKind.REVERTED: 3, OutcomeKind.UNCHANGED: 1}, "Finished: 3 rows put back.", ["rows       3 reverted, 1 unchanged", "3.0 GiB copied back"], ["re-pointed", "passes", "move:"]),
        ("verify", {OutcomeKind.UNCHANGED: 4}, "Finished: 4 objects checked, all as they should be.", ["objects    4 equal"], ["rows", "GiB", "re-pointed"]),
        ("purge", {OutcomeKind.DELETED: 2, OutcomeKind.KEPT: 5}, "Finished: 2 objects deleted.", ["5 kept, 2 deleted", "3.0 GiB freed"], ["rows", "re-pointed", "copied_back"]),
    ],
)  # fmt: skip
def test_each_kind_of_job_speaks_of_what_it_does(
    kind: str, counts: dict[OutcomeKind, int], first: str, parts: list[str], never: list[str]
) -> None:
    moved = 0 if kind == "verify" else 3 * 1024**3
    report = a_report(
        kind=kind, counts=counts, rows_remaining=None, rows_repointed=3, bytes_copied=moved, verified_by={}, census=None
    )
    text = render(report)
    assert text.splitlines()[0] == first
    assert all(part in text for part in parts), text
    assert not any(word in text for word in never), text
    listed = render(replace(report, problems=(MISSING,), counts={**counts, OutcomeKind.MISSING: 2}))
    assert "Finished, with 2 problems." in listed
    assert "Problems (2)" in listed


def test_an_unknown_state_is_refused() -> None:
    with pytest.raises(ValueError, match="state must be one of"):
        a_report(state="done")


def test_numbers_are_said_as_a_person_would() -> None:
    assert [amount(0, "row"), amount(1, "row"), amount(1200, "pass", "passes")] == ["0 rows", "1 row", "1,200 passes"]
    assert [size(0), size(1023), size(1024), size(5 * 1024**4)] == ["0 B", "1023 B", "1.0 KiB", "5.0 TiB"]
    shown = [duration(seconds) for seconds in (0.84, 59.96, 200, 600, 7500, 36000, 30 * 86400, 3 * 86400 + 3600)]
    assert shown == ["0.8 s", "60.0 s", "3 min 20 s", "10 min", "2 h 05 min", "10 h", "30 d", "3 d 01 h"]
