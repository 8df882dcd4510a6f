"""The shared phase: what a process may do under its lease, when it is late, and when the phase changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from advanced_alchemy.types.file_object import FileObject
from sqlalchemy import text

from migrate_storage.core.errors import ConfigurationError, PhaseLostError
from migrate_storage.cutover.backend import CutoverBackend
from migrate_storage.cutover.decisions import Phase
from migrate_storage.cutover.outbox import Outbox
from migrate_storage.cutover.phase.source import PHASE_VARIABLE, OnLost, SharedPhase
from migrate_storage.cutover.phase.table import ProcessRecord
from migrate_storage.database.connection import Database
from tests.support.cutover.breaking_backend import Breaking
from tests.support.cutover.clock import Clock

SOURCE, DUAL, FIRST, DESTINATION = Phase
SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""For what no database does otherwise."""


@pytest.fixture
def outbox(database_url: str) -> Iterator[Outbox]:
    database = Database(database_url.replace("postgresql://", "postgresql+psycopg://"))
    made = Outbox(database, "files")
    made.prepare()
    yield made
    database.close()


@pytest.fixture
def process(outbox: Outbox) -> Iterator[Callable[..., SharedPhase]]:
    """A process's switch, that renews only when told."""
    made: list[SharedPhase] = []

    def one(**options: object) -> SharedPhase:
        made.append(SharedPhase(outbox, **{"lease": 300.0, "drain": 0.0, **options}))  # type: ignore[arg-type]
        return made[-1]

    yield one
    for each in made:
        each.close()


def move(switch: SharedPhase, phase: Phase) -> list[ProcessRecord]:
    return switch.table.transaction(lambda connection: switch.table.set_phase(connection, phase))


def expire(switch: SharedPhase, member: ProcessRecord) -> None:
    statement = text("UPDATE migrate_storage_process SET expires = expires - 600 WHERE id = :id")
    switch.table.database.transaction(lambda connection: connection.execute(statement, {"id": member.id}) and None)


def members(switch: SharedPhase) -> list[tuple[Phase, ...]]:
    return [each.phases for each in switch.table.transaction(switch.table.read_processes) if each.alive]


def test_all_begin_in_source_and_follow(process: Callable[..., SharedPhase]) -> None:
    one, other = process(), process()
    assert (one.phase, other.phase) == (SOURCE, SOURCE)
    assert members(one) == [(SOURCE,), (SOURCE,)]
    assert move(one, DUAL) == []
    assert one.phase is SOURCE
    assert one._renew_once()
    assert (one.phase, other.phase) == (DUAL, SOURCE)
    (late,) = move(one, FIRST)
    assert late.phases == (SOURCE,)
    assert other._renew_once()
    assert move(one, FIRST) == []


def test_what_is_at_work_ends_in_its_phase_and_nobody_goes_two_steps_on_before(
    process: Callable[..., SharedPhase],
) -> None:
    switch = process()
    with switch.renew(writing=True) as old:
        assert move(switch, DUAL) == []
        switch._renew_once()
        with switch.renew(writing=True) as new:
            assert (old.phase, new.phase) == (SOURCE, DUAL)
            old.check()
            new.check()
        assert members(switch) == [(SOURCE, DUAL)]
        assert len(move(switch, FIRST)) == 1
    switch._renew_once()
    assert members(switch) == [(DUAL,)]
    assert move(switch, FIRST) == []


def test_who_is_late_refuses_what_it_had_begun_and_learns_the_phase_anew(
    process: Callable[..., SharedPhase], outbox: Outbox
) -> None:
    clock = Clock()
    switch, other = process(clock=clock), process()
    begun = switch.renew(writing=True)
    clock.now += 284.9
    begun.check()
    clock.now += 0.2
    with pytest.raises(PhaseLostError, match="no valid lease"):
        begun.check()
    assert switch.acquire(writing=True) is None
    reading = switch.acquire(writing=False)
    assert reading is not None
    assert reading.phase is SOURCE
    # Others wait until it counts as gone by the database's clock too.
    assert move(other, DUAL) == []
    other._renew_once()
    (waited,) = move(other, FIRST)
    assert waited.phases == (SOURCE,)
    expire(other, waited)
    assert move(other, FIRST) == []
    assert switch.renew(writing=True).phase is FIRST
    with pytest.raises(PhaseLostError):
        begun.check()
    begun.__exit__()
    # What it had under way may take effect later: it has another line now.
    assert len(other.table.transaction(other.table.read_processes)) == 3


@SQLITE
def test_what_took_longer_than_the_lease_is_not_acknowledged(
    process: Callable[..., SharedPhase], outbox: Outbox
) -> None:
    # In SOURCE no entry tells others of a write; who wakes in the middle of one may find them in DESTINATION_FIRST.
    clock = Clock()
    source = Breaking("old", "memory://")
    backend = CutoverBackend("files", source, Breaking("new", "memory://"), outbox=outbox, phase=process(clock=clock))
    file = FileObject(backend=backend, filename="a")
    backend.save_object(file, b"1")

    def slow(_: str) -> None:
        clock.now += 300

    source.broken = slow  # type: ignore[method-assign]
    for write in (lambda: backend.save_object(file, b"2"), lambda: backend.delete_object("a")):
        with pytest.raises(PhaseLostError, match="no valid lease"):
            write()


def test_who_counted_as_gone_learns_it_though_its_own_clock_says_nothing(process: Callable[..., SharedPhase]) -> None:
    switch = process()
    begun = switch.renew(writing=True)
    (member,) = switch.table.transaction(switch.table.read_processes)
    expire(switch, member)
    switch._renew_once()
    with pytest.raises(PhaseLostError, match="count it as gone"):
        begun.check()
    assert switch.phase is SOURCE


@SQLITE
@pytest.mark.parametrize("on_lost", OnLost)
def test_what_is_done_without_a_lease_is_chosen(process: Callable[..., SharedPhase], on_lost: OnLost) -> None:
    clock = Clock()
    switch = process(clock=clock, on_lost=on_lost)
    for writing in (False, True):
        with switch.renew(writing=writing):
            pass
    clock.now += 300
    assert (switch.acquire(writing=False) is not None) is (on_lost is not OnLost.REFUSE)
    assert (switch.acquire(writing=True) is not None) is (on_lost is OnLost.KEEP)


def test_who_goes_on_without_a_lease_is_waited_for(process: Callable[..., SharedPhase]) -> None:
    switch, other = process(on_lost="keep"), process()
    assert (switch.phase, other.phase) == (SOURCE, SOURCE)
    assert move(other, DUAL) == []
    other._renew_once()
    (waited,) = move(other, FIRST)
    despite = lambda connection: other.table.set_phase(connection, FIRST, despite=[waited.id])  # noqa: E731
    assert other.table.transaction(despite) == []


def test_who_cannot_read_the_table_writes_and_reads_nothing(tmp_path: Path) -> None:
    outbox = Outbox(Database(f"sqlite:///{tmp_path / 'no' / 'such.db'}"), "files")
    source, destination = Breaking("source", "memory://"), Breaking("destination", "memory://")
    backend = CutoverBackend("files", source, destination, outbox=outbox, phase="shared")
    with pytest.raises(PhaseLostError, match="unable to open database file"):
        backend.save_object(FileObject(backend=backend, filename="k"), b"1")
    with pytest.raises(PhaseLostError):
        backend.delete_object("k")
    with pytest.raises(PhaseLostError):
        backend.get_content("k")
    assert not source.exists("k")
    backend.phase_source.close()


@SQLITE
def test_who_signs_off_is_waited_for_no_more(process: Callable[..., SharedPhase]) -> None:
    switch, other = process(), process()
    assert (switch.phase, other.phase) == (SOURCE, SOURCE)
    switch.close()
    assert members(other) == [(SOURCE,)]
    with pytest.raises(PhaseLostError, match="signed off"):
        switch.renew(writing=False)


@SQLITE
def test_fallback_reads_are_told(process: Callable[..., SharedPhase]) -> None:
    switch = process()
    assert switch.phase is SOURCE
    for _ in range(3):
        switch.record_fallback()
    switch._renew_once()
    (member,) = switch.table.transaction(switch.table.read_processes)
    assert member.fallbacks == 3
    assert 0 <= member.seconds_since_fallback < 60


@SQLITE
def test_the_environment_may_say_that_it_is_shared(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PHASE_VARIABLE, "shared")
    sides = Breaking("source", "memory://"), Breaking("destination", "memory://")
    backend = CutoverBackend("files", *sides, outbox=outbox)
    backend.save_object(FileObject(backend=backend, filename="k"), b"1")
    assert backend.phase is SOURCE
    assert isinstance(backend.phase_source, SharedPhase)
    assert members(backend.phase_source) == [(SOURCE,)]
    backend.phase_source.close()
    with pytest.raises(ConfigurationError, match="pass outbox"):
        CutoverBackend("files", *sides)
    for wrong in ({"lease": 0}, {"drain": -1}, {"on_lost": "panic"}):
        with pytest.raises(ConfigurationError):
            SharedPhase(outbox, **wrong)  # type: ignore[arg-type]
