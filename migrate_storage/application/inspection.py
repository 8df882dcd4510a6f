"""What an application holds: every backend, every column, how many rows name what, and which keys need attention."""

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

#: Odd keys that are listed for one backend; all are counted.
_LISTED = 20
_WINDOW = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class OddKey:
    """A filename that obstore cannot address."""

    ref: RowRef
    filename: str
    #: Why, in a few words.
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class BackendUse:
    """One backend key, as the rows use it."""

    key: str
    #: ``None`` where rows name a key that no backend has.
    registration: Registration | None
    #: ``fsspec``, ``obstore`` (also where it was made from an fsspec backend) or another; empty where there is none.
    driver: str = ""
    #: Files that rows name, by column.
    files: Mapping[Column, int] = field(default_factory=dict)
    #: Files by bucket, container or folder, where each row names its own.
    roots: Mapping[str, int] = field(default_factory=dict)
    #: Filenames that obstore cannot address, the first of them.
    odd: tuple[OddKey, ...] = ()
    odd_count: int = 0

    @property
    def total(self) -> int:
        """Files that rows name under this key."""
        return sum(self.files.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class Inspection:
    """Everything that was found, backends in the order of their keys."""

    backends: tuple[BackendUse, ...]
    columns: tuple[Column, ...]
    #: Values that cannot be read as files, by column.
    broken: Mapping[Column, int] = field(default_factory=dict)


def inspect(application: Application) -> Inspection:
    """Read every row once, in bounded memory, and every registration; touch no store.

    Args:
        application: Its columns and backends.

    Raises:
        ConfigurationError: when the database cannot be reached.
    """
    registrations = {key: read(backend) for key, backend in application.backends.items()}
    drivers = {key: str(backend.driver) for key, backend in application.backends.items()}
    counting = {key: _Counting(registration) for key, registration in registrations.items()}
    broken: Counter[Column] = Counter()
    for ref, file in _files(application, broken):
        key = str(file["backend"])
        counting.setdefault(key, _Counting(None)).add(ref, str(file["filename"]))
    return Inspection(
        backends=tuple(counting[key].use(key, drivers.get(key, "")) for key in sorted(counting)),
        columns=application.columns,
        broken=dict(broken),
    )


def filenames(application: Application, backend: str, limit: int) -> tuple[str, ...]:
    """The first different filenames that rows name under a backend's key.

    Args:
        application: Its rows.
        backend: The key.
        limit: How many.
    """
    found: dict[str, None] = {}
    for _, file in _files(application, Counter(), backend):
        if file["backend"] == backend:
            found[str(file["filename"])] = None
        if len(found) == limit:
            break
    return tuple(found)


def _files(
    application: Application, broken: Counter[Column], backend: str | None = None
) -> Iterator[tuple[RowRef, Mapping[str, object]]]:
    database = Database(application.engine)
    try:
        database.connect()
        for column in application.columns:
            for window in FileColumn(database, column).windows(backend, _WINDOW):
                for row in window:
                    try:
                        slots = parse_slots(column, row)
                    except BrokenValueError:
                        broken[column] += 1
                        continue
                    yield from ((slot.ref, slot.file) for slot in slots)
    finally:
        database.close()


class _Counting:
    """Counts for one backend key."""

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
        # A row keeps its filename in a swap, and gets the relative one anywhere else: both have to be addressable.
        reason = unaddressable(place.key, local=local) or unaddressable(
            self._registration.relative(filename), local=local
        )
        if reason:
            self._odd_count += 1
            if len(self._odd) < _LISTED:
                self._odd.append(OddKey(ref=ref, filename=filename, reason=reason))

    def use(self, key: str, driver: str) -> BackendUse:
        return BackendUse(
            key=key,
            driver=driver,
            registration=self._registration,
            files=dict(self._files),
            roots=dict(self._roots),
            odd=tuple(self._odd),
            odd_count=self._odd_count,
        )
