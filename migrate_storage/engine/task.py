"""What one copy is asked to do, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from migrate_storage.core.model import Evidence, ObjectMeta, OutcomeKind
from migrate_storage.engine.plan import Item
from migrate_storage.engine.verify import Verified, proven_unchanged
from migrate_storage.journal import ObjectRecord
from migrate_storage.stores.failures import FailureKind

__all__ = ("CopyResult", "CopyTask", "confirm_copy", "is_copy", "object_values", "with_objects")


@dataclass(frozen=True, slots=True)
class CopyTask:
    """An item to copy, with its journal record of before this run."""

    id: str
    item: Item
    record: ObjectRecord | None = None
    #: The object at the destination that may be replaced while it is this one; ``None`` replaces nothing.
    replaces: Evidence | None = None
    #: The content type for a source without one, where no row gives it.
    content_type: str | None = None
    #: Send each HEAD for this object alone; none waits for a listing.
    no_batching: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class CopyResult:
    """What became of a task: ``verified``, or a kind and a reason."""

    task: CopyTask
    kind: OutcomeKind = OutcomeKind.REPOINTED
    reason: str = ""
    verified: Verified | None = None
    #: Whether this task wrote bytes.
    copied: bool = False
    #: The source was not asked again after the copy, see :func:`confirm_copy` and :meth:`ObjectCopier.recheck`.
    source_pending: bool = False
    #: The store answered the PUT, but has not shown the copy since, by a HEAD or a listing.
    destination_pending: bool = False
    #: The unverified object that this task left at the destination.
    left: ObjectMeta | None = None
    #: A failure that concerns the whole store; ``None`` where it concerns this object only.
    failure: FailureKind | None = None
    seconds: float = 0.0

    @property
    def recheck_pending(self) -> bool:
        """Whether the copy must not be used yet."""
        return self.source_pending or self.destination_pending


def confirm_copy(result: CopyResult, source: ObjectMeta | None, destination: ObjectMeta | None) -> CopyResult | None:
    """Complete a pending recheck with HEADs or listings that began after the copy.

    Args:
        result: the copy.
        source: its source as it is now; ``None`` where that is not known.
        destination: the object at its destination as it is now; ``None`` where that is not known.

    Returns:
        ``None`` where they do not show what is pending: that the source is unchanged, and that the destination has our copy.
    """
    verified = result.verified
    if verified is None:
        return None
    if result.source_pending and (
        source is None or not proven_unchanged(verified.source.evidence, source.evidence)
    ):  # fmt: skip
        return None
    if result.destination_pending:
        if destination is None or not is_copy(verified, destination):
            return None
        version = verified.destination.version
        if version and version != destination.version:
            destination = replace(destination, version=version)
        verified = replace(verified, destination=destination)
    return replace(result, source_pending=False, destination_pending=False, verified=verified)


def is_copy(verified: Verified, found: ObjectMeta) -> bool:
    """Whether an object at a destination is the copy that was verified."""
    copy = verified.destination
    return bool(copy.e_tag) and (found.e_tag, found.size) == (copy.e_tag, copy.size)


def with_objects(record: ObjectRecord, source: ObjectMeta, destination: ObjectMeta, sha256: str | None) -> ObjectRecord:
    """Return a journal record with both objects as they are now."""
    return replace(record, **object_values(source, destination, sha256))


def object_values(source: ObjectMeta, destination: ObjectMeta, sha256: str | None) -> dict[str, Any]:
    """Return the fields of a journal record that describe both objects."""
    return {
        "size": source.size, "sha256": sha256,
        "source_etag": source.e_tag, "source_modified": source.last_modified, "source_version": source.version,
        "destination_etag": destination.e_tag, "destination_modified": destination.last_modified,
        "destination_version": destination.version,
    }  # fmt: skip
