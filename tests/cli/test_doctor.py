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
    assert ended.stdout.endswith("A run can begin: `migrate-storage plan` says what it would do.\n")
    assert project.snapshot() == before
    assert project(*DOCTOR, "--quiet").stdout == ""
    for line in project(*DOCTOR, "--json").stdout.splitlines():
        assert {"severity", "code", "message"} <= json.loads(line).keys()


def test_a_source_that_is_gone_is_found(project: Project) -> None:
    shutil.rmtree(project.directory / "old")
    ended = project(*DOCTOR)
    assert ended.returncode == 2, ended.stdout
    assert "old" in ended.stdout + ended.stderr
