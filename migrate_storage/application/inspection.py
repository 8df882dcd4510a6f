"""Count the files of each key and column, and find unaddressable filenames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from advanced_alchemy.types.file_object import StorageBackend

from migrate_storage.application.application import Application
from migrate_storage.backend.locators import refused_by_successor
from migrate_storage.core.model import Column, Note, RowRef, Severity
from migrate_storage.core.text import amount
from migrate_storage.database.connection import Database
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.file_json import BrokenValueError, parse_slots
from migrate_storage.translate import unaddressable
from migrate_storage.translate.registration import Registration, backend_pair, read

__all__ = (
    "BackendUse",
    "Inspection",
    "OddKey",
    "filenames",
    "inspect",
    "inspect_registrations",
    "note_unregistered_keys",
    "refused_filenames",
)

LISTED_ODD_KEYS = 10_000
"""Odd keys that are listed for one backend, at most. All are counted."""
BATCH_ROWS = 500
"""Rows that are read at once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OddKey:
    """A filename that obstore cannot address."""

    ref: RowRef
    filename: str
    #: The reason, in a few words.
    reason: str


@dataclass(kw_only=True, slots=True)
class BackendUse:
    """The files of one backend key, which only :meth:`add` counts."""

    key: str
    #: ``None`` if rows name the key and no backend has it, and for a cutover.
    registration: Registration | None = None
    #: Of a cutover the registrations of its source and its destination; otherwise empty.
    cutover: tuple[Registration, ...] = ()
    #: ``fsspec``, ``obstore`` (also if made from an fsspec backend), ``cutover`` or another driver; empty without a backend.
    driver: str = ""
    #: Count of files by column.
    files: Counter[Column] = field(default_factory=Counter)
    #: Count of files by bucket, container or folder, if filenames contain it.
    roots: Counter[str] = field(default_factory=Counter)
    #: The first filenames that obstore cannot address.
    odd: list[OddKey] = field(default_factory=list)
    odd_count: int = 0
    #: The first files whose rows have no size, with their filenames.
    unsized: list[tuple[RowRef, str]] = field(default_factory=list)
    unsized_count: int = 0

    @property
    def total(self) -> int:
        """Count of files under this key."""
        return self.files.total()

    def add(self, ref: RowRef, file: Mapping[str, object]) -> None:
        """Count one file, as the row's JSON has it."""
        filename = str(file["filename"])
        self.files[ref.column] += 1
        if file.get("size") is None:
            self.unsized_count += 1
            if len(self.unsized) < LISTED_ODD_KEYS:
                self.unsized.append((ref, filename))
        registrations = self.cutover or ((self.registration,) if self.registration is not None else ())
        for each in registrations:
            if not each.root and not each.own_class:
                self.roots[each.place(filename).root] += 1
        reason = next(filter(None, (reason_to_refuse(each, filename) for each in registrations)), None)
        if reason:
            self.odd_count += 1
            if len(self.odd) < LISTED_ODD_KEYS:
                self.odd.append(OddKey(ref=ref, filename=filename, reason=reason))


def reason_to_refuse(registration: Registration, filename: str) -> str | None:
    """Return why a backend of obstore would not open a row's file: under the same key, or under another one."""
    place = registration.place(filename)
    local = place.service == "file"
    # An in-place run keeps the filename. Every other strategy writes the relative one. obstore must address both.
    return (
        unaddressable(place.key, local=local)
        or unaddressable(registration.relative(filename), local=local)
        or (refused_by_successor(registration, filename) if registration.driver == "fsspec" else None)
    )


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
    uses = {key: _read_backend(key, backend) for key, backend in application.backends.items()}
    broken: Counter[Column] = Counter()
    for ref, file in _read_files(application, broken):
        key = str(file["backend"])
        uses.setdefault(key, BackendUse(key=key)).add(ref, file)
    used = tuple(uses[key] for key in sorted(uses))
    return Inspection(backends=used, columns=application.columns, broken=broken)


def inspect_registrations(backends: Mapping[str, StorageBackend]) -> Inspection:
    """Read registrations alone: no row, and no request to a store.

    Args:
        backends: Storage backends by their keys.
    """
    return Inspection(
        backends=tuple(_read_backend(key, backends[key]) for key in sorted(backends)), columns=(), broken={}
    )


def _read_backend(key: str, backend: StorageBackend) -> BackendUse:
    pair = backend_pair(backend)
    if pair is not None:
        return BackendUse(key=key, cutover=tuple(map(read, pair)), driver=str(backend.driver))
    return BackendUse(key=key, registration=read(backend), driver=str(backend.driver))


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


def refused_filenames(application: Application, registration: Registration, key: str) -> Iterator[OddKey]:
    """Yield each file of a backend that the registration which replaces it does not open.

    Args:
        application: The application with the rows.
        registration: The backend, read.
        key: The key under which rows name its files.
    """
    for ref, file in _read_files(application, Counter(), key):
        filename = str(file["filename"])
        if file["backend"] == key and (reason := refused_by_successor(registration, filename)):
            yield OddKey(ref=ref, filename=filename, reason=reason)


def note_unregistered_keys(application: Application) -> Iterator[Note]:
    """Yield a note for each backend key that rows name and under which no backend is registered.

    Reads every row once.

    Args:
        application: The application with the rows.
    """
    counts: dict[str, Counter[Column]] = {}
    for ref, file in _read_files(application, Counter()):
        if (key := str(file["backend"])) not in application.backends:
            counts.setdefault(key, Counter())[ref.column] += 1
    for key, columns in sorted(counts.items()):
        where = ", ".join(f"{count:,} in {column}" for column, count in columns.items())
        yield Note(
            severity=Severity.WARNING,
            code="rows.unregistered",
            subject=key,
            message=f"{amount(columns.total(), 'reference')} ({where}) to this key, under which no backend is registered",
            todo="register it, or re-point these rows: until then `purge` and `orphans` refuse",
        )


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
