"""What is to be carried, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from migrate_storage.core.model import Evidence, ObjectMeta, OutcomeKind
from migrate_storage.engine.plan import Item
from migrate_storage.engine.verify import Verified, proven_unchanged
from migrate_storage.journal import ObjectRecord
from migrate_storage.stores.failures import FailureKind

__all__ = (
    "CopyResult",
    "CopyTask",
    "confirmed",
    "is_copy",
)


@dataclass(frozen=True, slots=True)
class CopyTask:
    """An item to carry, with what the journal knew of it before this run."""

    id: str
    item: Item
    entry: ObjectRecord | None = None
    #: What stands at the destination and is to be replaced, as long as it is this; ``None`` replaces nothing.
    replaces: Evidence | None = None
    #: The content type for a source that holds none, where no row tells it.
    content_type: str | None = None
    #: All looks at it are its own, at once: none waits for a listing.
    no_batching: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class CopyResult:
    """What became of a job: ``verified``, or a kind and a reason."""

    task: CopyTask
    kind: OutcomeKind = OutcomeKind.REWRITTEN
    reason: str = ""
    verified: Verified | None = None
    #: Whether bytes were written by this job.
    copied: bool = False
    #: ``verified`` lacks the last look at the source, see :func:`confirmed` and :meth:`ObjectCopier.look`; where it does not say
    #: when the destination was written, the look at the copy too.
    recheck_pending: bool = False
    #: What we wrote and do not believe, as it stands at the destination.
    left: ObjectMeta | None = None
    #: What the failure says of the whole store; ``None`` when it concerns this object only.
    failure: FailureKind | None = None
    seconds: float = 0.0


def confirmed(carried: CopyResult, source: ObjectMeta | None, destination: ObjectMeta | None) -> CopyResult | None:
    """A copy that is ``unseen``, with its last looks: begun when it had been made.

    Args:
        carried: the copy.
        source: what its source is now; ``None`` where that is not known.
        destination: what stands at its destination now; ``None`` where that is not known.

    Returns:
        ``None`` where they do not say that the source is as it was, and the destination our copy of it.
    """
    verified = carried.verified
    if verified is None or source is None or not proven_unchanged(verified.source.evidence, source.evidence):
        return None
    there = verified.destination
    if destination is not None and is_copy(verified, destination):
        version = there.version or destination.version
        there = replace(there, last_modified=there.last_modified or destination.last_modified, version=version)
    if there.last_modified is None:
        return None
    return replace(carried, recheck_pending=False, verified=replace(verified, destination=there))


def is_copy(verified: Verified, found: ObjectMeta) -> bool:
    """Whether what stands at a destination is the copy that was verified."""
    wanted = verified.destination
    return bool(wanted.e_tag) and (found.e_tag, found.size) == (wanted.e_tag, wanted.size)
