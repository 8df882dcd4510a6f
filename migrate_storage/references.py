"""Which physical places anything names: what ``purge`` must not touch. Kept on disk, whatever the number of rows."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import text

from migrate_storage.database import Database
from migrate_storage.errors import ConfigurationError, RunError
from migrate_storage.journal import digest
from migrate_storage.model import Column, Place
from migrate_storage.plan import actual
from migrate_storage.rows import BrokenValueError, Rows, parse_slots
from migrate_storage.stores.side import Side
from migrate_storage.translate import same_service

__all__ = ("References", "Services", "sides_of")


def sides_of(backends: Mapping[str, Any]) -> dict[str, Side]:
    """Every registered backend as a side.

    Raises:
        ConfigurationError: one of them cannot be resolved to a place, so that nobody knows what its rows name.
    """
    sides = {}
    for key, backend in backends.items():
        try:
            sides[key] = Side(backend)
        except Exception as error:
            raise ConfigurationError(
                f"the backend {key!r} cannot be resolved to a place: {error}; nothing is deleted while that is so"
            ) from error
    return sides


class Services:
    """Which endpoints are one service, so that equal bucket and key there are one object. In doubt they are one.

    Args:
        sides: every registered backend.
        apart: two sides that a probe showed to be different.
    """

    def __init__(self, sides: Iterable[Side], *, apart: tuple[Side, Side] | None = None) -> None:
        self._group: dict[tuple[str, str], int] = {}
        known: list[Place] = []
        told = {_service(side.root) for side in apart} if apart else set()
        for side in sides:
            place = side.root
            same = [
                self._group[_service(other)]
                for other in known
                if same_service(place, other) is not False and {_service(place), _service(other)} != told
            ]
            number = min(same, default=len(known))
            for name, group in self._group.items():
                if group in same:
                    self._group[name] = number
            self._group[_service(place)] = number
            known.append(place)

    def name(self, place: Place) -> str:
        """A digest that is equal for equal places."""
        place = actual(place)
        group = self._group.get(_service(place))
        return digest(place.service if group is None else str(group), place.root, place.key)


def _service(place: Place) -> tuple[str, str]:
    return place.service, place.endpoint


class References:
    """The places that rows and other lists name, as digests in a temporary SQLite file.

    Args:
        services: tells which places are one.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._folder = tempfile.TemporaryDirectory(prefix="migrate-storage-")
        self._file = sqlite3.connect(Path(self._folder.name) / "references.db", isolation_level=None)
        self._file.execute("PRAGMA journal_mode = OFF")
        self._file.execute("PRAGMA synchronous = OFF")
        self._file.execute("CREATE TABLE place (id TEXT PRIMARY KEY) WITHOUT ROWID")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._folder.cleanup()

    def __contains__(self, place: Place) -> bool:
        return (
            self._file.execute("SELECT 1 FROM place WHERE id = ?", (self._services.name(place),)).fetchone() is not None
        )

    def add(self, places: Iterable[Place]) -> None:
        """Take in places."""
        self._file.execute("BEGIN")
        self._file.executemany(
            "INSERT OR IGNORE INTO place VALUES (?)", ((self._services.name(place),) for place in places)
        )
        self._file.execute("COMMIT")

    def add_rows(
        self, database: Database, columns: Sequence[Column], sides: Mapping[str, Side], *, key: str | None = None
    ) -> None:
        """Take in what the rows of these columns name, whatever narrows a run.

        Args:
            database: where they are.
            columns: all StoredObject columns of the application.
            sides: every registered backend.
            key: only rows that name this backend key; ``None`` means all.

        Raises:
            RunError: a row cannot be read, or names a backend that is not registered.
        """
        for column in columns:
            rows = Rows(database, column)
            for window in rows.windows(key, 2000):
                self.add(place for row in window for place in _places(rows, row, sides))

    def add_listed(self, source: str, database: Database, side: Side) -> None:
        """Take in filenames that something else names: a file with one a line, or an SQL query's first column.

        Args:
            source: path of a file, or a SELECT.
            database: where a SELECT runs.
            side: the backend that the filenames are of.

        Raises:
            ConfigurationError: neither can be read.
        """
        try:
            if source.lstrip()[:6].lower() == "select":
                names = database.transaction(
                    lambda connection: [str(row[0]) for row in connection.execute(text(source)) if row[0] is not None]
                )
                self.add(side.place(name) for name in names)
                return
            with Path(source).open(encoding="utf-8", errors="surrogateescape") as lines:
                self.add(side.place(name) for line in lines if (name := line.rstrip("\r\n")))
        except Exception as error:
            raise ConfigurationError(
                f"--references {source[:80]!r} cannot be read: {error}; nothing was deleted"
            ) from error


def _places(rows: Rows, row: Any, sides: Mapping[str, Side]) -> Iterable[Place]:
    try:
        slots = parse_slots(rows.column, row)
    except BrokenValueError as error:
        raise RunError(
            f"{rows.column} holds a row that cannot be read ({error}): nobody knows what it names, so nothing is deleted"
        ) from error
    for slot in slots:
        side = sides.get(slot.file["backend"])
        if side is None:
            raise RunError(
                f"{slot.ref} names the backend {slot.file['backend']!r}, which is not registered: nobody knows where that is, so nothing is deleted"
            )
        yield side.place(slot.file["filename"])
