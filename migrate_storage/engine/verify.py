"""Prove that a copy has the bytes of its source.

A proof has two ends. The bytes that were read are those of the source: its own digest equals, or a second GET gives the
same bytes, or it is a local disk. The bytes at the destination are those that were read: the digest that it reports
equals, or reading them back gives the same bytes.

No read outvotes a digest. An ETag with the form of an MD5 is taken for one, so bytes that differ from it are unverified,
however often they are read. Two reads count where there is no digest: an ETag of another form, one of unknown parts,
an object whose HEAD names KMS or a customer's key, or a backend that an option names. At the destination a probe shows
whether an ETag is a digest.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from migrate_storage.core.model import Evidence, ObjectMeta
from migrate_storage.core.proofs import (
    BY_OPTION,
    CONTENT_COMPARED,
    DESTINATION_DIGEST,
    DESTINATION_READBACK,
    LOCAL_SOURCE,
    SOURCE_DIGEST,
    SOURCE_REREAD,
    join_proofs,
)
from migrate_storage.engine.transfer import (
    MD5,
    MULTIPART,
    SMALL_BYTES,
    CopyPolicy,
    CopyResources,
    Digests,
    SentBody,
    SourceMissingError,
    UnverifiedCopy,
    copy_bytes,
)
from migrate_storage.stores.base import ObjectAt, Opened, is_content_tag, lower_digest
from migrate_storage.stores.failures import FailureKind, ObjectCheckError
from migrate_storage.stores.retry import Retry, StoreRequestError

__all__ = (
    "ContradictedError",
    "DestinationExistsError",
    "DiffersError",
    "NotKeptError",
    "OtherObjectError",
    "SourceChangedError",
    "UnverifiedError",
    "Verified",
    "claimed_digest",
    "compare_content",
    "consistent_with",
    "copy_verified",
    "holds_damaged_copy",
    "is_as_recorded",
    "proven_unchanged",
    "read_digests",
    "sha256_of",
    "sha256_of_opened",
    "verify",
)

_SAME_TIME_SECONDS = 1e-4
"""Seconds by which a timestamp may differ after it was stored in a database."""
_MAX_READS = 3
"""How often both objects are read at most before they count as different."""
_READBACKS = 2
"""How often a copy is read back before it counts as different."""


class DiffersError(ObjectCheckError):
    """The destination has other bytes than those that were written."""


class NotKeptError(DiffersError):
    """The destination answered the PUT, but a HEAD after it shows no object."""


class OtherObjectError(DiffersError):
    """The destination has other bytes, and not those of our PUT: another program may have written them."""


class UnverifiedError(ObjectCheckError):
    """Nothing proves that what was read is the source: two GETs gave different bytes, or its digest is another."""


class ContradictedError(UnverifiedError):
    """The bytes of the source are not those of its own digest."""


class SourceChangedError(ObjectCheckError):
    """The source changed during each round of a copy."""


class DestinationExistsError(StoreRequestError):
    """The destination has an object, and the policy does not allow to replace it.

    ``sent`` is what this call sent before: the answer to an earlier PUT may have been lost.
    """

    def __init__(self, error: StoreRequestError, sent: Sequence[SentBody]) -> None:
        super().__init__(error.failure)
        self.sent = tuple(sent)


@dataclass(frozen=True, kw_only=True, slots=True)
class Verified:
    """Two objects with equal bytes. Rows are re-pointed only to such a destination."""

    source: ObjectMeta
    destination: ObjectMeta
    #: How equality was proved, in a few words.
    evidence: str
    #: SHA-256 in hex; ``None`` where no bytes were read.
    sha256: str | None = None
    #: Whether this tool wrote the object at the destination.
    written_by_us: bool | None = None
    #: Names of headers and user metadata of the source that the copy does not have.
    not_preserved: tuple[str, ...] = ()


def copy_verified(source: ObjectAt, destination: ObjectAt, policy: CopyPolicy, resources: CopyResources) -> Verified:
    """Copy an object until the copy is verified and its source is unchanged.

    Raises:
        SourceMissingError: there is no such source object, or it is gone by now.
        DiffersError: in the last round the destination had other bytes.
        UnverifiedError: in the last round the source gave other bytes each time.
        SourceChangedError: in the last round the source changed.
        DestinationExistsError: the destination has an object, and the policy does not allow to replace it.
        StoreRequestError: a request failed for good.
        StoppedError: the run was asked to stop; a multipart upload was aborted.

    An error has in ``left`` which object of ours is at the destination.
    """
    written: list[ObjectMeta] = []
    try:
        return _copy_until_verified(source, destination, policy, resources, written)
    except OtherObjectError:
        raise
    except (ObjectCheckError, StoreRequestError) as error:
        error.left = written[-1] if written else None
        raise


def _copy_until_verified(
    source: ObjectAt, destination: ObjectAt, policy: CopyPolicy, resources: CopyResources, written: list[ObjectMeta]
) -> Verified:
    retry, create = resources.retry, policy.create
    problem: ObjectCheckError = SourceChangedError("the source kept changing while it was copied")
    sent: list[SentBody] = []

    def copy_once() -> Verified:
        policy.before_attempt(sent)
        asked = policy if create is policy.create else replace(policy, create=create)
        copied = copy_bytes(source, destination, asked, resources, on_send=sent.append)
        written.append(copied.destination)
        if copied.source.e_tag is None and not source.store.is_local:
            copied = _head_for_digest(copied, source, retry)
        if policy.head_copy or not copied.simple or copied.destination.e_tag is None:
            copied = _see_copy(copied, destination, retry)
        return verify(copied, source, destination, retry)

    for _ in range(policy.rounds):
        try:
            verified = retry.call(copy_once)
        except OtherObjectError:
            raise
        except NotKeptError as error:
            problem = error
            written.clear()
            continue
        except (DiffersError, UnverifiedError, SourceChangedError) as error:
            problem, create = error, False
            continue
        except StoreRequestError as error:
            if error.failure.kind is FailureKind.EXISTS and create:
                raise DestinationExistsError(error, sent) from error
            raise
        # Where HEAD reads the bytes, the second read of the proof was one, after the PUT.
        if not policy.recheck_source or is_content_tag(verified.source.e_tag):
            return verified
        now = retry.or_none_if_missing(source.head)
        if now is None:
            raise SourceMissingError(source)
        if consistent_with(verified.source.evidence, now.evidence):
            return verified
        problem, create = SourceChangedError("the source kept changing while it was copied"), False
    raise problem


def _head_for_digest(copied: UnverifiedCopy, source: ObjectAt, retry: Retry) -> UnverifiedCopy:
    """Return the copy with the source as a HEAD shows it: a digest that the GET left out is one all the same."""
    now = retry.or_none_if_missing(source.head)
    if now is None:
        raise SourceMissingError(source)
    if not consistent_with(copied.source.evidence, now.evidence):
        raise SourceChangedError("the source kept changing while it was copied")
    return replace(copied, source=now) if now.e_tag else copied


def _see_copy(copied: UnverifiedCopy, destination: ObjectAt, retry: Retry) -> UnverifiedCopy:
    """Return the copy as a HEAD shows it. The answer to a PUT is no proof that the store has kept the object.

    Raises:
        NotKeptError: the HEAD answers that there is no such object.
        OtherObjectError: there is another object than the one of our PUT.
    """
    found = retry.or_none_if_missing(destination.head)
    if found is None:
        raise NotKeptError(f"{destination.key} was written without an error, but a HEAD after it finds no such object")
    written = copied.destination.e_tag
    if copied.simple and written and found.e_tag != written and not _has_right_bytes(copied, found, destination, retry):
        raise OtherObjectError(
            f"{destination.key} has the ETag {found.e_tag}, and the PUT was answered with {written}: the store keeps "
            "other bytes, or another program wrote there just now"
        )
    return replace(copied, destination=found)


def _has_right_bytes(copied: UnverifiedCopy, found: ObjectMeta, destination: ObjectAt, retry: Retry) -> bool:
    if found.size != copied.source.size:
        return False
    return _has_known_digest(copied, found) or retry.call(lambda: sha256_of(destination)) == copied.sha256


def verify(copied: UnverifiedCopy, source: ObjectAt, destination: ObjectAt, retry: Retry) -> Verified:
    """Prove that a copy has the bytes of its source.

    Args:
        copied: what was read and written, with its digests.
        source: read a second time where it reports no digest.
        destination: read back where it reports no digest.
        retry: repeats each failed request.

    Raises:
        UnverifiedError: the source gives other bytes each time.
        DiffersError: the destination has other bytes than those that were read.
    """
    if copied.destination.size != copied.source.size:
        raise DiffersError(f"{destination.key} has {copied.destination.size} bytes, {copied.source.size} were written")
    return Verified(
        source=copied.source,
        destination=copied.destination,
        evidence=join_proofs(_prove_source(copied, source, retry), _prove_destination(copied, destination, retry)),
        sha256=copied.sha256,
        written_by_us=True,
        not_preserved=copied.not_preserved,
    )


def _prove_source(copied: UnverifiedCopy, source: ObjectAt, retry: Retry) -> str:
    if source.store.is_local:
        return LOCAL_SOURCE
    if _has_known_digest(copied, copied.source):
        return SOURCE_DIGEST
    if not copied.opaque_source and _has_claimed_digest(source, copied.source, copied.e_tags, retry):
        return SOURCE_DIGEST
    if retry.call(lambda: sha256_of(source)) != copied.sha256:
        raise UnverifiedError(f"two reads of {source.key} gave different bytes")
    by_option = copied.opaque_source and claimed_digest(copied.source)
    return join_proofs(SOURCE_REREAD, BY_OPTION) if by_option else SOURCE_REREAD


def _has_claimed_digest(at: ObjectAt, found: ObjectMeta, e_tags: Collection[str], retry: Retry) -> bool:
    """Whether the bytes that were read, which have these digests, are those of the digest that the store reports.

    Returns:
        ``False`` where it tells none.

    Raises:
        ContradictedError: it reports another.
        SourceChangedError: the object was replaced since.
    """
    claimed = claimed_digest(found)
    if claimed in e_tags:
        return True
    if claimed is None and MULTIPART.fullmatch(lower_digest(found.e_tag) or ""):
        # No header of S3 shows more of an upload in parts.
        return False
    told = retry.call(lambda: at.store.digest_headers(at.key))
    if told.e_tag and found.e_tag and told.e_tag != found.e_tag:
        raise SourceChangedError("the source kept changing while it was copied")
    if told.md5 in e_tags:
        return True
    claimed = told.md5 or (None if told.encrypted else claimed)
    if claimed is None:
        return False
    # Where the answer has an MD5 and no ETag, only another HEAD shows that it is of the object that was read.
    if told.md5 and told.e_tag is None and not consistent_with(found.evidence, retry.call(at.head).evidence):
        raise SourceChangedError("the source kept changing while it was copied")
    raise ContradictedError(_describe_contradiction(at, claimed, told.removed_encoding))


def claimed_digest(found: ObjectMeta) -> str | None:
    """Return the MD5 that a store reports of the whole object; ``None`` where it reports none."""
    tag = lower_digest(found.e_tag)
    return found.md5 or (tag if MD5.fullmatch(tag or "") else None)


def _describe_contradiction(at: ObjectAt, claimed: str, removed_encoding: str) -> str:
    if removed_encoding not in ("", "identity"):
        return (
            f"{at.store.name} decodes {at.key} while it sends it (Content-Encoding: {removed_encoding}), so that its MD5 proves "
            "nothing of what is read: store it without that header, or let --opaque-etags copy what is read"
        )
    return (
        f"the bytes of {at.key} are not those of its MD5 {claimed}: they are damaged, or what {at.store.name} reports "
        "is no MD5 of them, which --opaque-etags declares"
    )


def _has_known_digest(copied: UnverifiedCopy, found: ObjectMeta) -> bool:
    return lower_digest(found.e_tag) in copied.e_tags or found.md5 in copied.e_tags


def _prove_destination(copied: UnverifiedCopy, destination: ObjectAt, retry: Retry) -> str:
    found = copied.destination
    if _has_known_digest(copied, found):
        return DESTINATION_DIGEST
    if copied.e_tag_is_digest and found.e_tag:
        raise DiffersError(
            f"{destination.key} has the ETag {found.e_tag}, which is none of the bytes that were written, "
            "and ETags there were seen to be their digests"
        )
    # A bit may flip while the copy is read back too: it counts as different after two readings that do not match.
    for _ in range(_READBACKS):
        if retry.call(lambda: sha256_of(destination)) == copied.sha256:
            return DESTINATION_READBACK
    raise DiffersError(f"read back, {destination.key} does not have the bytes that were written")


def sha256_of(at: ObjectAt) -> str:
    """Return the SHA-256 of an object's content in hex, read in bounded memory.

    Raises:
        ConnectionError: the body ended early.
    """
    return sha256_of_opened(at.open(), at.key)


def sha256_of_opened(opened: Opened, key: str) -> str:
    """Return the SHA-256 in hex of an object that a GET opened, read in bounded memory.

    Raises:
        ConnectionError: the body ended early.
    """
    return read_digests(opened, key, whole=False).sha256


def read_digests(opened: Opened, key: str, *, whole: bool = True) -> Digests:
    """Return the digests of an object's content, read in bounded memory.

    Args:
        opened: what a GET opened.
        key: its key, for messages.
        whole: compute the MD5 of the whole too.

    Raises:
        ConnectionError: the body ended early.
    """
    digests = Digests(whole=whole)
    for piece in [opened.read()] if opened.meta.size <= SMALL_BYTES else opened.chunks():
        digests.update(piece)
    if digests.count != opened.meta.size:
        raise ConnectionError(f"{key} ended after {digests.count} of {opened.meta.size} bytes: the body was truncated")
    return digests


def is_as_recorded(at: ObjectAt, now: ObjectMeta, then: Evidence, sha256: str | None) -> bool:
    """Whether an object, of which HEAD gave ``now``, is as recorded: by its evidence, or else by its bytes."""
    if proven_unchanged(then, now.evidence):
        return True
    return sha256 is not None and now.size == then.size and sha256_of(at) == sha256


def compare_content(
    source: ObjectAt, destination: ObjectAt, retry: Retry, *, opaque_source: bool = True
) -> Verified | None:
    """Read both objects and compare their bytes.

    Args:
        source: one object.
        destination: another one, perhaps a copy of bytes that were read damaged.
        retry: repeats each failed request.
        opaque_source: ``False`` refuses bytes that are not those of the source's own digest.

    Returns:
        ``None`` when they differ.

    Raises:
        ContradictedError: they are equal, but the source's own digest is another.
        StoreRequestError: a request failed for good.
    """
    held, found = retry.call(source.head), retry.call(destination.head)
    if held.size != found.size:
        return None
    # A bit may flip on the way here. Objects differ when each gave one digest twice, or when no digest is common.
    of_source: list[str] = []
    of_destination: list[str] = []
    e_tags: dict[str, frozenset[str]] = {}
    for _ in range(_MAX_READS):
        read = retry.call(lambda: read_digests(source.open(), source.key))
        e_tags[read.sha256] = read.e_tags
        of_source.append(read.sha256)
        of_destination.append(retry.call(lambda: sha256_of(destination)))
        common = set(of_source) & set(of_destination)
        if common:
            if not opaque_source and not source.store.is_local:
                _has_claimed_digest(source, held, frozenset[str]().union(*(e_tags[each] for each in common)), retry)
            return Verified(
                source=held, destination=found, evidence=CONTENT_COMPARED, sha256=common.pop(), written_by_us=False
            )
        if len(of_source) > 1 and len(set(of_source)) == len(set(of_destination)) == 1:
            break
    return None


def holds_damaged_copy(sent: Sequence[SentBody], source: ObjectAt, destination: ObjectAt, retry: Retry) -> bool:
    """Whether a destination whose bytes differ from the source's has what we sent: a bit flipped, and the answer was lost.

    The source must be unchanged since, so that no other program can have copied these bytes from it.
    """
    if not sent:
        return False
    now, found = retry.call(source.head).evidence, retry.call(lambda: sha256_of(destination))
    return any(body.sha256 == found and consistent_with(body.source.evidence, now) for body in sent)


def consistent_with(before: Evidence, now: Evidence) -> bool:
    """Whether nothing shows that an object was replaced between two HEADs.

    The sizes must be equal. ETags, versions and times are compared only where both HEADs have them.
    """
    if before.size != now.size:
        return False
    if before.e_tag and now.e_tag and before.e_tag != now.e_tag:
        return False
    if before.version and now.version and before.version != now.version:
        return False
    if before.last_modified is not None and now.last_modified is not None:
        return _is_same_time(before.last_modified, now.last_modified)
    return True


def _is_same_time(one: float, other: float) -> bool:
    """Compare two times. Some services list fractions but answer HEAD in seconds."""
    if abs(one - other) < _SAME_TIME_SECONDS:
        return True
    return one.is_integer() is not other.is_integer() and int(one) == int(other)


def proven_unchanged(before: Evidence, now: Evidence) -> bool:
    """Whether an ETag, a version or a time proves that an object was not replaced.

    Deletions require this.
    """
    return consistent_with(before, now) and (
        (before.e_tag is not None and now.e_tag is not None)
        or (before.version is not None and now.version is not None)
        or (before.last_modified is not None and now.last_modified is not None)
    )
