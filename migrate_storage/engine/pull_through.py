"""Refuse to delete sources where the destination fetches what it lacks from them.

A cache, a gateway, or a bucket with a fallback bucket shows objects of the source that were never copied. They are
gone with the source. An object that is written at the source shows it: it must not be found at the destination.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace

from migrate_storage.core.errors import KeyRefusedError, PreflightError
from migrate_storage.core.model import Place
from migrate_storage.engine.place_proof import find_buckets, write_probe
from migrate_storage.engine.probe import SCRATCH, describe_destination, explain_unusable, remove_scratch_folder
from migrate_storage.engine.references import ServiceIdentity
from migrate_storage.stores.base import ObjectAt
from migrate_storage.stores.failures import FailureKind
from migrate_storage.stores.resolved_backend import ResolvedBackend
from migrate_storage.stores.retry import Retry, StoreRequestError

__all__ = ("refuse_pull_through",)


def refuse_pull_through(
    source: ResolvedBackend,
    destination: ResolvedBackend,
    filenames: Sequence[str],
    services: ServiceIdentity,
    retry: Retry,
) -> None:
    """Check that an object which is written at the source is not found at the destination.

    Args:
        source: the side whose objects are to be deleted.
        destination: the side that has their copies.
        filenames: of some objects of the source.
        services: knows which places may be the same; what is one place is left to other rules.
        retry: how a failed request is sent again.

    Raises:
        PreflightError: it is found, or a store did not answer. Where the source may not be written, nothing is known.
    """
    for root in find_buckets(source, filenames).values():
        if root.service in ("memory", "http") or (root.service == "file" and not source.root.key):
            continue
        name = f"{SCRATCH}/{uuid.uuid4().hex}"
        place = replace(root, key=(source.root.key if source.root.root else "") + name)
        filename = name if source.root.root else f"{root.root}/{name}"
        at, there = _locate(source, destination, filename, place, services)
        if at is None or there is None:
            continue
        try:
            write_probe(at, retry)
            found = retry.or_none_if_missing(there.head) is not None
        except StoreRequestError as error:
            if error.failure.kind in (FailureKind.DENIED, FailureKind.PERMANENT, FailureKind.MISSING):
                continue  # without the right to write, or a folder that cannot be made
            what = f"the source {source.key!r} or {describe_destination(destination)}"
            doing = f"writing a probe object below {SCRATCH}/ at the source, which shows whether the destination fetches what it lacks from there,"
            raise PreflightError(f"{explain_unusable(what, doing, error)}; nothing was deleted") from error
        finally:
            at.try_delete()
            if source.root.root:
                remove_scratch_folder(source, name)
        if found:
            raise PreflightError(
                f"{describe_destination(destination)} shows an object that was written at the source {source.key!r} only: it fetches what it "
                "lacks from there, so that nothing proves that it keeps the copies; nothing was deleted. Switch that off there, then "
                f"'migrate-storage run --from {source.key} --to {destination.key} --recheck' copies what is missing"
            )


def _locate(
    source: ResolvedBackend, destination: ResolvedBackend, filename: str, place: Place, services: ServiceIdentity
) -> tuple[ObjectAt | None, ObjectAt | None]:
    try:
        path = source.registration.relative(filename, place)
        if services.may_be_same(place, destination.place(path)):
            return None, None
        return source.resolve_place(place), destination.resolve(path)
    except (KeyRefusedError, ValueError):
        return None, None
