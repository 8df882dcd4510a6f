"""Carry one object from its source to its destination, digesting what passes. Nothing is believed yet: see ``verify``."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from migrate_storage.core.model import Attributes, ObjectMeta
from migrate_storage.core.text import MiB
from migrate_storage.stores.base import Opened, Store
from migrate_storage.stores.failures import FailureKind, ObjectCheckError, classify

__all__ = ("MD5", "SMALL", "Digests", "SourceMissingError", "UnverifiedCopy", "copy_bytes", "part_size")

MD5 = re.compile("[0-9a-f]{32}")
"""An entity tag that may be the MD5 of the bytes."""
SMALL = 8 * MiB
"""Objects up to this size are held in memory whole and written by one request."""


class SourceMissingError(ObjectCheckError):
    """The source holds no such object.

    Args:
        path: its full key.
        name: the store that was asked.
    """

    def __init__(self, path: str, name: str) -> None:
        super().__init__(f"{name} holds no object {path!r}")


def part_size(size: int) -> int:
    """Bytes in one part of an upload: it grows with the object, so that no object needs more than 9,000 parts."""
    return max(SMALL, math.ceil(size / 9000))


class Digests:
    """Digests of everything that passes, taken once, in the order it passes.

    Args:
        sizes: part sizes for which the ETag of a multipart upload is worked out too.
        whole: whether the MD5 of the whole is: each digest takes its time, and not every service tells it.
    """

    def __init__(self, *sizes: int, whole: bool = True) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False) if whole else None
        self._sha256 = hashlib.sha256()
        self._parts = {size: ([], hashlib.md5(usedforsecurity=False), 0) for size in sizes}  # type: dict[int, tuple[list[bytes], hashlib._Hash, int]]
        self.count = 0

    def update(self, piece: bytes) -> None:
        """Take in the next piece."""
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
        """MD5 of the whole, in hex: evidence of accidents, not a defence against an attacker. ``None`` where it is not taken."""
        return None if self._md5 is None else self._md5.hexdigest()

    @property
    def sha256(self) -> str:
        """SHA-256 of the whole, in hex."""
        return self._sha256.hexdigest()

    @property
    def e_tags(self) -> frozenset[str]:
        """Entity tags that an S3 service may give to these bytes: simple, and multipart for the known part sizes."""
        tags = set() if self.md5 is None else {self.md5}
        for done, part, filled in self._parts.values():
            parts = [*done, part.digest()] if filled or not done else done
            tags.add(f"{hashlib.md5(b''.join(parts), usedforsecurity=False).hexdigest()}-{len(parts)}")
        return frozenset(tags)


@dataclass(frozen=True, kw_only=True, slots=True)
class UnverifiedCopy:
    """An object that was written to its destination and is not verified yet."""

    #: The source as it was when its bytes were read.
    source: ObjectMeta
    #: The destination as it answered.
    destination: ObjectMeta
    #: SHA-256 of what passed.
    sha256: str
    #: Entity tags that what passed may have.
    e_tags: frozenset[str]


def copy_bytes(
    source: Store,
    source_path: str,
    destination: Store,
    destination_path: str,
    *,
    content_type: str | None,
    create: bool,
    look: bool = True,
    whole: bool = True,
    parts: bool = True,
    moved: Callable[[int], None],
    hold: Callable[[int], AbstractContextManager[None]],
    checkpoint: Callable[[], None],
) -> UnverifiedCopy:
    """Read an object here and write it there, in bounded memory.

    Args:
        source: where from.
        source_path: its full key there.
        destination: where to.
        destination_path: its full key there.
        content_type: the row's content type, for a source that holds none worth keeping.
        create: refuse to replace an object, where the destination honours that.
        look: ask the destination for what its answer to the put leaves out.
        whole: whether the destination may tell the MD5 of an object that was uploaded in parts.
        parts: whether it may tell that of the parts' MD5s. A tag for which no digest was taken proves nothing.
        moved: called with the bytes that passed.
        hold: entered with the object's size while its content is in memory.
        checkpoint: called between the pieces of a large object: what it raises ends the transfer, and the multipart
            upload is aborted.

    Returns:
        What was read and written, with its digests.

    Raises:
        SourceMissingError: there is no such source object.
        ConnectionError: the body ended early.
        FileExistsError: ``create``, and something stands there.
        Exception: what the stores raise.
    """
    try:
        opened = source.open(source_path)
    except FileNotFoundError as error:
        if classify(error).kind is FailureKind.MISSING:
            raise SourceMissingError(source_path, source.name) from error
        raise
    size = opened.meta.size
    attributes = merge_attributes(opened.attributes, content_type)
    with hold(size):
        if size <= SMALL:
            content = opened.read()
            digests = Digests(*_part_sizes(opened.meta))
            digests.update(content)
            _complete(source_path, digests.count, size)
            moved(len(content))
            written = destination.put(
                destination_path, content, attributes=attributes, create=create, part_size=None, stat_after=look
            )
        else:
            part = part_size(size)
            digests = Digests(
                *((part,) if parts else ()),
                *_part_sizes(opened.meta),
                whole=whole or (not source.is_local and _tells_md5(opened.meta)),
            )
            pieces = _digested(opened, source_path, digests, moved, checkpoint)
            written = destination.put(
                destination_path, pieces, attributes=attributes, create=create, part_size=part, stat_after=look
            )
    return UnverifiedCopy(source=opened.meta, destination=written, sha256=digests.sha256, e_tags=digests.e_tags)


def merge_attributes(found: Attributes, content_type: str | None) -> Attributes:
    """The attributes to write: the source's own, and the row's content type where the source holds none."""
    return replace(found, content_type=found.content_type or content_type)


def _digested(
    opened: Opened, path: str, digests: Digests, moved: Callable[[int], None], checkpoint: Callable[[], None]
) -> Iterator[bytes]:
    for piece in opened.chunks():
        checkpoint()
        digests.update(piece)
        moved(len(piece))
        yield piece
    _complete(path, digests.count, opened.meta.size)


def _complete(path: str, count: int, size: int) -> None:
    if count != size:
        raise ConnectionError(f"{path} ended after {count} of {size} bytes: the body was truncated")


_USUAL_PARTS = tuple(MiB * size for size in (5, 8, 16, 50, 64, 100, 10, 15, 25, 32, 128))
"""Part sizes of the usual uploaders: boto3 8, s3fs 5 and 50, obstore 5, rclone 5, and round ones."""


def _tells_md5(meta: ObjectMeta) -> bool:
    """Whether something that is told of an object may be the MD5 of the whole."""
    return bool(meta.md5) or MD5.fullmatch(meta.e_tag or "") is not None


def _part_sizes(meta: ObjectMeta) -> tuple[int, ...]:
    """Part sizes with which the source's multipart ETag may have come about, at most three."""
    _, dash, count = (meta.e_tag or "").rpartition("-")
    if not dash or not count.isdigit() or not meta.size:
        return ()
    return tuple(size for size in _USUAL_PARTS if math.ceil(meta.size / size) == int(count))[:3]
