"""What the comparisons of a cutover leave behind: of each key whose two sides were equal, both objects as they were then."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Self

from migrate_storage.core.errors import MigrateStorageError
from migrate_storage.core.model import ObjectMeta
from migrate_storage.cutover.outbox import Outbox
from migrate_storage.engine.compare import Compared
from migrate_storage.journal import ObjectState
from migrate_storage.journal.comparisons import ComparisonRepository
from migrate_storage.journal.records import ObjectRecord

__all__ = ("ComparedKeys",)

_log = logging.getLogger("migrate_storage.cutover")
_BATCH_RECORDS = 500
_NO_RUN = "cutover"
"""What the records name in place of a run."""


class ComparedKeys:
    """Writes the keys that a comparison found equal to the journal's table of objects, beside the outbox, in batches.

    A role that may not write there gets a warning, and no evidence.

    Args:
        outbox: of the cutover.
        source_key: the key of its source.
    """

    def __init__(self, outbox: Outbox, source_key: str) -> None:
        self._outbox, self._source_key = outbox, source_key
        self._comparisons = ComparisonRepository(outbox.database, outbox.tables, outbox.tables.object)
        self._records: list[ObjectRecord] = []
        self._refused = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._write()

    def add(self, found: Compared) -> None:
        """Add a key whose two sides are equal."""
        source, destination = found.pair.source, found.pair.destination
        if source is None or destination is None or not _is_storable(found.pair.key):
            return
        self._records.append(self._to_record(found, source, destination))
        if len(self._records) >= _BATCH_RECORDS:
            self._write()

    def _to_record(self, found: Compared, source: ObjectMeta, destination: ObjectMeta) -> ObjectRecord:
        return ObjectRecord(
            id="", run=_NO_RUN, state=ObjectState.COMPARED, evidence=found.evidence[:64], size=destination.size,
            source_key=self._source_key, source_path=found.pair.key,
            source_etag=source.e_tag, source_modified=source.last_modified, source_version=source.version,
            destination_key=self._outbox.backend, destination_path=found.pair.key, destination_etag=destination.e_tag,
            destination_modified=destination.last_modified, destination_version=destination.version,
        )  # fmt: skip

    def _write(self) -> None:
        records, self._records = self._records, []
        if self._refused or not records:
            return
        try:
            self._comparisons.add(records)
        except MigrateStorageError as error:
            # A comparison is right without it; only a later verify then knows less.
            self._refused = True
            _log.warning(
                "%s: what the comparison found is not recorded, so 'verify' cannot use it: %s",
                self._outbox.backend,
                error,
            )


def _is_storable(key: str) -> bool:
    """Whether a text column of each database can store a key: a name on a disk may be no UTF-8, one in a bucket may have a NUL."""
    return "\0" not in key and key.encode("utf-8", "replace").decode() == key
