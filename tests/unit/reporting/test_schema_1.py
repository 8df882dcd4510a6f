"""A journal of an earlier version has reports of schema 1."""

from __future__ import annotations

from typing import Any

import pytest

from migrate_storage.core.model import OutcomeKind, Strategy
from migrate_storage.reporting import Report
from migrate_storage.reporting.schema_1 import upgrade_proof

K = OutcomeKind
LISTED = {
    "kind": "occupied", "source": {"backend": "old", "path": "a"}, "destination": {"backend": "new", "path": "a"},
    "reason": "the destination has other bytes", "size": 3, "evidence": "", "seconds": 0.5,
    "rows": [{"schema": None, "table": "t", "column": "file", "key": ["id"], "pk": [1], "index": None, "path": []}],
}  # fmt: skip
REPORT: dict[str, Any] = {
    "schema": 1, "run": "20260101-abc", "state": "finished", "exit_code": 1, "error": "", "way": "move", "way_reason": "another place",
    "source": "old", "destination": "new", "dry_run": False, "resumed": False, "started": 1.0, "finished": 2.0, "passes": 1,
    "rows_left": 3, "rows_filtered": 4, "rows_known": 1, "rows_moved": 5, "bytes_moved": 6, "counts": {}, "evidence": {}, "kept": {},
    "rechecked": {}, "listed_total": 1, "listed": [LISTED],
    "not_carried": [{"severity": "warning", "code": "s3.tags", "subject": "", "message": "tags", "todo": ""}], "notes": [],
    "estimate": None, "sample": None, "elsewhere": [], "hidden_rows": [], "census": None, "narrowed": [], "next_command": "migrate-storage run",
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "values", "counts", "proofs"),
    [
        ("run", {"counts": {"rewritten": 2, "skipped": 1, "known": 1, "changed": 1, "occupied": 1, "differs": 1}, "evidence": {"read twice, destination digest": 2}},
         {K.REPOINTED: 2, K.UNCHANGED: 1, K.KNOWN_MISSING: 1, K.MODIFIED: 1, K.DESTINATION_EXISTS: 1, K.MISMATCH: 1}, {"source_reread, destination_digest": 2}),
        ("run", {"way": "take over", "state": "limited", "counts": {"copied": 1}, "evidence": {"copied by the service, equal digests": 1}}, {K.COPIED: 1}, {"server_side_copy": 1}),
        ("verify", {"way": "swap", "counts": {"skipped": 2}, "evidence": {"both read": 1, "cutover: both read": 1}}, {K.UNCHANGED: 2}, {"content_compared": 1, "cutover, content_compared": 1}),
        ("revert", {"state": "stopped", "counts": {"rewritten": 2, "skipped": 1}, "evidence": {"journal": 1, "copied back": 1}}, {K.REVERTED: 2, K.UNCHANGED: 1}, {"journal": 1, "copied_back": 1}),
        ("purge", {"counts": {"purged": 2, "skipped": 1}, "evidence": {"copy verified again": 2}, "kept": {"a row or list still names it": 1}}, {K.DELETED: 2, K.KEPT: 1}, {"copy_verified": 2}),
        ("orphans", {"counts": {"skipped": 2, "quarantined": 1}, "evidence": {"named by a row or list": 2, "same place": 1}}, {K.IN_USE: 2, K.QUARANTINED: 1}, {"same_object": 1}),
        ("sync", {"counts": {"skipped": 1, "purged": 1}, "evidence": {"size and time": 1}}, {K.UNCHANGED: 1, K.DELETED: 1}, {"size_and_time": 1}),
        ("check", {"counts": {"skipped": 1}, "evidence": {"digest": 1}}, {K.UNCHANGED: 1}, {"digest": 1}),
    ],
)  # fmt: skip
def test_a_report_of_schema_1_is_read(
    kind: str, values: dict[str, Any], counts: dict[OutcomeKind, int], proofs: dict[str, int]
) -> None:
    report = Report.from_dict({**REPORT, "kind": kind, **values})
    assert (report.kind, dict(report.counts), dict(report.verified_by)) == (kind, counts, proofs)
    assert report.in_use == ({"referenced by a row or list": 2} if kind == "orphans" else {})
    assert report.kept == values.get("kept", {})
    states = {"limited": "limit_reached", "stopped": "interrupted"}
    assert report.state == states.get(values.get("state", ""), "completed")
    ways = {"take over": Strategy.MIRROR, "swap": Strategy.IN_PLACE}
    assert (report.strategy, report.strategy_reason) == (
        ways.get(values.get("way", ""), Strategy.MOVE),
        "another place",
    )
    assert (
        report.rows_remaining,
        report.rows_excluded,
        report.rows_known_missing,
        report.rows_repointed,
        report.bytes_copied,
    ) == (
        3,
        4,
        1,
        5,
        6,
    )
    assert [(each.kind, each.reason) for each in report.problems] == [(K.DESTINATION_EXISTS, LISTED["reason"])]
    assert [note.code for note in report.not_preserved] == ["s3.tags"]
    assert Report.from_dict(report.to_dict()) == report


def test_the_texts_of_proofs_become_tokens() -> None:
    assert upgrade_proof("local source, destination digest") == "local_source, destination_digest"
    assert upgrade_proof("read twice, by option, read back") == "source_reread, by_option, destination_readback"
    assert upgrade_proof("same place, listed") == "same_object_listing"
    assert upgrade_proof("row's SHA-256") == "row_sha256"
