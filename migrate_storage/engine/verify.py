"""The one verify: what makes a copy believed.

Evidence has two ends. What we read is what the source holds: its own digest says so, or a second read does, or it is a
local disk. What the destination holds is what we read: the digest it reports says so, or reading it back does. An
entity tag is only ever believed when it *equals* a digest of the bytes that passed; one that differs proves nothing
(KMS, SSE-C and Azure tags are no hashes), and no tag at all is never taken for equality.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from migrate_storage.core.model import Evidence, ObjectMeta
from migrate_storage.engine.transfer import SMALL, UnverifiedCopy
from migrate_storage.stores.base import Store
from migrate_storage.stores.failures import ObjectCheckError

__all__ = (
    "DiffersError",
    "UnverifiedError",
    "Verified",
    "compare_content",
    "consistent_with",
    "proven_unchanged",
    "sha256_of",
    "verify",
)

_CLOCK = 1e-4
"""Seconds by which the same timestamp may differ after a trip through a database."""

_READINGS = 3
"""How often both sides are read at most before they are said to differ."""


class DiffersError(ObjectCheckError):
    """Read back, the destination does not hold what passed."""


class UnverifiedError(ObjectCheckError):
    """Two reads of the source gave different bytes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verified:
    """An object proved to be equal on both sides: the only thing that a row may be re-pointed to."""

    source: ObjectMeta
    destination: ObjectMeta
    #: How it was proved, in a few words.
    evidence: str
    #: SHA-256 in hex; ``None`` where no bytes were read.
    sha256: str | None = None
    #: Whether what stands at the destination was written by us.
    ours: bool | None = None


def verify(
    copied: UnverifiedCopy, source: Store, source_path: str, destination: Store, destination_path: str
) -> Verified:
    """Prove that a copy is one.

    Args:
        copied: what was transferred, with its digests.
        source: where it came from, read a second time where it tells no digest.
        source_path: its full key there.
        destination: where it went, read back where it tells no digest.
        destination_path: its full key there.

    Raises:
        UnverifiedError: the source gives other bytes each time.
        DiffersError: the destination holds other bytes than those that passed.
    """
    if copied.destination.size != copied.source.size:
        raise DiffersError(
            f"{destination_path} holds {copied.destination.size} bytes, {copied.source.size} were written"
        )
    return Verified(
        source=copied.source,
        destination=copied.destination,
        evidence=f"{_source_end(copied, source, source_path)}, {_destination_end(copied, destination, destination_path)}",
        sha256=copied.sha256,
        ours=True,
    )


def _source_end(copied: UnverifiedCopy, source: Store, path: str) -> str:
    if source.is_local:
        return "local source"
    if copied.source.e_tag in copied.e_tags or copied.source.md5 in copied.e_tags:
        return "source digest"
    if sha256_of(source, path) != copied.sha256:
        raise UnverifiedError(f"two reads of {path} gave different bytes")
    return "read twice"


def _destination_end(copied: UnverifiedCopy, destination: Store, path: str) -> str:
    if copied.destination.e_tag in copied.e_tags or copied.destination.md5 in copied.e_tags:
        return "destination digest"
    # A bit may flip on the way back too: only a second reading that agrees with the first speaks against the copy.
    for _ in range(2):
        if sha256_of(destination, path) == copied.sha256:
            return "read back"
    raise DiffersError(f"read back, {path} does not hold the bytes that were written")


def sha256_of(store: Store, path: str) -> str:
    """SHA-256 of an object's content in hex, read in bounded memory.

    Raises:
        ConnectionError: the body ended early.
    """
    opened = store.open(path)
    digest, count = hashlib.sha256(), 0
    for piece in [opened.read()] if opened.meta.size <= SMALL else opened.chunks():
        digest.update(piece)
        count += len(piece)
    if count != opened.meta.size:
        raise ConnectionError(f"{path} ended after {count} of {opened.meta.size} bytes: the body was truncated")
    return digest.hexdigest()


def compare_content(source: Store, source_path: str, destination: Store, destination_path: str) -> Verified | None:
    """Read both sides and compare: for what stands at a destination already, and for a swap.

    Returns:
        ``None`` when they differ.
    """
    held, found = source.head(source_path), destination.head(destination_path)
    if held.size != found.size:
        return None
    # A bit may flip on the way here: sides differ when each of them said the same twice, or said nothing in common.
    said: tuple[list[str], list[str]] = ([], [])
    for _ in range(_READINGS):
        said[0].append(sha256_of(source, source_path))
        said[1].append(sha256_of(destination, destination_path))
        common = set(said[0]) & set(said[1])
        if common:
            return Verified(source=held, destination=found, evidence="both read", sha256=common.pop(), ours=False)
        if len(said[0]) > 1 and len(set(said[0])) == len(set(said[1])) == 1:
            break
    return None


def consistent_with(before: Evidence, now: Evidence) -> bool:
    """Whether an object was not replaced between two looks.

    A tag, time or version that only one of the looks has says nothing, and what both have must agree.
    """
    if before.size != now.size:
        return False
    if before.e_tag and now.e_tag and before.e_tag != now.e_tag:
        return False
    if before.version and now.version and before.version != now.version:
        return False
    if before.last_modified is not None and now.last_modified is not None:
        return _one_moment(before.last_modified, now.last_modified)
    return True


def _one_moment(one: float, other: float) -> bool:
    """Some services list fractions of a second, and answer a look at one object in whole ones."""
    if one.is_integer() is not other.is_integer():
        return int(one) == int(other)
    return abs(one - other) < _CLOCK


def proven_unchanged(before: Evidence, now: Evidence) -> bool:
    """As :func:`unchanged`, and something beside the size says so: what a deletion asks for."""
    told = (
        (before.e_tag, now.e_tag),
        (before.version, now.version),
        (before.last_modified, now.last_modified),
    )
    return consistent_with(before, now) and any(one is not None and other is not None for one, other in told)
