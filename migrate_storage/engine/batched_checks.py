"""Copies, and objects whose rows were re-pointed, that wait until one listing of each side tells of all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from migrate_storage.core.model import ObjectMeta
from migrate_storage.engine.listing_evidence import SideListings
from migrate_storage.engine.task import CopyResult, confirm_copy

__all__ = ("BatchedRechecks", "Findings")

_GROUP = 5000
"""How many copies, or objects whose rows were re-pointed, wait for one listing at most."""
_LONGEST = 5.0
"""Seconds after which they are looked at though they are fewer."""

Seen = tuple[Mapping[str, ObjectMeta], Mapping[str, ObjectMeta]]
"""What was listed on both sides, by filename."""


@dataclass(slots=True)
class Findings:
    """What a listing told of those that waited for it."""

    #: Copies that are done.
    confirmed: list[CopyResult] = field(default_factory=list)
    #: Copies that must be looked at each by itself.
    open: list[CopyResult] = field(default_factory=list)
    #: By id, the source of each object whose rows were re-pointed; ``None`` where it was not listed.
    sources: dict[str, ObjectMeta | None] = field(default_factory=dict)


class BatchedRechecks:
    """What waits for a listing, and what is under way: one at a time.

    Args:
        sights: the listings; ``None`` where each object is looked at by itself.
    """

    def __init__(self, sights: SideListings | None) -> None:
        self._sights = sights
        self._copies: dict[str, CopyResult] = {}
        self._swapped: dict[str, str] = {}
        self._asked: tuple[dict[str, CopyResult], dict[str, str]] | None = None
        self._begun = time.monotonic()

    @property
    def ready(self) -> bool:
        """Whether listings are worth while now."""
        return self._sights is not None and self._sights.source.ready

    @property
    def most(self) -> int:
        """How many objects may be about it: those that wait, and those of the listing that is under way."""
        return 3 * _GROUP if self.ready else 0

    def copied(self, carried: CopyResult) -> None:
        """A copy waits for its last looks."""
        self._copies[carried.task.id] = carried

    def swapped(self, id_: str, filename: str) -> None:
        """An object waits for the look at its source that follows the swap of its rows."""
        self._swapped[id_] = filename

    def waits(self, id_: str) -> bool:
        """Whether an object waits for the look after its swap."""
        return id_ in self._swapped

    @property
    def waiting(self) -> int:
        """How many wait for a listing that is not begun."""
        return len(self._copies) + len(self._swapped)

    @property
    def due(self) -> bool:
        """Whether it is time to begin one."""
        if max(len(self._copies), len(self._swapped)) >= _GROUP:
            return True
        return self.waiting > 0 and time.monotonic() - self._begun > _LONGEST

    def begin(self) -> Callable[[], Seen] | None:
        """List both sides for all that waits: the copies are made, and the rows' transactions committed.

        Returns:
            What is to be done, on any thread; ``None`` where nothing waits, or a listing is under way.
        """
        if self._asked is not None or not self.waiting:
            return None
        assert self._sights is not None
        sights, copies, swapped = self._sights, self._copies, self._swapped
        self._begun, self._asked = time.monotonic(), (copies, swapped)
        self._copies, self._swapped = {}, {}
        here = [*(each.task.item.source.path for each in copies.values()), *swapped.values()]
        there = [each.task.item.destination.path for each in copies.values() if _undated(each)]
        return lambda: (sights.source.fetch(here), sights.destination.fetch(there))

    def ended(self, seen: Seen) -> Findings:
        """What the listing that was under way confirms is done; all else is to be looked at by itself."""
        assert self._asked is not None
        (copies, swapped), self._asked = self._asked, None
        here, there = seen
        found = Findings(sources={id_: here.get(filename) for id_, filename in swapped.items()})
        for carried in copies.values():
            item = carried.task.item
            known = confirm_copy(carried, here.get(item.source.path), there.get(item.destination.path))
            if known is None:
                found.open.append(carried)
            else:
                found.confirmed.append(known)
        return found

    def forget(self) -> None:
        """Let go of what waits: the run was told to stop."""
        self._copies.clear()
        self._swapped.clear()


def _undated(carried: CopyResult) -> bool:
    return carried.verified is not None and carried.verified.destination.last_modified is None
