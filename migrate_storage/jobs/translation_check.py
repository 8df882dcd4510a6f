"""Compare what fsspec and obstore read, for a few objects of a backend."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from migrate_storage.core.errors import RunError
from migrate_storage.core.text import one_line
from migrate_storage.engine.compare import By, Pair, Relation, judge
from migrate_storage.stores.base import ObjectAt
from migrate_storage.stores.config.url_check import find_url_difference
from migrate_storage.stores.fsspec_store import FsspecStore
from migrate_storage.stores.listing import IncompleteError, Listing, ListingStream
from migrate_storage.stores.resolved_backend import ResolvedBackend
from migrate_storage.translate import unaddressable
from migrate_storage.translate.registration import read

__all__ = ("Agreement", "compare_files", "list_filenames")


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """One file as both libraries read it."""

    filename: str
    #: Bytes; ``None`` where one library could not read it.
    size: int | None = None
    #: Why they do not agree; empty when they do.
    reason: str = ""

    @property
    def agreed(self) -> bool:
        """Whether both libraries read the same bytes."""
        return not self.reason


def compare_files(backend: Any, filenames: Sequence[str]) -> tuple[Agreement, ...]:
    """Read files through an fsspec backend and through its translation, and compare.

    Args:
        backend: an ``FSSpecBackend`` that translates.
        filenames: as rows name them. Both URLs are compared first; where they differ, nothing is sent.
    """
    registration = read(backend)
    if difference := find_url_difference(registration, filenames):
        return (Agreement(filename=filenames[0] if filenames else "", reason=difference),)
    store, side = FsspecStore(registration.filesystem, f"{registration.key} (fsspec)"), ResolvedBackend(backend)
    return tuple(_compare_file(filename, ObjectAt(store, registration.path(filename)), side) for filename in filenames)


def list_filenames(backend: Any, limit: int) -> tuple[str, ...]:
    """Return the first filenames in the translated store, for lack of rows.

    Args:
        backend: an ``FSSpecBackend`` with a bucket or folder of its own.
        limit: the number of filenames at most.

    Raises:
        RunError: the listing broke off.
    """
    config = read(backend).translation.config
    if config is None or not config.root or config.service in ("memory", "http"):
        return ()
    local = config.service == "file"
    stream = ListingStream(Listing.of_backend(ResolvedBackend(backend)))
    try:
        with closing(iter(stream)) as listed:
            addressable = (key for key, _ in listed if unaddressable(key, local=local) is None)
            return tuple(itertools.islice(addressable, limit))
    except IncompleteError as error:
        raise RunError(str(error)) from error


def _compare_file(filename: str, source: ObjectAt, side: ResolvedBackend) -> Agreement:
    place = side.place(filename)
    if reason := unaddressable(place.key, local=place.service == "file"):
        return Agreement(filename=filename, reason=f"obstore cannot address it: the key {reason}")
    destination, heads = side.resolve(filename), []
    for name, at in (("fsspec", source), ("obstore", destination)):
        try:
            heads.append(at.head())
        except FileNotFoundError:
            return Agreement(filename=filename, reason=f"{name} does not find it")
        except Exception as error:  # noqa: BLE001 - each library raises its own kinds, and the answer is a value
            return Agreement(filename=filename, reason=f"{name} cannot read it: {one_line(error)}")
    compared = judge(Pair(key=filename, source=heads[0], destination=heads[1]), By.DOWNLOAD, source, destination)
    if compared.relation is Relation.ERROR:
        return Agreement(filename=filename, reason=f"it cannot be read: {compared.evidence}")
    if compared.relation is not Relation.MATCHED:
        return Agreement(filename=filename, reason=f"the bytes differ ({heads[0].size} and {heads[1].size} of them)")
    return Agreement(filename=filename, size=heads[0].size)
