"""Each row keeps its own file: keys that do not tell rows apart, and UPDATEs that do something else than they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.model import Column, OutcomeKind
from migrate_storage.database.compare_and_swap import LEFT_AS_IT_IS, WRITTEN_OTHERWISE
from migrate_storage.engine.rekey import listing
from migrate_storage.jobs.revert.job import RevertJob, RevertOptions
from migrate_storage.jobs.run import passes, preflight
from migrate_storage.jobs.verify.check_object import VerifyOptions
from migrate_storage.jobs.verify.job import VerifyJob
from migrate_storage.reporting import Report
from tests.support.engine import registrations as places
from tests.support.engine.world import World

DOC = Column(table="doc", column="file", key=("id",), backend="old", multiple=False)
ROWS = 12


def kind_of(world: World) -> str:
    return world.engine.dialect.name


def make(world: World, ddl: str, *, table: str = "doc", rows: int = ROWS) -> None:
    """A table ``doc (tenant, id, file)`` with a file for each row, named like the row."""
    world.columns = (DOC,)
    json_type = {"postgresql": "JSONB", "mysql": "JSON"}.get(kind_of(world), "TEXT")
    for statement in ddl.replace("{json}", json_type).split(";"):
        world.sql(statement)
    for n in range(rows):
        insert(world, n % 2, n, table=table)


def insert(world: World, tenant: Any, id_: Any, *, table: str = "doc") -> None:
    name = f"{tenant}-{id_}.txt"
    value = json.dumps({**world.file(name).to_dict(), "owner": name})
    given = "CAST(:file AS JSONB)" if kind_of(world) == "postgresql" else ":file"
    world.sql(
        f"INSERT INTO {table} (tenant, id, file) VALUES (:tenant, :id, {given})", tenant=tenant, id=id_, file=value
    )


def named(world: World) -> dict[str, str]:
    """By the name that the row itself has of its file: the backend, after a check that it is the row's own file."""
    found = {}
    for (value,) in world.sql("SELECT file FROM doc"):
        file = json.loads(value) if isinstance(value, str) else value
        assert file["filename"] == file["owner"], file
        found[file["owner"]] = file["backend"]
    return found


def revert(world: World) -> Report:
    return RevertJob(world.application, RevertOptions(settle_time=0.1), listener=world.events.append).run()


def reasons(report: Report) -> list[str]:
    return sorted(outcome.reason for outcome in report.problems)


PLAIN = "CREATE TABLE doc (tenant INTEGER, id INTEGER NOT NULL, file {json}, PRIMARY KEY (id))"
NO_KEY = "CREATE TABLE doc (tenant INTEGER, id INTEGER, file {json})"
TENANTS = "CREATE TABLE doc (tenant INTEGER NOT NULL, id INTEGER NOT NULL, file {json}, PRIMARY KEY (tenant, id))"


@pytest.fixture
def in_bulk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few rows are enough for the bulk re-key."""
    monkeypatch.setattr(passes, "MIN_BATCHED_REKEY_ROWS", 1)
    monkeypatch.setattr(listing, "_BATCH_OBJECTS", 5)


@pytest.fixture(params=["move", "rekey"])
def ground(request: pytest.FixtureRequest, worlds: World, tmp_path: Path, in_bulk: None) -> World:
    """Files go to another folder, or get another backend key only."""
    if request.param == "rekey":
        worlds.new = places.new_local(tmp_path / "old").build()
    return worlds


@pytest.mark.parametrize("case", ["tenants", "no key", "children", "NULL"])
def test_rows_that_a_key_does_not_tell_apart_are_refused(ground: World, case: str) -> None:
    world = ground
    if case == "children":
        if kind_of(world) != "postgresql":
            return
        make(world, PLAIN + "; CREATE TABLE child (CHECK (tenant > 1)) INHERITS (doc)")
        insert(world, 2, 7, table="child")
    elif case == "NULL":
        make(world, NO_KEY)
        insert(world, 7, None)
    else:
        make(world, TENANTS if case == "tenants" else NO_KEY)
        insert(world, 2, 7)
    before = world.dump()
    with pytest.raises(ConfigurationError) as caught:
        world.run()
    assert world.dump() == before
    assert (
        "1 rows of which a part of the key is NULL" if case == "NULL" else "2 rows that have their key in common"
    ) in str(caught.value)
    report = VerifyJob(world.application, VerifyOptions()).run()
    assert report.exit_code == 1
    assert any("which file belongs to which is unknown" in reason for reason in reasons(report))
    if case == "tenants":
        world.columns = (Column(table="doc", column="file", key=("tenant", "id"), backend="old", multiple=False),)
        assert world.run().exit_code == 0
        assert set(named(world).values()) == {"new"}
        assert revert(world).exit_code == 0
        assert set(named(world).values()) == {"old"}


VIEW = PLAIN.replace("doc", "base") + "; CREATE VIEW doc AS SELECT * FROM base"
INSTEAD = {
    "sqlite": "CREATE TRIGGER t INSTEAD OF UPDATE ON doc BEGIN UPDATE base SET file = NEW.file WHERE id = OLD.id; END",
    "postgresql": """
CREATE FUNCTION f() RETURNS trigger AS 'BEGIN UPDATE base SET file = NEW.file WHERE id = OLD.id; RETURN NEW; END'
LANGUAGE plpgsql##CREATE TRIGGER t INSTEAD OF UPDATE ON doc FOR EACH ROW EXECUTE FUNCTION f()""",
    "mysql": "",
}


@pytest.mark.parametrize("ddl", [NO_KEY, VIEW, VIEW + "?"], ids=["legacy table", "view", "view with a trigger"])
def test_a_key_that_nothing_enforces_but_is_unique_goes_on_working(ground: World, ddl: str) -> None:
    world = ground
    if ddl == VIEW and kind_of(world) == "sqlite":
        return  # its views take no UPDATE without a trigger
    make(world, ddl.rstrip("?"), table="base" if "base" in ddl else "doc")
    if ddl.endswith("?"):
        for statement in filter(None, INSTEAD[kind_of(world)].split("##")):
            world.sql(statement)
    report = world.run()
    assert (report.exit_code, report.rows_repointed, report.rows_remaining) == (0, ROWS, 0)
    assert set(named(world).values()) == {"new"}
    assert revert(world).rows_repointed == ROWS
    assert set(named(world).values()) == {"old"}


def test_a_key_that_is_repeated_after_the_search_is_listed(ground: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world, check = ground, preflight.check_row_identity
    make(world, NO_KEY)

    def check_and_repeat(rows: Any) -> None:
        check(rows)
        insert(world, 9, 5)
        insert(world, 9, None)

    monkeypatch.setattr(preflight, "check_row_identity", check_and_repeat)
    report = world.run()
    assert (report.exit_code, report.rows_repointed, report.rows_remaining) == (1, ROWS - 1, 3)
    assert any("2 rows have its key" in reason for reason in reasons(report)), reasons(report)
    assert any("a part of its key is NULL" in reason for reason in reasons(report)), reasons(report)
    backends = named(world)
    assert {name for name, backend in backends.items() if backend == "old"} == {"1-5.txt", "9-5.txt", "9-None.txt"}
    revert(world)
    assert set(named(world).values()) == {"old"}


def postgres_trigger(body: str, when: str = "BEFORE") -> str:
    return (
        f"CREATE FUNCTION f() RETURNS trigger AS $$BEGIN {body} END$$ LANGUAGE plpgsql##"
        f"CREATE TRIGGER t {when} UPDATE ON doc FOR EACH ROW EXECUTE FUNCTION f()"
    )


KEEPING = {
    "postgresql": {
        "rule": "CREATE RULE r AS ON UPDATE TO doc WHERE OLD.id < 3 DO INSTEAD NOTHING",
        "rule that updates another": "CREATE RULE r AS ON UPDATE TO doc WHERE OLD.id < 3 DO INSTEAD UPDATE other SET n = n + 1",
        "trigger that drops": postgres_trigger("IF OLD.id < 3 THEN RETURN NULL; END IF; RETURN NEW;"),
        "trigger that resets": postgres_trigger("IF OLD.id < 3 THEN NEW.file := OLD.file; END IF; RETURN NEW;"),
        "trigger that puts back": postgres_trigger(
            "IF OLD.id < 3 AND pg_trigger_depth() = 1 THEN UPDATE doc SET file = OLD.file WHERE id = OLD.id; END IF; RETURN NULL;", "AFTER"
        ),
    },
    "sqlite": {
        "trigger that puts back": "CREATE TRIGGER t AFTER UPDATE ON doc WHEN OLD.id < 3 BEGIN UPDATE doc SET file = OLD.file WHERE id = OLD.id; END",
        "trigger that ignores": "CREATE TRIGGER t BEFORE UPDATE ON doc WHEN OLD.id < 3 BEGIN SELECT RAISE(IGNORE); END",
    },
    "mysql": {
        "trigger that resets": "CREATE TRIGGER t BEFORE UPDATE ON doc FOR EACH ROW SET NEW.file = IF(OLD.id < 3, OLD.file, NEW.file)",
    },
}  # fmt: skip


@pytest.mark.parametrize("how", sorted({how for each in KEEPING.values() for how in each}))
def test_a_row_that_an_update_leaves_as_it_is_is_listed_with_that_reason(ground: World, how: str) -> None:
    world = ground
    if how not in KEEPING[kind_of(world)]:
        return
    make(world, PLAIN + "; CREATE TABLE other (n INTEGER)")
    world.sql("INSERT INTO other VALUES (0)")
    for statement in KEEPING[kind_of(world)][how].split("##"):
        world.sql(statement)
    report = world.run()
    assert (report.exit_code, report.rows_repointed, report.rows_remaining) == (1, ROWS - 3, 3)
    assert [LEFT_AS_IT_IS in reason for reason in reasons(report)] == [True] * 3, reasons(report)
    assert {outcome.kind for outcome in report.problems} == {OutcomeKind.FAILED}
    assert sorted(name for name, backend in named(world).items() if backend == "old") == [
        "0-0.txt",
        "0-2.txt",
        "1-1.txt",
    ]
    assert world.sql("SELECT n FROM other") == [(0,)], "what another statement did in its place is rolled back"
    assert revert(world).rows_repointed == ROWS - 3
    assert set(named(world).values()) == {"old"}


def test_rows_that_a_trigger_keeps_from_going_back_are_listed_by_the_revert(ground: World) -> None:
    world = ground
    make(world, PLAIN)
    assert world.run().exit_code == 0
    [how, *_] = KEEPING[kind_of(world)]
    world.sql("CREATE TABLE other (n INTEGER)")
    for statement in KEEPING[kind_of(world)][how].split("##"):
        world.sql(statement)
    report = revert(world)
    assert (report.exit_code, report.rows_repointed) == (1, ROWS - 3)
    assert [LEFT_AS_IT_IS in reason for reason in reasons(report)] == [True] * 3, reasons(report)


ADDING = {
    "postgresql": postgres_trigger("""NEW.file := NEW.file || '{"stamp": 1}'; RETURN NEW;"""),
    "sqlite": "CREATE TRIGGER t AFTER UPDATE ON doc WHEN NEW.file NOT LIKE '%stamp%' BEGIN "
    "UPDATE doc SET file = json_set(NEW.file, '$.stamp', 1) WHERE id = OLD.id; END",
    "mysql": "CREATE TRIGGER t BEFORE UPDATE ON doc FOR EACH ROW SET NEW.file = JSON_SET(NEW.file, '$.stamp', 1)",
}
REPLACING = {
    "postgresql": postgres_trigger("""NEW.file := NEW.file || '{"filename": "theirs"}'; RETURN NEW;"""),
    "sqlite": "CREATE TRIGGER t AFTER UPDATE ON doc WHEN NEW.file NOT LIKE '%theirs%' BEGIN "
    "UPDATE doc SET file = json_set(NEW.file, '$.filename', 'theirs') WHERE id = OLD.id; END",
    "mysql": "CREATE TRIGGER t BEFORE UPDATE ON doc FOR EACH ROW SET NEW.file = JSON_SET(NEW.file, '$.filename', 'theirs')",
}


def test_a_trigger_that_adds_to_the_value_is_recorded_and_undone(ground: World) -> None:
    world = ground
    make(world, PLAIN)
    for statement in ADDING[kind_of(world)].split("##"):
        world.sql(statement)
    report = world.run()
    assert (report.exit_code, report.rows_repointed, report.rows_remaining) == (0, ROWS, 0), reasons(report)
    assert set(named(world).values()) == {"new"}
    report = revert(world)
    assert (report.exit_code, report.rows_repointed) == (0, ROWS), reasons(report)
    assert set(named(world).values()) == {"old"}


def test_a_trigger_that_names_another_file_is_rolled_back_and_listed(ground: World) -> None:
    world = ground
    make(world, PLAIN)
    for statement in REPLACING[kind_of(world)].split("##"):
        world.sql(statement)
    report = world.run()
    assert (report.exit_code, report.rows_repointed, report.rows_remaining) == (1, 0, ROWS)
    assert all(WRITTEN_OTHERWISE in reason for reason in reasons(report))
    assert set(named(world).values()) == {"old"}
