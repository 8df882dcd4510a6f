"""`report` as it is typed: text, JSON and a page out of one journal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from migrate_storage.__main__ import main
from migrate_storage.journal import Journal
from tests.support.reporting.journaled import journaled


@pytest.fixture
def command(journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    journaled(journal, 50, one_in=10)
    monkeypatch.chdir(tmp_path)
    return ("report", "--database", f"sqlite:///{tmp_path}/journal.db")


def test_a_page_is_written_and_the_exit_code_is_the_run_s(
    command: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--html", "r.html"]) == 1
    page = (tmp_path / "r.html").read_text()
    assert capsys.readouterr().out == f"Wrote r.html, {len(page) / 1024:.1f} KiB: open it in a browser.\n"
    assert "<h1>Finished, with 5 problems. 5 rows still name &#x27;old&#x27;.</h1>" in page
    assert f"run --from old --to new --database sqlite:///{tmp_path}/journal.db</pre>" in page
    assert main([*command, "--html", "-"]) == 1
    assert capsys.readouterr().out == page
    assert main([*command, "--html", "r.html", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {"event": "written", "path": "r.html"}


def test_a_page_that_cannot_be_written_is_one_line(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--html", "no/such/r.html"]) == 2
    assert "--html no/such/r.html: cannot be written: No such file or directory" in capsys.readouterr().err


def test_text_and_json_have_the_figures(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command]) == 1
    assert "\n  documents.file: 38 repointed, 2 missing, 1 destination exists, 1 failed\n" in capsys.readouterr().out
    assert main([*command, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["figures"]["objects"], told["problem_count"]) == (50, 5)
    assert told["figures"]["columns"]["documents.file"] == {
        "repointed": 38,
        "missing": 2,
        "destination_exists": 1,
        "failed": 1,
    }


def test_no_color_is_honoured(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    main([*command])
    assert "\x1b[1;33mFinished, with 5 problems" in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    main([*command])
    assert "\x1b[1mFinished, with 5 problems" in capsys.readouterr().out


def test_566_problems_of_three_reasons_are_short_at_80_columns_and_quiet_is_less_than_five_lines(
    journal: Journal, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    journaled(journal, 566, one_in=1)
    command = ["report", "--database", f"sqlite:///{tmp_path}/journal.db"]
    for name, value in (("FORCE_COLOR", "1"), ("TERM", "dumb"), ("COLUMNS", "80"), ("LINES", "25")):
        monkeypatch.setenv(name, value)
    assert main(command) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "Problems (566)" in lines
    assert len(lines) < 60, "three reasons, and the figures that only `report` has"
    assert [line for line in lines if len(line) > 80] == [lines[-1]], "only the next command is one line"
    assert main([*command, "--quiet"]) == 1
    quiet = capsys.readouterr().out.splitlines()
    assert len(quiet) < 5
    assert lines[0].startswith(quiet[0][:60])
