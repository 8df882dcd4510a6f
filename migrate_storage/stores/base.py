"""The shape of one side of a transfer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

from migrate_storage.core.model import Attributes, ObjectMeta

__all__ = ("ObjectAt", "Opened", "Store")


class Opened(Protocol):
    """An object being read. ``meta`` and ``attributes`` are those of the very bytes that follow."""

    meta: ObjectMeta
    attributes: Attributes

    def read(self) -> bytes:
        """The whole content, in one piece."""
        ...

    def chunks(self) -> Iterator[bytes]:
        """The content piece by piece, in bounded memory."""
        ...


class Store(Protocol):
    """One store, spoken to in full keys.

    Every method raises what the library below raises; :func:`migrate_storage.stores.failures.classify` understands it.
    A missing object is ``FileNotFoundError`` everywhere.
    """

    #: What a person would call it, without secrets.
    name: str
    #: Whether what it returned a moment ago may be trusted to be what it holds: a local disk, a process's memory.
    is_local: bool

    def head(self, path: str) -> ObjectMeta:
        """What the store says of one object."""
        ...

    def head_with_attributes(self, path: str) -> tuple[ObjectMeta, Attributes]:
        """As ``head``, and what the object carries beside its bytes."""
        ...

    def open(self, path: str) -> Opened:
        """Begin to read one object."""
        ...

    def put(
        self,
        path: str,
        content: bytes | Iterable[bytes],
        *,
        attributes: Attributes,
        create: bool,
        part_size: int | None,
        stat_after: bool = True,
    ) -> ObjectMeta:
        """Write one object and return what the store then says of it.

        Args:
            path: the full key.
            content: all bytes, or pieces of any size.
            attributes: what to keep beside the bytes; a store that keeps none ignores them.
            create: refuse to replace an object, where the store honours that.
            part_size: upload in parts of this many bytes; ``None`` sends one request.
            stat_after: ask the store for what its answer to a put leaves out, such as the time; without it that may be unknown.

        Raises:
            FileExistsError: ``create`` was asked, honoured, and something stands there.
        """
        ...

    def delete(self, path: str) -> None:
        """Remove one object; a missing one is no error."""
        ...

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectMeta]:
        """All objects under whole path segments of ``prefix``, in whatever order the store has.

        Args:
            prefix: the folder; empty lists all.
            after: only keys behind this one, where the store has them in order.
        """
        ...


class ObjectAt(NamedTuple):
    """One object as requests name it: the store that serves it, and its full key there."""

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
