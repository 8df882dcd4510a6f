"""Transitions of a shared phase, forward or back, and their conditions.

:data:`PRECONDITIONS` has the conditions of each transition; ``docs/cutover.md`` explains them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.text import amount, duration
from migrate_storage.cutover.backend import CutoverBackend
from migrate_storage.cutover.compare import find_differences
from migrate_storage.cutover.decisions import Phase, Side, trusted_side
from migrate_storage.cutover.outbox import Outbox, require_tables
from migrate_storage.cutover.phase.source import SharedPhase
from migrate_storage.cutover.phase.table import NEVER_EXPIRES, PhaseRow, ProcessRecord, processes_in_the_way
from migrate_storage.cutover.repair import Repair, repair_all
from migrate_storage.engine.compare import Relation

__all__ = ("PRECONDITIONS", "Condition", "PhaseController", "Preconditions", "Transition")

QUIET_SECONDS = 600.0
"""Time without a fallback read that is required before DESTINATION."""
GIVEN_UP_AFTER_SECONDS = 300.0
"""Silence after which a person may declare a process without lease dead."""
_ALL_KINDS = ("repair", "writer", "upload")


@dataclass(frozen=True, kw_only=True, slots=True)
class Preconditions:
    """Conditions of a transition, besides the phases of the processes."""

    #: Kinds and trusted sides of the open entries that prevent it.
    entries: frozenset[tuple[str, Side]]
    #: The side for which no upload URL may be valid.
    uploads: Side | None = None
    #: Both sides are equal in a full comparison.
    needs_comparison: bool = False
    #: The trusted side is copied to the other side first.
    needs_repair_all: bool = False
    #: No read has fallen back to the source for a while.
    needs_quiet: bool = False


_S, _D = Side.SOURCE, Side.DESTINATION
_LEFT_TO_REPAIR = frozenset({("repair", _S), ("repair", _D)})
PRECONDITIONS: Mapping[tuple[Phase, Phase], Preconditions] = MappingProxyType(
    {
        # SOURCE and DESTINATION write without reading entries, so their objects are newer than an entry for the other
        # side.
        (Phase.SOURCE, Phase.DUAL_WRITE): Preconditions(entries=frozenset((kind, _D) for kind in _ALL_KINDS)),
        (Phase.DUAL_WRITE, Phase.DESTINATION_FIRST): Preconditions(entries=_LEFT_TO_REPAIR, needs_comparison=True),
        (Phase.DESTINATION_FIRST, Phase.DESTINATION): Preconditions(
            entries=_LEFT_TO_REPAIR | {("writer", _S)}, uploads=_S, needs_comparison=True, needs_quiet=True
        ),
        (Phase.DESTINATION, Phase.DESTINATION_FIRST): Preconditions(
            entries=frozenset((kind, _S) for kind in _ALL_KINDS), needs_repair_all=True
        ),
        (Phase.DESTINATION_FIRST, Phase.DUAL_WRITE): Preconditions(entries=_LEFT_TO_REPAIR, needs_comparison=True),
        (Phase.DUAL_WRITE, Phase.SOURCE): Preconditions(
            entries=frozenset({("repair", _D), ("writer", _D)}), uploads=_D
        ),
    }
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """One condition of a transition, and its state."""

    #: ``processes``, ``entries``, ``uploads``, ``fallbacks``, ``comparison`` or ``level``.
    name: str
    #: Number of objects, entries or processes that prevent it; 0 means that it is met.
    count: int
    #: One line for a person.
    message: str
    #: The condition is not met, and was overridden.
    forced: bool = False

    @property
    def holds(self) -> bool:
        """Whether the condition is met."""
        return not self.count


@dataclass(frozen=True, kw_only=True, slots=True)
class Transition:
    """A transition, taken or refused."""

    before: Phase
    after: Phase
    conditions: tuple[Condition, ...]
    #: Whether the phase was changed.
    taken: bool = False

    @property
    def ready(self) -> bool:
        """Whether every condition is met."""
        return all(each.holds for each in self.conditions)

    def to_dict(self) -> dict[str, Any]:
        """Return the transition as a JSON object."""
        conditions = [{**asdict(each), "holds": each.holds} for each in self.conditions]
        return {
            "before": self.before.value,
            "after": self.after.value,
            "taken": self.taken,
            "ready": self.ready,
            "conditions": conditions,
        }


class PhaseController:
    """Checks and takes the transitions of one shared phase.

    Args:
        backend: of any process; this process need not act in the phase.
        quiet: seconds without a fallback read that are required before DESTINATION.
        stopping: called for each compared key; ``True`` ends the comparison.

    Raises:
        ConfigurationError: the phase is not shared.
    """

    def __init__(
        self, backend: CutoverBackend, *, quiet: float = QUIET_SECONDS, stopping: Callable[[], bool] = lambda: False
    ) -> None:
        if not isinstance(backend.phase_source, SharedPhase) or backend.outbox is None:
            raise ConfigurationError(
                f"the phase of {backend.key} is fixed in code or in the environment: change it there, "
                "process by process, or share it with phase='shared'"
            )
        self._backend = backend
        self._outbox: Outbox = backend.outbox
        self._table = backend.phase_source.table
        self._quiet = quiet
        self._stopping = stopping

    def check(self, *, back: bool = False) -> Transition:
        """Check the conditions of the next transition.

        The result of a full comparison is stored for it. Nothing else is changed.

        Args:
            back: of the transition back.
        """
        return self._check_conditions(back, force=False)[1]

    def advance(self, *, force: bool = False) -> Transition:
        """Change to the next phase, if the conditions are met.

        Args:
            force: override and report the conditions that are not met, except processes whose lease may be valid.

        Raises:
            ConfigurationError: there is no further phase, or the outbox's tables are missing.
        """
        return self._take_step(back=False, force=force)

    def rollback(self, *, force: bool = False) -> Transition:
        """Change to the previous phase, as :meth:`advance` does to the next.

        From DESTINATION, the destination is first copied to the source.
        """
        return self._take_step(back=True, force=force)

    def _take_step(self, *, back: bool, force: bool) -> Transition:
        before, step = self._check_conditions(back, force=force)
        needs = PRECONDITIONS[step.before, step.after]
        if needs.needs_repair_all and force:
            skipped = Condition(name="level", count=1, message="the source was not brought level", forced=True)
            step = replace(step, conditions=(*step.conditions, skipped))
        elif needs.needs_repair_all and step.ready:
            step = replace(step, conditions=(*step.conditions, self._repair_all(step.before)))
        if any(not condition.holds and not condition.forced for condition in step.conditions):
            return step

        def work(connection: Any) -> list[ProcessRecord] | None:
            if self._table.lock_phase(connection).generation != before.generation:
                return None
            processes = self._table.read_processes(connection)
            dead = [process.id for process in processes if force and _may_be_declared_dead(process)]
            return self._table.set_phase(connection, step.after, despite=dead)

        preventing = self._table.transaction(work)
        if preventing is None:
            raise ConfigurationError("another process changed the phase meanwhile: run `cutover status`")
        if preventing:
            return replace(step, conditions=(_check_processes(preventing, step.after, force), *step.conditions[1:]))
        return replace(step, taken=True)

    def _check_conditions(self, back: bool, *, force: bool) -> tuple[PhaseRow, Transition]:
        require_tables(self._outbox)
        shared, processes = self._table.read_locked()
        order = list(Phase)
        position = order.index(shared.phase) + (-1 if back else 1)
        if not 0 <= position < len(order):
            raise ConfigurationError(f"{shared.phase.name} is the {'first' if back else 'last'} phase")
        after = order[position]
        needs = PRECONDITIONS[shared.phase, after]
        by_processes = _check_processes(processes, after, force)
        conditions = [by_processes]
        if needs.needs_comparison:
            # A comparison that starts while a process is in an earlier phase does not cover the writes of that process.
            conditions.append(self._check_comparison(shared, after, may_compare=by_processes.holds and not force))
        conditions.extend(self._check_entries(shared, processes, needs))
        if force:
            conditions = [
                condition if condition.holds or condition is by_processes else replace(condition, forced=True)
                for condition in conditions
            ]
        return shared, Transition(before=shared.phase, after=after, conditions=tuple(conditions))

    def _check_entries(
        self, shared: PhaseRow, processes: Iterable[ProcessRecord], needs: Preconditions
    ) -> Iterator[Condition]:
        counts = self._outbox.count_by_kind()
        left = sum(counts.count(kind, side) for kind, side in needs.entries)
        message = f"{amount(left, 'key')} with an open entry: run 'migrate-storage cutover repair'"
        yield Condition(name="entries", count=left, message=message if left else "no entry is in the way")
        if needs.uploads is not None:
            urls = counts.count("upload", needs.uploads)
            until = f"until the last one expires: {duration(counts.last_upload)}"
            message = f"{amount(urls, 'upload URL')} to the {needs.uploads} may still be used, {until}"
            yield Condition(name="uploads", count=urls, message=message if urls else "no upload URL is in the way")
        if needs.needs_quiet:
            yield self._check_fallbacks(shared, processes)

    def _check_fallbacks(self, shared: PhaseRow, processes: Iterable[ProcessRecord]) -> Condition:
        span = duration(self._quiet)
        late = [each for each in processes if each.fallbacks and each.seconds_since_fallback < self._quiet]
        reads = sum(each.fallbacks for each in late)
        if late:
            last = duration(min(each.seconds_since_fallback for each in late))
            message = (
                f"{amount(reads, 'read')} by {amount(len(late), 'process', 'processes')} fell back to the source, "
                f"the last {last} ago: {span} must pass without one"
            )
            return Condition(name="fallbacks", count=reads, message=message)
        lasted = self._table.transaction(lambda connection: self._table.database.now(connection)) - shared.changed_at
        if lasted < self._quiet:
            lasted_only = duration(max(0.0, lasted))
            message = f"no read fell back, but the phase lasts only {lasted_only}: {span} must pass without one"
            return Condition(name="fallbacks", count=1, message=message)
        return Condition(name="fallbacks", count=0, message=f"no read fell back to the source for {span}")

    def _check_comparison(self, shared: PhaseRow, after: Phase, *, may_compare: bool) -> Condition:
        known = shared.comparison
        if not (known.get("generation") == shared.generation and known.get("after") == after and not known["differ"]):
            if not may_compare:
                message = "both sides were not compared since all processes are in this phase"
                return Condition(name="comparison", count=1, message=message)
            known = self._compare_sides(shared, after)
        if "stopped" in known:
            return Condition(name="comparison", count=1, message="the comparison was stopped")
        numbers = ", ".join(f"{known[word]:,} {word}" for word in ("missing", "different", "extra"))
        age = duration(max(0.0, self._table.database.time() - known["at"]))
        message = f"compared {age} ago: {numbers} on the {trusted_side(after)}" if known["differ"] else ""
        advice = f" (such as {known['example']!r}); run 'migrate-storage cutover repair --all'" if message else ""
        message = message + advice or f"compared in full {age} ago: both sides are the same"
        return Condition(name="comparison", count=known["differ"], message=message)

    def _compare_sides(self, shared: PhaseRow, after: Phase) -> dict[str, Any]:
        started, counts, example = self._table.database.time(), Counter[Relation](), ""
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
        own_phase = SharedPhase(self._outbox, name="level")
        try:
            repair = Repair(self._backend.source, self._backend.destination, self._outbox, phases=own_phase)
            side = trusted_side(phase)
            outcome = repair_all(self._backend, self._outbox, repair, side, self._stopping)
        finally:
            own_phase.close()
        result = outcome.result
        left = result.left + len(result.failures) + len(outcome.foreign) + self._stopping()
        message = (
            f"{amount(result.settled, 'object')} brought level on the {side.other}, {result.left:,} left, "
            f"{len(result.failures):,} failed, {len(outcome.foreign):,} extra"
        )
        return Condition(name="level", count=left, message=message)


def _check_processes(processes: Iterable[ProcessRecord], after: Phase, force: bool) -> Condition:
    preventing = list(processes_in_the_way(processes, after))
    forced = bool(preventing) and force and all(map(_may_be_declared_dead, preventing))
    if not preventing:
        return Condition(name="processes", count=0, message=f"no process is more than a step from {after.name}")
    names = ", ".join(
        f"{process.name} in {' and '.join(phase.name for phase in process.phases)}, "
        f"silent for {duration(process.seconds_since_report)}"
        for process in preventing[:5]
    )
    more = f" and {len(preventing) - 5:,} more" if len(preventing) > 5 else ""
    message = f"{amount(len(preventing), 'process', 'processes')} may still be in another phase: {names}{more}"
    return Condition(name="processes", count=len(preventing), message=message, forced=forced)


def _may_be_declared_dead(process: ProcessRecord) -> bool:
    """Return whether a process without lease has been silent long enough."""
    return process.seconds_left > NEVER_EXPIRES / 2 and process.seconds_since_report > GIVEN_UP_AFTER_SECONDS
