"""Collect on disk the places that rows and lists name; ``purge`` keeps them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from migrate_storage.core.errors import ConfigurationError, RefusedError, RunError
from migrate_storage.core.model import Column, Place, RowRef, Slot
from migrate_storage.core.spill import SpilledSet
from migrate_storage.database.connection import Database, describe_failure
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.file_json import BrokenValueError, Row, parse_slots
from migrate_storage.database.file_search import FileFinder
from migrate_storage.journal import digest
from migrate_storage.stores.resolved_backend import ResolvedBackend
from migrate_storage.stores.spelling import resolve_names
from migrate_storage.translate import same_service
from migrate_storage.translate.places import resolve_links

__all__ = ("ReferencedPlaces", "ServiceIdentity", "named_by_rows")


class ServiceIdentity:
    """Knows which endpoints may be one service. In doubt they are one.

    Equal buckets and keys of one service are one object. The relation is not transitive: one endpoint may be in doubt with two others that are known to differ.

    Args:
        sides: every registered backend.
        apart: two sides that a probe showed to be different services.
    """

    def __init__(
        self, sides: Iterable[ResolvedBackend], *, apart: tuple[ResolvedBackend, ResolvedBackend] | None = None
    ) -> None:
        roots = {_service_of(part.root): part.root for side in sides for part in side.parts}
        different = {_service_of(side.root) for side in apart} if apart else set()
        self._near = {
            one: tuple(
                other
                for other, root in roots.items()
                if one == other or (same_service(place, root) is not False and {one, other} != different)
            )
            for one, place in roots.items()
        }

    def digest(self, place: Place) -> str:
        """Return the digest of a place."""
        place = resolve_names(place)
        return digest(*_service_of(place), place.root, place.key)

    def digests(self, place: Place) -> tuple[str, ...]:
        """Return the digests of all places that may be this one."""
        place = resolve_names(place)
        near = self._near.get(_service_of(place), (_service_of(place),))
        return tuple(digest(service, endpoint, place.root, place.key) for service, endpoint in near)

    def keys_at(self, deleted: Iterable[ResolvedBackend], sides: Mapping[str, ResolvedBackend]) -> tuple[str, ...]:
        """Return the backend keys under which rows may name the objects of these sides."""
        roots = [part.root for side in deleted for part in side.parts]
        return tuple(
            key
            for key in sorted(sides)
            if any(self._may_overlap(part.root, root) for part in sides[key].parts for root in roots)
        )

    def _may_overlap(self, one: Place, other: Place) -> bool:
        """Whether one root may be inside of another. A root without a bucket may be in any."""
        near = self._near.get(_service_of(one), (_service_of(one),))
        if _service_of(other) not in near:
            return False
        if not one.root or not other.root:
            return True
        first, second = resolve_links(one), resolve_links(other)
        nested = first.key.startswith(second.key) or second.key.startswith(first.key)
        return first.root == second.root and nested

    def may_be_same(self, place: Place, other: Place) -> bool:
        """Whether two places may be the same."""
        return self.digest(other) in self.digests(place)


def _service_of(place: Place) -> tuple[str, str]:
    return place.service, place.endpoint


class ReferencedPlaces(SpilledSet):
    """The places that rows and other lists name, as digests.

    Args:
        services: knows which places may be the same.
    """

    def __init__(self, services: ServiceIdentity) -> None:
        super().__init__()
        self._services = services

    def names(self, place: Place) -> bool:
        """Whether a place that may be this one was added."""
        return any(name in self for name in self._services.digests(place))

    def add_places(self, places: Iterable[Place]) -> None:
        """Add places."""
        self.add(self._services.digest(place) for place in places)

    def add_rows(self, database: Database, columns: Sequence[Column], sides: Mapping[str, ResolvedBackend]) -> None:
        """Add what rows of these columns name under any key, and what cutovers may still need, whatever restricts the run.

        Args:
            database: where they are.
            columns: all StoredObject columns of the application.
            sides: every registered backend.

        Raises:
            RunError: a table or a row cannot be read, or a row names a backend that is not registered.
        """
        for side in sides.values():
            self.add_places(side.unsettled_places())
        finder = FileFinder(sides)
        for rows, window in _read_windows(database, columns):
            for row in window:
                slots = list(_resolve_slots(rows, row, sides))
                self.add_places(place for _, places in slots for place in places)
                self._add_hidden(row.value, len(slots), finder, sides)

    def _add_hidden(self, value: str, slots: int, finder: FileFinder, sides: Mapping[str, ResolvedBackend]) -> None:
        """Add files that are no slots, such as in a text inside of the row's JSON: no run changes them."""
        if "\\u00" in value or value.count("filename") > slots:
            files = finder.files_in(value)
            self.add_places(part.place(name) for key, name in files if name for part in sides[key].parts)

    def add_listed(self, source: str, database: Database, sides: Sequence[ResolvedBackend]) -> None:
        """Add filenames from the lines of a file or the first column of an SQL query.

        Args:
            source: the path of a file, or a SELECT.
            database: where a SELECT runs.
            sides: the backends to which the filenames may belong.

        Raises:
            ConfigurationError: it cannot be read, or a file is empty.
        """
        try:
            if re.match(r"\s*(select|with)\s", source, re.IGNORECASE):
                database.transaction(lambda connection: self._add_selected(connection, source, sides))
                return
            with Path(source).open(encoding="utf-8", errors="surrogateescape") as lines:
                names = (name for line in lines if (name := line.rstrip("\r\n")))
                self._add_names(itertools.chain((next(names),), names), sides)
        except StopIteration:
            raise ConfigurationError(f"--references {source[:80]!r} names nothing: nothing was deleted") from None
        except Exception as error:
            reason = describe_failure(error.__cause__) if isinstance(error, RefusedError) and error.__cause__ else error
            raise ConfigurationError(
                f"--references {source[:80]!r} cannot be read: {reason}; nothing was deleted"
            ) from error

    def _add_selected(self, connection: Connection, query: str, sides: Sequence[ResolvedBackend]) -> None:
        # The driver gets the statement as it was typed, because its colons are no parameters.
        found = connection.exec_driver_sql(query)
        self._add_names((str(row[0]) for row in found if row[0] is not None), sides)

    def _add_names(self, names: Iterable[str], sides: Sequence[ResolvedBackend]) -> None:
        parts = [part for side in sides for part in side.parts]
        self.add_places(part.place(name) for name in names for part in parts)


def named_by_rows(
    database: Database, columns: Sequence[Column], sides: Mapping[str, ResolvedBackend]
) -> Iterator[list[tuple[Slot, tuple[Place, ...]]]]:
    """Yield every slot of these columns with its place, during a cutover with both, whatever restricts the run.

    Args:
        database: where they are.
        columns: all StoredObject columns of the application.
        sides: every registered backend.

    Raises:
        RunError: a table or a row cannot be read, or a row names a backend that is not registered.
    """
    for rows, window in _read_windows(database, columns):
        yield [found for row in window for found in _resolve_slots(rows, row, sides)]


def _read_windows(database: Database, columns: Sequence[Column]) -> Iterator[tuple[FileColumn, list[Row]]]:
    for column in columns:
        try:
            rows = FileColumn(database, column)
            for window in rows.windows(None, 2000):
                yield rows, window
        except (SQLAlchemyError, RefusedError) as error:
            raise RunError(
                f"{column} cannot be read: {describe_failure(error.__cause__ if isinstance(error, RefusedError) and error.__cause__ else error)}; what it names is unknown, so nothing is deleted"
            ) from error


def _resolve_slots(
    rows: FileColumn, row: Row, sides: Mapping[str, ResolvedBackend]
) -> Iterator[tuple[Slot, tuple[Place, ...]]]:
    try:
        slots = parse_slots(rows.column, row)
    except BrokenValueError as error:
        raise RunError(
            f"{RowRef(rows.column, row.pk)} cannot be read ({error}): what it names is unknown, so nothing is deleted"
        ) from error
    for slot in slots:
        side = sides.get(slot.file["backend"])
        if side is None and slot.ref.in_metadata:
            continue
        if side is None:
            raise RunError(
                f"{slot.ref} names the backend {slot.file['backend']!r}, which is not registered: its place is unknown, so nothing is deleted"
            )
        yield slot, tuple(part.place(slot.file["filename"]) for part in side.parts)
