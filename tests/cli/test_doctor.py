"""`doctor` finds what a run would stumble over, and leaves nothing behind."""

from __future__ import annotations

import json
import shutil

from tests.cli.conftest import Project

DOCTOR = ("doctor", "--app", "app", "--from", "old", "--to", "new")


def test_a_healthy_application_can_begin_and_nothing_is_left_behind(project: Project) -> None:
    before = project.snapshot()
    ended = project(*DOCTOR)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.startswith("move: ")
    assert "yes  the destination refuses to replace an object" in ended.stdout
    assert "A run can begin.\n\nNext\n  " in ended.stdout
    assert ended.stdout.endswith("plan --app app --from old --to new\n")
    assert project.snapshot() == before
    assert project(*DOCTOR, "--quiet").stdout == ""
    told = [json.loads(line) for line in project(*DOCTOR, "--json").stdout.splitlines()]
    assert [each["event"] for each in told[:3]] == ["way", "destination", "note"]
    assert told[0]["way"] == "move"
    assert told[1]["create_only"] is True


def test_a_source_that_is_gone_is_found(project: Project) -> None:
    shutil.rmtree(project.directory / "old")
    ended = project(*DOCTOR)
    assert ended.returncode == 2, ended.stdout
    assert "old" in ended.stdout + ended.stderr
