"""Collections in temporary SQLite files, each for one thread at a time."""

from __future__ import annotations

import itertools
import json
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from migrate_storage.core.errors import RunError
from migrate_storage.core.model import ObjectMeta

__all__ = ("NoRoomError", "SpillFile", "SpilledList", "SpilledMap", "SpilledSet", "SpilledSort", "from_blob", "to_blob")

T = TypeVar("T")

_WRITE_BATCH_ROWS = 1000
"""Rows in one transaction."""
_READ_PAGE_ROWS = 500
_FIND_BATCH_KEYS = 500
"""Keys in one IN list."""


class NoRoomError(RunError):
    """A temporary file cannot be written."""


class SpillFile:
    """One table, ``item``, in a temporary SQLite file that is deleted on close.

    Every method raises :class:`NoRoomError` where the disk is full or fails.

    Args:
        columns: the table's columns in SQL. The first is the primary key.
    """

    def __init__(self, columns: str) -> None:
        with _report_disk_errors():
            self._folder = tempfile.TemporaryDirectory(prefix="migrate-storage-")
            self._connection = sqlite3.connect(Path(self._folder.name) / "spill.db", check_same_thread=False)
            for statement in ("PRAGMA journal_mode = OFF", "PRAGMA synchronous = OFF"):
                self._connection.execute(statement)
            self._connection.execute(f"CREATE TABLE item ({columns}) WITHOUT ROWID")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Delete the file."""
        self._connection.close()
        self._folder.cleanup()

    def _write(self, statement: str, rows: Iterable[tuple[object, ...]]) -> None:
        """Run a statement for each of many parameter rows, in a transaction a batch."""
        given = iter(rows)
        while batch := list(itertools.islice(given, _WRITE_BATCH_ROWS)):
            with _report_disk_errors():
                self._connection.executemany(statement, batch)
                self._connection.commit()

    def _read(self, statement: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with _report_disk_errors():
            return self._connection.execute(statement, parameters).fetchall()

    def _pages(self, condition: str = "TRUE", size: int = _READ_PAGE_ROWS) -> Iterator[list[tuple[Any, ...]]]:
        """The rows in the order of ``key``, in lists of at most ``size``; rows may change between two lists."""
        last: object = ""
        statement = f"SELECT * FROM item WHERE key > ? AND {condition} ORDER BY key LIMIT ?"
        while page := self._read(statement, (last, size)):
            yield page
            last = page[-1][0]


class SpilledSet(SpillFile):
    """A set of texts, none of them empty."""

    def __init__(self) -> None:
        super().__init__("key TEXT PRIMARY KEY")

    def __contains__(self, item: str) -> bool:
        return bool(self._read("SELECT 1 FROM item WHERE key = ?", (item,)))

    def add(self, items: Iterable[str]) -> None:
        """Add items."""
        self._write("INSERT OR IGNORE INTO item VALUES (?)", ((item,) for item in items))

    def discard(self, items: Iterable[str]) -> None:
        """Remove items that are in the set."""
        self._write("DELETE FROM item WHERE key = ?", ((item,) for item in items))

    def batches(self, size: int) -> Iterator[list[str]]:
        """All items in their order, in lists of at most ``size``."""
        return ([key for (key,) in page] for page in self._pages(size=size))


class SpilledMap(SpillFile):
    """Listed objects by their keys. Of two with one key the later one stays."""

    def __init__(self) -> None:
        columns = "key BLOB PRIMARY KEY, path BLOB, size INTEGER, e_tag TEXT, modified REAL, version TEXT, md5 TEXT"
        super().__init__(columns)
        self._unwritten: list[tuple[object, ...]] = []

    def __iter__(self) -> Iterator[tuple[str, ObjectMeta]]:
        """All of them, in the order of their keys' UTF-8 bytes."""
        self._flush()
        return (_to_object(row) for page in self._pages() for row in page)

    def add(self, key: str, meta: ObjectMeta) -> None:
        """Add an object."""
        self._unwritten.append(
            (to_blob(key), to_blob(meta.path), meta.size, meta.e_tag, meta.last_modified, meta.version, meta.md5)
        )
        if len(self._unwritten) == _WRITE_BATCH_ROWS:
            self._flush()

    def find(self, keys: Sequence[str]) -> dict[str, ObjectMeta]:
        """The objects of these keys, without the keys that have none."""
        self._flush()
        found: dict[str, ObjectMeta] = {}
        for start in range(0, len(keys), _FIND_BATCH_KEYS):
            batch = [to_blob(key) for key in keys[start : start + _FIND_BATCH_KEYS]]
            marks = ", ".join("?" * len(batch))
            found.update(map(_to_object, self._read(f"SELECT * FROM item WHERE key IN ({marks})", batch)))
        return found

    def discard(self, keys: Iterable[str]) -> None:
        """Remove the objects of these keys."""
        self._flush()
        self._write("DELETE FROM item WHERE key = ?", ((to_blob(key),) for key in keys))

    def _flush(self) -> None:
        self._write("INSERT OR REPLACE INTO item VALUES (?, ?, ?, ?, ?, ?, ?)", self._unwritten)
        self._unwritten = []


class SpilledList(SpillFile, Generic[T]):
    """Values in the order in which they are added.

    Args:
        dump: makes JSON's types of a value.
        load: makes the value again.
    """

    def __init__(self, dump: Callable[[T], Any] = lambda value: value, load: Callable[[Any], T] = lambda value: value):
        super().__init__("number INTEGER PRIMARY KEY, batch TEXT")
        self._dump, self._load = dump, load
        self._batches = self._count = 0
        self._unwritten: list[Any] = []

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[T]:
        """All of them. Nothing may be added afterwards."""
        self._flush()
        for number in range(self._batches):
            [(batch,)] = self._read("SELECT batch FROM item WHERE number = ?", (number,))
            yield from map(self._load, json.loads(batch))

    def add(self, value: T) -> None:
        """Add a value."""
        self._unwritten.append(self._dump(value))
        self._count += 1
        if len(self._unwritten) == _WRITE_BATCH_ROWS:
            self._flush()

    def _flush(self) -> None:
        self._write("INSERT INTO item VALUES (?, ?)", [(self._batches, json.dumps(self._unwritten))])
        self._batches += 1
        self._unwritten = []


class SpilledSort(SpillFile):
    """Values with texts by which they are sorted. JSON must have a form of them."""

    def __init__(self) -> None:
        super().__init__("key TEXT PRIMARY KEY, name TEXT, value TEXT")
        self._count = 0

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        """All of them by their texts; those with one text in the order in which they were added."""
        return ((name, json.loads(value)) for page in self._pages() for _, name, value in page)

    def add(self, values: Iterable[tuple[str, Any]]) -> None:
        """Add values, each after its text."""
        rows = [(name, json.dumps(value)) for name, value in values]
        numbered = enumerate(rows, self._count)
        self._write(
            "INSERT INTO item VALUES (?, ?, ?)", ((f"{each[0]} {number:012}", *each) for number, each in numbered)
        )
        self._count += len(rows)


def to_blob(text: str) -> bytes:
    """A text, lone surrogates too, as bytes whose order is that of its characters."""
    return text.encode("utf-8", "surrogatepass")


def from_blob(stored: bytes) -> str:
    """The text that :func:`to_blob` wrote."""
    return stored.decode("utf-8", "surrogatepass")


@contextmanager
def _report_disk_errors() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise NoRoomError(
            f"a listing cannot be kept in {tempfile.gettempdir()}: {error}; make room there, or set TMPDIR to another "
            "folder, and run the same command again"
        ) from error


def _to_object(row: tuple[Any, ...]) -> tuple[str, ObjectMeta]:
    key, path, size, e_tag, modified, version, md5 = row
    return from_blob(key), ObjectMeta(
        path=from_blob(path), size=size, e_tag=e_tag, last_modified=modified, version=version, md5=md5
    )
