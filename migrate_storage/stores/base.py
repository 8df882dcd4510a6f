"""The protocol of a store, and one object in it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from migrate_storage.core.model import Attributes, ObjectMeta

__all__ = (
    "DigestHeaders",
    "ObjectAt",
    "Opened",
    "Store",
    "content_tag",
    "is_content_tag",
    "lower_digest",
    "plain_e_tag",
)

_CONTENT_TAG = "sha256-"
_UPPER_DIGEST = re.compile("[0-9A-F]{32}(-[0-9]+)?")


def plain_e_tag(e_tag: str | None) -> str | None:
    """Return an ETag without quotes and weakness mark: LIST, HEAD and PUT differ."""
    return (e_tag or "").removeprefix("W/").strip('"') or None


def lower_digest(e_tag: str | None) -> str | None:
    """Return an ETag, in lower case where it has the form of a digest: some services write digests in upper case."""
    return e_tag.lower() if e_tag and _UPPER_DIGEST.fullmatch(e_tag) else e_tag


def content_tag(sha256: str) -> str:
    """Return the tag of an object in a store whose HEAD reads the object: the digest of its bytes, in hex."""
    return f"{_CONTENT_TAG}{sha256}"


def is_content_tag(e_tag: str | None) -> bool:
    """Whether :func:`content_tag` made a tag."""
    return (e_tag or "").startswith(_CONTENT_TAG)


@dataclass(frozen=True, kw_only=True, slots=True)
class DigestHeaders:
    """What a signed HEAD shows of an object's digest and storage class, besides what every HEAD shows."""

    #: The ETag of the same answer.
    e_tag: str | None = None
    #: The MD5 of the bytes in hex.
    md5: str | None = None
    #: Whether it names KMS or a customer's key, with which an ETag is no digest of the bytes.
    encrypted: bool = False
    #: The storage class or the access tier, where it is not the default one.
    storage_class: str | None = None
    #: How many tags the object has; 0 also where the service reports none.
    tag_count: int = 0
    #: The encoding that the service removes while it sends the object, so that its MD5 is not of the bytes that are read.
    removed_encoding: str = ""


class Opened(Protocol):
    """An object that a GET opened; ``meta`` and ``attributes`` belong to its bytes."""

    meta: ObjectMeta
    attributes: Attributes

    def read(self) -> bytes:
        """Return the whole content."""
        ...

    def chunks(self) -> Iterator[bytes]:
        """Yield the content in pieces, in bounded memory."""
        ...


class Store(Protocol):
    """One store, addressed by full keys.

    Every method raises the errors of the library below; :func:`migrate_storage.stores.failures.classify` reads them.
    A missing object is always ``FileNotFoundError``.
    """

    #: Its name in messages, without secrets.
    name: str
    #: Whether it is a local disk or the memory of this process, which return what was written last.
    is_local: bool

    def head(self, path: str) -> ObjectMeta:
        """Send a HEAD for one object."""
        ...

    def head_with_attributes(self, path: str) -> tuple[ObjectMeta, Attributes]:
        """Send a HEAD; also return the attributes of the object."""
        ...

    def digest_headers(self, path: str) -> DigestHeaders:
        """Send a HEAD; return what it shows of the object's digest besides the ETag. Nothing is known where that cannot be seen."""
        ...

    def open(self, path: str) -> Opened:
        """Send a GET for one object."""
        ...

    def put(
        self,
        path: str,
        content: bytes | Iterable[bytes],
        *,
        attributes: Attributes,
        create: bool,
        part_size: int | None,
        replaces: ObjectMeta | None = None,
    ) -> ObjectMeta:
        """Write one object; return what the answer to the PUT shows.

        That is no proof that the store has kept it: only a HEAD, a GET or a LIST after the PUT shows that.

        Args:
            path: the full key.
            content: all bytes, or pieces of any size.
            attributes: headers and user metadata of the object; a store that keeps none ignores them.
            create: refuse to replace an object, where the store supports that.
            part_size: upload in parts of this many bytes; ``None`` sends one request.
            replaces: refuse to replace another object than this one, in one request and where the store supports that.

        Returns:
            The number of bytes that were sent, with the ETag and the version where the answer has them. It has no time.

        Raises:
            FileExistsError: ``create`` was given, the store supports it, and there is an object; or ``replaces`` was given, and
                there is another one, or none.
        """
        ...

    def delete(self, path: str) -> None:
        """Delete one object; a missing one is no error."""
        ...

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectMeta]:
        """List the objects under whole path segments of ``prefix``, in the store's order.

        Args:
            prefix: the folder; empty lists all.
            after: only keys after this one, where the store lists in order.
        """
        ...

    def list_stepwise(self, prefix: str, *, after: str) -> Iterator[ObjectMeta]:
        """List as :meth:`list` does, but request no page before the last object of the page before it was taken.

        Paths are as obstore returns them: without a slash at either end. A store that cannot list so lists nothing.
        """
        ...


class ObjectAt(NamedTuple):
    """One object as requests name it: its store, and its full key there."""

    store: Store
    key: str

    def head(self) -> ObjectMeta:
        """Send a HEAD."""
        return self.store.head(self.key)

    def head_with_attributes(self) -> tuple[ObjectMeta, Attributes]:
        """Send a HEAD; also return the attributes that the store keeps beside the bytes."""
        return self.store.head_with_attributes(self.key)

    def open(self) -> Opened:
        """Send a GET."""
        return self.store.open(self.key)

    def delete(self) -> None:
        """Send a DELETE; a missing object is no error."""
        self.store.delete(self.key)

    def try_delete(self) -> None:
        """Send a DELETE of a probe object, and ignore a failure: what is left of a probe harms nothing."""
        with contextlib.suppress(Exception):
            self.delete()
