"""Over made-up schemas: after a run each file opens under its new key or its column is reported, and a purge breaks none."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.jobs.purge.job import PurgeJob
from migrate_storage.jobs.purge.rules import PurgeOptions
from migrate_storage.jobs.run.job import RunJob
from migrate_storage.jobs.run.options import RunOptions
from migrate_storage.reporting import Report
from tests.support.engine import registrations as places
from tests.support.evidence import Evidence
from tests.support.jobs.made_up_schema import MadeUp
from tests.support.server_fixtures import ensure_service
from tests.support.servers import DatabaseServer

SOAK_SCHEMAS = 40
"""Schemas of one database in the soak; a tenth of them otherwise."""


def run(made: MadeUp, excused: tuple[str, ...], done: Counter[str]) -> Report:
    """Run; where the rows cannot be told apart, nothing is touched, and the run is made without them."""
    options = RunOptions(
        source="old", destination="new", settle_time=0.0, batch_size=made.random.choice((2, 100)), excused=excused
    )
    before = made.texts()
    try:
        return RunJob(made.application, options).run()
    except ConfigurationError as error:
        assert "nothing was touched" in str(error)
        assert list(made.texts().values()) == list(before.values())
    done["refused for keys"] += 1
    made.remove_doubtful_rows()
    return RunJob(made.application, options).run()


def purge(made: MadeUp, excused: tuple[str, ...], done: Counter[str]) -> None:
    options = PurgeOptions(older_than=0.0, yes=True, lease_ttl=1.0, visible_tables_only=True, excused=excused)
    try:
        report = PurgeJob(made.application, options).run()
        done["deleted"] += sum(count for kind, count in report.counts.items() if kind.value == "deleted")
    except ConfigurationError as error:
        assert "nothing was deleted" in str(error)
        done["purges refused"] += 1


def check(made: MadeUp, done: Counter[str]) -> None:
    """A run and two purges of one schema."""
    hidden = [
        f"{table.name}.{column.name}" for table in made.tables for column in table.columns if column.kind == "hidden"
    ]
    excused = tuple(name for name in hidden if made.random.random() < 0.2)
    report = run(made, excused, done)
    assert report.state == "completed"
    done["files"] += made.check_opens()
    named = made.naming("old")
    listed = {str(ref).partition("[")[0] for outcome in report.problems for ref in outcome.refs}
    assert report.census is not None
    counted = {str(each) for each in report.census.columns if each.rows.get("old")}
    assert named.keys() <= counted, "each column that names the old key is in the report"
    assert (report.exit_code == 0) == (named.keys() <= set(excused))
    assert not made.left_in_known_columns() or listed
    assert listed <= counted
    done["columns left"] += len(named)
    purge(made, excused, done)
    made.check_opens(set(excused))
    every = {*excused, *(name for name in hidden if made.random.random() < 0.7)}
    purge(made, tuple(every), done)
    made.check_opens(every)


@pytest.mark.parametrize(
    "count", [SOAK_SCHEMAS // 10, pytest.param(SOAK_SCHEMAS, marks=[pytest.mark.soak, pytest.mark.timeout(7200)])]
)
@pytest.mark.parametrize("database", ["sqlite", "postgres", "mariadb"])
def test_no_file_is_left_unseen_and_none_is_lost(
    database: str, count: int, tmp_path: Path, seed: int, evidence: Evidence
) -> None:
    seeds = random.Random(f"{seed} {database}")
    done: Counter[str] = Counter()
    for number in range(count):
        chosen, folder = seeds.randrange(2**32), tmp_path / str(number)
        print(f"schema {chosen} in {database}")  # pytest shows it with a failure
        with ExitStack() as stack:
            url = f"sqlite:///{folder}/app.db"
            if database != "sqlite":
                url = stack.enter_context(DatabaseServer(service=ensure_service(database)).database())
            stores = places.old_local(folder / "old").build(), places.new_local(folder / "new").build()
            made = MadeUp(url, folder, chosen, stores)
            stack.callback(made.close)
            check(made, done)
    assert done["files"] > count
    evidence.record(
        f"In {count} made-up schemas of {database} each file that the database names anywhere opened after a run, each column that "
        "still named the old key was in the report, and no purge broke a file of a column that was not excused",
        **done,
    )
