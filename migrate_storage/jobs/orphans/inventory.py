"""What the stores of backends hold, listed whole and kept on disk: each physical object once, whichever keys reach it."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Self

from migrate_storage.core.model import Location, ObjectMeta, Place
from migrate_storage.engine.references import ServiceIdentity
from migrate_storage.journal import digest
from migrate_storage.stores.listing import ListedObject

__all__ = ("StoreInventory",)


class StoreInventory:
    """Objects in a temporary file, by a digest of their place: for one thread, gone when it is closed.

    Args:
        services: tells which places may be one.
    """

    def __init__(self, services: ServiceIdentity) -> None:
        self._services = services
        self._stack = ExitStack()
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="migrate-storage-"))
        file = sqlite3.connect(Path(folder) / "inventory.db", isolation_level=None)
        self._file = self._stack.enter_context(closing(file))
        for pragma in ("journal_mode = OFF", "synchronous = OFF"):
            self._file.execute(f"PRAGMA {pragma}")
        self._file.execute(
            "CREATE TABLE held (id TEXT PRIMARY KEY, key TEXT, name BLOB, service TEXT, endpoint TEXT, root BLOB,"
            " path BLOB, size INTEGER, e_tag TEXT, modified REAL, version TEXT, link INTEGER, chosen INTEGER DEFAULT 0)"
            " WITHOUT ROWID"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(self, objects: Iterator[ListedObject]) -> None:
        """Take in objects; one that another key reached before stays as that one saw it."""
        self._file.execute("BEGIN")
        try:
            self._file.executemany(
                "INSERT OR IGNORE INTO held (id, key, name, service, endpoint, root, path, size, e_tag, modified, version, link)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (self._line(each) for each in objects),
            )
        finally:
            self._file.execute("COMMIT")

    def __contains__(self, place: Place) -> bool:
        found = self._file.execute("SELECT 1 FROM held WHERE id = ?", (self._services.digest(place),)).fetchone()
        return found is not None

    def __iter__(self) -> Iterator[ListedObject]:
        return self._all("")

    def choose(self, each: ListedObject) -> None:
        """Mark one, to come back to it."""
        self._file.execute("UPDATE held SET chosen = 1 WHERE id = ?", (self._services.digest(each.place),))

    @property
    def chosen(self) -> Iterator[ListedObject]:
        """Those that were marked."""
        return self._all("AND chosen = 1")

    def _all(self, more: str) -> Iterator[ListedObject]:
        last = ""
        while found := self._file.execute(
            f"SELECT * FROM held WHERE id > ? {more} ORDER BY id LIMIT 500", (last,)
        ).fetchall():
            for line in found:
                yield _held(line)
            last = found[-1][0]

    def _line(self, each: ListedObject) -> tuple[object, ...]:
        place, meta = each.place, each.meta
        # A link is at the place of what it leads to, and must not hide that.
        name = digest("link", str(place)) if each.link else self._services.digest(place)
        return (
            name, each.location.backend, _bytes(each.location.path), place.service, place.endpoint,
            _bytes(place.root), _bytes(place.key), meta.size, meta.e_tag, meta.last_modified, meta.version, each.link,
        )  # fmt: skip


def _held(line: tuple[object, ...]) -> ListedObject:
    _, key, name, service, endpoint, root, path, size, e_tag, modified, version, link, _ = line
    return ListedObject(
        location=Location(str(key), _text(name)),
        place=Place(service=str(service), endpoint=str(endpoint), root=_text(root), key=_text(path)),
        meta=ObjectMeta(path=_text(path), size=size, e_tag=e_tag, last_modified=modified, version=version),  # type: ignore[arg-type]
        link=bool(link),
    )


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text(stored: object) -> str:
    assert isinstance(stored, bytes)
    return stored.decode("utf-8", "surrogatepass")
