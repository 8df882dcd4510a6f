"""What a store can do and what rights are there, seen by trying it: never deduced from its type.

The source is only ever read. The destination gets a few objects under a scratch prefix of its own, which are removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from migrate_storage.core.errors import KeyRefusedError, PreflightError
from migrate_storage.core.model import Attributes, Capabilities, Note, ObjectMeta, Place, Severity
from migrate_storage.engine.listing_evidence import listing_matches_head
from migrate_storage.engine.transfer import Digests, part_size
from migrate_storage.stores.base import Store
from migrate_storage.stores.failures import FailureKind
from migrate_storage.stores.resolved_backend import ResolvedBackend
from migrate_storage.stores.retry import Retry, StoreRequestError
from migrate_storage.translate import same_service
from migrate_storage.translate.places import resolve_links

__all__ = ("SCRATCH", "check_absent", "check_source", "same_storage", "try_destination")

SCRATCH = ".migrate-storage"
"""The prefix under which objects are written to try a destination."""
_CACHED = 1.5
"""Seconds for which a server of a disk may not have seen what was put there behind its back."""
_TRIES = 3
"""How often a probe object is written at most until it comes back as it was: a bit may flip on the way."""


def check_source(source: ResolvedBackend, roots: Sequence[Place], retry: Retry) -> None:
    """A key that cannot exist must be "not found", and a bucket that is missing must be told from a missing key."""
    nowhere = f"{SCRATCH}-{uuid.uuid4().hex}/nothing"
    for root in roots:
        folder = Path("/", root.key)
        if root.service == "file" and not folder.is_dir():
            raise PreflightError(
                f"the source {source.key!r} is the folder {folder}, which is not there: is its disk mounted?"
            )
        asked = source.resolve_place(replace(root, key=root.key + nowhere))
        if asked is None:
            continue
        _absent(*asked, f"the source {source.key!r} ({root.service} {root.root})", retry)


def check_absent(side: ResolvedBackend, retry: Retry) -> None:
    """A dry run's look at the destination: it answers, and a key that cannot exist is "not found"."""
    _absent(
        *side.resolve(f"{SCRATCH}/{uuid.uuid4().hex}"),
        f"the destination {side.key!r} ({side.root.service} {side.root.root})",
        retry,
    )


def _absent(store: Store, path: str, what: str, retry: Retry) -> None:
    try:
        retry.call(lambda: store.head(path))
    except StoreRequestError as missing:
        if missing.failure.kind is not FailureKind.MISSING:
            raise PreflightError(_unusable(what, "reading a key that does not exist", missing)) from missing
    else:
        raise PreflightError(
            f"{what} answers that a random key exists: it cannot be asked what it holds; check the endpoint and the path style"
        )
    try:
        retry.call(lambda: next(iter(store.list(path.rpartition("/")[0])), None))
    except StoreRequestError as error:
        kind = error.failure.kind
        if kind is FailureKind.NO_BUCKET:
            raise PreflightError(_unusable(what, "listing", error)) from error


def _unusable(what: str, doing: str, error: StoreRequestError) -> str:
    advice = {
        FailureKind.NO_BUCKET: "create the bucket or correct its name",
        FailureKind.DENIED: "check the credentials; S3 also answers so for a missing key where the right to list is missing: grant s3:ListBucket",
        FailureKind.TRANSIENT: "check the endpoint and that the service runs",
        FailureKind.FULL: "make room",
    }.get(error.failure.kind, "check its configuration with 'migrate-storage doctor'")
    return f"{what} cannot be used: {doing} failed: {error.failure.message}; {advice}"


def same_storage(
    source: ResolvedBackend, destination: ResolvedBackend, retry: Retry, *, probe: bool
) -> tuple[bool, str]:
    """Whether both sides reach one storage; in doubt one object is written to the destination and looked for."""
    there = destination.root
    told = same_service(source.root, there)
    if told is not None:
        return told, ""
    if not probe:
        return False, "not provably so: a dry run writes no probe"
    name = f"{SCRATCH}/{uuid.uuid4().hex}"
    store, path = destination.resolve(name)
    place = resolve_links(destination.place(name))
    what = f"the destination {destination.key!r} ({there.service} {there.root})"
    try:
        retry.call(lambda: store.put(path, b"probe", attributes=Attributes(), create=False, part_size=None))
        if place.service != source.root.service:
            if _shown(source, place, retry):
                raise PreflightError(
                    f"{what} and the source {source.key!r} are one storage reached in two ways: nothing moves between them; "
                    "register both by the same way, and 'run' re-points the rows"
                )
            return False, "a probe object at the destination is not seen through the source"
        asked = source.resolve_place(replace(source.root, root=place.root, key=place.key))
        if asked is None:
            return True, "in doubt: taken for the same"
        if _seen(*asked, retry):
            return True, "a probe object at the destination is seen through the source"
        return False, "a probe object at the destination is not seen through the source"
    except StoreRequestError as error:
        raise PreflightError(_unusable(what, "writing a probe object", error)) from error
    finally:
        with contextlib.suppress(Exception):
            store.delete(path)
        _tidy(destination, name)


def _shown(source: ResolvedBackend, place: Place, retry: Retry) -> bool:
    """Whether a disk and the server of it are the two sides: looked for at once, and when its caches have run out."""
    for wait in (0.0, _CACHED):
        time.sleep(wait)
        if source.root.service == "file":
            if any(path.exists() for path in _served(source.root, place)):
                return True
        elif any(_seen(*asked, retry) for asked in source.candidates_on_served_disk(place)):
            return True
    return False


def _served(folder: Place, place: Place) -> Iterator[Path]:
    """Files of this folder that an object of a server may be, if the server's disk holds the folder."""
    parts = [place.root, *place.key.split("/")]
    for start in range(len(parts)):
        yield Path("/", folder.key, *parts[start:])


def _seen(store: Store, path: str, retry: Retry) -> bool:
    """Whether an object is there; in doubt it is."""
    try:
        retry.call(lambda: store.head(path))
    except StoreRequestError as error:
        return error.failure.kind not in (FailureKind.MISSING, FailureKind.NO_BUCKET)
    return True


def try_destination(side: ResolvedBackend, retry: Retry) -> tuple[Capabilities, list[Note]]:
    """Write, read, replace, list and delete a small object.

    Raises:
        PreflightError: the destination cannot be written or read as a run would.
    """
    name = f"{SCRATCH}/{uuid.uuid4().hex}"
    what = f"the destination {side.key!r} ({side.root.service} {side.root.root})"
    try:
        store, path = side.resolve(name)
    except KeyRefusedError as error:
        raise PreflightError(f"{what} cannot be used: {error}") from error
    _absent(store, path, what, retry)
    content = b"migrate-storage looks whether it may write here"
    attributes = Attributes(content_type="text/x-probe", metadata={"probe": "1"})
    notes: list[Note] = []
    doing = "writing a probe object"
    create = True
    try:
        for _ in range(_TRIES):
            written = _write(store, path, content, attributes, retry, create=create)
            doing = "reading the probe object back"
            found, back = retry.call(lambda: _read(store, path))
            if back == content:
                break
            doing, create = "writing a probe object", False
        else:
            raise PreflightError(f"{what} cannot be used: a probe object came back with other bytes than were written")
        keeps = found.content_type == attributes.content_type and found.metadata == attributes.metadata
        create = _refuses_to_replace(store, path, retry)
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        large_md5, large_parts = _tags_of_parts(store, path, content, retry)
        capabilities = Capabilities(
            create_only=create,
            etag_is_md5=written.e_tag == md5,
            attributes=keeps,
            large_etag_is_md5=large_md5,
            large_etag_is_of_parts=large_parts,
        )
    except StoreRequestError as error:
        raise PreflightError(_unusable(what, doing, error)) from error
    shown = listing_matches_head(store, path, retry)
    try:
        retry.call(lambda: store.delete(path))
        capabilities = replace(capabilities, listing=shown and _gone(store, path, retry))
        _tidy(side, name)
    except StoreRequestError as error:
        notes.append(
            Note(
                severity=Severity.WARNING,
                code="destination.delete",
                subject=side.key,
                message=f"the probe object {name} cannot be removed: {error.failure.message}",
                todo="remove it by hand; 'purge' will need the right to delete",
            )
        )
    if not keeps:
        notes.append(
            Note(
                severity=Severity.INFO,
                code="destination.attributes",
                subject=side.key,
                message="the destination keeps no content type or metadata beside the bytes",
                todo="nothing: they stay in the rows",
            )
        )
    return capabilities, notes


def _write(
    store: Store, path: str, content: bytes, attributes: Attributes, retry: Retry, *, create: bool
) -> ObjectMeta:
    try:
        return retry.call(lambda: store.put(path, content, attributes=attributes, create=create, part_size=None))
    except StoreRequestError as error:
        if error.failure.kind is not FailureKind.EXISTS:
            raise
        # Nobody else knows the name: it was written before, and the answer was lost.
        return retry.call(lambda: store.put(path, content, attributes=attributes, create=False, part_size=None))


def _read(store: Store, path: str) -> tuple[Attributes, bytes]:
    opened = store.open(path)
    return opened.attributes, opened.read()


def _refuses_to_replace(store: Store, path: str, retry: Retry) -> bool:
    try:
        retry.call(lambda: store.put(path, b"other", attributes=Attributes(), create=True, part_size=None))
    except StoreRequestError as error:
        # A store that answers anything else is asked by head before each put.
        return error.failure.kind is FailureKind.EXISTS
    return False


def _tags_of_parts(store: Store, path: str, content: bytes, retry: Retry) -> tuple[bool, bool]:
    """Whether the entity tag of an upload in parts is the MD5 of the bytes, and whether it is that of the parts' digests.

    A store that takes no such upload may hold small objects only: a large one will tell its reason.
    """
    try:
        written = retry.call(
            lambda: store.put(path, iter((content,)), attributes=Attributes(), create=False, part_size=part_size(0))
        )
    except StoreRequestError:
        return False, False
    passed = Digests(part_size(0))
    passed.update(content)
    return written.e_tag == passed.md5, written.e_tag in passed.e_tags - {passed.md5}


def _gone(store: Store, path: str, retry: Retry) -> bool:
    """Whether the listing of a folder shows a deleted object no more."""
    with contextlib.suppress(StoreRequestError):
        return retry.call(lambda: all(meta.path != path for meta in store.list(path.rpartition("/")[0])))
    return False


def _tidy(side: ResolvedBackend, name: str) -> None:
    """Local disks keep the scratch folder when its object is gone."""
    place = side.place(name)
    if place.service == "file":
        with contextlib.suppress(OSError):
            Path("/" + place.key).parent.rmdir()
