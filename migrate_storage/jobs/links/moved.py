"""The objects that runs moved, whose copies are the current ones, as the journal has them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

from migrate_storage.core.address_text import ends_address
from migrate_storage.core.model import OutcomeKind
from migrate_storage.core.spill import SpillFile, from_blob, to_blob
from migrate_storage.journal import Journal, ObjectRecord, ObjectState, RunRecord

__all__ = ("MovedObjects", "collect_moved")

_FIND_BATCH_NAMES = 500
"""Names in one IN list."""
_MOVED_STATES = (ObjectState.VERIFIED, ObjectState.SOURCE_DELETING, ObjectState.SOURCE_DELETED)
_MOVED_OUTCOMES = frozenset({OutcomeKind.REPOINTED, OutcomeKind.COPIED, OutcomeKind.UNCHANGED})


class MovedObjects(SpillFile):
    """The filenames of moved objects at the source, with those at the destination, in a temporary file."""

    def __init__(self) -> None:
        super().__init__("key BLOB PRIMARY KEY, path BLOB, updated REAL")
        self._connection.execute("CREATE INDEX item_path ON item (path)")
        #: Characters of the longest filename at the source.
        self.longest = 0
        #: Characters in them that no URL has unless it is spelled in percent.
        self.odd: set[str] = set()

    def __len__(self) -> int:
        [(count,)] = self._read("SELECT COUNT(*) FROM item")
        return int(count)

    def add(self, records: Collection[ObjectRecord]) -> None:
        """Add objects. Of two with one filename the later one stays."""
        rows = [(to_blob(each.source_path), to_blob(each.destination_path), each.updated) for each in records]
        self._write(
            "INSERT INTO item VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET path = excluded.path, "
            "updated = excluded.updated WHERE excluded.updated >= item.updated",
            rows,
        )
        for each in records:
            self.longest = max(self.longest, len(each.source_path))
            self.odd.update(char for char in set(each.source_path) if ends_address(char))

    def discard_moved_on(self, records: Collection[ObjectRecord]) -> None:
        """Remove the objects whose copies were moved again later, from the destination to another place."""
        self._write(
            "DELETE FROM item WHERE path = ? AND updated < ?",
            ((to_blob(each.source_path), each.updated) for each in records),
        )

    def find(self, names: Collection[str]) -> dict[str, str]:
        """The filenames at the destination of those names that are of moved objects."""
        found: dict[str, str] = {}
        wanted = [to_blob(name) for name in names]
        for start in range(0, len(wanted), _FIND_BATCH_NAMES):
            batch = wanted[start : start + _FIND_BATCH_NAMES]
            marks = ", ".join("?" * len(batch))
            rows = self._read(f"SELECT key, path FROM item WHERE key IN ({marks})", batch)
            found.update((from_blob(key), from_blob(path)) for key, path in rows)
        return found

    def sample(self, size: int) -> list[tuple[str, str]]:
        """Some filenames, at the source and at the destination."""
        rows = self._read("SELECT key, path FROM item LIMIT ?", (size,))
        return [(from_blob(key), from_blob(path)) for key, path in rows]

    def names(self) -> Iterator[str]:
        """All filenames at the source."""
        last = b""
        while page := self._read("SELECT key FROM item WHERE key > ? ORDER BY key LIMIT 1000", (last,)):
            yield from (from_blob(key) for (key,) in page)
            last = page[-1][0]


def collect_moved(
    into: MovedObjects, journal: Journal, first: RunRecord, runs: Sequence[RunRecord], checkpoint: Callable[[], None]
) -> None:
    """Read the journal's records of what runs moved, without what was reverted or moved on since.

    Args:
        into: what they are added to.
        journal: the journal.
        first: one of the runs.
        runs: all runs that count, between the same two keys.
        checkpoint: called between two batches; an exception from it ends the reading.
    """
    for run in runs:
        for batch in journal.objects.in_states(*_MOVED_STATES, run=run.id):
            checkpoint()
            into.add([each for each in batch if _is_moved(each) and _is_between(each, first)])
    for run in journal.runs.from_key(first.destination):
        for batch in journal.objects.in_states(*_MOVED_STATES, run=run.id):
            checkpoint()
            into.discard_moved_on([each for each in batch if _is_moved(each) and each.source_key == first.destination])


def _is_moved(record: ObjectRecord) -> bool:
    return record.outcome in _MOVED_OUTCOMES


def _is_between(record: ObjectRecord, run: RunRecord) -> bool:
    return (record.source_key, record.destination_key) == (run.source, run.destination)
