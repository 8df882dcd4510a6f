"""Many objects moved aside, a part at a time, and back again: what is done, in which order, and what is written down before."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from migrate_storage.core.errors import StoppedError
from migrate_storage.core.model import Outcome, OutcomeKind
from migrate_storage.core.parallel import parallel_map
from migrate_storage.engine.concurrency import ConcurrencyLimiter
from migrate_storage.jobs.orphans.quarantine import Quarantine, StepResult, intent
from migrate_storage.jobs.orphans.reachability import Reachability
from migrate_storage.journal import Journal, ObjectRecord
from migrate_storage.stores.listing import ListedObject
from migrate_storage.stores.resolved_backend import ResolvedBackend

__all__ = ("QuarantineBatches",)

_PART = 1000
"""Objects that are moved together: rows are read anew before the first of them is deleted and after the last."""


class QuarantineBatches:
    """Moves objects aside and back, several at once, each step journaled.

    Args:
        quarantine: does the steps of one object.
        journal: where they are written down.
        sides: every registered backend.
        gate: how many objects may be under way at once.
        stopping: set when nothing more is to be begun.
        tell: called with each outcome.
    """

    def __init__(
        self,
        quarantine: Quarantine,
        journal: Journal,
        sides: Mapping[str, ResolvedBackend],
        *,
        gate: ConcurrencyLimiter,
        stopping: threading.Event,
        tell: Callable[[Outcome], None],
    ) -> None:
        self._quarantine, self._journal, self._sides = quarantine, journal, sides
        self._gate, self._stopping, self._tell = gate, stopping, tell
        self._concurrency = gate.max_limit

    def move(self, liveness: Reachability, chosen: Iterator[ListedObject], prefix: str, run: str) -> None:
        """Move objects aside.

        Args:
            liveness: tells whether a row names an object by now.
            chosen: the objects.
            prefix: the folder below each backend's root to which they go.
            run: the run's name, and a folder below that.

        Raises:
            StoppedError: told to stop; nothing is half done.
            RunError: the rows cannot be read, or nothing works any more. What was moved is told.
        """
        self._recover()
        while part := list(islice(chosen, _PART)):
            if self._stopping.is_set():
                raise StoppedError("told to stop")
            self._part(liveness, [intent(held, prefix, run) for held in part])

    def _part(self, liveness: Reachability, entries: list[ObjectRecord]) -> None:
        """Copy, read the rows again, delete; read them once more, and bring back what they name by then."""
        taken = self._journal.objects.record_intents(entries)
        told = {
            entry.id: StepResult(
                entry=entry, kind=OutcomeKind.FAILED, reason="another object goes to its place in quarantine"
            )
            for entry in entries
            if entry.id in taken
        }
        entries = [entry for entry in entries if entry.id not in taken]
        copied: dict[str, ObjectRecord] = {}
        for stepped in self._steps(self._quarantine.copy_to_quarantine, self._until_stopped(entries)):
            if stepped.kind is OutcomeKind.QUARANTINED:
                copied[stepped.entry.id] = stepped.entry
            else:
                told[stepped.entry.id] = stepped
        if self._stopping.is_set():
            self._discard([copied.get(entry.id, entry) for entry in entries])
            raise StoppedError("told to stop")
        # The evidence is written before anything is deleted: whoever finds the line knows what the copy must be.
        ours = self._claim(copied.values(), "moving", "moving")
        liveness.read_rows()
        named, free = _parted(ours, lambda entry: self._is_named(liveness, entry))
        told.update(
            {each.id: StepResult(entry=each, kind=OutcomeKind.SKIPPED, evidence="named by now") for each in named}
        )
        try:
            stayed = [*self._release(free, told), *named]
            liveness.read_rows()
            moved = [each.entry for each in told.values() if each.kind is OutcomeKind.QUARANTINED]
            back, _ = _parted(moved, lambda entry: self._is_named(liveness, entry))
            for stepped in self._steps(self._quarantine.put_back, back):
                self._settle([stepped.entry])
                again = stepped.kind is OutcomeKind.RESTORED
                told[stepped.entry.id] = replace(stepped, evidence="named by now, and put back") if again else stepped
            self._discard([*stayed, *(entry for entry in entries if entry.id not in copied)])
            self._recover()
        finally:
            for stepped in told.values():
                self._tell(stepped.outcome)

    def _release(self, entries: Sequence[ObjectRecord], told: dict[str, StepResult]) -> list[ObjectRecord]:
        """Delete objects whose copies are proved; returns those that certainly were not deleted."""
        stayed = []
        for stepped in self._steps(self._quarantine.delete_original, self._claim(entries, "moving", "deleting")):
            told[stepped.entry.id] = stepped
            self._settle([stepped.entry])
            if stepped.kind is OutcomeKind.CHANGED:
                stayed.append(stepped.entry)
        return stayed

    def _until_stopped(self, entries: Iterable[ObjectRecord]) -> Iterator[ObjectRecord]:
        for entry in entries:
            if self._stopping.is_set():
                return
            yield entry

    def _discard(self, entries: Sequence[ObjectRecord]) -> None:
        """Remove the copies of objects that are at their places."""
        for stepped in self._steps(self._quarantine.delete_copy, entries):
            self._settle([stepped.entry])

    def _steps(
        self, step: Callable[[ObjectRecord], StepResult], entries: Iterable[ObjectRecord]
    ) -> Iterator[StepResult]:
        for _, stepped in parallel_map(lambda entry: self._safe(step, entry), entries, self._concurrency):
            yield stepped

    def _safe(self, step: Callable[[ObjectRecord], StepResult], entry: ObjectRecord) -> StepResult:
        with self._gate.acquire():
            return step(entry)

    def _settled(self, stepped: StepResult) -> None:
        # A line that waits for a sleeper keeps its time, so that the waiting ends.
        if stepped.entry.state != "deleting":
            self._settle([stepped.entry])

    def _settle(self, entries: Sequence[ObjectRecord]) -> None:
        now = time.time()
        self._journal.database.transaction(
            lambda connection: self._journal.objects.record_results(
                connection, [replace(entry, updated=now) for entry in entries]
            )
        )

    def _recover(self) -> None:
        """What a job that was killed had in hand: what it had not deleted stays, what it had is in quarantine."""
        for batch in self._journal.objects.in_states("moving", "deleting"):
            for stepped in self._steps(self._quarantine.recover, self._taken(batch)):
                self._settled(stepped)

    def _taken(self, batch: Sequence[ObjectRecord]) -> list[ObjectRecord]:
        """The lines of a batch that are ours from here on."""
        waiting, others = _parted(batch, lambda entry: entry.state == "moving")
        return [*self._claim(waiting, "moving", "restoring"), *others]

    def _claim(self, entries: Iterable[ObjectRecord], before: str, after: str) -> list[ObjectRecord]:
        """Those whose line still is in one state, and now in another.

        A job that slept past its lease finds that another one took the line, and then deletes neither object nor copy.
        """
        now = time.time()
        wanted = [replace(entry, state=after, updated=now) for entry in entries]
        ours = self._journal.objects.claim(wanted, before)
        return [entry for entry in wanted if entry.id in ours]

    def put_back(self, run: str | None, *, dry_run: bool) -> None:
        """Put back what is in quarantine.

        Args:
            run: what one run moved; ``None`` for all.
            dry_run: only look and tell.

        Raises:
            StoppedError: told to stop between two batches.
            RunError: nothing works any more.
        """
        for batch in self._journal.objects.in_states("moving", "deleting", "quarantined", "restoring", run=run):
            if self._stopping.is_set():
                raise StoppedError("told to stop")
            for stepped in self._steps(self._quarantine.put_back, batch if dry_run else self._taken(batch)):
                if not dry_run:
                    self._settled(stepped)
                self._tell(stepped.outcome)

    def _is_named(self, liveness: Reachability, entry: ObjectRecord) -> bool:
        return liveness.references.names(self._sides[entry.source_key].place(entry.source_path))


def _parted(
    entries: Sequence[ObjectRecord], which: Callable[[ObjectRecord], bool]
) -> tuple[list[ObjectRecord], list[ObjectRecord]]:
    yes: list[ObjectRecord] = []
    no: list[ObjectRecord] = []
    for entry in entries:
        (yes if which(entry) else no).append(entry)
    return yes, no
