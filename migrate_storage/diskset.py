"""A set of short texts in a temporary SQLite file: for more of them than should be held in memory."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ("DiskSet",)


class DiskSet:
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
