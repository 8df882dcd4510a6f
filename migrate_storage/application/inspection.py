"""Count the files of each key and column, and find unaddressable filenames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from migrate_storage.application.application import Application
from migrate_storage.core.model import Column, RowRef
from migrate_storage.database.connection import Database
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.file_json import BrokenValueError, parse_slots
from migrate_storage.translate import unaddressable
from migrate_storage.translate.registration import Registration, read

__all__ = ("BackendUse", "Inspection", "OddKey", "filenames", "inspect")

LISTED_ODD_KEYS = 20
"""Odd keys that are listed for one backend. All are counted."""
BATCH_ROWS = 500
"""Rows that are read at once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OddKey:
    """A filename that obstore cannot address."""

    ref: RowRef
    filename: str
    #: The reason, in a few words.
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class BackendUse:
    """The files of one backend key."""

    key: str
    #: ``None`` if rows name the key, and no backend has it.
    registration: Registration | None
    #: ``fsspec``, ``obstore`` (also if made from an fsspec backend) or another driver; empty without a backend.
    driver: str = ""
    #: Count of files by column.
    files: Mapping[Column, int] = field(default_factory=dict)
    #: Count of files by bucket, container or folder, if filenames contain it.
    roots: Mapping[str, int] = field(default_factory=dict)
    #: The first filenames that obstore cannot address.
    odd: tuple[OddKey, ...] = ()
    odd_count: int = 0

    @property
    def total(self) -> int:
        """Count of files under this key."""
        return sum(self.files.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class Inspection:
    """The backends in the order of their keys, and the columns."""

    backends: tuple[BackendUse, ...]
    columns: tuple[Column, ...]
    #: Count of values that cannot be read as files, by column.
    broken: Mapping[Column, int] = field(default_factory=dict)


def inspect(application: Application) -> Inspection:
    """Read every row and registration once, without a request to a store.

    Args:
        application: The columns and backends.

    Raises:
        ConfigurationError: when the database cannot be reached.
    """
    registrations = {key: read(backend) for key, backend in application.backends.items()}
    drivers = {key: str(backend.driver) for key, backend in application.backends.items()}
    uses = {key: _UseCounter(registration) for key, registration in registrations.items()}
    broken: Counter[Column] = Counter()
    for ref, file in _read_files(application, broken):
        key = str(file["backend"])
        uses.setdefault(key, _UseCounter(None)).add(ref, str(file["filename"]))
    return Inspection(
        backends=tuple(uses[key].result(key, drivers.get(key, "")) for key in sorted(uses)),
        columns=application.columns,
        broken=dict(broken),
    )


def filenames(application: Application, backend: str, limit: int) -> tuple[str, ...]:
    """Return the first distinct filenames under a backend's key.

    Args:
        application: The application with the rows.
        backend: The key.
        limit: The number of filenames.
    """
    names: dict[str, None] = {}
    for _, file in _read_files(application, Counter(), backend):
        if file["backend"] == backend:
            names[str(file["filename"])] = None
        if len(names) == limit:
            break
    return tuple(names)


def _read_files(
    application: Application, broken: Counter[Column], backend: str | None = None
) -> Iterator[tuple[RowRef, Mapping[str, object]]]:
    database = Database(application.engine)
    try:
        database.connect()
        for column in application.columns:
            for window in FileColumn(database, column).windows(backend, BATCH_ROWS):
                for row in window:
                    try:
                        slots = parse_slots(column, row)
                    except BrokenValueError:
                        broken[column] += 1
                        continue
                    yield from ((slot.ref, slot.file) for slot in slots)
    finally:
        database.close()


class _UseCounter:
    """Counts the files of one backend key."""

    def __init__(self, registration: Registration | None) -> None:
        self._registration = registration
        self._files: Counter[Column] = Counter()
        self._roots: Counter[str] = Counter()
        self._odd: list[OddKey] = []
        self._odd_count = 0

    def add(self, ref: RowRef, filename: str) -> None:
        self._files[ref.column] += 1
        if self._registration is None:
            return
        place = self._registration.place(filename)
        if not self._registration.root:
            self._roots[place.root] += 1
        local = place.service == "file"
        # A swap keeps the filename. Every other way writes the relative one. obstore must address both.
        reason = unaddressable(place.key, local=local) or unaddressable(
            self._registration.relative(filename), local=local
        )
        if reason:
            self._odd_count += 1
            if len(self._odd) < LISTED_ODD_KEYS:
                self._odd.append(OddKey(ref=ref, filename=filename, reason=reason))

    def result(self, key: str, driver: str) -> BackendUse:
        return BackendUse(
            key=key,
            driver=driver,
            registration=self._registration,
            files=dict(self._files),
            roots=dict(self._roots),
            odd=tuple(self._odd),
            odd_count=self._odd_count,
        )
