"""The old key may go only when nothing speaks against it; each test lets exactly one thing speak."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from migrate_storage.application.application import Application
from migrate_storage.core.errors import ConfigurationError
from migrate_storage.cutover.backend import CutoverBackend
from migrate_storage.cutover.decisions import Phase, Side
from migrate_storage.cutover.outbox import Outbox
from migrate_storage.cutover.phase.source import SharedPhase
from migrate_storage.database.connection import Database
from migrate_storage.jobs.readiness import ready_to_unregister
from migrate_storage.journal import Journal
from migrate_storage.journal.lease_holder import hold_lease
from tests.support.cutover.world import make_cutover_world
from tests.support.engine import registrations as places
from tests.support.engine.world import World


def against(world: World, key: str | None = "old", soak: float = 0.0) -> dict[str, str]:
    """What speaks against it."""
    return against_in(world.application, key, soak)


def against_in(application: Application, key: str | None = "old", soak: float = 0.0) -> dict[str, str]:
    """What speaks against it in an application."""
    _, checks = ready_to_unregister(application, key, soak=soak)
    return {check.name: check.message for check in checks if not check.ready}


@pytest.fixture
def moved(world: World) -> World:
    world.fill(3, 2, 4)
    assert world.run().exit_code == 0
    return world


def test_nothing_speaks_against_it(moved: World) -> None:
    before = moved.dump()
    key, checks = ready_to_unregister(moved.application, None, soak=0.0)
    assert key == "old"
    assert all(check.ready for check in checks)
    assert {check.name for check in checks} == {"rows", "census", "work", "run", "entries", "phase", "soak"}
    assert moved.dump() == before


def test_before_any_run(world: World) -> None:
    world.fill(3)
    assert against(world) == {"rows": "3 rows still name it"}
    with pytest.raises(ConfigurationError, match="--from KEY"):
        against(world, None)


def test_a_row_of_any_column_that_names_it(moved: World) -> None:
    value = [{"backend": "new", "filename": "a"}, {"backend": "old", "filename": "b"}]
    moved.sql("INSERT INTO albums (id, pictures) VALUES (:id, :value)", id=b"0" * 16, value=json.dumps(value))
    assert against(moved) == {"rows": "1 row still names it"}


def test_a_value_that_cannot_be_read(moved: World) -> None:
    moved.sql("INSERT INTO pages (slug, image) VALUES ('p', '{\"backend\": \"old\"')")
    assert against(moved).keys() == {"values"}


def test_somebody_at_work(moved: World) -> None:
    with (
        contextlib.closing(Database(moved.url)) as database,
        hold_lease(Journal(database), 30, stopping=Event(), lost=print),
    ):
        assert against(moved).keys() == {"work"}
    assert against(moved) == {}


def test_a_cutover_that_is_not_over(moved: World) -> None:
    with contextlib.closing(Database(moved.url)) as database:
        outbox = Outbox(database, "old")
        outbox.request_repair("a", Side.SOURCE)
        outbox.close_entry("b", outbox.open_entry("b", Side.SOURCE), both_written=True)
        assert against(moved) == {
            "entries": "1 key of a cutover with an open entry: run 'migrate-storage cutover repair'"
        }
        entry = outbox.claim_entry("a", "me", 30)
        assert entry is not None
        assert outbox.close_claimed("a", entry)
        switch = SharedPhase(outbox, name="web-1")
        assert switch.phase is Phase.SOURCE
        assert against(moved) == {"phase": "1 process may be acting in a cutover's phase: web-1"}
        switch.close()
    assert against(moved) == {}


def test_a_cutover_between_its_ends(moved: World) -> None:
    """No process acts any more, and both sides are needed all the same."""
    cutover = make_cutover_world(moved)
    application = replace(moved.application, backends={"old": moved.old, "new": moved.new})
    for phase, needs in (
        (Phase.DUAL_WRITE, "in phase DUAL_WRITE, in which both sides"), (Phase.DESTINATION_FIRST, "DESTINATION_FIRST"),
        (Phase.DESTINATION, ""),
    ):  # fmt: skip
        cutover.reach(phase)
        told = {name: message for name, message in against_in(application).items()}
        assert (needs in told["phase"]) if needs else told == {}, (phase, told)
    cutover.close()


@pytest.mark.parametrize(("key", "free_in"), [("source", Phase.DESTINATION), ("destination", Phase.SOURCE)])
def test_a_side_of_a_registered_cutover(moved: World, key: str, free_in: Phase) -> None:
    cutover = make_cutover_world(moved)
    outbox = cutover.outbox
    sides = [places.new_local(Path(moved.url.removeprefix("sqlite:///")).parent / name, name).build() for name in
             ("source", "destination")]  # fmt: skip
    for phase in Phase:
        cutover.reach(phase)
        for source in (SharedPhase(outbox), phase):
            backend = CutoverBackend("files", *sides, outbox=outbox, phase=source)
            application = replace(moved.application, backends={**moved.application.backends, "files": backend})
            told = against_in(application, key)
            # A phase that is fixed in code is known of this process only.
            assert ("cutover" in told) is (phase is not free_in or source is phase), (phase, told)
    cutover.close()


def test_a_cutover_in_another_schema(postgres_url: str, tmp_path: Path) -> None:
    """Its tables are where the application's Outbox says, and the journal is elsewhere."""
    old, new = places.old_local(tmp_path / "old").build(), places.new_local(tmp_path / "new").build()
    with contextlib.closing(World(postgres_url, old, new)) as world:
        world.fill(2)
        with contextlib.closing(Database(postgres_url)) as database:
            outbox = Outbox(database, "old", "app")
            outbox.prepare()
            assert world.run(journal_schema="media").exit_code == 0
            assert against(world) == {}
            outbox.request_repair("a", Side.SOURCE)
            assert against(world) == {
                "entries": "1 key of a cutover with an open entry: run 'migrate-storage cutover repair'"
            }


def test_the_soak(moved: World) -> None:
    assert against(moved, soak=3600.0).keys() == {"soak"}
    moved.sql("UPDATE migrate_storage_row SET at = :then", then=time.time() - 4000)
    assert against(moved, soak=3600.0) == {}


def test_a_run_that_left_something(world: World) -> None:
    world.fill(3)
    world.run(limit=1)
    world.sql("DELETE FROM documents WHERE id > 1")
    assert against(world).keys() == {"run"}
    world.run()
    assert against(world) == {}


def test_the_command_answers_with_its_exit_code(project: Any) -> None:
    ask = ("status", "--app", "app", "--ready-to-unregister", "--soak", "0")
    assert project(*ask, "--from", "old").returncode == 1
    project("run", "--app", "app", "--from", "old", "--to", "new", "--settle-time", "0")
    ended = project(*ask)
    assert (ended.returncode, ended.stdout.splitlines()[0]) == (0, "'old' may be unregistered.")
    told = json.loads(project(*ask, "--from", "new", "--json").stdout)
    assert (told["key"], told["ready"], told["checks"][0]["message"]) == ("new", False, "10 rows still name it")
    assert project("status", "--app", "app").returncode == 0
