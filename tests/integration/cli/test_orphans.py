"""`orphans` as a person types it: what it says, its files, and its next commands."""

from __future__ import annotations

import json
import shlex

from tests.support.cli.project import Project, one_line_of

APP = ("--app", "app", "--key", "old", "--min-age", "0")


def test_a_look_a_move_and_the_way_back_as_each_says_it(project: Project) -> None:
    (project.directory / "old" / "d" / "st\x1b[2Jray.txt").write_bytes(b"nobody's")
    (project.directory / "old" / "d" / "3.txt").unlink()
    before = {name: digest for name, digest in project.snapshot().items() if name.startswith("old/")}
    look = project("orphans", *APP, "--missing-on-src", "orphans.txt", "--missing-on-dst", "missing.txt")
    assert look.returncode == 1, look.stderr
    assert "\x1b" not in look.stdout
    assert "Finished, with 2 problems." in look.stdout
    assert "9 in use, 1 orphan, 1 missing" in look.stdout.replace("1 missing, 1 orphan", "1 orphan, 1 missing")
    assert "document.file[4]" in look.stdout
    assert (project.directory / "missing.txt").read_text() == "d/3.txt\n"
    assert (project.directory / "orphans.txt").read_text().startswith("d/st")

    plan = project("orphans", *APP, "--quarantine", ".q", "--acknowledge-missing", "eaten")
    assert plan.returncode == 0, plan.stderr
    assert "A plan, nothing was changed: 1 object to move." in plan.stdout
    words = shlex.split(plan.stdout.splitlines()[-1])
    assert {"--yes", "--quarantine", ".q", "--acknowledge-missing", "eaten"} <= set(words), words
    moved = project("orphans", *APP, "--quarantine", ".q", "--acknowledge-missing", "eaten", "--yes", "--json")
    report = json.loads(moved.stdout.splitlines()[-1])
    assert (moved.returncode, report["kind"]) == (0, "orphans")
    assert report["counts"] == {"in_use": 9, "quarantined": 1, "known_missing": 1}
    shown = project("report", "--app", "app")
    assert (shown.returncode, report["run"] in shown.stdout) == (0, True)
    assert "orphans" in project("runs", "--app", "app").stdout

    back = project("orphans", *APP, "--restore", "--yes")
    assert back.returncode == 0, back.stderr
    assert "1 restored" in back.stdout
    assert {name: digest for name, digest in project.snapshot().items() if name.startswith("old/")} == before


def test_a_silly_prefix_is_refused_in_one_line(project: Project) -> None:
    refused = project("orphans", "--app", "app", "--quarantine", "a//b")
    assert refused.returncode == 2
    assert "has an empty path segment: name a folder of its own" in one_line_of(refused)
