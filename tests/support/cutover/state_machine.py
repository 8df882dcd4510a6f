"""Clients, a repair and a person who takes steps, on two real stores and a real database, against what reads may return."""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from advanced_alchemy.types.file_object import FileObject
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from migrate_storage import ObstoreBackend
from migrate_storage.cutover import protocol
from migrate_storage.cutover.backend import CutoverBackend
from migrate_storage.cutover.decisions import Phase, Side, trusted_side
from migrate_storage.cutover.outbox import WRITER_GRACE_SECONDS, Outbox
from migrate_storage.cutover.phase.source import SharedPhase
from migrate_storage.cutover.phase.transitions import PhaseController
from migrate_storage.cutover.repair import KEY_LEASE_SECONDS, Repair, repair_all
from migrate_storage.database.connection import Database
from tests.support.cutover.breaking_backend import Breaking, KilledError

__all__ = ("Machine",)

Value = bytes | None
CLIENTS = 3
KEYS = ("a", "b")
_backends = itertools.count()


@dataclass
class Writing:
    """A write under way."""

    key: str
    value: Value
    #: What was written by others meanwhile.
    beside: set[Value] = field(default_factory=set)


@dataclass(frozen=True)
class Harm:
    """What happens at one request of an operation."""

    request: int
    #: ``before``, ``after`` its effect it fails; ``killed`` before it, ``dead`` after it; ``meanwhile`` another client acts.
    how: str
    #: For ``meanwhile``: who, and what.
    who: int = 0
    what: str = ""


HARM = st.builds(
    Harm,
    request=st.sampled_from([0, 1, 1, 2]),
    how=st.sampled_from(["before", "before", "after", "killed", "dead", "meanwhile", "meanwhile"]),
    who=st.integers(0, CLIENTS - 1),
    what=st.sampled_from(["save", "delete", "read", "repair"]),
)
HARMED = st.sampled_from([0, 1, 1, 2]).flatmap(lambda count: st.tuples(*[HARM] * count))


class Machine(RuleBasedStateMachine):
    """Anything in any order; what is read must be what was acknowledged last, or what was written beside it."""

    database: ClassVar[Database]
    #: What was done in all examples, for the record.
    done: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.time = 1e9
        self.outbox = Outbox(self.database, f"machine{next(_backends)}", clock=lambda: self.time)
        self.source, self.destination = Breaking("source", "memory://"), Breaking("destination", "memory://")
        for side in (self.source, self.destination):
            side.broken = self.asked
        self.switches = [self.switch() for _ in range(CLIENTS + 1)]
        self.clients = [
            CutoverBackend("files", self.source, self.destination, outbox=self.outbox, phase=switch)
            for switch in self.switches[:CLIENTS]
        ]
        self.repairer = Repair(self.source, self.destination, self.outbox, phases=self.switches[CLIENTS])
        self.table = self.switches[0].table
        self.legal: dict[str, set[Value]] = defaultdict(lambda: {None})
        self.seen: list[set[Value]] = []
        self.writes: list[Writing] = []
        self.values = itertools.count(1)
        self.harms: dict[int, Harm] = {}
        self.requests = 0
        self.key = ""

    def switch(self) -> SharedPhase:
        # Its own thread never gets to renew, so an example is the same each time: phases are followed by a rule.
        made = SharedPhase(self.outbox, lease=100_000, drain=0, clock=lambda: 0.0)
        assert made.phase is Phase.SOURCE
        return made

    def teardown(self) -> None:
        try:
            self.settled()
        finally:
            for each in self.switches:
                each.close()

    # What happens at a request

    def asked(self, name: str) -> str | None:
        harm = self.harms.pop(self.requests, None)
        self.requests += 1
        if harm is None:
            return None
        self.done[harm.how] += 1
        if harm.how == "meanwhile":
            with self.unharmed():
                self.meanwhile(harm)
            return None
        return harm.how

    def meanwhile(self, harm: Harm) -> None:
        match harm.what:
            case "save":
                self.write(harm.who, self.key, self.content())
            case "delete":
                self.write(harm.who, self.key, None)
            case "read":
                self.look(harm.who, self.key)
            case _ if len(self.writes) == 1:
                self.late()
                with contextlib.suppress(OSError):
                    self.repairer.repair_key(self.key)

    @contextlib.contextmanager
    def unharmed(self) -> Iterator[None]:
        harms, requests = self.harms, self.requests
        self.harms, self.requests = {}, 0
        try:
            yield
        finally:
            self.harms, self.requests = harms, requests

    @contextlib.contextmanager
    def harmed(self, key: str, harms: tuple[Harm, ...]) -> Iterator[None]:
        self.harms = {each.request: each for each in harms}
        self.requests, self.key = 0, key
        try:
            yield
        finally:
            self.harms = {}

    def late(self) -> None:
        """Advance the clock so far that no writer is waited for and no lease is valid."""
        self.time += WRITER_GRACE_SECONDS + KEY_LEASE_SECONDS + 1

    # What each does, and what it means

    def content(self) -> bytes:
        return str(next(self.values)).encode()

    def write(self, who: int, key: str, value: Value) -> None:
        mine = Writing(key, value, {each.value for each in self.writes if each.key == key})
        for each in self.writes:
            if each.key == key:
                each.beside.add(value)
        self.writes.append(mine)
        self.allow(key, {value} | self.legal[key])
        client = self.clients[who]
        try:
            if value is None:
                client.delete_object(key)
            else:
                client.save_object(FileObject(backend=client, filename=key), value)
        except FileNotFoundError:
            # The outer phases show it.
            assert value is None
            acknowledged = True
        except (OSError, KilledError):
            acknowledged = False
        else:
            acknowledged = True
        finally:
            self.writes.remove(mine)
        self.done["acknowledged" if acknowledged else "refused"] += 1
        if acknowledged:
            self.legal[key] = {value} | mine.beside
            self.allow(key, self.legal[key])

    def allow(self, key: str, values: set[Value]) -> None:
        self.legal[key] = set(values)
        if key == self.key:
            for each in self.seen:
                each |= values

    def look(self, who: int, key: str) -> None:
        legal = set(self.legal[key])
        self.seen.append(legal)
        try:
            found: Value = self.clients[who].get_content(key)
        except FileNotFoundError:
            found = None
        except (OSError, KilledError):
            return
        finally:
            self.seen.remove(legal)
        self.done["read"] += 1
        legal |= self.legal[key]
        assert found in legal, f"{self.clients[who].phase.name} reads {found!r} under {key}, legal is {legal}"

    def everything(self) -> None:
        """No client reads or lists what it must not."""
        for client in self.clients:
            listed = {meta.path for meta in client.list()}
            for key in KEYS:
                self.look(self.clients.index(client), key)
                assert key in listed or None in self.legal[key], f"{client.phase.name} does not list {key}"
                assert key not in listed or self.legal[key] != {None}, f"{client.phase.name} lists {key}, deleted"

    def settled(self) -> None:
        """With nothing in the way all that waits is settled, and then nothing has changed."""
        self.everything()
        self.late()
        for each in self.switches:
            each._renew_once()
        assert not self.repairer.repair_pending().failures
        self.everything()

    # Rules

    @initialize(
        phase=st.sampled_from([*Phase, Phase.DESTINATION_FIRST]),
        there=st.lists(st.sampled_from(["none", "source", "both"]), min_size=len(KEYS), max_size=len(KEYS)),
        late=st.lists(st.booleans(), min_size=CLIENTS, max_size=CLIENTS),
    )
    def begin(self, phase: Phase, there: list[str], late: list[bool]) -> None:
        for key, where in zip(KEYS, there, strict=True):
            if where != "none":
                content = self.content()
                for store in (self.source, self.destination)[: 2 if where == "both" else 1]:
                    ObstoreBackend.save_object(store, FileObject(backend=store, filename=key), content)
                self.legal[key] = {content}
        while self.table.read_locked()[0].phase is not phase:
            self.prepare()
            step = self.steps().advance()
            assert step.taken, step
        for switch, stays in zip(self.switches, (*late, False), strict=True):
            if not stays:
                switch._renew_once()

    @rule(
        what=st.sampled_from(["save", "save", "save", "delete", "delete", "read", "repair", "backfill"]),
        who=st.integers(0, CLIENTS - 1),
        key=st.sampled_from(KEYS),
        harms=HARMED,
    )
    def acts(self, what: str, who: int, key: str, harms: tuple[Harm, ...]) -> None:
        with self.harmed(key, harms):
            match what:
                case "save":
                    self.write(who, key, self.content())
                case "delete":
                    self.write(who, key, None)
                case "read":
                    self.look(who, key)
                case "repair":
                    self.repaired(lambda: self.repairer.repair_key(key))
                case _:
                    side = trusted_side(self.switches[CLIENTS].phase)
                    self.repaired(lambda: self.repairer.backfill([key], side))

    def repaired(self, work: Callable[[], Any]) -> None:
        with contextlib.suppress(OSError, KilledError):
            work()
        self.done["repaired"] += 1

    @rule(level=st.booleans())
    def time_passes(self, level: bool) -> None:
        self.late()
        if level:
            self.levels()

    def levels(self) -> None:
        repair_all(self.clients[0], self.outbox, self.repairer, trusted_side(self.switches[CLIENTS].phase))

    @rule(who=st.integers(0, CLIENTS))
    def follows(self, who: int) -> None:
        self.switches[who]._renew_once()

    @rule(back=st.booleans(), prepared=st.booleans())
    def steps_on(self, back: bool, prepared: bool) -> None:
        if self.table.read_locked()[0].phase is (Phase.SOURCE if back else Phase.DESTINATION):
            return
        if prepared:
            self.prepare()
        step = self.steps().rollback() if back else self.steps().advance()
        self.done[f"{step.before} to {step.after}" if step.taken else "step refused"] += 1

    def steps(self) -> PhaseController:
        return PhaseController(self.clients[0], quiet=0.0)

    def prepare(self) -> None:
        for each in self.switches:
            each._renew_once()
        self.late()
        self.repairer.repair_pending()
        self.levels()

    @invariant()
    def reads_are_legal(self) -> None:
        for key in KEYS:
            entry = self.outbox.find_entry(key)
            for phase in {each.last_known or Phase.SOURCE for each in self.switches[:CLIENTS]}:
                found, legal = self.would_read(phase, key, entry), self.legal[key]
                assert found in legal, f"{phase.name} reads {found!r} under {key}, legal is {legal}"

    def would_read(self, phase: Phase, key: str, entry: Any) -> Value:
        """What a read gives, without the entry that it may leave."""
        reading = protocol.read(phase)
        try:
            step = next(reading)
            while True:
                match step:
                    case protocol.FindEntry():
                        step = reading.send(entry)
                    case protocol.Get(side):
                        store = self.source if side is Side.SOURCE else self.destination
                        try:
                            found = ObstoreBackend.get_content(store, key)
                        except FileNotFoundError as error:
                            step = reading.throw(error)
                        else:
                            step = reading.send(found)
                    case _:
                        step = reading.send(None)
        except StopIteration as stop:
            return bytes(stop.value)
        except FileNotFoundError:
            return None
