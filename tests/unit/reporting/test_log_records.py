"""Log records of a run: a line for a person, the fields for a machine, and what structlog makes of them."""

from __future__ import annotations

import json
import logging

import pytest
import structlog

from migrate_storage.core.events import (
    BytesMoved,
    ItemFinished,
    Noted,
    PaceChanged,
    PassStarted,
    RunFinished,
    RunStarted,
)
from migrate_storage.core.model import Location, Note, Outcome, OutcomeKind, Severity, Way
from migrate_storage.reporting.log_records import logged

EVIL = "a\x1b[31m\nfake: line\u202e"
DONE = Outcome(kind=OutcomeKind.REWRITTEN, source=Location("old", "a"), destination=Location("new", "a"), size=3)
MISSING = Outcome(
    kind=OutcomeKind.MISSING, source=Location("old", EVIL), destination=Location("new", "b"), reason="gone"
)
EVENTS = [
    (RunStarted(kind="run", run="r", source="old", destination="new", way=Way.MOVE, reason="far", dry_run=False, resumed=False, rows=2), "run_started", logging.INFO, "run r: old -> new, move: far"),
    (PassStarted(number=1), "pass_started", logging.INFO, "pass 1"),
    (ItemFinished(outcome=DONE), "item", logging.DEBUG, "rewritten old:a"),
    (ItemFinished(outcome=MISSING), "item", logging.WARNING, r"missing old:a\x1b[31m\nfake: line\u202e: gone"),
    (Noted(note=Note(severity=Severity.WARNING, code="c", message="tags stay")), "note", logging.WARNING, "tags stay"),
    (PaceChanged(concurrency=4, most_concurrency=8, paused=""), "pace", logging.INFO, "4 of 8 at once"),
    (PaceChanged(concurrency=4, most_concurrency=8, paused="lag"), "pace", logging.WARNING, "paused: lag"),
    (RunFinished(run="r", state="finished"), "run_finished", logging.INFO, "run r: finished"),
    (RunStarted(kind="purge", run="p", source="old", destination="new", way=Way.MOVE, reason="in vain", dry_run=False, resumed=False, rows=None), "run_started", logging.INFO, "purge p: old -> new, in vain"),
]  # fmt: skip


def test_each_event_is_a_record_and_bytes_are_none(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "migrate_storage.run")
    listen = logged()
    for event, *_ in EVENTS:
        listen(event)
    listen(BytesMoved(count=5))
    assert [record.name for record in caplog.records] == ["migrate_storage.run"] * len(EVENTS)
    said = [(record.migrate_storage["event"], record.levelno, record.getMessage()) for record in caplog.records]
    assert said == [(name, level, line) for _, name, level, line in EVENTS]


def test_a_level_that_is_off_costs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("shop.files")
    caplog.set_level(logging.WARNING, "shop.files")
    for event, *_ in EVENTS:
        logged(logger)(event)
    assert [record.migrate_storage["event"] for record in caplog.records] == ["item", "note", "pace"]


def test_structlog_renders_the_fields_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logger = logging.Logger("structured")
    logger.addHandler(handler)
    for event, *_ in EVENTS:
        logged(logger)(event)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["migrate_storage"]["event"], line["event"]) for line in lines] == [
        (name, said) for _, name, _, said in EVENTS
    ]
    assert lines[3]["migrate_storage"]["source"]["path"] == EVIL
