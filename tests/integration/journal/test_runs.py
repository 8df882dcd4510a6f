"""Jobs of one kind between two keys are found behind any number of others."""

from __future__ import annotations

import contextlib

import pytest
import sqlalchemy as sa

from migrate_storage.database.connection import Database
from migrate_storage.journal import Journal
from migrate_storage.journal.records import RunRecord


def record(name: str, kind: str, source: str, started: float) -> RunRecord:
    return RunRecord(
        id=name, kind=kind, source=source, destination="new", way="move", state="completed", started=started, updated=started,
        finished=started, report="",
    )  # fmt: skip


@pytest.mark.parametrize("database", ["sqlite", "postgres", "mariadb"])
def test_plans_of_purges_hide_no_run(database: str, request: pytest.FixtureRequest) -> None:
    with contextlib.closing(Database(request.getfixturevalue(f"{database}_url"))) as connected:
        connected.connect()
        journal = Journal(connected)
        journal.prepare()
        journal.runs.begin(record("first", "run", "old", 1.0))
        journal.runs.begin(record("spaced", "run", "old ", 2.0))
        names = tuple(record("", "", "", 0).__dataclass_fields__)
        purges = [record(f"purge {number}", "purge", "old", 10.0 + number) for number in range(1001)]
        connected.transaction(
            lambda connection: connection.execute(
                sa.insert(journal.runs.table), [{name: getattr(each, name) for name in names} for each in purges]
            )
        )
        assert [run.id for run in journal.runs.between("run", "old", "new")] == ["first"]
        assert journal.runs.migration_run().id == "spaced"
        assert [run.id for run in journal.runs.migration_runs(record("", "run", "old", 0))] == ["first"]
