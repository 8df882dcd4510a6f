"""A step of the shared phase is refused, with the number, for each reason that speaks against it."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from advanced_alchemy.types.file_object import FileObject
from sqlalchemy import make_url, text

from migrate_storage import ObstoreBackend
from migrate_storage.core.errors import ConfigurationError
from migrate_storage.cutover.backend import CutoverBackend
from migrate_storage.cutover.decisions import Phase, Side, trusted_side
from migrate_storage.cutover.outbox import Outbox
from migrate_storage.cutover.phase.source import SharedPhase
from migrate_storage.cutover.phase.transitions import PRECONDITIONS, PhaseController, Transition
from migrate_storage.cutover.repair import Repair, repair_all
from migrate_storage.database.connection import Database
from tests.support.cutover.breaking_backend import Breaking
from tests.support.cutover.s3_backend import s3_backend

SOURCE, DUAL, FIRST, DESTINATION = Phase
S, D = Side


class World:
    """One process of an application, that renews its lease only when told, and a person who takes steps."""

    def __init__(self, url: str, *, prepare: bool = True) -> None:
        self.outbox = Outbox(Database(url.replace("postgresql://", "postgresql+psycopg://")), "files")
        if prepare:
            self.outbox.prepare()
        self.source, self.destination = Breaking("source", "memory://"), Breaking("destination", "memory://")
        self.switches: list[SharedPhase] = []
        self.backend = self.process()

    def process(self) -> CutoverBackend:
        self.switches.append(SharedPhase(self.outbox, lease=300, drain=0))
        backend = CutoverBackend("files", self.source, self.destination, outbox=self.outbox, phase=self.switches[-1])
        assert backend.phase in Phase
        return backend

    def steps(self, quiet: float = 0.0) -> PhaseController:
        return PhaseController(self.backend, quiet=quiet)

    def follow(self) -> None:
        for each in self.switches:
            each._renew_once()

    def to(self, phase: Phase) -> None:
        """Step by step to a phase, against whatever speaks against it."""
        order = list(Phase)
        while (now := self.backend.phase) is not phase:
            forth = order.index(now) < order.index(phase)
            assert (self.steps().advance if forth else self.steps().rollback)(force=True).taken
            self.follow()

    def save(self, name: str, content: bytes = b"1") -> None:
        self.backend.save_object(FileObject(backend=self.backend, filename=name), content)

    def put(self, side: Side, name: str, content: bytes = b"1") -> None:
        store = self.source if side is S else self.destination
        ObstoreBackend.save_object(store, FileObject(backend=store, filename=name), content)

    def close(self) -> None:
        for each in self.switches:
            each.close()
        self.outbox.database.close()

    def repair_all(self) -> None:
        repair = Repair(self.source, self.destination, self.outbox, phases=self.switches[0])
        self.leveled = repair_all(self.backend, self.outbox, repair, trusted_side(self.backend.phase))


@pytest.fixture
def world(sqlite_url: str) -> Iterator[World]:
    made = World(sqlite_url)
    yield made
    made.close()


def against(step: Transition) -> dict[str, int]:
    """What speaks against a step, with its number."""
    assert not step.taken
    return {each.name: each.count for each in step.conditions if not each.holds}


def test_forth_and_back_with_writers(database_url: str) -> None:
    world = World(database_url)
    world.save("in source")
    for phase in (DUAL, FIRST, DESTINATION):
        step = world.steps().advance()
        if phase is FIRST:
            assert against(step) == {"comparison": 1}
            world.repair_all()
            step = world.steps().advance()
        assert step.taken, step
        world.follow()
        assert world.backend.phase is phase
        world.save(f"in {phase}")
        world.save("always", phase.encode())
    with pytest.raises(ConfigurationError, match="last phase"):
        world.steps().advance()
    world.backend.delete_object("in source")
    step = world.steps().rollback()
    assert step.taken, step
    assert "2 objects brought level" in step.conditions[-1].message
    world.follow()
    assert against(world.steps().rollback()) == {"entries": 1}
    assert Repair(world.source, world.destination, world.outbox, phases=world.switches[0]).repair_pending().settled == 1
    for phase in (DUAL, SOURCE):
        step = world.steps().rollback()
        assert step.taken, step
        world.follow()
        assert world.backend.phase is phase
    assert sorted(meta.path for meta in world.backend.list()) == [
        "always",
        "in destination",
        "in destination_first",
        "in dual_write",
    ]
    assert world.backend.get_content("always") == b"destination"
    world.close()


def test_a_process_that_has_not_followed(world: World) -> None:
    assert world.steps().advance().taken
    late, *_ = world.steps().advance().conditions
    assert (late.name, late.count) == ("processes", 1)
    assert "1 process may still be in another phase" in late.message
    assert "in SOURCE" in late.message
    other = world.process()
    assert other.phase is DUAL
    forced = world.steps().advance(force=True)
    assert [each.name for each in forced.conditions if not each.holds and not each.forced] == ["processes"]
    assert not forced.taken
    world.follow()
    assert world.steps().advance().taken


def test_keys_that_are_not_settled(world: World) -> None:
    world.to(DUAL)
    world.destination.broken = lambda name: "before" if name == "save" else None
    world.save("a")
    world.save("b")
    world.destination.broken = lambda _: None
    assert against(world.steps().advance()) == {"entries": 2}
    world.outbox.open_entry("being written", S)
    assert against(world.steps().advance()) == {"entries": 2}
    assert Repair(world.source, world.destination, world.outbox, phases=world.switches[0]).repair_pending().settled == 2
    assert world.steps().advance().taken


@pytest.mark.parametrize("phase", [DUAL, FIRST])
def test_differences(world: World, phase: Phase) -> None:
    world.to(phase)
    for name in ("missing", "missing too", "differs"):
        world.put(S, name)
    world.put(D, "differs", b"2")
    world.put(D, "extra")
    step = world.steps().advance()
    assert against(step) == {"comparison": 4}
    (told,) = (each.message for each in step.conditions if each.name == "comparison")
    assert "2 missing, 1 different, 1 extra on the destination" in told
    if phase is FIRST:
        step = world.steps().rollback()
        (told,) = (each.message for each in step.conditions if each.name == "comparison")
        assert "1 missing, 1 different, 2 extra on the source" in told


def test_only_what_we_wrote_is_taken_away(world: World) -> None:
    world.to(DUAL)
    world.save("ours")
    world.to(SOURCE)
    world.backend.delete_object("ours")
    world.to(DUAL)
    world.put(D, "foreign")
    assert against(world.steps().advance()) == {"comparison": 2}
    world.repair_all()
    assert world.leveled.foreign == ["foreign"]
    assert not world.leveled.done
    assert not world.destination.exists("ours")
    assert world.destination.exists("foreign")
    assert against(world.steps().advance()) == {"comparison": 1}


def test_what_the_source_alone_has_is_never_taken_away(world: World) -> None:
    world.to(FIRST)
    world.save("gone past us")
    ObstoreBackend.delete_object(world.destination, "gone past us")
    world.repair_all()
    assert world.leveled.done
    assert world.destination.exists("gone past us")
    world.to(DESTINATION)
    ObstoreBackend.delete_object(world.destination, "gone past us")
    step = world.steps().rollback()
    assert against(step) == {"level": 1}
    assert world.source.exists("gone past us")


def test_a_comparison_from_before_the_last_process_followed_is_not_taken(world: World) -> None:
    world.put(S, "k")
    world.put(D, "k")
    assert world.steps().advance().taken
    assert against(world.steps().check()) == {"processes": 1, "comparison": 1}
    world.follow()
    assert world.steps().check().ready
    compared = world.switches[0].table.read_locked()[0].comparison
    assert world.steps().advance().taken
    assert world.switches[0].table.read_locked()[0].comparison == compared
    world.follow()
    assert world.steps().advance().taken
    assert world.switches[0].table.read_locked()[0].comparison != compared


def test_upload_urls_that_may_still_be_used(world: World) -> None:
    world.to(FIRST)
    for name, side in (("to source", S), ("to source too", S), ("to destination", D)):
        world.outbox.leave_for_repair(name, world.outbox.open_entry(name, side, expires=time.time() + 3600))
    step = world.steps().advance()
    assert against(step) == {"uploads": 2}
    assert "until the last one expires: 1 h" in next(each for each in step.conditions if each.name == "uploads").message
    assert world.steps().rollback().taken
    world.follow()
    assert against(world.steps().rollback()) == {"uploads": 1}


def test_an_upload_by_url_across_two_steps(world: World, moto_s3: Any) -> None:
    world.source, world.destination = s3_backend(moto_s3, "old", ""), s3_backend(moto_s3, "new", "")  # type: ignore[assignment]
    world.backend = world.process()
    world.to(DUAL)
    for name in ("used", "used twice", "unused"):
        world.put(S, name, b"old")
        world.put(D, name, b"old")
    urls = {
        name: str(world.backend.sign(name, expires_in=600, for_upload=True))
        for name in ("used", "used twice", "unused")
    }
    assert httpx.put(urls["used twice"], content=b"once").status_code == 200
    assert world.steps().advance().taken
    world.follow()
    for name in ("used", "used twice"):
        assert httpx.put(urls[name], content=b"uploaded").status_code == 200
        assert world.backend.get_content(name) == b"uploaded"
    repair = Repair(world.source, world.destination, world.outbox, phases=world.switches[0])
    result = repair.repair_pending()
    assert (result.uploads, result.settled) == (3, 0)
    assert against(world.steps().advance()) == {"uploads": 3}
    statement = text("UPDATE migrate_storage_outbox SET expires = expires - 890")
    world.outbox.database.transaction(lambda connection: connection.execute(statement) and None)
    # The URLs have expired, but an upload that began before may go on.
    assert against(world.steps().advance()) == {"uploads": 3}
    world.outbox.database.transaction(lambda connection: connection.execute(statement) and None)
    assert against(world.steps().advance()) == {"entries": 3}
    assert repair.repair_pending().settled == 3
    assert world.steps().advance().taken
    world.follow()
    found = {name: world.backend.get_content(name) for name in urls}
    assert found == {"used": b"uploaded", "used twice": b"uploaded", "unused": b"old"}


def test_reads_that_fell_back(world: World) -> None:
    world.to(FIRST)
    assert against(world.steps(quiet=600).advance()) == {"fallbacks": 1}
    world.put(S, "k")
    for _ in range(3):
        assert world.backend.get_content("k") == b"1"
    world.follow()
    assert Repair(world.source, world.destination, world.outbox, phases=world.switches[0]).repair_pending().settled == 1
    assert against(world.steps(quiet=600).advance()) == {"fallbacks": 3}
    statement = text("UPDATE migrate_storage_phase SET changed = changed - 1000")
    world.outbox.database.transaction(lambda connection: connection.execute(statement) and None)
    step = world.steps(quiet=600).advance()
    assert against(step) == {"fallbacks": 3}
    assert "3 reads by 1 process fell back" in step.conditions[-1].message
    assert world.steps(quiet=0).advance().taken


@pytest.mark.parametrize(
    ("phase", "side", "back"), [(SOURCE, D, False), (DESTINATION, S, True), (DUAL, D, True)], ids=str
)
def test_an_entry_that_names_the_other_side(world: World, phase: Phase, side: Side, back: bool) -> None:
    world.to(phase)
    world.outbox.request_repair("k", side.other)
    assert world.steps().check(back=back).ready
    world.outbox.request_repair("stale", side)
    steps = world.steps()
    assert against(steps.rollback() if back else steps.advance()) == {"entries": 1}


def test_what_is_forced_is_said(world: World) -> None:
    world.to(DUAL)
    world.put(S, "k")
    world.outbox.request_repair("other", S)
    step = world.steps().advance(force=True)
    assert step.taken
    assert [(each.name, each.count, each.forced) for each in step.conditions] == [
        ("processes", 0, False),
        ("comparison", 1, True),
        ("entries", 1, True),
    ]


def test_a_fixed_phase_takes_no_steps(world: World) -> None:
    fixed = CutoverBackend("files", world.source, world.destination, outbox=world.outbox, phase=DUAL)
    with pytest.raises(ConfigurationError, match="fixed in code"):
        PhaseController(fixed)


def test_every_step_says_what_it_needs() -> None:
    order = list(Phase)
    pairs = set(itertools.pairwise(order))
    assert set(PRECONDITIONS) == pairs | {(after, before) for before, after in pairs}


def test_with_the_rights_that_the_page_names_and_no_others(postgres_url: str) -> None:
    admin = Database(postgres_url)
    outbox = Outbox(admin, "files")
    outbox.prepare()
    role = f"cutover_{uuid.uuid4().hex[:8]}"
    rights = {"phase": "SELECT, INSERT, UPDATE", "object": "SELECT", "run": "SELECT", "version": "SELECT"}
    rights |= dict.fromkeys(("rekey", "rekey_object"), "SELECT")
    rights |= dict.fromkeys(("outbox", "process"), "SELECT, INSERT, UPDATE, DELETE")
    grants = [f"GRANT {words} ON migrate_storage_{table} TO {role}" for table, words in rights.items()]
    for statement in (f"CREATE ROLE {role} LOGIN", *grants):
        admin.transaction(lambda connection, statement=statement: connection.execute(text(statement)) and None)
    try:
        world = World(str(make_url(postgres_url).set(username=role)), prepare=False)
        world.to(DUAL)
        world.save("ours")
        world.to(SOURCE)
        world.backend.delete_object("ours")
        world.to(DUAL)
        world.put(D, "foreign")
        world.repair_all()
        assert world.leveled.foreign == ["foreign"]
        assert against(world.steps().check()) == {"comparison": 1}
        world.to(DESTINATION)
        assert world.steps().rollback().taken
        world.close()
    finally:
        for statement in (f"DROP OWNED BY {role}", f"DROP ROLE {role}"):
            admin.transaction(lambda connection, statement=statement: connection.execute(text(statement)) and None)
        admin.close()
