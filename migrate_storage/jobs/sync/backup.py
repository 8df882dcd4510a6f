"""Copy an object of the destination to another store before a sync replaces or deletes it."""

from __future__ import annotations

from migrate_storage.core.model import Location, OutcomeKind
from migrate_storage.engine.compare import Pair
from migrate_storage.engine.object_copier import ObjectCopier
from migrate_storage.engine.plan import Item
from migrate_storage.engine.task import CopyTask
from migrate_storage.engine.verify import proven_unchanged

__all__ = ("BackupCopier",)


class BackupCopier:
    """Keeps what a sync replaces or deletes. Any thread may use it.

    Args:
        copier: from the destination of the sync to the backup store.
        run: id of the sync, the folder of its copies in the backup store.
    """

    def __init__(self, copier: ObjectCopier, run: str) -> None:
        self._copier, self._plan, self._run = copier, copier.plan, run

    def save(self, pair: Pair) -> str:
        """Copy and verify the destination's object of a pair.

        Returns:
            Why there is no copy of the object that was listed; empty where there is one, or where the object is gone.

        Raises:
            StoppedError: the job was asked to stop.
        """
        if pair.destination is None:
            return ""
        item = Item(
            source=Location(self._plan.source.key, pair.key),
            destination=Location(self._plan.destination.key, f"{self._run}/{pair.key}"),
            action=self._plan.choose_copy(self._plan.source.place(pair.key)), slots=(),
        )  # fmt: skip
        result = self._copier.copy(CopyTask(pair.key, item))
        if result.verified is None:
            gone = result.kind is OutcomeKind.MISSING
            return "" if gone else f"it stays as it is, for its backup failed: {result.reason or result.kind.value}"
        if not proven_unchanged(pair.destination.evidence, result.verified.source.evidence):
            return "it stays as it is, for it was written since it was listed"
        return ""
