"""Copies by the service itself: proved to work before the first one, and each believed only by equal digests on both sides.

An object's simple ETag is the MD5 of its bytes, on a service where that was seen. So what the destination then reports must be
what the source reported before. What a copy would change or lose, or could not be proved by, goes through this process.
"""

from __future__ import annotations

import contextlib
import hashlib
import uuid
from collections import Counter
from collections.abc import Iterable

from migrate_storage.core.errors import KeyRefusedError
from migrate_storage.core.model import Attributes, Capabilities, Note, ObjectMeta, Place, Severity
from migrate_storage.engine.probe import SCRATCH
from migrate_storage.engine.transfer import MD5, SMALL
from migrate_storage.engine.verify import Verified
from migrate_storage.stores.failures import FailureKind
from migrate_storage.stores.resolved_backend import ResolvedBackend
from migrate_storage.stores.retry import Retry, StoreRequestError
from migrate_storage.stores.server_side_copy import ServerSideCopier
from migrate_storage.translate import unaddressable

__all__ = ("EVIDENCE", "LARGEST", "can_server_side_copy", "probe_server_side_copy", "verify_server_side_copy")

EVIDENCE = "copied by the service, equal digests"
LARGEST = 5 * 1024**3
"""Bytes that S3 copies in one request at most."""
_TRIES = 5
"""Objects of a bucket with which a copy is tried at most."""
_TYPE = "text/x-probe"


def can_server_side_copy(found: ObjectMeta, attributes: Attributes, content_type: str | None) -> bool:
    """Whether the service may copy an object, given what it says of it.

    Args:
        found: the source, as it is.
        attributes: what it carries beside its bytes.
        content_type: the content type of its row.

    Returns:
        Whether its ETag is a simple one, its size within what S3 copies, its only header a content type, and the row's content
        type one that can be sent.
    """
    return (
        MD5.fullmatch(found.e_tag or "") is not None
        and found.size <= LARGEST
        and attributes == Attributes(content_type=attributes.content_type)
        and (attributes.content_type is not None or ServerSideCopier.can_send(content_type))
    )


def verify_server_side_copy(before: ObjectMeta, copy: ObjectMeta | None) -> Verified | None:
    """The proof of a copy; ``None`` where its digest is not the source's.

    Args:
        before: the source, as it was before the copy; its ETag is a simple one.
        copy: what the destination says of the copy; ``None`` where it says that there is none.
    """
    if copy is None or copy.e_tag != before.e_tag or copy.size != before.size:
        return None
    return Verified(source=before, destination=copy, evidence=EVIDENCE, ours=True)


def probe_server_side_copy(
    source: ResolvedBackend,
    destination: ResolvedBackend,
    samples: Iterable[Place],
    capabilities: Capabilities,
    retry: Retry,
) -> tuple[dict[str, ServerSideCopier], list[Note]]:
    """See, for each bucket of the source, whether the service copies from it: of one object that is there a probe is made.

    The source is only read. The copy must have the same bytes, the MD5 of them as its ETag as the source has, and the content
    type that it was given; and where the destination's puts refuse to replace an object, its copies must too.

    Args:
        source: where the objects are.
        destination: where they go.
        samples: some objects of the source; a few of each bucket are tried until one is good for it.
        capabilities: what the destination's puts were seen to do.
        retry: how a failed request is sent again.

    Returns:
        By bucket what copies from it, and what a person should know.
    """
    found: dict[str, ServerSideCopier] = {}
    reasons: dict[str, str] = {}
    tries: Counter[str] = Counter()
    for place in samples:
        if place.root in found or tries[place.root] == _TRIES:
            continue
        copier = destination.copier(place)
        if copier is None or unaddressable(place.key) is not None:
            continue
        tries[place.root] += 1
        try:
            proved = _try(source, destination, place, copier, retry)
        except (StoreRequestError, KeyRefusedError) as error:
            reasons[place.root] = f"a probe was not copied: {error}"
            continue
        if isinstance(proved, str):
            reasons[place.root] = proved
        elif capabilities.create_only and not proved.create_only:
            reasons[place.root] = "its copies replace what stands there, and its puts do not"
        else:
            found[place.root] = proved
    notes = [
        Note(severity=Severity.INFO, code="copy.service", subject=destination.key, message=f"objects of the bucket {root} are copied by the service itself, without passing through this process")
        for root in found
    ]  # fmt: skip
    notes += [
        Note(severity=Severity.INFO, code="copy.through", subject=destination.key, message=f"objects of the bucket {root} pass through this process, though both buckets are of one service: {reason}")
        for root, reason in reasons.items() if root not in found
    ]  # fmt: skip
    return found, notes


def _try(
    source: ResolvedBackend, destination: ResolvedBackend, place: Place, copier: ServerSideCopier, retry: Retry
) -> ServerSideCopier | str:
    """A copier that was seen to work, or why it does not."""
    asked = source.resolve_place(place)
    if asked is None:
        return "the source cannot be asked for its objects by name"
    store, path = asked
    found, attributes = retry.call(lambda: store.head_with_attributes(path))
    if found.size > SMALL or not can_server_side_copy(found, attributes, _TYPE):
        return "no small and plain object is among the first ones to try it with"
    content = retry.call(lambda: store.open(path).read())
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != found.e_tag:
        return "ETags there are not the MD5 of the bytes"
    there, probe = destination.resolve(f"{SCRATCH}/{uuid.uuid4().hex}")
    given = None if attributes.content_type else _TYPE
    try:
        retry.call(lambda: copier.copy(path, probe, content_type=given, create=False))
        opened = retry.call(lambda: there.open(probe))
        same = retry.call(lambda: there.open(probe).read()) == content and opened.meta.e_tag == found.e_tag
        if not same or opened.attributes.content_type != (attributes.content_type or given):
            return "a probe was copied with other bytes, another ETag or another content type"
        return copier.refusing() if _refuses(copier, path, probe, given, retry) else copier
    finally:
        with contextlib.suppress(Exception):
            there.delete(probe)


def _refuses(copier: ServerSideCopier, path: str, probe: str, content_type: str | None, retry: Retry) -> bool:
    try:
        retry.call(lambda: copier.copy(path, probe, content_type=content_type, create=True))
    except StoreRequestError as error:
        return error.failure.kind is FailureKind.EXISTS
    return False
