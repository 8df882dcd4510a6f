"""Every order of steps of two processes in adjacent phases, with every failure and kill, over the real protocols.

The protocols are generators that do nothing by themselves, so the search replays them: a state is what the two stores and the
outbox hold, and the answers that each operation under way got so far. A value is the number of the save that wrote it; numbers
are renamed by their first appearance, so that states which differ only in them are one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from migrate_storage.cutover import protocol
from migrate_storage.cutover.decisions import Phase, Side
from migrate_storage.cutover.protocol import Entry, EntryFate, Protocol

S, D = Side.SOURCE, Side.DESTINATION
NOW, OLD = "now", "old"
Value = int | None
JUNK = 99


@dataclass(frozen=True, slots=True)
class Thrown:
    """A step that failed."""

    name: str

    def error(self) -> Exception:
        return FileNotFoundError() if self.name == "missing" else OSError(self.name)


MISSING, FAILED = Thrown("missing"), Thrown("failed")


@dataclass(frozen=True, slots=True)
class Op:
    """An operation under way."""

    kind: str
    phase: Phase | None
    value: Value
    answers: tuple[Any, ...] = ()
    #: Writes: values of writes that overlapped it. Reads: values that were legal at some time since it began.
    beside: frozenset[Value] = frozenset()


@dataclass(frozen=True, slots=True)
class Row:
    """The key's entry."""

    sequence: int
    side: Side
    tombstone: bool = False
    claimed: bool = False


@dataclass(frozen=True, slots=True)
class State:
    source: Value
    destination: Value
    row: Row | None
    #: What a read that begins now may return.
    legal: frozenset[Value]
    left: int
    repairs: int
    #: By agent: process 0, process 1, repair, reader.
    ops: tuple[Op | None, ...] = (None, None, None, None)

    def at(self, side: Side) -> Value:
        return self.source if side is S else self.destination

    def put(self, side: Side, value: Value) -> State:
        return replace(self, source=value) if side is S else replace(self, destination=value)


class BrokenError(AssertionError):
    """A protocol let an acknowledged write be lost, stale or resurrected."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What is searched: the real protocols, unless a test puts worse ones in their place."""

    save: Callable[[Phase, Any], Protocol] = protocol.save
    delete: Callable[[Phase], Protocol] = protocol.delete
    read: Callable[[Phase], Protocol] = protocol.read
    repair: Callable[..., Protocol] = protocol.repair
    #: Whether a repair closes only an entry that has not changed since.
    settle_looks: bool = True
    #: Whether a writer closes only an entry that is its alone.
    close_looks: bool = True


@dataclass(kw_only=True)
class Search:
    """A search from given states.

    Args:
        phases: of the two processes.
        writable: sides that repair may write.
        backfill: the side that a backfill trusts.
        overlapping: whether both processes may be in the middle of a write at once.
        grace: whether repair lets a key be while a write is under way, as it does for five minutes.
        slow_reads: whether a read may be in the middle while a write is.
        rules: what is searched.
    """

    phases: tuple[Phase, Phase]
    writable: frozenset[Side]
    backfill: Side
    overlapping: bool = False
    slow_reads: bool = False
    grace: bool = False
    rules: Rules = field(default_factory=Rules)
    states: int = 0

    def __post_init__(self) -> None:
        rules = self.rules

        @cache
        def step(kind: str, phase: Phase | None, value: Value, answers: tuple[Any, ...]) -> tuple[str, Any]:
            made = {
                "save": lambda: rules.save(phase, value),
                "delete": lambda: rules.delete(phase),
                "read": lambda: rules.read(phase),
                "repair": lambda: rules.repair(self.writable),
                "backfill": lambda: rules.repair(self.writable, self.backfill),
            }[kind]()
            try:
                asked = next(made)
                for answer in answers:
                    asked = made.throw(answer.error()) if isinstance(answer, Thrown) else made.send(answer)
            except StopIteration as stop:
                return "done", stop.value
            except Exception as error:
                return "raised", error
            return "step", asked

        self._step = step
        self._reads = cache(self._look)
        self._repaired = cache(self._repair)

    def run(self, starts: Iterable[State]) -> int:
        """Visit every state.

        Raises:
            BrokenError: with the way to what went wrong.
        """
        before: dict[State, tuple[State | None, str]] = {}
        waiting: list[State] = []
        for start in starts:
            start = renamed(start)
            before.setdefault(start, (None, "begin"))
            waiting.append(start)
        while waiting:
            state = waiting.pop()
            try:
                self._check(state)
                following = list(self._next(state))
            except BrokenError as error:
                raise BrokenError(f"{error}\n{self._way(state, before)}") from None
            for told, after in following:
                after = renamed(after)
                if after not in before:
                    before[after] = (state, told)
                    waiting.append(after)
        self.states = len(before)
        return self.states

    def _way(self, state: State, before: Mapping[State, tuple[State | None, str]]) -> str:
        lines: list[str] = []
        at: State | None = state
        while at is not None:
            past, told = before[at]
            lines.append(f"{told:<40} source={at.source} destination={at.destination} {at.row} legal={set(at.legal)}")
            at = past
        return "\n".join(reversed(lines))

    # -- what must hold

    def _check(self, state: State) -> None:
        for phase, found in self._reads(state.source, state.destination, state.row):
            if found not in state.legal:
                raise BrokenError(f"a read in {phase.name} gives {found}, legal is {set(state.legal)}")
        if not any(state.ops):
            row, found_after = self._repaired(state.source, state.destination, state.row)
            if row is not None:
                raise BrokenError(f"repair leaves {row}")
            for phase, found in found_after:
                if found not in state.legal:
                    raise BrokenError(f"after repair a read in {phase.name} gives {found}, legal is {set(state.legal)}")

    def _look(self, source: Value, destination: Value, row: Row | None) -> tuple[tuple[Phase, Value], ...]:
        state = State(source, destination, row, frozenset(), 0, 0)
        return tuple((phase, self._alone(state, Op("read", phase, None))[1]) for phase in sorted(set(self.phases)))

    def _repair(self, source: Value, destination: Value, row: Row | None) -> tuple[Row | None, Any]:
        state = State(source, destination, row, frozenset(), 0, 0)
        for _ in range(3):
            if state.row is not None and not self._never_came(state):
                state = self._alone(state, Op("repair", None, None))[0]
        left = None if self._never_came(state) else state.row
        return left, self._reads(state.source, state.destination, state.row)

    def _never_came(self, state: State) -> bool:
        """Check that an object that was not deleted, and is missing at the destination, waits for a repair there."""
        row = state.row
        waits = row is not None and row.side is D and not row.tombstone and state.destination is None
        return waits and D not in self.writable

    def _alone(self, state: State, op: Op) -> tuple[State, Value]:
        """Run an operation to its end, alone and without failures."""
        state = replace(state, ops=(None, None, None, None), left=0)
        while True:
            kind, asked = self._step(op.kind, op.phase, op.value, op.answers)
            if kind != "step":
                if kind == "raised" and not isinstance(asked, FileNotFoundError):
                    raise BrokenError(f"{op.kind} raised {asked!r}")
                return replace(state, ops=(None, None, None, None)), asked if kind == "done" else None
            state = replace(state, ops=(None, None, None, op))
            _, state, answer = next(iter(self._perform(state, 3, asked)))
            op = state.ops[3] or op
            op = replace(op, answers=(*op.answers, answer))

    # -- what can happen

    def _next(self, state: State) -> Iterator[tuple[str, State]]:
        writing = [agent for agent in (0, 1) if state.ops[agent]]
        for agent in (0, 1):
            if state.ops[agent] is not None or (writing and not self.overlapping) or not state.left:
                continue
            value = 1 + max((v for v in _values(state) if v is not None), default=0)
            for kind, new in (("save", value), ("delete", None)):
                yield f"{agent} begins to {kind} {new}", self._begin(state, agent, kind, new)
        if state.repairs and state.ops[2] is None:
            for kind in ("repair", "backfill"):
                if kind == "backfill" or state.row is not None:
                    begun = _with(state, 2, Op(kind, None, None))
                    yield kind, replace(begun, repairs=state.repairs - 1)
        if self.slow_reads and state.ops[3] is None and writing:
            for phase in set(self.phases):
                yield f"read in {phase.name} begins", _with(state, 3, Op("read", phase, None, (), state.legal))
        if not any(state.ops):
            for kind in ("repair", "backfill"):
                yield f"whole {kind}", replace(self._alone(state, Op(kind, None, None))[0], left=state.left)
        for agent, op in enumerate(state.ops):
            if op is not None:
                yield from self._go_on(state, agent, op)

    def _begin(self, state: State, agent: int, kind: str, value: Value) -> State:
        ops = [
            replace(op, beside=op.beside | {value}) if op is not None and op.kind in ("save", "delete", "read") else op
            for op in state.ops
        ]
        beside = frozenset(op.value for op in state.ops if op is not None and op.kind in ("save", "delete"))
        ops[agent] = Op(kind, self.phases[agent], value, (), beside)
        return replace(state, ops=tuple(ops), left=state.left - 1, legal=state.legal | {value})

    def _go_on(self, state: State, agent: int, op: Op) -> Iterator[tuple[str, State]]:
        kind, asked = self._step(op.kind, op.phase, op.value, op.answers)
        assert kind == "step"
        if op.answers and agent != 3:
            freed = state.row and agent == 2 and replace(state.row, claimed=False)
            killed = replace(state, row=freed) if freed else state
            yield f"{agent} is killed", _with(killed, agent, None)
        for told, after, answer in self._perform(state, agent, asked):
            gone = after.ops[agent]
            assert gone is not None
            after = _with(after, agent, replace(gone, answers=(*gone.answers, answer)))
            yield f"{agent} {told}", self._ended(after, agent)

    def _ended(self, state: State, agent: int) -> State:
        op = state.ops[agent]
        assert op is not None
        kind, result = self._step(op.kind, op.phase, op.value, op.answers)
        if kind == "step":
            if op.answers and isinstance(result, (protocol.OpenEntry, protocol.ClaimEntry)):
                # Each attempt begins from nothing: so there may be any number of them.
                again = "repair" if op.kind == "backfill" else op.kind
                return _with(state, agent, replace(op, kind=again, answers=()))
            if op.kind == "read" and len(op.answers) == 3 and op.answers[0] != op.answers[2]:
                # It looked again, saw another entry and begins with that.
                return _with(state, agent, replace(op, answers=op.answers[2:]))
            return state
        state = _with(state, agent, None)
        if op.kind == "read":
            found = result if kind == "done" else None
            if found not in op.beside:
                raise BrokenError(f"a slow read in {op.phase} gives {found}, legal was {set(op.beside)}")
        elif op.kind in ("save", "delete") and kind == "done":
            legal = op.beside | {op.value}
            ops = tuple(
                replace(each, beside=each.beside | legal) if each is not None and each.kind == "read" else each
                for each in state.ops
            )
            return replace(state, legal=legal, ops=ops)
        return state

    def _perform(self, state: State, agent: int, asked: Any) -> Iterator[tuple[str, State, Any]]:
        row = state.row
        harmed = agent != 3
        match asked:
            case protocol.FindEntry():
                yield (
                    "looks",
                    state,
                    row and Entry(epoch=NOW, sequence=row.sequence, side=row.side, tombstone=row.tombstone),
                )
            case protocol.OpenEntry(side, tombstone):
                row = (
                    Row(1, side, tombstone)
                    if row is None
                    else replace(row, sequence=row.sequence + 1, tombstone=row.tombstone or tombstone)
                )
                yield "opens", replace(state, row=row), _entry(row)
            case protocol.RequestRepair(side):
                yield "notes", state if row else replace(state, row=Row(1, side)), None
            case protocol.CloseEntry(entry):
                if row is None or entry.epoch != NOW:
                    yield "finds it gone", state, EntryFate.VANISHED
                elif not self.rules.close_looks or (row.sequence == 1 and entry.sequence == 1):
                    yield "closes", _vanished(state, None), EntryFate.CLOSED
                else:
                    yield "does not close", _touched(state), EntryFate.STAYS
            case protocol.LeaveForRepair(entry, held):
                if row is None or entry.epoch != NOW:
                    yield "finds it gone", state, EntryFate.VANISHED
                else:
                    left = _touched(state)
                    assert left.row is not None
                    buried = replace(left.row, tombstone=left.row.tombstone or held)
                    yield "leaves", replace(left, row=buried), EntryFate.STAYS
            case protocol.ClaimEntry():
                if row is None or row.claimed or (self.grace and _written(state)):
                    yield "claims nothing", state, None
                else:
                    row = replace(row, sequence=row.sequence + 1, claimed=True)
                    yield "claims", replace(state, row=row), _entry(row)
            case protocol.SwitchTrustedSide(entry):
                if row is None or entry.epoch != NOW or row.sequence != entry.sequence:
                    yield "cannot flip", state, None
                else:
                    row = Row(2, row.side.other, row.tombstone, claimed=True)
                    yield "flips", _vanished(state, row), _entry(row)
            case protocol.CloseClaimed(entry):
                if row is None or entry.epoch != NOW or (self.rules.settle_looks and row.sequence != entry.sequence):
                    yield "cannot settle", state, False
                else:
                    yield "settles", _vanished(state, None), True
            case protocol.Release():
                yield "releases", replace(state, row=row and replace(row, claimed=False)), None
            case protocol.Head(side):
                yield f"looks at {side}", state, state.at(side)
            case protocol.Get(side):
                found = state.at(side)
                yield f"reads {side}", state, MISSING if found is None else found
            case protocol.Put(side, content):
                yield f"writes {side}", state.put(side, content), "held"
                if harmed:
                    yield f"writes {side}, answer lost", state.put(side, content), FAILED
                    yield f"fails to write {side}", state, FAILED
            case protocol.Delete(side):
                yield f"deletes {side}", state.put(side, None), None
                if harmed:
                    yield f"deletes {side}, answer lost", state.put(side, None), FAILED
                    yield f"fails to delete {side}", state, FAILED
            case _:
                raise AssertionError(asked)


def _entry(row: Row) -> Entry:
    return Entry(epoch=NOW, sequence=row.sequence, side=row.side, tombstone=row.tombstone)


def _written(state: State) -> bool:
    """Whether a writer that has opened the entry is at work."""
    return any(
        isinstance(answer, Entry) and answer.epoch == NOW
        for op in state.ops[:2]
        if op is not None
        for answer in op.answers
    )


def _touched(state: State) -> State:
    assert state.row is not None
    return replace(state, row=replace(state.row, sequence=state.row.sequence + 1))


def _with(state: State, agent: int, op: Op | None) -> State:
    return replace(state, ops=(*state.ops[:agent], op, *state.ops[agent + 1 :]))


def _vanished(state: State, row: Row | None) -> State:
    """Mark the entry of operations under way as no longer the current one."""

    def old(answer: Any) -> Any:
        return replace(answer, epoch=OLD) if isinstance(answer, Entry) else answer

    ops = tuple(op and replace(op, answers=tuple(map(old, op.answers))) for op in state.ops)
    return replace(state, row=row, ops=ops)


def _values(state: State) -> Iterator[Value]:
    yield state.source
    yield state.destination
    for op in state.ops:
        if op is not None:
            yield op.value
            yield from (answer for answer in op.answers if type(answer) is int)
            yield from sorted(op.beside, key=str)
    yield from sorted(state.legal, key=str)


def renamed(state: State) -> State:
    """The same state with its values numbered by their first appearance, and its sequences by their order."""
    names: dict[Value, Value] = {None: None}
    for value in _values(state):
        if value not in names:
            names[value] = len(names)
    used = {1}
    if state.row is not None:
        used.add(state.row.sequence)
    for op in state.ops:
        if op is not None:
            used.update(answer.sequence for answer in op.answers if isinstance(answer, Entry) and answer.epoch == NOW)
    ranks = {sequence: rank for rank, sequence in enumerate(sorted(used), 1)}

    def answer(given: Any) -> Any:
        if type(given) is int:
            return names[given]
        if isinstance(given, Entry):
            # Nothing is equal to an entry that is gone.
            return replace(given, sequence=ranks[given.sequence] if given.epoch == NOW else 0)
        return given

    ops = tuple(
        op
        and Op(
            op.kind,
            op.phase,
            names[op.value],
            tuple(map(answer, op.answers)),
            frozenset(names[value] for value in op.beside),
        )
        for op in state.ops
    )
    return State(
        names[state.source],
        names[state.destination],
        state.row and replace(state.row, sequence=ranks[state.row.sequence]),
        frozenset(names[value] for value in state.legal),
        state.left,
        state.repairs,
        ops,
    )
