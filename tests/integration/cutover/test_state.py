"""The state of a cutover: read without a lease, also where it is only recorded."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.cutover.backend import CutoverBackend
from migrate_storage.cutover.decisions import Phase, Side
from migrate_storage.cutover.outbox import Outbox
from migrate_storage.cutover.state import CutoverState, find_recorded_states, read_state
from migrate_storage.database.connection import Database
from tests.support.cutover.world import CutoverWorld, make_cutover_world
from tests.support.engine.world import World


@pytest.fixture
def cutover(world: World) -> Iterator[CutoverWorld]:
    made = make_cutover_world(world)
    yield made
    made.close()


def test_looking_is_no_process_of_the_cutover(cutover: CutoverWorld) -> None:
    state = read_state(cutover.backend)
    assert (state.phase, state.shared, state.processes, state.unsettled) == (Phase.SOURCE, True, (), 0)
    with cutover.process("web-2"):
        assert [process.name for process in read_state(cutover.backend).processes] == ["web-2"]
    assert read_state(cutover.backend).processes == ()


def test_processes_that_have_not_followed_are_in_their_own_phase(cutover: CutoverWorld) -> None:
    with cutover.process("web-2"):
        cutover.advance()
        state = read_state(cutover.backend)
        assert state.phases == (Phase.SOURCE, Phase.DUAL_WRITE)
        assert state.describe() == "phase DUAL_WRITE, 1 process at work (web-2 in SOURCE), 0 keys with an open entry"
        assert not state.is_over
    assert read_state(cutover.backend).phases == (Phase.DUAL_WRITE,)


def test_a_recorded_cutover_is_found_without_its_application(cutover: CutoverWorld, world: World) -> None:
    cutover.reach(Phase.DUAL_WRITE)
    Outbox(cutover.database, "others").request_repair("a", Side.SOURCE)
    found = {state.key: state for state in find_recorded_states(Database(world.url))}
    assert (found["old"].phase, found["others"].phase) == (Phase.DUAL_WRITE, None)
    assert found["others"].describe() == "a phase that is not shared, 1 key with an open entry"
    assert not any(state.is_over for state in found.values())


@pytest.mark.parametrize(
    ("phase", "entries", "over"),
    [
        (Phase.SOURCE, {}, True),
        (Phase.SOURCE, {Side.SOURCE: 1}, True),
        (Phase.SOURCE, {Side.DESTINATION: 1}, False),
        (Phase.DUAL_WRITE, {}, False),
        (Phase.DESTINATION_FIRST, {}, False),
        (Phase.DESTINATION, {Side.DESTINATION: 3}, True),
        (Phase.DESTINATION, {Side.SOURCE: 1}, False),
        (None, {Side.SOURCE: 1}, False),
    ],
)
def test_it_is_over_where_one_side_alone_is_needed(phase: Phase | None, entries: dict[Side, int], over: bool) -> None:
    assert CutoverState(key="k", phase=phase, shared=True, entries=entries).is_over is over


def test_a_phase_that_is_not_shared_is_said_to_be_of_this_process(
    cutover: CutoverWorld, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIGRATE_STORAGE_PHASE", "destination_first")
    state = read_state(CutoverBackend("old", world.old, world.new, outbox=cutover.outbox))
    assert state.describe().startswith("phase DESTINATION_FIRST (of this process: it is not shared")
    without = read_state(CutoverBackend("old", world.old, world.new, phase=Phase.SOURCE))
    assert (without.phase, without.unsettled) == (Phase.SOURCE, 0)


def test_a_phase_that_cannot_be_read_is_one_line(cutover: CutoverWorld, world: World) -> None:
    def ask() -> Phase:
        raise KeyError("phase")

    backend = CutoverBackend("old", world.old, world.new, phase=ask, outbox=cutover.outbox)
    with pytest.raises(ConfigurationError, match="the phase of the cutover 'old' cannot be read: KeyError: 'phase'"):
        read_state(backend)
