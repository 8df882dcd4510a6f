"""Find the objects that an application's processes read for a row's file, each with a HEAD."""

from __future__ import annotations

from typing import NamedTuple

from migrate_storage.core.model import ObjectMeta
from migrate_storage.stores.base import ObjectAt
from migrate_storage.stores.resolved_backend import ResolvedBackend
from migrate_storage.stores.retry import Retry

__all__ = ("FoundObject", "find_read")


class FoundObject(NamedTuple):
    """An object, and what its HEAD showed."""

    at: ObjectAt
    meta: ObjectMeta


def find_read(side: ResolvedBackend, filename: str, retry: Retry) -> tuple[FoundObject, ...]:
    """Return each object that some process reads for a file; nothing where some process finds none.

    Args:
        side: the backend that the row names.
        filename: as in the row.
        retry: repeats failed requests.

    Raises:
        KeyRefusedError: no library can address that key.
        StoreRequestError: a store did not answer.
    """
    found: dict[ObjectAt, FoundObject] = {}
    for order in side.read_orders(filename):
        for at in order:
            if at not in found and (meta := retry.or_none_if_missing(at.head)) is not None:
                found[at] = FoundObject(at, meta)
            if at in found:
                break
        else:
            return ()
    return tuple(found.values())
