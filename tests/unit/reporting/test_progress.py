"""What a run shows while it goes on: on a terminal, in a log, to a machine."""

from __future__ import annotations

import io
import json
import re
import timeit
from typing import Any

import pytest
from rich.console import Console

from migrate_storage.core.events import (
    BytesTransferred,
    DiagnosticRaised,
    Event,
    ObjectFinished,
    PassStarted,
    RunFinished,
    RunStarted,
    ThrottleChanged,
)
from migrate_storage.core.model import Column, Location, Note, Outcome, OutcomeKind, RowRef, Severity, Strategy
from migrate_storage.reporting.progress import shown_on
from migrate_storage.reporting.progress.counting import Counting
from migrate_storage.reporting.progress.json_lines import JsonLines
from migrate_storage.reporting.progress.live import LiveDisplay
from migrate_storage.reporting.progress.plain import Lines, Shown
from migrate_storage.reporting.progress.state import ProgressState

COLUMN = Column(table="doc", column="file", key=("id",))
EVIL = "x\x1b[2J[red]bold[/red]\n.pdf"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def started(rows: int | None = 10, *, dry_run: bool = False, resumed: bool = False) -> RunStarted:
    return RunStarted(
        job="run", run="r1", source="old", destination="new", strategy=Strategy.MOVE, reason=f"another {EVIL}",
        dry_run=dry_run, resumed=resumed, rows=rows,
    )  # fmt: skip


def item(kind: OutcomeKind = OutcomeKind.REPOINTED, rows: int = 1, index: int | None = None) -> ObjectFinished:
    refs = tuple(RowRef(COLUMN, (number,), () if index is None else (index,)) for number in range(rows))
    return ObjectFinished(
        outcome=Outcome(kind=kind, source=Location("old", EVIL), destination=Location("new", "k"), refs=refs)
    )


def test_objects_whose_rows_are_re_pointed_later_count_for_the_time_left() -> None:
    clock = Clock()
    tally = ProgressState(clock)
    tally.add(started(1000))
    for _ in range(900):
        tally.add(BytesTransferred(count=0, objects=1))
    clock.now += 90
    assert tally.share == pytest.approx(0.81)
    assert tally.seconds_left == pytest.approx(90 * 0.19 / 0.81)
    for _ in range(1000):
        tally.add(item())
    assert tally.share == 1.0


def test_the_tally_counts_objects_rows_bytes_and_failures() -> None:
    clock = Clock()
    tally = ProgressState(clock)
    assert (tally.rows_total, tally.share, tally.seconds_left) == (None, None, None)
    for event in (
        started(10),
        PassStarted(number=1),
        item(),
        item(rows=3),
        item(OutcomeKind.MISSING),
        BytesTransferred(count=2048),
    ):
        tally.add(event)
    clock.now += 10
    assert (tally.objects, tally.rows, tally.bytes, tally.failures) == (3, 5, 2048, 1)
    assert (tally.share, tally.seconds_left) == (0.5, 10.0)
    assert tally.line() == "50%, 3 objects, 2.0 KiB, 0 objects/s, 205 B/s, 1 problem, 10.0 s left"


def test_a_list_of_files_is_one_row_and_the_share_never_passes_the_whole() -> None:
    tally = ProgressState(Clock())
    for event in (started(1), item(index=0), item(index=1), item(index=2)):
        tally.add(event)
    assert tally.rows == 1
    tally.add(item())
    assert tally.share == 1.0
    empty = ProgressState(Clock())
    empty.add(started(0))
    assert empty.share == 1.0


def test_lines_come_every_few_seconds_and_at_the_end() -> None:
    clock, stream = Clock(), io.StringIO()
    with Lines(stream, every=5, clock=clock) as lines:
        lines(started())
        for _ in range(3):
            lines(item())
        assert len(stream.getvalue().splitlines()) == 1
        clock.now += 6
        lines(item())
        lines(item())
        assert len(stream.getvalue().splitlines()) == 2
        lines(DiagnosticRaised(note=Note(severity=Severity.INFO, code="a", message="not worth a line")))
        lines(DiagnosticRaised(note=Note(severity=Severity.WARNING, code="a", message="mind this", todo="do that")))
        lines(RunFinished(run="r1", state="completed"))
    written = stream.getvalue().splitlines()
    assert written[0].startswith(r"Run r1: old -> new, 10 rows to go (move: another x\x1b[2J[red]")
    assert written[1].startswith("40%, 4 objects, ")
    assert written[2] == "warning: mind this - do that"
    assert written[3].startswith("100%, 5 objects, ")
    assert "\x1b" not in stream.getvalue()


def announced(**values: Any) -> str:
    given: dict[str, Any] = {
        "run": "r1", "source": "old", "destination": "new", "strategy": Strategy.MOVE, "reason": "why", "dry_run": False, "resumed": False,
        "rows": None, **values,
    }  # fmt: skip
    stream = io.StringIO()
    Lines(stream)(RunStarted(**given))
    return stream.getvalue().rstrip("\n")


ALL = {"source": "all keys", "destination": "all keys", "strategy": Strategy.IN_PLACE}


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"job": "run", "rows": 3}, "Run r1: old -> new, 3 rows to go (move: why)"),
        ({"job": "run", "dry_run": True}, "Plan r1: old -> new (move: why)"),
        ({"job": "run", "resumed": True}, "Run r1: old -> new (move: why) (continues earlier runs)"),
        ({"job": "run", "resumed": True, "same_run": True}, "Resuming run r1: old -> new (move: why)"),
        ({"job": "verify", "reason": "checked", "dry_run": True, **ALL}, "Verifying all keys (run r1)"),
        ({"job": "verify", "reason": "both sides read", "dry_run": True, **ALL}, "Verifying all keys (run r1): both sides read"),
        ({"job": "orphans", "reason": "found", "dry_run": True, **ALL}, "Orphans of all keys (run r1): found"),
        ({"job": "purge"}, "Begun purge r1: old -> new (why)"),
        ({"job": "purge", "dry_run": True}, "Plan of a purge r1: old -> new (why)"),
        ({"job": "revert", "dry_run": True}, "Plan of a revert r1: old -> new (why)"),
        ({"job": "check", "dry_run": True}, "Begun check r1: old -> new (why)"),
        ({"job": "sync", "dry_run": True}, "Plan of a sync r1: old -> new (why)"),
        ({"job": "sync", "resumed": True}, "Begun sync r1: old -> new (why) (continues earlier runs)"),
        ({"job": "sync", "resumed": True, "same_run": True}, "Resuming sync r1: old -> new (why)"),
    ],
)  # fmt: skip
def test_the_first_line_names_the_job_and_a_new_run_is_not_called_resumed(values: dict[str, Any], line: str) -> None:
    assert announced(**values) == line


def test_json_lines_are_one_object_each_with_the_documented_names() -> None:
    clock, stream = Clock(), io.StringIO()
    with JsonLines(stream, every=1, clock=clock) as lines:
        for event in (
            started(), PassStarted(number=1), item(OutcomeKind.FAILED), BytesTransferred(count=10),
            DiagnosticRaised(note=Note(severity=Severity.REFUSED, code="c", message="m")),
        ):  # fmt: skip
            lines(event)
        clock.now += 2
        lines(BytesTransferred(count=10))
        lines(RunFinished(run="r1", state="completed"))
    assert stream.getvalue().isascii()
    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [each["event"] for each in told] == [
        "run_started", "pass_started", "object_finished", "diagnostic", "progress", "progress", "run_finished",
    ]  # fmt: skip
    assert told[0]["strategy"] == "move"
    assert told[2]["kind"] == "failed"
    assert told[2]["source"] == {"backend": "old", "path": EVIL}
    assert told[3]["severity"] == "refused"
    assert told[4] | {"seconds_left": 0} == {
        "event": "progress", "objects": 1, "rows": 1, "rows_total": 10, "bytes": 20, "failures": 1,
        "seconds": 2.0, "seconds_left": 0,
    }  # fmt: skip


def drawn(*events: Event) -> str:
    clock, stream = Clock(), io.StringIO()
    console = Console(
        file=stream, force_terminal=True, width=110, color_system=None, highlight=False, markup=False, emoji=False
    )
    display = LiveDisplay(console, clock=clock)
    for event in events:
        display(event)
    clock.now += 10
    console.print(display.render())
    return stream.getvalue()


def test_the_live_display_shows_objects_bytes_rates_time_left_and_failures() -> None:
    text = drawn(
        started(8), PassStarted(number=2), item(), item(OutcomeKind.DESTINATION_EXISTS), BytesTransferred(count=20480)
    )
    for part in (
        "25%",
        "2 objects",
        "0/s",
        "20.0 KiB",
        "2.0 KiB/s",
        "1 problem",
        "1 destination exists",
        "30.0 s left",
        "pass 2",
    ):
        assert part in text, part


def test_it_is_said_why_a_run_is_slow_or_waits() -> None:
    slowed = ThrottleChanged(concurrency=4, most_concurrency=32, paused="")
    paused = ThrottleChanged(concurrency=4, most_concurrency=32, paused=f"because {EVIL}")
    assert "slowed down to 4 of 32 at once" in drawn(started(), slowed)
    assert "paused: because " in drawn(started(), slowed, paused)
    assert "paused" not in drawn(started(), paused, ThrottleChanged(concurrency=32, most_concurrency=32, paused=""))
    clock, stream = Clock(), io.StringIO()
    lines = Lines(stream, every=5, clock=clock)
    machine = io.StringIO()
    for event in (started(), paused):
        clock.now += 6
        lines(event)
        JsonLines(machine, clock=clock)(event)
    assert "objects/s, 0 B/s, paused: because x\\x1b[2J[red]" in stream.getvalue()
    assert "\x1b" not in stream.getvalue() + machine.getvalue()
    assert json.loads(machine.getvalue().splitlines()[-1]) == {
        "event": "throttle", "concurrency": 4, "most_concurrency": 32, "paused": f"because {EVIL}",
    }  # fmt: skip


def test_nothing_from_a_key_reaches_the_terminal_as_an_escape_or_as_markup() -> None:
    text = drawn(
        started(), DiagnosticRaised(note=Note(severity=Severity.WARNING, code="c", subject=EVIL, message=EVIL))
    )
    assert "\x1b[2J" not in text
    assert text.count("[red]bold[/red]") == 3


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = io.StringIO()
    stream.isatty = lambda: True  # type: ignore[method-assign]
    shown = shown_on(stream)
    assert isinstance(shown, LiveDisplay)
    with shown:
        shown(started())
        shown(item(OutcomeKind.MISSING))
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", stream.getvalue()), "a colour"
    assert "1 missing" in stream.getvalue()


def test_the_listener_suits_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    stream, out = io.StringIO(), io.StringIO()
    assert isinstance(shown_on(stream), Lines)
    assert type(shown_on(stream, quiet=True)) is Shown
    assert isinstance(shown_on(stream, as_json=True, quiet=True, lines=out), JsonLines)
    stream.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(shown_on(stream), Lines)


@pytest.mark.parametrize("shown", [Lines(io.StringIO()), LiveDisplay(Console(file=io.StringIO()))])
def test_an_event_costs_next_to_nothing(shown: Lines | LiveDisplay) -> None:
    shown(started(10_000_000))
    event = item()
    best = min(timeit.repeat(lambda: shown(event), number=2000, repeat=20)) / 2000
    assert best < 20e-6, f"{best * 1e6:.1f} µs an event"


def test_keys_are_counted_in_a_line_every_few_seconds() -> None:
    clock, stream = Clock(), io.StringIO()
    with Counting(stream, clock=clock) as keys:
        for _ in range(1200):
            clock.now += 0.01
            keys.add()
    assert stream.getvalue().splitlines() == [
        "500 keys compared or repaired, 5.0 s",
        "1,000 keys compared or repaired, 10.0 s",
    ]


def test_keys_are_counted_in_one_line_of_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = io.StringIO()
    stream.isatty = lambda: True  # type: ignore[method-assign]
    with Counting(stream, clock=Clock()) as keys:
        keys.add()
    assert "1 key compared or repaired" in stream.getvalue()
    assert "\n1 key" not in stream.getvalue()


def test_quietly_no_key_is_counted() -> None:
    clock, stream = Clock(), io.StringIO()
    with Counting(stream, quiet=True, clock=clock) as keys:
        clock.now += 10
        keys.add()
    assert stream.getvalue() == ""
