"""`control` and `status`: a hand on a run from another process, and the options that pace it from the start."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
import sqlalchemy as sa

from migrate_storage.__main__ import main
from migrate_storage.cli.param_types import BYTES, SECONDS
from tests.support.cli.project import Project, one_line_of

APP = ("--app", "app")
RUN = ("run", *APP, "--from", "old", "--to", "new", "--settle-time", "0")


def line(project: Project) -> dict[str, Any]:
    """The latest run's line in the journal, its JSON read; empty while there is none."""
    engine = sa.create_engine(f"sqlite:///{project.directory}/app.db")
    try:
        with engine.connect() as connection:
            found = (
                connection.exec_driver_sql("SELECT * FROM migrate_storage_run ORDER BY started DESC").mappings().first()
            )
    except sa.exc.OperationalError:
        return {}
    loaded = {name: json.loads(found[name]) if found and found[name] else {} for name in ("progress", "control")}
    return {**found, **loaded} if found else {}


def until(condition: Callable[[], Any], run: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        assert run.poll() is None, "the run ended before"
        assert time.monotonic() < deadline, "it did not come about within 90 seconds"
        time.sleep(0.05)


def test_a_run_is_paused_retuned_and_stopped_from_another_process(project: Project) -> None:
    run = project.start(*RUN, "--max-requests-per-second", "2", "--concurrency", "2")
    until(lambda: line(project).get("progress"), run)
    said = project("control", "pause", *APP)
    assert (said.returncode, "pause is asked for" in said.stdout) == (0, True), said.stderr
    until(lambda: line(project)["progress"]["paused"], run)
    name = line(project)["id"]
    told = project("control", name[:17], "set", *APP, "--concurrency", "5", "--bandwidth", "10M", "--json")
    assert json.loads(told.stdout)["bandwidth"] == 10 * 1024**2
    until(lambda: line(project)["progress"]["most_concurrency"] == 5, run)
    assert line(project)["control"] == {"paused": True, "concurrency": 5, "bandwidth": 10 * 1024**2}
    shown = project("status", *APP).stdout
    assert "paused: asked to pause by 'migrate-storage control'" in shown
    assert "5 at once, 10.0 MiB/s at most, 2 requests/s at most" in shown
    assert project("control", "stop", *APP).returncode == 0
    out, _ = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "Stopped" in out
    assert "is interrupted: it cannot be controlled any more" in one_line_of(project("control", "resume", *APP))
    assert project.keys().get("old")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("control",), "name what to do, one of pause, resume, set, stop"),
        (("control", "x", "halt"), "name what to do, one of"),
        (("control", "set"), "name what to set"),
        (("control", "pause", "--concurrency", "3"), "go with set"),
        (("control", "set", "--concurrency", "0"), "0 is not in the range"),
        (("control", "pause", "--database", "sqlite://"), "no run is journaled"),
        ((*RUN, "--bandwidth", "fast"), "'fast' is no number of bytes, such as 64MiB"),
        ((*RUN, "--max-duration", "soon"), "'soon' is no time, such as 2h"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    words: tuple[str, ...],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("0.5", 0.5), ("90s", 90), ("5m", 300), ("2h", 7200), ("1h30m", 5400), ("1d", 86400)],
)
def test_times_are_said_as_people_do(text: str, seconds: float) -> None:
    assert SECONDS.convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "h", "2 h 3", "-1", "1x", "m5"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is no time"):
        SECONDS.convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "size"),
    [("10M", 10 * 1024**2), ("1.5G", 1536 * 1024**2), ("512", 512), ("64 KiB", 65536), ("2tb", 2 * 1024**4)],
)
def test_sizes_are_said_as_people_do(text: str, size: int) -> None:
    assert BYTES.convert(text, None, None) == size


def test_limits_and_patterns_on_the_command_line_and_in_the_file(project: Project) -> None:
    (project.directory / "migrate-storage.toml").write_text(
        'include = ["d/1.txt", "d/2.txt", "d/3.txt"]\nmax-bytes = "20"\n'
    )
    first = project(*RUN, "--concurrency", "1", "--exclude", "3.txt")
    assert first.returncode in (0, 4), first.stderr
    second = project(*RUN, "--exclude", "3.txt", "--max-bytes", "1G")
    assert second.returncode == 0, second.stdout
    assert project.keys() == {"new": 2, "old": 8}
    assert "8 rows left out by include and exclude patterns" in second.stdout
