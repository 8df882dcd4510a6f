"""A step of a shared phase, forth or back: its conditions with their numbers, and the step itself.

Which conditions a step has is :data:`NEEDS`; ``docs/cutover.md`` says why each.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.text import amount, duration
from migrate_storage.cutover.backend import CutoverBackend
from migrate_storage.cutover.compare import find_differences
from migrate_storage.cutover.decisions import Phase, Side, are_adjacent, trusted_side
from migrate_storage.cutover.outbox import Outbox
from migrate_storage.cutover.phase.source import SharedPhase
from migrate_storage.cutover.phase.table import NEVER_EXPIRES, PhaseRow, ProcessRecord
from migrate_storage.cutover.repair import Repair, repair_all
from migrate_storage.engine.compare import Relation

__all__ = ("PRECONDITIONS", "Condition", "PhaseController", "Preconditions", "Transition")

QUIET_SECONDS = 600.0
"""Seconds without a fallback read before the source is asked no more."""
GIVEN_UP_AFTER_SECONDS = 300.0
"""Seconds after which a person may say that a process which goes on without its lease is gone."""
_BOTH = tuple(Side)
_ALL = ("repair", "writer", "upload")


@dataclass(frozen=True, kw_only=True, slots=True)
class Preconditions:
    """What a step waits for, beside the processes."""

    #: Open entries that must not be, by what they wait for and the side that they name.
    entries: frozenset[tuple[str, Side]]
    #: The side to which no upload URL may still be used.
    uploads: Side | None = None
    #: Both sides equal in a full comparison.
    needs_comparison: bool = False
    #: The side that is not trusted is brought level first.
    needs_repair_all: bool = False
    #: No fallback reads for a while.
    needs_quiet: bool = False


_S, _D = _BOTH
_LEFT = frozenset({("repair", _S), ("repair", _D)})
PRECONDITIONS: Mapping[tuple[Phase, Phase], Preconditions] = MappingProxyType(
    {
        # What an outer phase wrote without looking is newer than what an entry for the other side says.
        (Phase.SOURCE, Phase.DUAL_WRITE): Preconditions(entries=frozenset((kind, _D) for kind in _ALL)),
        (Phase.DUAL_WRITE, Phase.DESTINATION_FIRST): Preconditions(entries=_LEFT, needs_comparison=True),
        (Phase.DESTINATION_FIRST, Phase.DESTINATION): Preconditions(
            entries=_LEFT | {("writer", _S)}, uploads=_S, needs_comparison=True, needs_quiet=True
        ),
        (Phase.DESTINATION, Phase.DESTINATION_FIRST): Preconditions(
            entries=frozenset((kind, _S) for kind in _ALL), needs_repair_all=True
        ),
        (Phase.DESTINATION_FIRST, Phase.DUAL_WRITE): Preconditions(entries=_LEFT, needs_comparison=True),
        (Phase.DUAL_WRITE, Phase.SOURCE): Preconditions(
            entries=frozenset({("repair", _D), ("writer", _D)}), uploads=_D
        ),
    }
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """One thing that must be so before a step."""

    #: ``processes``, ``entries``, ``uploads``, ``fallbacks``, ``comparison`` or ``level``.
    name: str
    #: How many speak against it; 0 holds.
    count: int
    #: One line for a person.
    message: str
    #: It does not hold, and was overridden.
    forced: bool = False

    @property
    def holds(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.count


@dataclass(frozen=True, kw_only=True, slots=True)
class Transition:
    """A step, taken or refused."""

    before: Phase
    after: Phase
    conditions: tuple[Condition, ...]
    #: Whether the phase was changed.
    taken: bool = False

    @property
    def ready(self) -> bool:
        """Whether every condition holds."""
        return all(each.holds for each in self.conditions)

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        conditions = [{**asdict(each), "holds": each.holds} for each in self.conditions]
        return {
            "before": self.before.value,
            "after": self.after.value,
            "taken": self.taken,
            "ready": self.ready,
            "conditions": conditions,
        }


class PhaseController:
    """Steps of one cutover whose phase is shared.

    Args:
        backend: any process's; this one need not act in the phase.
        quiet: seconds without a fallback read before the source is asked no more.
        stopping: asked while both sides are compared.

    Raises:
        ConfigurationError: the phase is not shared.
    """

    def __init__(
        self, backend: CutoverBackend, *, quiet: float = QUIET_SECONDS, stopping: Callable[[], bool] = lambda: False
    ) -> None:
        if not isinstance(backend.phase_source, SharedPhase) or backend.outbox is None:
            raise ConfigurationError(
                f"the phase of {backend.key} is fixed in code or in the environment: change it there, process by process, "
                "or share it with phase='shared'"
            )
        self._backend = backend
        self._outbox: Outbox = backend.outbox
        self._table = backend.phase_source.table
        self._quiet = quiet
        self._stopping = stopping

    def ready(self, *, back: bool = False) -> Transition:
        """Look at the conditions of the next step, and keep what the full comparison found for it. Nothing else is changed.

        Args:
            back: of the step back.
        """
        _, step = self._check_conditions(back, force=False)
        return step

    def advance(self, *, force: bool = False) -> Transition:
        """One step forth, if its conditions hold.

        Args:
            force: whatever does not hold is overridden and said, but for processes whose lease may be valid.

        Raises:
            ConfigurationError: there is no further phase.
        """
        return self._take_step(back=False, force=force)

    def retreat(self, *, force: bool = False) -> Transition:
        """One step back. From DESTINATION the source is brought level first. Else as :meth:`advance`."""
        return self._take_step(back=True, force=force)

    def _take_step(self, *, back: bool, force: bool) -> Transition:
        seen, step = self._check_conditions(back, force=force)
        needs = PRECONDITIONS[step.before, step.after]
        if needs.needs_repair_all and force:
            skipped = Condition(name="level", count=1, message="the source was not brought level", forced=True)
            step = replace(step, conditions=(*step.conditions, skipped))
        elif needs.needs_repair_all and step.ready:
            step = replace(step, conditions=(*step.conditions, self._repair_all(step.before)))
        blocking = [each for each in step.conditions if not each.holds and not each.forced]
        if blocking:
            return step

        def work(connection: Any) -> list[ProcessRecord] | None:
            if self._table.lock_phase(connection).generation != seen.generation:
                return None
            gone = [each.id for each in self._table.read_processes(connection) if force and _given_up(each)]
            return self._table.set_phase(connection, step.after, despite=gone)

        waited = self._table.transaction(work)
        if waited is None:
            raise ConfigurationError("somebody else changed the phase meanwhile: look again")
        if waited:
            return replace(step, conditions=(_processes(waited, step.after, force), *step.conditions[1:]))
        return replace(step, taken=True)

    def _check_conditions(self, back: bool, *, force: bool) -> tuple[PhaseRow, Transition]:
        shared, members = self._table.read_locked()
        order = list(Phase)
        place = order.index(shared.phase) + (-1 if back else 1)
        if not 0 <= place < len(order):
            raise ConfigurationError(f"{shared.phase.name} is the {'first' if back else 'last'} phase")
        after = order[place]
        needs = PRECONDITIONS[shared.phase, after]
        processes = _processes(members, after, force)
        found = [processes]
        if needs.needs_comparison:
            # One that starts while a process is in an earlier phase tells nothing of what that one writes.
            found.append(self._check_comparison(shared, after, may=processes.holds and not force))
        found.extend(self._check_entries(shared, members, needs))
        if force:
            found = [each if each.holds or each is processes else replace(each, forced=True) for each in found]
        return shared, Transition(before=shared.phase, after=after, conditions=tuple(found))

    def _check_entries(
        self, shared: PhaseRow, members: Iterable[ProcessRecord], needs: Preconditions
    ) -> Iterator[Condition]:
        tally = self._outbox.count_by_kind()
        left = sum(tally.count(kind, side) for kind, side in needs.entries)
        yield Condition(
            name="entries",
            count=left,
            message=f"{amount(left, 'key')} not settled: run 'migrate-storage cutover repair'"
            if left
            else "no entry is in the way",
        )
        if needs.uploads is not None:
            urls = tally.count("upload", needs.uploads)
            until = f"until the last one expires: {duration(tally.last_upload)}"
            message = f"{amount(urls, 'upload URL')} to the {needs.uploads} may still be used, {until}"
            yield Condition(name="uploads", count=urls, message=message if urls else "no upload URL is in the way")
        if needs.needs_quiet:
            yield self._check_fallbacks(shared, members)

    def _check_fallbacks(self, shared: PhaseRow, members: Iterable[ProcessRecord]) -> Condition:
        span = duration(self._quiet)
        late = [each for each in members if each.fallbacks and each.seconds_since_fallback < self._quiet]
        reads = sum(each.fallbacks for each in late)
        if late:
            message = f"{amount(reads, 'read')} by {amount(len(late), 'process', 'processes')} fell back to the source, the last {duration(min(each.seconds_since_fallback for each in late))} ago: {span} must pass without one"
            return Condition(name="fallbacks", count=reads, message=message)
        lasted = self._table.transaction(lambda connection: self._table.database.now(connection)) - shared.changed_at
        if lasted < self._quiet:
            message = f"no read fell back, but the phase lasts only {duration(max(0.0, lasted))}: {span} must pass without one"
            return Condition(name="fallbacks", count=1, message=message)
        return Condition(name="fallbacks", count=0, message=f"no read fell back to the source for {span}")

    def _check_comparison(self, shared: PhaseRow, after: Phase, *, may: bool) -> Condition:
        known = shared.comparison
        if not (known.get("generation") == shared.generation and known.get("after") == after and not known["differ"]):
            if not may:
                message = "both sides were not compared since all processes are in this phase"
                return Condition(name="comparison", count=1, message=message)
            known = self._compare_sides(shared, after)
        if "stopped" in known:
            return Condition(name="comparison", count=1, message="the comparison was stopped")
        numbers = ", ".join(f"{known[word]:,} {word}" for word in ("missing", "different", "extra"))
        age = duration(max(0.0, time.time() - known["at"]))
        message = f"compared {age} ago: {numbers} on the {trusted_side(after)}" if known["differ"] else ""
        advice = f" ({known['example']!r}, say); run 'migrate-storage cutover repair --all'" if message else ""
        return Condition(
            name="comparison",
            count=known["differ"],
            message=message + advice or f"compared in full {age} ago: both sides are the same",
        )

    def _compare_sides(self, shared: PhaseRow, after: Phase) -> dict[str, Any]:
        started, counts, example = time.time(), Counter[Relation](), ""
        for each in find_differences(self._backend.source, self._backend.destination, self._outbox, self._stopping):
            counts[each.relation] += 1
            self._backend.counters.add("difference", trusted_side(after))
            example = example or each.pair.key
        if self._stopping():
            return {"stopped": True}
        back = trusted_side(after) is Side.SOURCE
        missing, extra = (Relation.MISSING, Relation.EXTRA)[:: -1 if back else 1]
        found = {"generation": shared.generation, "after": after.value, "at": started, "differ": counts.total()}
        found |= {"missing": counts[missing], "different": counts[Relation.DIFFERENT], "extra": counts[extra]}
        found["example"] = example
        self._table.transaction(lambda connection: self._table.store_comparison(connection, found))
        return found

    def _repair_all(self, phase: Phase) -> Condition:
        switch = SharedPhase(self._outbox, name="level")
        try:
            repair = Repair(self._backend.source, self._backend.destination, self._outbox, phases=switch)
            side = trusted_side(phase)
            leveled = repair_all(self._backend, self._outbox, repair, side, self._stopping)
        finally:
            switch.close()
        result = leveled.result
        left = result.left + len(result.failures) + len(leveled.foreign) + self._stopping()
        message = f"{amount(result.settled, 'object')} brought level on the {side.other}, {result.left:,} left, {len(result.failures):,} failed, {len(leveled.foreign):,} extra"
        return Condition(name="level", count=left, message=message)


def _processes(members: Iterable[ProcessRecord], after: Phase, force: bool) -> Condition:
    waited = [each for each in members if each.alive and any(not are_adjacent(phase, after) for phase in each.phases)]
    given_up = [each for each in waited if force and _given_up(each)]
    forced = bool(given_up) and len(given_up) == len(waited)
    if not waited:
        return Condition(name="processes", count=0, message=f"no process is more than a step from {after.name}")
    told = ", ".join(
        f"{each.name} in {' and '.join(phase.name for phase in each.phases)}, silent for {duration(each.seconds_since_report)}"
        for each in waited[:5]
    )
    more = f" and {len(waited) - 5:,} more" if len(waited) > 5 else ""
    message = f"{amount(len(waited), 'process', 'processes')} may still be in another phase: {told}{more}"
    return Condition(name="processes", count=len(waited), message=message, forced=forced)


def _given_up(member: ProcessRecord) -> bool:
    """Whether a process that goes on without its lease has been silent for so long that a person may call it gone."""
    return member.seconds_left > NEVER_EXPIRES / 2 and member.seconds_since_report > GIVEN_UP_AFTER_SECONDS
