"""Copy the bytes of one object through this process, and compute their digests."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

from migrate_storage.core.model import Attributes, Capabilities, ObjectMeta
from migrate_storage.core.text import MiB
from migrate_storage.stores.base import ObjectAt, Opened
from migrate_storage.stores.failures import FailureKind, ObjectCheckError, classify
from migrate_storage.stores.obstore_store import readable_attributes
from migrate_storage.stores.retry import Retry

__all__ = (
    "COPY_ROUNDS",
    "MD5",
    "SMALL_BYTES",
    "CopyPolicy",
    "CopyResources",
    "DigestPlan",
    "Digests",
    "SentBody",
    "SourceMissingError",
    "UnverifiedCopy",
    "copy_bytes",
    "merge_attributes",
    "part_size",
)

MD5 = re.compile("[0-9a-f]{32}")
"""An ETag that may be the MD5 of the bytes."""
MULTIPART = re.compile("[0-9a-f]{32}-[0-9]+")
"""The ETag that S3 gives an upload in parts."""
COPY_ROUNDS = 4
"""How often one object is copied at most because its source changed meanwhile or the copy could not be verified."""
SMALL_BYTES = 8 * MiB
"""Objects up to this size are read into memory whole and written by one PUT."""
MAX_PARTS = 9000
"""Parts of one multipart upload; S3 allows 10,000."""
PARTS_IN_MEMORY = 6
"""Parts of one multipart upload that are in memory at once."""


class SourceMissingError(ObjectCheckError):
    """The source store has no such object.

    Args:
        source: the object.
    """

    def __init__(self, source: ObjectAt) -> None:
        super().__init__(f"{source.store.name} has no object {source.key!r}")


def part_size(size: int) -> int:
    """Return the bytes in one part of an upload, so that ``MAX_PARTS`` are enough."""
    return max(SMALL_BYTES, math.ceil(size / MAX_PARTS))


class Digests:
    """Digests of a stream of bytes, computed in one pass.

    Args:
        sizes: part sizes, in bytes, for which the ETag of a multipart upload is computed too.
        whole: compute the MD5 of the whole. Each digest costs CPU time, and not every service reports this one.
    """

    def __init__(self, *sizes: int, whole: bool = True) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False) if whole else None
        self._sha256 = hashlib.sha256()
        self._parts = {size: ([], hashlib.md5(usedforsecurity=False), 0) for size in sizes}  # type: dict[int, tuple[list[bytes], hashlib._Hash, int]]
        self.count = 0

    def update(self, piece: bytes) -> None:
        """Add the next piece."""
        self.count += len(piece)
        if self._md5 is not None:
            self._md5.update(piece)
        self._sha256.update(piece)
        for size, (done, part, filled) in self._parts.items():
            view = memoryview(piece)
            while len(view) >= size - filled:
                part.update(view[: size - filled])
                view = view[size - filled :]
                done.append(part.digest())
                part, filled = hashlib.md5(usedforsecurity=False), 0
            part.update(view)
            self._parts[size] = (done, part, filled + len(view))

    @property
    def md5(self) -> str | None:
        """MD5 of the whole in hex, against accidents; ``None`` if it was not computed."""
        return None if self._md5 is None else self._md5.hexdigest()

    @property
    def sha256(self) -> str:
        """SHA-256 of the whole, in hex."""
        return self._sha256.hexdigest()

    @property
    def e_tags(self) -> frozenset[str]:
        """ETags that S3 may give to these bytes: the MD5, and one for each part size."""
        tags = set() if self.md5 is None else {self.md5}
        for done, part, filled in self._parts.values():
            parts = [*done, part.digest()] if filled or not done else done
            tags.add(f"{hashlib.md5(b''.join(parts), usedforsecurity=False).hexdigest()}-{len(parts)}")
        return frozenset(tags)


@dataclass(frozen=True, kw_only=True, slots=True)
class DigestPlan:
    """Which digests a destination may report of a copy as its ETag."""

    #: Of an upload in parts: the MD5 of the whole object.
    whole: bool = True
    #: Of an upload in parts: the MD5 of the MD5s of its parts.
    parts: bool = True
    #: Whether a probe showed that an upload in parts gets one of these ETags, so that any other one is a contradiction.
    in_parts_shown: bool = False
    #: Whether a probe showed that a simple PUT gets the MD5 as its ETag, so that any other one is a contradiction.
    simple_shown: bool = False

    @classmethod
    def of_capabilities(cls, capabilities: Capabilities, *, remembered: bool = False) -> DigestPlan:
        """Return what the probe of a destination showed.

        Args:
            capabilities: what it showed.
            remembered: whether the upload in parts was probed before this run. Then the ETag of one that is no digest
                is no contradiction: the copy is read back.
        """
        whole, parts = capabilities.large_etag_is_md5, capabilities.large_etag_is_of_parts
        shown = (whole or parts) and not remembered
        return cls(whole=whole, parts=parts, in_parts_shown=shown, simple_shown=capabilities.etag_is_md5)


@dataclass(frozen=True, kw_only=True, slots=True)
class CopyPolicy:
    """How a copy writes one object, and when it copies it again."""

    #: The row's content type, for a source without one.
    content_type: str | None = None
    #: The storage class and the tags of the copy; ``None`` leaves both to the destination.
    preserved: Attributes | None = None
    #: Refuse in the first round to replace an object, where the destination supports that.
    create: bool
    #: HEAD the copy after the PUT. Otherwise the caller proves by a listing after the PUT that the store has it.
    head_copy: bool = True
    #: What the destination may report of a copy as its ETag.
    digests: DigestPlan = field(default_factory=DigestPlan)
    #: Whether, by an option, ETags of the source are no digests: then one that differs from the bytes is none.
    opaque_source: bool = False
    #: HEAD the source after the copy, and copy again where it changed.
    recheck_source: bool = True
    #: How often the object is copied at most.
    rounds: int = COPY_ROUNDS
    #: Called before each attempt, repeated ones included, with what the earlier ones sent.
    before_attempt: Callable[[Sequence[SentBody]], None] = lambda _: None


@dataclass(frozen=True, kw_only=True, slots=True)
class SentBody:
    """What one PUT sent."""

    #: The source as the GET reported it.
    source: ObjectMeta
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CopyResources:
    """What all copies of one job share."""

    #: Repeats failed requests.
    retry: Retry
    #: Reserves so many bytes of memory for a block; it waits until they are free.
    memory: Callable[[int], AbstractContextManager[None]]
    #: Called with the number of bytes of each piece that was read.
    on_bytes: Callable[[int], None]
    #: Called between the pieces of a large object; an exception from it ends the copy and aborts the multipart upload.
    checkpoint: Callable[[], None] = lambda: None
    #: Called once with a line for each capability of the destination that an answer contradicts.
    on_contradiction: Callable[[str], None] = lambda _: None


@dataclass(frozen=True, kw_only=True, slots=True)
class UnverifiedCopy:
    """An object that was written to its destination and is not verified yet."""

    #: The source as the GET reported it.
    source: ObjectMeta
    #: The destination as the answer to the PUT reported it, or the HEAD after it.
    destination: ObjectMeta
    #: SHA-256 of the bytes that were read.
    sha256: str
    #: ETags that a store may give to these bytes.
    e_tags: frozenset[str]
    #: Whether, by an option, ETags of the source are no digests.
    opaque_source: bool = False
    #: Whether a destination with another ETag than these contradicts itself.
    e_tag_is_digest: bool = False
    #: Whether one PUT sent the object; the ETag in its answer is then that of our bytes.
    simple: bool = True
    #: Names of headers and user metadata that were left out, because obstore could not read them back.
    not_preserved: tuple[str, ...] = ()


def copy_bytes(
    source: ObjectAt,
    destination: ObjectAt,
    policy: CopyPolicy,
    resources: CopyResources,
    *,
    on_send: Callable[[SentBody], None] = lambda _: None,
) -> UnverifiedCopy:
    """GET an object and PUT it elsewhere, in bounded memory.

    Args:
        source: the object to read.
        destination: where to write it.
        policy: how to write it.
        resources: memory, byte counter and checkpoint; failed requests are not repeated here.
        on_send: called when the whole body was read and is sent, before the answer to the PUT is known.

    Returns:
        What was read and written, with its digests.

    Raises:
        SourceMissingError: there is no such source object.
        ConnectionError: the body ended early.
        FileExistsError: the policy is ``create``, and the destination has an object.
        Exception: what the stores raise.
    """
    try:
        opened = source.open()
    except FileNotFoundError as error:
        if classify(error).kind is FailureKind.MISSING:
            raise SourceMissingError(source) from error
        raise
    size = opened.meta.size
    attributes, not_preserved = merge_attributes(opened.attributes, policy.content_type)
    if policy.preserved is not None:
        attributes = replace(attributes, storage_class=policy.preserved.storage_class, tags=policy.preserved.tags)
    in_parts = size > SMALL_BYTES

    def sent() -> None:
        on_send(SentBody(source=opened.meta, sha256=taken.sha256))

    with resources.memory(min(size, PARTS_IN_MEMORY * part_size(size))):
        if in_parts:
            taken = Digests(
                *((part_size(size),) if policy.digests.parts else ()),
                *_part_sizes_of(opened.meta),
                whole=policy.digests.whole or (not source.store.is_local and _may_report_md5(opened.meta)),
            )
            body: bytes | Iterator[bytes] = _read_pieces(opened, source.key, taken, resources, sent)
        else:
            taken = Digests(*_part_sizes_of(opened.meta))
            body = opened.read()
            taken.update(body)
            _check_length(source.key, taken.count, size)
            resources.on_bytes(len(body))
            sent()
        written = destination.store.put(
            destination.key,
            body,
            attributes=attributes,
            create=policy.create,
            part_size=part_size(size) if in_parts else None,
        )
    return UnverifiedCopy(
        source=opened.meta, destination=written, sha256=taken.sha256, e_tags=taken.e_tags, simple=not in_parts,
        opaque_source=policy.opaque_source,
        e_tag_is_digest=policy.digests.in_parts_shown if in_parts else policy.digests.simple_shown,
        not_preserved=() if destination.store.is_local else not_preserved,
    )  # fmt: skip


def merge_attributes(found: Attributes, content_type: str | None) -> tuple[Attributes, tuple[str, ...]]:
    """Return the source's attributes, with the row's content type if it has none.

    Returns:
        The attributes that can be written, and the names of those that obstore could not read back.
    """
    readable, lost = readable_attributes(found)
    if readable.content_type or not content_type:
        return readable, lost
    merged, lost_of_row = readable_attributes(replace(readable, content_type=content_type))
    return merged, tuple(dict.fromkeys((*lost, *lost_of_row)))


def _read_pieces(
    opened: Opened, key: str, digests: Digests, resources: CopyResources, at_end: Callable[[], None]
) -> Iterator[bytes]:
    for piece in opened.chunks():
        resources.checkpoint()
        digests.update(piece)
        resources.on_bytes(len(piece))
        yield piece
    _check_length(key, digests.count, opened.meta.size)
    at_end()


def _check_length(key: str, count: int, size: int) -> None:
    if count != size:
        raise ConnectionError(f"{key} ended after {count} of {size} bytes: the body was truncated")


_USUAL_PART_SIZES = tuple(MiB * size for size in (5, 8, 16, 50, 64, 100, 10, 15, 25, 32, 128))
"""Part sizes of the usual uploaders in bytes: boto3 8 MiB, s3fs 5 and 50, obstore 5, rclone 5, and round ones."""


def _may_report_md5(meta: ObjectMeta) -> bool:
    """Whether the store reports a value that may be the MD5 of the whole, or a HEAD may report one."""
    return bool(meta.md5) or meta.e_tag is None or MD5.fullmatch(meta.e_tag or "") is not None


def _part_sizes_of(meta: ObjectMeta) -> tuple[int, ...]:
    """Return at most three part sizes that fit the count in a multipart ETag."""
    _, dash, count = (meta.e_tag or "").rpartition("-")
    if not dash or not count.isdigit() or not meta.size:
        return ()
    return tuple(size for size in _USUAL_PART_SIZES if math.ceil(meta.size / size) == int(count))[:3]
