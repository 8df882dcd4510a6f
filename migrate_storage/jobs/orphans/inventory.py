"""The listed objects of all backends, each once, in a temporary file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from migrate_storage.core.model import Location, ObjectMeta, Place
from migrate_storage.core.spill import SpillFile, from_blob, to_blob
from migrate_storage.engine.references import ServiceIdentity
from migrate_storage.journal import digest
from migrate_storage.stores.listing import ListedObject

__all__ = ("StoreInventory",)


class StoreInventory(SpillFile):
    """Listed objects by a digest of their place.

    Args:
        services: decides which places may be one.
    """

    def __init__(self, services: ServiceIdentity) -> None:
        super().__init__(
            "key TEXT PRIMARY KEY, backend TEXT, name BLOB, service TEXT, endpoint TEXT, root BLOB, path BLOB,"
            " size INTEGER, e_tag TEXT, modified REAL, version TEXT, link INTEGER, chosen INTEGER"
        )
        self._services = services

    def __contains__(self, place: Place) -> bool:
        return bool(self._read("SELECT 1 FROM item WHERE key = ?", (self._services.digest(place),)))

    def __iter__(self) -> Iterator[ListedObject]:
        return (_to_listed(row) for page in self._pages() for row in page)

    def add(self, objects: Iterator[ListedObject]) -> None:
        """Add objects. One that was listed before, through another key, stays as it is."""
        marks = ", ".join("?" * 12)
        self._write(f"INSERT OR IGNORE INTO item VALUES ({marks}, FALSE)", map(self._to_row, objects))

    def choose(self, listed: ListedObject) -> None:
        """Mark an object for :attr:`chosen`."""
        self._write("UPDATE item SET chosen = TRUE WHERE key = ?", [(self._services.digest(listed.place),)])

    @property
    def chosen(self) -> Iterator[ListedObject]:
        """The marked objects."""
        return (_to_listed(row) for page in self._pages("chosen") for row in page)

    def _to_row(self, listed: ListedObject) -> tuple[object, ...]:
        place, meta = listed.place, listed.meta
        # A link has the place of its target, and must not hide the target.
        key = digest("link", str(place)) if listed.link else self._services.digest(place)
        return (
            key, listed.location.backend, to_blob(listed.location.path),
            place.service, place.endpoint, to_blob(place.root), to_blob(place.key),
            meta.size, meta.e_tag, meta.last_modified, meta.version, listed.link,
        )  # fmt: skip


def _to_listed(row: tuple[Any, ...]) -> ListedObject:
    _, backend, name, service, endpoint, root, path, size, e_tag, modified, version, link, _ = row
    return ListedObject(
        location=Location(backend, from_blob(name)),
        place=Place(service=service, endpoint=endpoint, root=from_blob(root), key=from_blob(path)),
        meta=ObjectMeta(path=from_blob(path), size=size, e_tag=e_tag, last_modified=modified, version=version),
        link=bool(link),
    )
