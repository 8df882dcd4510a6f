"""`doctor` finds what a run would stumble over, and leaves nothing behind."""

from __future__ import annotations

import json

import sqlalchemy as sa

from tests.support.cli.project import Project, one_line_of

DOCTOR = ("doctor", "--app", "app", "--from", "old", "--to", "new")


def test_a_healthy_application_can_begin_and_nothing_is_left_behind(project: Project) -> None:
    before = project.snapshot()
    ended = project(*DOCTOR)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.startswith("move: ")
    assert "\n  step by step: playbooks/local-to-s3.md\n" in ended.stdout
    assert "yes  the destination refuses to replace an object" in ended.stdout
    assert "A run can begin.\n\nNext command\n  " in ended.stdout
    assert ended.stdout.endswith("plan --app app --from old --to new\n")
    assert project.snapshot() == before
    assert project(*DOCTOR, "--quiet").stdout == ""
    told = [json.loads(line) for line in project(*DOCTOR, "--json").stdout.splitlines()]
    assert [each["event"] for each in told[:3]] == ["strategy", "destination", "diagnostic"]
    assert told[0]["strategy"] == "move"
    assert told[1]["create_only"] is True


def test_a_table_that_is_not_there_is_found(project: Project) -> None:
    with sa.create_engine(f"sqlite:///{project.directory}/app.db").begin() as connection:
        connection.exec_driver_sql("ALTER TABLE document RENAME TO elsewhere")
    ended = project(*DOCTOR)
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert "document" in one_line_of(ended)


def test_a_row_under_a_key_that_is_not_registered_is_found(project: Project) -> None:
    with sa.create_engine(f"sqlite:///{project.directory}/app.db").begin() as connection:
        file = '{"filename": "a.txt", "backend": "gone", "content_type": "text/plain"}'
        connection.exec_driver_sql("INSERT INTO document (title, file) VALUES ('x', ?)", (file,))
    ended = project(*DOCTOR)
    assert ended.returncode == 0, ended.stderr
    assert "warning: gone: 1 reference (1 in document.file) to this key, under which no backend" in ended.stdout
    assert "until then `purge` and `orphans` refuse" in ended.stdout
    refused = project("orphans", "--app", "app")
    assert refused.returncode == 3
    assert "gone" in refused.stdout
