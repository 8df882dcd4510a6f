"""Compare an object with what already was at its destination: by digest where that proves equality, else by content.

Two digests count as one of the same bytes when each side states the MD5 of the whole object: an ETag with the form of an MD5,
``Content-MD5`` of Azure, ``x-goog-hash`` of Google. A signed HEAD must have shown both, because only its headers show whether
an object is encrypted with KMS or with a customer's key; then its ETag states nothing. A local disk is read in place of a HEAD.
The ETag of an upload in parts states nothing either, because the size of its parts is not known.

The first objects whose digests are equal are read in full on both sides. If one of them has other bytes than it states, no
digest counts for the rest of the run. Digests that differ prove nothing: both objects are read.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from migrate_storage.core.model import Attributes, ObjectMeta
from migrate_storage.core.proofs import (
    DESTINATION_DIGEST,
    DESTINATION_READBACK,
    LOCAL_SOURCE,
    SOURCE_DIGEST,
    join_proofs,
)
from migrate_storage.engine.plan import MigrationPlan
from migrate_storage.engine.transfer import MULTIPART, CopyResources, Digests, SourceMissingError
from migrate_storage.engine.verify import (
    ContradictedError,
    Verified,
    claimed_digest,
    compare_content,
    consistent_with,
    read_digests,
)
from migrate_storage.stores.base import ObjectAt, lower_digest
from migrate_storage.stores.failures import ObjectCheckError
from migrate_storage.stores.obstore_store import HEADERS, readable_attributes

__all__ = ("ExistingObjects", "OtherHeadersError", "describe_difference")

SAMPLED_OBJECTS = 20
"""Objects with equal digests that are read in full on both sides before the digests of others count."""
HEADS_WITHOUT_OBJECT = 20
"""Destinations without an object, one after another, after which a PUT is sent without a HEAD before it."""
_POLL_SECONDS = 0.5
"""Seconds between two checks whether the job is to stop."""


class OtherHeadersError(ObjectCheckError):
    """The destination has the bytes of the source, and other headers or user metadata."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Digest:
    md5: str
    #: How it was found, as a token of a proof.
    evidence: str
    #: Where the object was read.
    sha256: str | None = None


class ExistingObjects:
    """Compares the objects of one run with those that were at their destinations before. Any thread may use it.

    Args:
        plan: the source and the destination.
        resources: what all copies of the run share.
        keeps_attributes: whether the destination keeps headers and user metadata.
    """

    def __init__(self, plan: MigrationPlan, resources: CopyResources, *, keeps_attributes: bool) -> None:
        self._plan, self._resources, self._retry = plan, resources, resources.retry
        self._keeps_attributes = keeps_attributes
        self._samples = _Samples(resources.checkpoint)
        self._absent_count = 0

    @property
    def expected(self) -> bool:
        """Whether a HEAD of the destination is worthwhile before the source is read."""
        return self._absent_count < HEADS_WITHOUT_OBJECT

    def count_head(self, *, found: bool) -> None:
        """Count what a HEAD of a destination showed."""
        self._absent_count = 0 if found else self._absent_count + 1

    def compare(self, source: ObjectAt, destination: ObjectAt, *, headers: bool) -> Verified | None:
        """Compare two objects.

        Args:
            source: the source object.
            destination: the object at its destination.
            headers: whether headers and user metadata must be equal too.

        Returns:
            ``None`` where the bytes differ, or there is no object at the destination any more.

        Raises:
            OtherHeadersError: the bytes are equal, and a header of the source is missing or another one.
            ContradictedError: the bytes are equal, but the source's own digest is another.
            SourceMissingError: there is no source object.
            StoreRequestError: a request failed for good.
            StoppedError: the run was asked to stop.
        """
        here = self._retry.or_none_if_missing(source.head_with_attributes)
        if here is None:
            raise SourceMissingError(source)
        there = self._retry.or_none_if_missing(destination.head_with_attributes)
        if there is None:
            return None
        verified = self._compare_bytes(source, destination, here[0], there[0])
        if verified is None or not headers or destination.store.is_local or not self._keeps_attributes:
            return verified
        if difference := describe_difference(here[1], there[1]):
            raise OtherHeadersError(f"{destination.key} has the bytes of the source, and other headers: {difference}")
        return verified

    def _compare_bytes(
        self, source: ObjectAt, destination: ObjectAt, held: ObjectMeta, found: ObjectMeta
    ) -> Verified | None:
        if held.size != found.size:
            return None
        digests = self._find_digests(source, destination, held, found)
        if digests is None:
            return self._read_both(source, destination)
        one, other = digests
        if one.md5 != other.md5:
            verified = self._read_both(source, destination)
            if verified is not None:
                self._give_up_digests(source, destination)
            return verified
        if not self._samples.needs_read():
            return Verified(
                source=held, destination=found, evidence=join_proofs(one.evidence, other.evidence),
                sha256=one.sha256 or other.sha256, written_by_us=False,
            )  # fmt: skip
        verified = None
        try:
            verified = self._read_both(source, destination)
            if verified is None:
                self._give_up_digests(source, destination)
        finally:
            self._samples.end(confirmed=verified is not None)
        return verified

    def _read_both(self, source: ObjectAt, destination: ObjectAt) -> Verified | None:
        try:
            return compare_content(source, destination, self._retry, opaque_source=self._plan.source.opaque_etags)
        except ContradictedError:
            self._give_up_digests(source, destination)
            raise

    def _give_up_digests(self, source: ObjectAt, destination: ObjectAt) -> None:
        if self._samples.refute():
            self._resources.on_contradiction(
                f"{source.key} and {destination.key}, read in full, show that {source.store.name} or {destination.store.name} "
                "states digests that are not those of the bytes: from now on each object that is at its destination is read"
            )

    def _find_digests(
        self, source: ObjectAt, destination: ObjectAt, held: ObjectMeta, found: ObjectMeta
    ) -> tuple[_Digest, _Digest] | None:
        """Return the digests of both objects; ``None`` where one side states none."""
        if source.store.is_local and destination.store.is_local:
            return None
        one = two = None
        # The side that is asked by HEAD comes first: without its digest a disk is not read.
        if not source.store.is_local:
            one = self._head_for_digest(source, held, SOURCE_DIGEST, opaque=self._plan.source.opaque_etags)
            if one is None:
                return None
        if not destination.store.is_local:
            opaque = self._plan.destination.opaque_etags
            two = self._head_for_digest(destination, found, DESTINATION_DIGEST, opaque=opaque)
            if two is None:
                return None
        one = one or self._read_disk(source, held, LOCAL_SOURCE)
        two = two or self._read_disk(destination, found, DESTINATION_READBACK)
        return None if one is None or two is None else (one, two)

    def _head_for_digest(self, at: ObjectAt, meta: ObjectMeta, evidence: str, *, opaque: bool) -> _Digest | None:
        if opaque or MULTIPART.fullmatch(lower_digest(meta.e_tag) or ""):
            return None
        told = self._retry.call(lambda: at.store.digest_headers(at.key))
        if told.e_tag is None or told.e_tag != meta.e_tag:
            return None
        md5 = told.md5 or (None if told.encrypted else claimed_digest(meta))
        return None if md5 is None else _Digest(md5=md5, evidence=evidence)

    def _read_disk(self, at: ObjectAt, meta: ObjectMeta, evidence: str) -> _Digest | None:
        def read() -> tuple[ObjectMeta, Digests]:
            opened = at.open()
            return opened.meta, read_digests(opened, at.key)

        seen, digests = self._retry.call(read)
        if digests.md5 is None or not consistent_with(meta.evidence, seen.evidence):
            return None
        return _Digest(md5=digests.md5, evidence=evidence, sha256=digests.sha256)


class _Samples:
    """Whether digests count: not before the sampled objects were read, and never after one of them had other bytes.

    Args:
        checkpoint: called while a thread waits for the samples of others; an exception from it ends the wait.
    """

    def __init__(self, checkpoint: Callable[[], None]) -> None:
        self._checkpoint = checkpoint
        self._begun_count = self._ended_count = 0
        self._confirmed = self._refuted = False
        self._lock, self._decided = threading.Lock(), threading.Event()

    def needs_read(self) -> bool:
        """Whether an object must be read although its digests are equal: as a sample, or because no digest counts.

        Each of the first calls begins a sample, for which :meth:`end` must be called. Later calls wait until all samples have ended.
        """
        with self._lock:
            self._begun_count += 1
            if self._begun_count <= SAMPLED_OBJECTS:
                return True
        while not self._decided.wait(_POLL_SECONDS):
            self._checkpoint()
        return self._refuted or not self._confirmed

    def end(self, *, confirmed: bool) -> None:
        """End a sample, or the reading of an object after the samples."""
        with self._lock:
            self._ended_count += 1
            self._confirmed = self._confirmed or confirmed
            if self._ended_count >= SAMPLED_OBJECTS:
                self._decided.set()

    def refute(self) -> bool:
        """Let no digest count any more; return whether some did until now."""
        with self._lock:
            known, self._refuted = self._refuted, True
            self._decided.set()
        return not known


def describe_difference(wanted: Attributes, found: Attributes) -> str:
    """Return which attributes of a source an object does not have; empty where it has all of them.

    A content type that only the object has is no difference, and neither is user metadata that only it has: copying programs add
    theirs, such as the time of the source. Other headers, such as a content encoding, must be absent where the source has none.

    Args:
        wanted: the attributes of the source.
        found: those of the object.
    """
    wanted, _ = readable_attributes(wanted)
    differences = []
    for field, header in HEADERS.items():
        here, there = getattr(wanted, field), getattr(found, field)
        if field == "content_type":
            here, there = _normalize_type(here), _normalize_type(there) if here else None
        if here != there:
            differences.append(f"{header} is {there or 'not set'}, and {here or 'not set'} at the source")
    differences += [
        f"metadata {name!a} is {'another one' if name in found.metadata else 'not set'}"
        for name, value in wanted.metadata.items()
        if found.metadata.get(name) != value
    ]
    return "; ".join(differences)


def _normalize_type(content_type: str | None) -> str | None:
    return content_type and "".join(content_type.lower().split())
