"""The reason why each object of some backends is in use: a row, a list, the journal, its age. Without one it is an orphan.

Objects are listed first; then rows, lists and journal are read. An object that is saved meanwhile is not listed, or its row
is read after the listing. Where its row is not committed yet, the object is younger than the minimum age.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Self

from migrate_storage.core.model import Column, Location, OutcomeKind, Place, Slot
from migrate_storage.database.connection import Database
from migrate_storage.engine.references import ReferencedPlaces, ServiceIdentity, named_by_rows
from migrate_storage.jobs.orphans.inventory import StoreInventory
from migrate_storage.journal import Journal, ObjectRecord, ObjectState
from migrate_storage.stores.listing import ListedObject, StoreLister
from migrate_storage.stores.resolved_backend import ResolvedBackend

__all__ = ("IN_QUARANTINE", "Reachability")

IN_QUARANTINE = "in quarantine"
"""The reason of a quarantined object."""
SOURCE_NEEDED_STATES = frozenset(
    {ObjectState.INTENT, ObjectState.VERIFIED, ObjectState.SOURCE_DELETING, ObjectState.UNREFERENCED}
)
"""States of a record whose source object a run, a revert or a purge may still need."""
QUARANTINE_STATES = (
    ObjectState.QUARANTINE_COPYING,
    ObjectState.QUARANTINE_DELETING,
    ObjectState.QUARANTINED,
    ObjectState.RESTORING,
)


class Reachability:
    """Finds the reason why an object is in use. It keeps its sets in temporary files, and is used by one thread.

    Args:
        sides: every registered backend, by key.
        keys: those whose objects are checked.
        rows: the databases of the application with their columns, the one of the job first.
        journal: what runs still need; ``None`` where there is none.
        min_age: seconds, by the database's clock, below which an object may be an upload whose row is not committed yet.
    """

    def __init__(
        self,
        sides: Mapping[str, ResolvedBackend],
        keys: Sequence[str],
        rows: Sequence[tuple[Database, Sequence[Column]]],
        journal: Journal | None,
        *,
        min_age: float,
    ) -> None:
        self._sides, self._rows, self._journal = sides, rows, journal
        self._listers = [StoreLister(part) for key in keys for part in sides[key].parts]
        self._services = services = ServiceIdentity(sides.values())
        self._stack = ExitStack()
        self._min_age, self._listed_at = min_age, rows[0][0].time()
        #: All listed objects.
        self.inventory = self._stack.enter_context(StoreInventory(services))
        #: The places that rows and lists name.
        self.references = self._stack.enter_context(ReferencedPlaces(services))
        self._journaled = self._stack.enter_context(ReferencedPlaces(services))
        self._aside = self._stack.enter_context(ReferencedPlaces(services))
        self._moved = self._stack.enter_context(ReferencedPlaces(services))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def list(self, tell: Callable[[str], None], stop: Callable[[], None]) -> None:
        """List everything. Call this first.

        Args:
            tell: called with one line when another library had to repeat a listing.
            stop: called for each object; an exception from it ends the listing.

        Raises:
            RunError: a listing broke off.
        """
        self._listed_at = self._rows[0][0].time()
        for lister in self._listers:
            self.inventory.add(_checked(lister.list_objects(tell), stop))

    def read(self, lists: Sequence[str], keys: Sequence[str]) -> None:
        """Read rows, lists and journal. Call this after the listing.

        Args:
            lists: files and queries of more filenames in use, see :meth:`ReferencedPlaces.add_listed`.
            keys: the backends that these filenames may be of.

        Raises:
            RunError: a table or a row cannot be read, or a row names a backend that is not registered.
            ConfigurationError: a list cannot be read.
        """
        self.read_rows()
        for source in lists:
            self.references.add_listed(source, self._rows[0][0], [self._sides[key] for key in keys])
        if self._journal is not None:
            for batch in self._journal.objects.in_states(
                *SOURCE_NEEDED_STATES, ObjectState.COPY_DELETING, *QUARANTINE_STATES
            ):
                self._add_records(batch)

    def read_rows(self) -> None:
        """Read the rows once more, and add the places that they name now.

        Raises:
            RunError: as :meth:`read`.
        """
        for database, columns in self._rows:
            self.references.add_rows(database, columns, self._sides)

    def _add_records(self, batch: Sequence[ObjectRecord]) -> None:
        for entry in batch:
            # Of a key that is not registered any more, nothing is run, reverted or purged.
            here = _find_places(self._sides, entry.source_key, entry.source_path)
            there = _find_places(self._sides, entry.destination_key, entry.destination_path)
            if entry.state in QUARANTINE_STATES:
                self._moved.add_places(here)
                self._aside.add_places(there)
                continue
            if entry.state in SOURCE_NEEDED_STATES:
                self._journaled.add_places(here)
            # The copy of a row that was re-pointed lives as long as a row names it.
            if not (
                entry.state in (ObjectState.VERIFIED, ObjectState.SOURCE_DELETING)
                and entry.outcome == OutcomeKind.REPOINTED
            ):
                self._journaled.add_places(there)

    def reason_in_use(self, held: ListedObject) -> str:
        """Return why an object is in use, in a few words; empty for an orphan."""
        spellings = list(_spellings(held.place))
        if any(self.references.names(place) for place in spellings):
            return "referenced by a row or list"
        if any(self._aside.names(place) for place in spellings):
            return IN_QUARANTINE
        if any(self._journaled.names(place) for place in spellings):
            return "needed for revert, resume or purge"
        if held.link:
            return "a link"
        # An object may belong to an upload under way.
        if not self._min_age:
            return ""
        if held.meta.last_modified is None:
            return "of unknown age"
        return "younger than --min-age" if self._listed_at - held.meta.last_modified < self._min_age else ""

    def in_quarantine(self, location: Location) -> bool:
        """Whether the object of a row is in quarantine."""
        return any(map(self._moved.names, _find_places(self._sides, location.backend, location.path)))

    def unlisted(self, keys: Sequence[str]) -> Iterator[Slot]:
        """Yield the slots of rows that name an unlisted object of these backends.

        Raises:
            RunError: as :meth:`read`.
        """
        for window in named_by_rows(*self._rows[0], self._sides):
            for slot, places in window:
                if slot.file["backend"] in keys and any(place not in self.inventory for place in places):
                    yield slot


def _checked(objects: Iterator[ListedObject], stop: Callable[[], None]) -> Iterator[ListedObject]:
    for each in objects:
        stop()
        yield each


def _find_places(sides: Mapping[str, ResolvedBackend], key: str, path: str) -> list[Place]:
    """Return where an object may be: of a cutover two places, of a key that is not registered none."""
    side = sides.get(key)
    return [] if side is None or not path else [part.place(path) for part in side.parts]


def _spellings(place: Place) -> Iterator[Place]:
    """Yield the keys that one listed key may mean: obstore lists ``/a`` and ``a/`` as ``a``."""
    yield place
    if place.service != "file":
        for key in (f"/{place.key}", f"{place.key}/", f"/{place.key}/"):
            yield replace(place, key=key)
