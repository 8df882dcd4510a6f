"""`runs`, `status`, `report` and `journal`: what the journal knows, and where it stands."""

from __future__ import annotations

import json
import re

import sqlalchemy as sa

from tests.support.cli.project import Project

RUN = ("run", "--app", "app", "--from", "old", "--to", "new", "--settle-time", "0")
APP = ("--app", "app")


def tables(project: Project) -> set[str]:
    return set(sa.inspect(sa.create_engine(f"sqlite:///{project.directory}/app.db")).get_table_names())


def test_runs_are_listed_the_latest_first_and_found_by_the_beginning_of_their_name(project: Project) -> None:
    assert project("runs", *APP).stdout == "No run yet: `migrate-storage plan` shows what one would do.\n"
    first = project(*RUN, "--limit", "2")
    second = project(*RUN)
    listed = project("runs", *APP).stdout.splitlines()
    assert [re.split(r"\s{2,}", line)[3] for line in listed] == ["completed", "limit_reached"]
    names = [line.split()[0] for line in listed]
    assert [json.loads(line)["id"] for line in project("runs", *APP, "--json").stdout.splitlines()] == names
    latest, earlier = project("report", *APP), project("report", names[1], *APP)
    assert (latest.returncode, earlier.returncode) == (0, 4)
    for shown, first_time in ((latest, second), (earlier, first)):
        before, after = ([line for line in each.stdout.splitlines()[:-1] if line] for each in (first_time, shown))
        assert [line for line in after if line in before] == before, "all but the next command's flags"
        assert f"  document.file: {2 if first_time is first else 8} repointed" in after
    assert "no runs begin with 'zzz'" in project("report", "zzz", *APP).stderr
    status = project("status", *APP)
    assert status.stdout.startswith(f"{names[0]}  completed  old -> new (move)\n")
    assert "8 rows re-pointed" in status.stdout
    assert json.loads(project("status", *APP, "--json").stdout)["report"]["rows_repointed"] == 8


def test_the_tables_are_created_shown_pruned_and_dropped(project: Project) -> None:
    before = tables(project)
    statements = project("journal", "sql", *APP).stdout
    assert tables(project) == before
    assert project("journal", "create", *APP).returncode == 0
    ours = tables(project) - before
    assert ours
    assert all(name.startswith("migrate_storage_") and name in statements for name in ours)
    project(*RUN)
    assert "Deleted 0 records" in project("journal", "prune", *APP).stdout
    assert "Deleted 20 records" in project("journal", "prune", *APP, "--older-than", "0").stdout
    assert "10 repointed" in project("report", *APP).stdout
    asked = project("journal", "drop", *APP)
    assert asked.returncode == 130
    assert tables(project) == before | ours
    assert project("journal", "drop", *APP, "--yes").returncode == 0
    assert tables(project) == before


def test_the_statements_make_the_same_tables_as_create(project: Project) -> None:
    statements = project("journal", "sql", *APP).stdout
    by_hand = sa.create_engine("sqlite://")
    with by_hand.connect() as connection:
        for statement in statements.split(";\n"):
            if statement.strip():
                connection.exec_driver_sql(statement)
        project("journal", "create", *APP)
        created = sa.inspect(sa.create_engine(f"sqlite:///{project.directory}/app.db"))
        written = sa.inspect(connection)
        for name in written.get_table_names():
            columns = [
                [(each["name"], str(each["type"])) for each in side.get_columns(name)] for side in (created, written)
            ]
            assert columns[0] == columns[1]


def test_the_journal_can_stand_elsewhere(project: Project) -> None:
    before = tables(project)
    elsewhere = ("--journal", f"sqlite:///{project.directory}/journal.db")
    assert project(*RUN, *elsewhere).returncode == 0
    assert tables(project) == before
    assert project.keys() == {"new": 10}
    assert "10 repointed" in project("report", *APP, *elsewhere).stdout
