"""Probe what a store can do and which rights exist; its type proves neither.

The source is only read. The destination gets a few objects under a scratch prefix, which are deleted.
"""

from __future__ import annotations

import contextlib
import hashlib
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from migrate_storage.core.errors import KeyRefusedError, PreflightError
from migrate_storage.core.model import Attributes, Capabilities, Note, Place, Severity
from migrate_storage.core.parallel import SideBySide
from migrate_storage.engine.listing_evidence import listing_matches_head
from migrate_storage.engine.transfer import Digests, part_size
from migrate_storage.stores.backend_store import BackendReadError, BackendStore
from migrate_storage.stores.base import ObjectAt
from migrate_storage.stores.failures import FailureKind
from migrate_storage.stores.resolved_backend import ResolvedBackend
from migrate_storage.stores.retry import Retry, StoreRequestError

__all__ = (
    "SCRATCH", "check_absent", "check_source", "describe_destination", "explain_unusable", "open_filesystem", "refuses_existing",
    "refuses_to_replace", "remove_scratch_folder", "succeeds_where_free", "try_destination",
)  # fmt: skip

SCRATCH = ".migrate-storage"
"""The prefix of the objects that probe a destination."""
_PROBE = b"migrate-storage checks whether it may write here"
"""The content of these objects."""
_MAX_PROBE_WRITES = 3
"""How often a probe object is written until it can be read back unchanged: a bit may flip on the way."""
_RAISE_MISSING = "let it raise FileNotFoundError for a missing file, to distinguish it from one that cannot be read"
_MAX_FREE_WRITES = 2
"""How often a conditional write to a free name is tried: S3 may answer 409 while other requests are in progress."""


def open_filesystem(side: ResolvedBackend, filenames: Sequence[str]) -> None:
    """Send one request through the application's filesystem, so that it opens its session before many threads use it.

    Threads that send the first requests at once would each open a session, and with some versions of s3fs they never end.
    Only the first call sends a request. Its error is not raised: the next request has the same.

    Args:
        side: nothing is sent where it is no filesystem of fsspec, or a local one.
        filenames: of some rows; the first one is requested, or a random one where there is none.
    """
    if side.filesystem_opened or not side.is_translated:
        return
    side.filesystem_opened = True
    with contextlib.suppress(Exception):
        at = side.resolve_live(filenames[0] if filenames else uuid.uuid4().hex)
        if not at.store.is_local:
            at.head()


def check_source(source: ResolvedBackend, roots: Sequence[Place], retry: Retry) -> None:
    """Check that a random key is "not found" at the source and its buckets exist.

    Raises:
        PreflightError: a bucket or folder is missing, or the store cannot be read.
    """
    random_key = f"{SCRATCH}-{uuid.uuid4().hex}/nothing"
    for root in roots:
        folder = Path("/", root.key)
        if root.service == "file" and not folder.is_dir():
            raise PreflightError(
                f"the source {source.key!r} is the folder {folder}, which is not there: is its disk mounted?"
            )
        at = source.resolve_place(replace(root, key=root.key + random_key))
        if at is not None:
            where = (
                f"class {source.registration.own_class}"
                if source.registration.own_class
                else f"{root.service} {root.root}"
            )
            _check_not_found(source, at, f"the source {source.key!r} ({where})", retry)


def check_absent(side: ResolvedBackend, retry: Retry) -> None:
    """Check for a dry run that a random key is "not found" at the destination.

    Raises:
        PreflightError: its bucket is missing, or it cannot be read.
    """
    _check_not_found(side, side.resolve(f"{SCRATCH}/{uuid.uuid4().hex}"), describe_destination(side), retry)


def check_present(side: ResolvedBackend, retry: Retry) -> None:
    """Check that "not found" at the destination means an object: a HEAD answers alike for a missing bucket and a missing object.

    Raises:
        PreflightError: its bucket or folder itself is missing, or cannot be read.
    """
    check_absent(side, retry)
    folder = Path("/", side.root.key)
    if side.root.service == "file" and not folder.is_dir():
        raise PreflightError(
            f"the destination {side.key!r} is the folder {folder}, which is not there: is its disk mounted?"
        )


def describe_destination(side: ResolvedBackend) -> str:
    """Return a destination's name in messages."""
    return f"the destination {side.key!r} ({side.root.service} {side.root.root})"


def _check_not_found(side: ResolvedBackend, at: ObjectAt, what: str, retry: Retry) -> None:
    if side.registration.translation.config is None:
        open_filesystem(side, ())
    with SideBySide(2, in_turn=at.store.is_local) as beside:
        head = beside.start(lambda: retry.call(at.head))
        listed = beside.start(lambda: retry.call(lambda: next(iter(at.store.list(at.key.rpartition("/")[0])), None)))
        try:
            head()
        except StoreRequestError as missing:
            if missing.failure.kind is not FailureKind.MISSING:
                raise PreflightError(explain_unusable(what, "reading a key that does not exist", missing)) from missing
        else:
            advice = _RAISE_MISSING if isinstance(at.store, BackendStore) else "check the endpoint and the path style"
            raise PreflightError(f"{what} answers that a random key exists: it cannot be asked what it has; {advice}")
        try:
            listed()
        except StoreRequestError as error:
            if error.failure.kind is FailureKind.NO_BUCKET:
                raise PreflightError(explain_unusable(what, "listing", error)) from error


def explain_unusable(what: str, doing: str, error: StoreRequestError) -> str:
    """Return one line: what cannot be used, why, and what to do."""
    advice = {
        FailureKind.NO_BUCKET: "create the bucket or correct its name",
        FailureKind.DENIED: "check the credentials; S3 also answers so for a missing key where the right to list is missing: grant s3:ListBucket",
        FailureKind.TRANSIENT: "check the endpoint and that the service runs",
        FailureKind.FULL: "make room",
    }.get(
        error.failure.kind,
        _RAISE_MISSING
        if isinstance(error.__cause__, BackendReadError)
        else "check its configuration with 'migrate-storage doctor'",
    )
    return f"{what} cannot be used: {doing} failed: {error.failure.message}; {advice}"


def refuses_to_replace(side: ResolvedBackend, retry: Retry) -> bool:
    """Whether PUTs of a side refuse to replace an object; it is probed once.

    Raises:
        PreflightError: the side cannot be written or read.
    """
    return side.capabilities(lambda: try_destination(side, retry)[0]).create_only


def try_destination(
    side: ResolvedBackend, retry: Retry, remembered: Capabilities | None = None
) -> tuple[Capabilities, list[Note]]:
    """Write, read, replace, list and delete a small object, and upload another one in parts.

    Args:
        side: the destination.
        retry: how a failed request is sent again.
        remembered: what an earlier probe showed. Then a small object is written, read, replaced and deleted. Only where
            all that it shows is as remembered, the LISTs and the upload in parts are left out.

    Raises:
        PreflightError: the destination cannot be written or read as a run would.
    """
    what = describe_destination(side)
    names = [f"{SCRATCH}/{uuid.uuid4().hex}" for _ in range(2)]
    try:
        small, large = map(side.resolve, names)
    except KeyRefusedError as error:
        raise PreflightError(f"{what} cannot be used: {error}") from error
    _check_not_found(side, small, what, retry)
    if remembered is None:
        capabilities, large_probe = _probe_both(small, large, what, retry)
    else:
        capabilities, large_probe = _probe_small_object(small, what, retry), _LargeProbe()
    kept = {} if large_probe.kept is None else {names[1]: large_probe.kept}
    try:
        retry.call(small.delete)
    except StoreRequestError as error:
        kept[names[0]] = error
    if remembered is None:
        capabilities = replace(capabilities, listing=capabilities.listing and not kept and _is_unlisted(small, retry))
    notes = [
        Note(
            severity=Severity.WARNING, code="destination.delete", subject=side.key,
            message=f"the probe object {name} cannot be removed: {error.failure.message}",
            todo="remove it by hand; 'purge' will need the right to delete",
        ) for name, error in kept.items()
    ]  # fmt: skip
    if not kept:
        remove_scratch_folder(side, names[0])
    if remembered is not None:
        if capabilities != _keep_shown_by_small(remembered):
            capabilities, others = try_destination(side, retry)
            return capabilities, [*notes, *others]
        capabilities = remembered
    if not capabilities.attributes:
        notes.append(Note(
            severity=Severity.INFO, code="destination.attributes", subject=side.key,
            message="the destination keeps no content type or metadata beside the bytes",
            todo="nothing: they stay in the rows",
        ))  # fmt: skip
    return capabilities, notes


def _probe_both(small: ObjectAt, large: ObjectAt, what: str, retry: Retry) -> tuple[Capabilities, _LargeProbe]:
    """Probe with a small object, which stays, and with one in parts, which is deleted.

    Raises:
        PreflightError: the small one cannot be written or read.
    """
    with SideBySide(2, in_turn=small.store.is_local) as beside:
        of_parts = beside.start(lambda: _probe_large_object(large, retry))
        of_small = beside.start(lambda: _probe_small_object(small, what, retry, lists=True))
        capabilities, found = of_small(), of_parts()
    capabilities = replace(
        capabilities, large_etag_is_md5=found.is_md5, large_etag_is_of_parts=found.is_of_parts,
        listing=capabilities.listing and found.is_listed,
    )  # fmt: skip
    return capabilities, found


def _keep_shown_by_small(of: Capabilities) -> Capabilities:
    """Return the capabilities that :func:`_probe_small_object` shows without a LIST, as they are."""
    return Capabilities(create_only=of.create_only, etag_is_md5=of.etag_is_md5, attributes=of.attributes)


def _probe_small_object(at: ObjectAt, what: str, retry: Retry, *, lists: bool = False) -> Capabilities:
    """Write, read, replace and perhaps list an object of a few bytes.

    Raises:
        PreflightError: one of the first two fails.
    """
    content, attributes = _PROBE, Attributes(content_type="text/x-probe", metadata={"probe": "1"})
    write = partial(at.store.put, at.key, content, attributes=attributes, part_size=None)
    doing = "writing a probe object"
    try:
        creates = succeeds_where_free(at, partial(write, create=True), retry)
        for attempt in range(_MAX_PROBE_WRITES):
            if attempt or not creates:
                retry.call(partial(write, create=False))
            doing = "reading the probe object back"
            with SideBySide(2, in_turn=at.store.is_local) as beside:
                opened = beside.start(lambda: retry.call(lambda: _read_probe(at)))
                written = beside.start(lambda: retry.call(at.head))()
                found, back = opened()
            if back == content:
                break
            doing = "writing a probe object"
        else:
            raise PreflightError(f"{what} cannot be used: a probe object came back with other bytes than were written")
        # A store that answers anything else gets a HEAD before each PUT.
        create = creates and refuses_existing(
            lambda: at.store.put(at.key, b"other", attributes=Attributes(), create=True, part_size=None), retry
        )
    except StoreRequestError as error:
        raise PreflightError(explain_unusable(what, doing, error)) from error
    return Capabilities(
        create_only=create, etag_is_md5=written.e_tag == hashlib.md5(content, usedforsecurity=False).hexdigest(),
        attributes=found.content_type == attributes.content_type and found.metadata == attributes.metadata,
        listing=lists and listing_matches_head(at, retry),
    )  # fmt: skip


def _read_probe(at: ObjectAt) -> tuple[Attributes, bytes]:
    opened = at.open()
    return opened.attributes, opened.read()


def refuses_existing(write: Callable[[], object], retry: Retry) -> bool:
    """Whether a write that must only create is refused, because there is an object."""
    try:
        retry.call(write)
    except StoreRequestError as error:
        return error.failure.kind is FailureKind.EXISTS
    return False


def succeeds_where_free(at: ObjectAt, write: Callable[[], object], retry: Retry) -> bool:
    """Whether a write on the condition that there is no object succeeds where there is none.

    Args:
        at: a place without an object.
        write: the conditional write to it.
        retry: repeats failed requests.

    Raises:
        StoreRequestError: the store did not answer, or refuses all requests.
    """
    for _ in range(_MAX_FREE_WRITES):
        try:
            retry.call(write)
        except StoreRequestError as error:
            if error.failure.kind.is_store_wide:
                raise
            if error.failure.kind is not FailureKind.EXISTS:
                return False
            if retry.or_none_if_missing(at.head) is not None:
                return True  # An earlier attempt wrote it, and its answer was lost.
        else:
            return True
    return False


@dataclass(frozen=True, slots=True)
class _LargeProbe:
    """What an upload in parts showed."""

    #: Whether its ETag is the MD5 of the bytes, or of its parts' MD5s.
    is_md5: bool = False
    is_of_parts: bool = False
    #: Whether a LIST shows of it what a HEAD does; true too where there is none.
    is_listed: bool = True
    #: Why the object could not be deleted; ``None`` where it was, or does not exist.
    kept: StoreRequestError | None = None


def _probe_large_object(at: ObjectAt, retry: Retry) -> _LargeProbe:
    """Upload an object in parts, read its ETag, and delete it."""
    put, part, found = at.store.put, part_size(0), _LargeProbe()
    try:
        retry.call(lambda: put(at.key, iter((_PROBE,)), attributes=Attributes(), create=False, part_size=part))
    except StoreRequestError:
        return found  # it may take small objects only; the copy of a large one then fails with its reason
    taken = Digests(part)
    taken.update(_PROBE)
    with contextlib.suppress(StoreRequestError):
        written = retry.call(at.head)
        found = _LargeProbe(
            is_md5=written.e_tag == taken.md5,
            is_of_parts=written.e_tag in taken.e_tags - {taken.md5},
            is_listed=listing_matches_head(at, retry),
        )
    try:
        retry.call(at.delete)
    except StoreRequestError as error:
        return replace(found, kept=error)
    return found


def _is_unlisted(at: ObjectAt, retry: Retry) -> bool:
    """Whether a LIST of its folder no longer shows a deleted object."""
    with contextlib.suppress(StoreRequestError):
        return retry.call(lambda: all(meta.path != at.key for meta in at.store.list(at.key.rpartition("/")[0])))
    return False


def remove_scratch_folder(side: ResolvedBackend, name: str) -> None:
    """Remove the folder of the probe object: a local disk keeps it."""
    place = side.place(name)
    if place.service == "file":
        with contextlib.suppress(OSError):
            Path("/" + place.key).parent.rmdir()
