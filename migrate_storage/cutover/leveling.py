"""Bringing one side of a cutover level with the other: each key that a full comparison finds, under an entry of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from migrate_storage.compare import Relation
from migrate_storage.cutover.backend import CutoverBackend
from migrate_storage.cutover.comparison import differences
from migrate_storage.cutover.outbox import Outbox
from migrate_storage.cutover.phases import Side
from migrate_storage.cutover.repair import Repair, Result
from migrate_storage.errors import KeyRefusedError
from migrate_storage.journal import Journal
from migrate_storage.stores.side import Side as Reached
from migrate_storage.verify import certainly_unchanged

__all__ = ("Leveled", "level")


@dataclass(kw_only=True, slots=True)
class Leveled:
    """What was done to bring the other side level."""

    result: Result = field(default_factory=Result)
    #: What stands on the other side alone, and was not written by us: left there.
    foreign: list[str] = field(default_factory=list)

    @property
    def done(self) -> bool:
        """Whether nothing is left."""
        return not (self.foreign or self.result.left or self.result.failures)


def level(
    backend: CutoverBackend, outbox: Outbox, repair: Repair, side: Side, stopping: Callable[[], bool] = lambda: False
) -> Leveled:
    """Compare both sides in full, and make the other what the trusted one is, while writers go on.

    What only the other side has is deleted there where our outbox or journal says that we wrote it. Where the destination is
    trusted it never is: it is brought to the destination if that may be written now.

    Args:
        backend: of the cutover.
        outbox: its outbox.
        repair: what writes.
        side: the trusted one.
        stopping: asked before each key.
    """
    leveled = Leveled()
    extra = Relation.EXTRA if side is Side.SOURCE else Relation.MISSING
    journal = Journal(outbox.database, outbox.tables.schema)

    def wanted(writable: frozenset[Side]) -> Iterator[str]:
        for each in differences(backend.source, backend.destination, outbox, stopping):
            key = each.pair.key
            repair.counters.add("difference", side.other)
            if each.relation is extra:
                ours = _ours(backend, outbox, journal, key) if side is Side.SOURCE else side in writable
                if not ours:
                    leveled.foreign.append(key)
                    continue
            yield key

    with repair.at_work() as rights:
        leveled.result = repair.backfill(wanted(rights.writable), side, stopping)
    return leveled


def _ours(backend: CutoverBackend, outbox: Outbox, journal: Journal, path: str) -> bool:
    """Whether what the destination holds under a key was written by us."""
    if outbox.wrote(path):
        return True
    entry = journal.at_destination(backend.destination.key, path)
    if entry is None or not entry.ours:
        return False
    try:
        store, key = Reached(backend.destination).at(path)
        return certainly_unchanged(entry.destination_evidence, store.head(key).evidence)
    except (FileNotFoundError, KeyRefusedError):
        return False
