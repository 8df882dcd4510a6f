"""Whether both sides see the same bytes: a handful of existing objects, read through fsspec and through obstore."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from migrate_storage.core.text import one_line
from migrate_storage.stores.base import Store
from migrate_storage.stores.config.open import open_store
from migrate_storage.stores.fsspec_store import FsspecStore
from migrate_storage.stores.resolved_backend import ResolvedBackend
from migrate_storage.translate import unaddressable
from migrate_storage.translate.registration import read

__all__ = ("Agreement", "agree", "listed")


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """One file as both sides see it."""

    filename: str
    #: Bytes; ``None`` where one side could not read it.
    size: int | None = None
    #: Why they do not agree; empty when they do.
    reason: str = ""

    @property
    def agreed(self) -> bool:
        """Whether both sides gave the same bytes."""
        return not self.reason


def agree(backend: Any, filenames: Sequence[str]) -> tuple[Agreement, ...]:
    """Read files through an fsspec backend and through its translation, and compare.

    Args:
        backend: An ``FSSpecBackend`` that translates.
        filenames: As rows hold them.
    """
    registration = read(backend)
    old = FsspecStore(registration.filesystem, f"{registration.key} (fsspec)")
    new = ResolvedBackend(backend)
    return tuple(_compare(old, registration.path(filename), new, filename) for filename in filenames)


def listed(backend: Any, limit: int) -> tuple[str, ...]:
    """The first keys that the translated store lists, as filenames; for an application without rows.

    Args:
        backend: An ``FSSpecBackend`` with a bucket or folder of its own.
        limit: How many.
    """
    config = read(backend).translation.config
    if config is None or not config.root or config.service in ("memory", "http"):
        return ()
    store: Any = open_store(config)
    pages = itertools.chain.from_iterable(store.list(chunk_size=limit))
    return tuple(str(meta["path"]) for meta in itertools.islice(pages, limit))


def _compare(old: Store, path: str, new: ResolvedBackend, filename: str) -> Agreement:
    place = new.place(filename)
    if reason := unaddressable(place.key, local=place.service == "file"):
        return Agreement(filename=filename, reason=f"obstore cannot address it: the key {reason}")
    sides: list[tuple[str, int]] = []
    for name, (store, key) in (("fsspec", (old, path)), ("obstore", new.resolve(filename))):
        try:
            sides.append(_digest(store, key))
        except FileNotFoundError:
            return Agreement(filename=filename, reason=f"{name} does not find it")
        except Exception as error:  # noqa: BLE001 - each library raises its own kinds, and the answer is a value
            return Agreement(filename=filename, reason=f"{name} cannot read it: {one_line(error)}")
    if sides[0] != sides[1]:
        return Agreement(filename=filename, reason=f"the bytes differ ({sides[0][1]} and {sides[1][1]} of them)")
    return Agreement(filename=filename, size=sides[0][1])


def _digest(store: Store, key: str) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    for chunk in store.open(key).chunks():
        digest.update(chunk)
        size += len(chunk)
    return digest.hexdigest(), size
