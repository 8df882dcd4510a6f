"""Objects that wait until one listing of each side shows all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from migrate_storage.core.model import ObjectMeta, Place
from migrate_storage.core.parallel import SideBySide
from migrate_storage.engine.listing_evidence import ListingEvidence, SideListings
from migrate_storage.engine.plan import Item
from migrate_storage.engine.task import CopyResult, confirm_copy

__all__ = ("BatchedRechecks", "Findings")

_BATCH_OBJECTS = 5000
"""Copies that wait for one listing at most; of those and objects whose rows were updated, twice as many."""
_MAX_WAIT_SECONDS = 15.0
"""Seconds after which a listing begins for fewer of them."""

Listed = tuple[Mapping[str, ObjectMeta], Mapping[str, ObjectMeta]]
"""The listed objects of both sides, by filename."""
_Named = tuple[str, Place | None]
"""The filename of an object, and its place where that is known."""


@dataclass(slots=True)
class Findings:
    """What a listing showed of the objects that waited for it."""

    #: Copies that are confirmed.
    confirmed: list[CopyResult] = field(default_factory=list)
    #: Copies that need HEADs of their own.
    open: list[CopyResult] = field(default_factory=list)
    #: The source of each object whose rows were updated, by id; ``None`` where it was not listed.
    sources: dict[str, ObjectMeta | None] = field(default_factory=dict)


class BatchedRechecks:
    """The objects that wait for a listing, and those of the running listing.

    Args:
        listings: the listings; ``None`` where each object gets HEADs of its own.
    """

    def __init__(self, listings: SideListings | None) -> None:
        self._listings = listings
        self._copies: dict[str, CopyResult] = {}
        self._repointed: dict[str, Item] = {}
        self._running: tuple[dict[str, CopyResult], dict[str, Item]] | None = None
        self._begun = time.monotonic()

    @property
    def lists_sources(self) -> bool:
        """Whether listings of the source are worthwhile now."""
        return self._listings is not None and self._listings.source.ready

    @property
    def max_objects(self) -> int:
        """How many objects may wait here, those of the running listing included."""
        useful = self.lists_sources or (self._listings is not None and self._listings.destination.ready)
        return 3 * _BATCH_OBJECTS if useful else 0

    def add_copy(self, result: CopyResult) -> None:
        """Let a copy wait, whose source or destination must be asked again."""
        self._copies[result.task.id] = result

    def add_repointed(self, id_: str, item: Item) -> None:
        """Let an object wait, whose source must be checked after the commit of its rows."""
        self._repointed[id_] = item

    def is_waiting(self, id_: str) -> bool:
        """Whether an object waits whose rows were updated."""
        return id_ in self._repointed

    @property
    def waiting_count(self) -> int:
        """How many objects wait for a listing that has not begun."""
        return len(self._copies) + len(self._repointed)

    @property
    def is_due(self) -> bool:
        """Whether it is time to begin a listing."""
        # Rows wait for copies, and nothing waits for what is re-pointed: it shares the listing of the next copies.
        if len(self._copies) >= _BATCH_OBJECTS or self.waiting_count >= 2 * _BATCH_OBJECTS:
            return True
        return self.waiting_count > 0 and time.monotonic() - self._begun > _MAX_WAIT_SECONDS

    def begin(self) -> Callable[[], Listed] | None:
        """Prepare a listing for all that wait; their copies and commits are finished.

        Returns:
            A function that lists, for any thread; ``None`` where nothing waits, or a listing is running.
        """
        if self._running is not None or not self.waiting_count:
            return None
        assert self._listings is not None
        listings, copies, repointed = self._listings, self._copies, self._repointed
        self._begun, self._running = time.monotonic(), (copies, repointed)
        self._copies, self._repointed = {}, {}
        pending = [result.task.item for result in copies.values() if result.source_pending]
        sources = [_name_source(item) for item in (*pending, *repointed.values())]
        destinations = [_name_destination(result.task.item) for result in copies.values() if result.destination_pending]

        def fetch_both() -> Listed:
            with SideBySide(2) as beside:
                of_sources = beside.start(lambda: _fetch(listings.source, sources))
                of_destinations = beside.start(lambda: _fetch(listings.destination, destinations))
                return of_sources(), of_destinations()

        return fetch_both

    def conclude(self, listed: Listed) -> Findings:
        """Compare what the running listing showed with the objects that waited for it."""
        assert self._running is not None
        (copies, repointed), self._running = self._running, None
        sources, destinations = listed
        findings = Findings(sources={id_: sources.get(item.source.path) for id_, item in repointed.items()})
        for result in copies.values():
            item = result.task.item
            confirmed = confirm_copy(result, sources.get(item.source.path), destinations.get(item.destination.path))
            if confirmed is None:
                findings.open.append(result)
            else:
                findings.confirmed.append(confirmed)
        return findings

    def clear(self) -> None:
        """Forget what waits, because the run was asked to stop."""
        self._copies.clear()
        self._repointed.clear()


def _name_source(item: Item) -> _Named:
    return item.source.path, item.places[0] if item.places else None


def _name_destination(item: Item) -> _Named:
    return item.destination.path, item.places[1] if item.places else None


def _fetch(listings: ListingEvidence, wanted: Sequence[_Named]) -> Mapping[str, ObjectMeta]:
    places = {filename: place for filename, place in wanted if place is not None}
    return listings.fetch([filename for filename, _ in wanted], places)
