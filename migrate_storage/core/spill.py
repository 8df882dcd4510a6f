"""What is listed and cannot be held in memory: temporary files, gone when they are closed. For one thread at a time."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from migrate_storage.core.errors import RunError
from migrate_storage.core.model import ObjectMeta

__all__ = (
    "KeyLog",
    "NoRoomError",
    "SpilledMap",
    "SpilledSet",
)


class SpilledSet:
    """A set of texts on disk, gone when it is closed. For one thread."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="migrate-storage-")
        self._file = sqlite3.connect(Path(self._folder.name) / "set.db", isolation_level=None)
        for pragma in ("journal_mode = OFF", "synchronous = OFF"):
            self._file.execute(f"PRAGMA {pragma}")
        self._file.execute("CREATE TABLE item (id TEXT PRIMARY KEY) WITHOUT ROWID")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._folder.cleanup()

    def __contains__(self, item: str) -> bool:
        return self._file.execute("SELECT 1 FROM item WHERE id = ?", (item,)).fetchone() is not None

    def add(self, items: Iterable[str]) -> None:
        """Take in items."""
        self._many("INSERT OR IGNORE INTO item VALUES (?)", items)

    def discard(self, items: Iterable[str]) -> None:
        """Take items out, where they are in."""
        self._many("DELETE FROM item WHERE id = ?", items)

    def parts(self, size: int) -> Iterator[list[str]]:
        """All items in order, in lists of at most ``size``."""
        last = ""
        while part := [
            row[0] for row in self._file.execute("SELECT id FROM item WHERE id > ? ORDER BY id LIMIT ?", (last, size))
        ]:
            yield part
            last = part[-1]

    def _many(self, statement: str, items: Iterable[str]) -> None:
        self._file.execute("BEGIN")
        try:
            self._file.executemany(statement, ((item,) for item in items))
        finally:
            self._file.execute("COMMIT")


_BATCH = 1000
_ASKED = 500
"""Keys in one question."""


class NoRoomError(RunError):
    """The temporary file cannot be written."""


class SpilledMap:
    """Listed objects, given back by key: each once, as it was listed last.

    Every method raises :class:`NoRoomError` where the disk has no room for them, or fails.
    """

    def __init__(self) -> None:
        with _written():
            self._folder = tempfile.TemporaryDirectory(prefix="migrate-storage-")
            path = Path(self._folder.name) / "listing.db"
            self._file = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            for pragma in ("journal_mode = OFF", "synchronous = OFF"):
                self._file.execute(f"PRAGMA {pragma}")
            self._file.execute(
                "CREATE TABLE entry (key BLOB PRIMARY KEY, path BLOB, size INTEGER, e_tag TEXT, modified REAL,"
                " version TEXT, md5 TEXT) WITHOUT ROWID"
            )
        self._waiting: list[tuple[object, ...]] = []

    def __iter__(self) -> Iterator[tuple[str, ObjectMeta]]:
        """All of them, in the order of their keys' letters, which is that of their UTF-8 bytes."""
        self._write()
        with _written():
            yield from map(_object, self._file.execute("SELECT * FROM entry ORDER BY key"))

    def add(self, key: str, meta: ObjectMeta) -> None:
        """Take one in."""
        self._waiting.append(
            (_bytes(key), _bytes(meta.path), meta.size, meta.e_tag, meta.last_modified, meta.version, meta.md5)
        )
        if len(self._waiting) == _BATCH:
            self._write()

    def find(self, keys: Sequence[str]) -> dict[str, ObjectMeta]:
        """Those of these keys that are in."""
        self._write()
        found: dict[str, ObjectMeta] = {}
        for start in range(0, len(keys), _ASKED):
            part = [_bytes(key) for key in keys[start : start + _ASKED]]
            marks = ", ".join("?" * len(part))
            with _written():
                found.update(map(_object, self._file.execute(f"SELECT * FROM entry WHERE key IN ({marks})", part)))
        return found

    def discard(self, keys: Iterable[str]) -> None:
        """Take these out, where they are in."""
        self._write()
        self._many("DELETE FROM entry WHERE key = ?", ((_bytes(key),) for key in keys))

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()
        self._folder.cleanup()

    def _write(self) -> None:
        if not self._waiting:
            return
        self._many("INSERT OR REPLACE INTO entry VALUES (?, ?, ?, ?, ?, ?, ?)", self._waiting)
        self._waiting = []

    def _many(self, statement: str, lines: Iterable[tuple[object, ...]]) -> None:
        with _written():
            self._file.execute("BEGIN")
            self._file.executemany(statement, lines)
            self._file.execute("COMMIT")


class KeyLog:
    """Keys, in the order they came. Without room on the disk it raises :class:`NoRoomError`."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in close
        self._waiting: list[str] = []

    def __iter__(self) -> Iterator[str]:
        """All of them; nothing is added afterwards."""
        self._write()
        self._file.seek(0)
        for line in self._file:
            yield from json.loads(line)

    def add(self, key: str) -> None:
        """Write one down."""
        self._waiting.append(key)
        if len(self._waiting) == _BATCH:
            self._write()

    def close(self) -> None:
        """Let go of the file."""
        with suppress(OSError):  # what could not be written is wanted by nobody
            self._file.close()

    def _write(self) -> None:
        with _written():
            self._file.write(f"{json.dumps(self._waiting)}\n")
            self._file.flush()
        self._waiting = []


@contextmanager
def _written() -> Iterator[None]:
    """What the disk says, in one line."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise NoRoomError(
            f"a listing cannot be kept in {tempfile.gettempdir()}: {error}; make room there, or set TMPDIR to another folder, and run the same command again"
        ) from error


def _object(line: tuple[Any, ...]) -> tuple[str, ObjectMeta]:
    key, path, size, e_tag, modified, version, md5 = line
    return _text(key), ObjectMeta(
        path=_text(path), size=size, e_tag=e_tag, last_modified=modified, version=version, md5=md5
    )


def _bytes(key: str) -> bytes:
    """In the order of the letters, whatever they are."""
    return key.encode("utf-8", "surrogatepass")


def _text(key: bytes) -> str:
    return key.decode("utf-8", "surrogatepass")
