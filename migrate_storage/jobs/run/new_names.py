"""The places of copies, each with the file that gets it, in a temporary file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from migrate_storage.core.model import Place
from migrate_storage.core.spill import SpillFile, from_blob, to_blob

__all__ = ("NewName", "NewNames")


@dataclass(frozen=True, slots=True)
class NewName:
    """A file, and the name that its copy gets."""

    #: Of the copy.
    place: Place
    #: Of the source object: two files with one id are one object.
    id: str
    source: str
    path: str
    #: Whether it is another name than the copy would have without a rule.
    renamed: bool = False
    #: Whether an object may have the name that no run copied there.
    searched: bool = False


class NewNames(SpillFile):
    """The places of copies. The first file that gets a place keeps it."""

    def __init__(self) -> None:
        super().__init__("key BLOB PRIMARY KEY, id TEXT, source BLOB, path BLOB, renamed INTEGER, searched INTEGER")

    def add(self, names: Sequence[NewName]) -> list[tuple[NewName, str]]:
        """Add names; return those whose place another object has, each with that object's filename."""
        rows = (
            (_to_key(name.place), name.id, to_blob(name.source), to_blob(name.path), name.renamed, name.searched)
            for name in names
        )
        self._write("INSERT OR IGNORE INTO item VALUES (?, ?, ?, ?, ?, ?)", rows)
        taken = []
        for name in names:
            [(id_, source)] = self._read("SELECT id, source FROM item WHERE key = ?", (_to_key(name.place),))
            if id_ != name.id:
                taken.append((name, from_blob(source)))
        return taken

    def searched(self) -> Iterator[tuple[str, str]]:
        """Yield the filename and the new name of each file, where an object may have the new name."""
        last: object = b""
        statement = "SELECT key, source, path FROM item WHERE key > ? AND searched ORDER BY key LIMIT 500"
        while page := self._read(statement, (last,)):
            yield from ((from_blob(source), from_blob(path)) for _, source, path in page)
            last = page[-1][0]

    def count(self) -> tuple[int, int]:
        """Return the number of places, and of those whose name is another one."""
        [(count, renamed)] = self._read("SELECT COUNT(*), COALESCE(SUM(renamed), 0) FROM item")
        return int(count), int(renamed)

    def example(self) -> tuple[str, str]:
        """Return the filename of a file that gets another name, and that name; both are empty where none does."""
        found = self._read("SELECT source, path FROM item WHERE renamed ORDER BY key LIMIT 1")
        return (from_blob(found[0][0]), from_blob(found[0][1])) if found else ("", "")


def _to_key(place: Place) -> bytes:
    return to_blob(f"{place.root}\n{place.key}")
