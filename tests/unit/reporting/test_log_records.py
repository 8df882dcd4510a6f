"""Log records of a run: a line for a person, the fields for a machine, and what structlog makes of them."""

from __future__ import annotations

import json
import logging

import pytest
import structlog

from migrate_storage.core.events import (
    BytesTransferred,
    DiagnosticRaised,
    ObjectFinished,
    PassStarted,
    RunFinished,
    RunStarted,
    ThrottleChanged,
)
from migrate_storage.core.model import Location, Note, Outcome, OutcomeKind, Severity, Strategy
from migrate_storage.reporting.log_records import logged

EVIL = "a\x1b[31m\nfake: line\u202e"
DONE = Outcome(kind=OutcomeKind.REPOINTED, source=Location("old", "a"), destination=Location("new", "a"), size=3)
MISSING = Outcome(
    kind=OutcomeKind.MISSING, source=Location("old", EVIL), destination=Location("new", "b"), reason="gone"
)
EVENTS = [
    (RunStarted(job="run", run="r", source="old", destination="new", strategy=Strategy.MOVE, reason="far", dry_run=False, resumed=False, rows=2), "run_started", logging.INFO, "run r: old -> new, move: far"),
    (PassStarted(number=1), "pass_started", logging.INFO, "pass 1"),
    (ObjectFinished(outcome=DONE), "object_finished", logging.DEBUG, "repointed old:a"),
    (ObjectFinished(outcome=MISSING), "object_finished", logging.WARNING, r"missing old:a\x1b[31m\nfake: line\u202e: gone"),
    (DiagnosticRaised(note=Note(severity=Severity.WARNING, code="c", message="tags stay")), "diagnostic", logging.WARNING, "tags stay"),
    (ThrottleChanged(concurrency=4, most_concurrency=8, paused=""), "throttle", logging.INFO, "4 of 8 at once"),
    (ThrottleChanged(concurrency=4, most_concurrency=8, paused="lag"), "throttle", logging.WARNING, "paused: lag"),
    (RunFinished(run="r", state="completed"), "run_finished", logging.INFO, "run r: completed"),
    (RunStarted(job="purge", run="p", source="old", destination="new", strategy=Strategy.MOVE, reason="in vain", dry_run=False, resumed=False, rows=None), "run_started", logging.INFO, "purge p: old -> new, in vain"),
]  # fmt: skip


def test_each_event_is_a_record_and_bytes_are_none(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "migrate_storage.run")
    listen = logged()
    for event, *_ in EVENTS:
        listen(event)
    listen(BytesTransferred(count=5))
    assert [record.name for record in caplog.records] == ["migrate_storage.run"] * len(EVENTS)
    said = [(record.migrate_storage["event"], record.levelno, record.getMessage()) for record in caplog.records]
    assert said == [(name, level, line) for _, name, level, line in EVENTS]


def test_a_level_that_is_off_costs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("shop.files")
    caplog.set_level(logging.WARNING, "shop.files")
    for event, *_ in EVENTS:
        logged(logger)(event)
    assert [record.migrate_storage["event"] for record in caplog.records] == [
        "object_finished",
        "diagnostic",
        "throttle",
    ]


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
