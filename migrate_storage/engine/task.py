"""What one copy is asked to do, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from migrate_storage.core.model import Evidence, ObjectMeta, OutcomeKind
from migrate_storage.engine.plan import Item
from migrate_storage.engine.verify import Verified, proven_unchanged
from migrate_storage.journal import ObjectRecord
from migrate_storage.stores.failures import FailureKind

__all__ = ("CopyResult", "CopyTask", "confirm_copy", "is_copy", "with_objects")


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
    kind: OutcomeKind = OutcomeKind.REWRITTEN
    reason: str = ""
    verified: Verified | None = None
    #: Whether this task wrote bytes.
    copied: bool = False
    #: The source was not asked again after the copy, see :func:`confirm_copy` and :meth:`ObjectCopier.recheck`. Where
    #: ``verified`` lacks the destination's modification time, the destination was not asked either.
    recheck_pending: bool = False
    #: The unverified object that this task left at the destination.
    left: ObjectMeta | None = None
    #: A failure that concerns the whole store; ``None`` where it concerns this object only.
    failure: FailureKind | None = None
    seconds: float = 0.0


def confirm_copy(result: CopyResult, source: ObjectMeta | None, destination: ObjectMeta | None) -> CopyResult | None:
    """Complete a pending recheck with HEADs or a listing that began after the copy.

    Args:
        result: the copy.
        source: its source as it is now; ``None`` where that is not known.
        destination: the object at its destination as it is now; ``None`` where that is not known.

    Returns:
        ``None`` where they do not show that the source is unchanged and the destination is our copy.
    """
    verified = result.verified
    if verified is None or source is None or not proven_unchanged(verified.source.evidence, source.evidence):
        return None
    there = verified.destination
    if destination is not None and is_copy(verified, destination):
        version = there.version or destination.version
        there = replace(there, last_modified=there.last_modified or destination.last_modified, version=version)
    if there.last_modified is None:
        return None
    return replace(result, recheck_pending=False, verified=replace(verified, destination=there))


def is_copy(verified: Verified, found: ObjectMeta) -> bool:
    """Whether an object at a destination is the copy that was verified."""
    copy = verified.destination
    return bool(copy.e_tag) and (found.e_tag, found.size) == (copy.e_tag, copy.size)


def with_objects(record: ObjectRecord, source: ObjectMeta, destination: ObjectMeta, sha256: str | None) -> ObjectRecord:
    """Return a journal record with both objects as they are now."""
    return replace(
        record, size=source.size, sha256=sha256,
        source_etag=source.e_tag, source_modified=source.last_modified, source_version=source.version,
        destination_etag=destination.e_tag, destination_modified=destination.last_modified, destination_version=destination.version,
    )  # fmt: skip
