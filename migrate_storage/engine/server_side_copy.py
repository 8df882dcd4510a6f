"""Copies by the service itself, each verified by equal digests on both sides.

On a service whose simple ETags are the MD5 of the bytes, the copy's ETag must equal the one that the source had before. An object
whose copy would lose something, or that has no such ETag, passes through this process.
"""

from __future__ import annotations

import hashlib
import uuid
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from functools import partial

from migrate_storage.core.errors import KeyRefusedError
from migrate_storage.core.model import Attributes, Capabilities, Note, ObjectMeta, Place, Severity
from migrate_storage.core.parallel import parallel_map
from migrate_storage.core.proofs import SERVER_SIDE_COPY
from migrate_storage.engine.probe import SCRATCH, refuses_existing, succeeds_where_free
from migrate_storage.engine.transfer import MD5, SMALL_BYTES
from migrate_storage.engine.verify import Verified
from migrate_storage.stores.base import ObjectAt, Opened
from migrate_storage.stores.obstore_store import HEADERS, readable_attributes
from migrate_storage.stores.resolved_backend import ResolvedBackend
from migrate_storage.stores.retry import Retry, StoreRequestError
from migrate_storage.stores.server_side_copy import ServerSideCopier
from migrate_storage.translate import unaddressable

__all__ = (
    "MAX_COPY_BYTES",
    "attributes_of_copy",
    "can_server_side_copy",
    "keeps_attributes",
    "probe_server_side_copy",
    "verify_server_side_copy",
)

MAX_COPY_BYTES = 5 * 1024**3
"""Bytes that S3 copies in one request at most."""
_MAX_PROBES = 5
"""Objects of a bucket with which a copy is tried at most."""
_PROBE_CONTENT_TYPE = "text/x-probe"


def attributes_of_copy(attributes: Attributes, content_type: str | None) -> Attributes:
    """The attributes that a copy must have: those of its source, and the content type of its row where the source has none."""
    return attributes if attributes.content_type else replace(attributes, content_type=content_type)


def keeps_attributes(wanted: Attributes, found: Attributes) -> bool:
    """Whether a copy has the attributes that it must have. A service may add some of its own, such as a default type."""
    headers = all(getattr(found, name) == value for name in HEADERS if (value := getattr(wanted, name)) is not None)
    return headers and wanted.metadata.items() <= found.metadata.items()


def can_server_side_copy(source: ObjectMeta, attributes: Attributes, content_type: str | None) -> bool:
    """Whether the service may copy an object.

    Args:
        source: the source, as a HEAD reported it.
        attributes: its attributes.
        content_type: the content type of its row.

    Returns:
        Whether its ETag is a simple one, S3 copies its size in one request, obstore can read its attributes back, and
        they can be sent in headers where the row's content type must be.
    """
    return (
        MD5.fullmatch(source.e_tag or "") is not None
        and source.size <= MAX_COPY_BYTES
        and readable_attributes(attributes)[0] == attributes
        and (
            attributes.content_type is not None
            or ServerSideCopier.can_send(attributes_of_copy(attributes, content_type))
        )
    )


def verify_server_side_copy(before: ObjectMeta, copy: ObjectMeta | None) -> Verified | None:
    """Prove a copy by its ETag; return ``None`` where it is not the source's.

    Args:
        before: the source, as it was before the copy; its ETag is a simple one.
        copy: the object at the destination; ``None`` where there is none.
    """
    if copy is None or copy.e_tag != before.e_tag or copy.size != before.size:
        return None
    return Verified(source=before, destination=copy, evidence=SERVER_SIDE_COPY, written_by_us=True)


def probe_server_side_copy(
    source: ResolvedBackend,
    destination: ResolvedBackend,
    samples: Iterable[Place],
    capabilities: Capabilities,
    retry: Retry,
) -> tuple[dict[str, ServerSideCopier], list[Note]]:
    """Copy one object of each source bucket to probe whether the service does it.

    The source is only read. The copy must have the same bytes, the ETag of the source, which is their MD5, and the content type
    that was sent. Where PUTs at the destination refuse to replace an object, copies must refuse too.

    Args:
        source: the side of the objects.
        destination: where they go.
        samples: some objects of the source; a few of each bucket are tried until one succeeds.
        capabilities: what the destination's PUTs were seen to do.
        retry: repeats failed requests.

    Returns:
        A copier for each bucket whose probe succeeded, and notes for the report.
    """
    copiers: dict[str, ServerSideCopier] = {}
    reasons: dict[str, str] = {}
    probes: Counter[str] = Counter()
    for place in samples:
        if place.root in copiers or probes[place.root] == _MAX_PROBES:
            continue
        copier = destination.copier(place)
        if copier is None or unaddressable(place.key) is not None:
            continue
        probes[place.root] += 1
        try:
            probed = _probe_copy(source, destination, place, copier, retry)
        except (StoreRequestError, KeyRefusedError) as error:
            reasons[place.root] = f"a probe was not copied: {error}"
            continue
        if isinstance(probed, str):
            reasons[place.root] = probed
        elif capabilities.create_only and not probed.create_only:
            reasons[place.root] = "its copies replace an existing object, and its puts do not"
        else:
            copiers[place.root] = probed
    notes = [
        Note(severity=Severity.INFO, code="copy.service", subject=destination.key, message=f"objects of the bucket {root} are copied by the service itself, without passing through this process")
        for root in copiers
    ]  # fmt: skip
    notes += [
        Note(severity=Severity.INFO, code="copy.through", subject=destination.key, message=f"objects of the bucket {root} pass through this process, though both buckets are of one service: {reason}")
        for root, reason in reasons.items() if root not in copiers
    ]  # fmt: skip
    return copiers, notes


def _probe_copy(
    source: ResolvedBackend, destination: ResolvedBackend, place: Place, copier: ServerSideCopier, retry: Retry
) -> ServerSideCopier | str:
    """Copy one object; return a copier that works, or the reason why it does not."""
    original = source.resolve_place(place)
    if original is None:
        return "the source cannot be asked for its objects by name"
    opened, content = retry.call(lambda: _read_small(original))
    found, attributes = opened.meta, opened.attributes
    if content is None or not can_server_side_copy(found, attributes, _PROBE_CONTENT_TYPE):
        return "no small and plain object is among the first ones to try it with"
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != found.e_tag:
        return "ETags there are not the MD5 of the bytes"
    probe, free = (destination.resolve(f"{SCRATCH}/{uuid.uuid4().hex}") for _ in range(2))
    sent = None if attributes.content_type else attributes_of_copy(attributes, _PROBE_CONTENT_TYPE)
    written = [probe]
    try:
        retry.call(lambda: copier.copy(original.key, probe.key, attributes=sent, create=False))
        copied, copy = retry.call(lambda: _read_small(probe))
        same = copy == content and copied.meta.e_tag == found.e_tag
        if not same or copied.attributes.content_type != (attributes.content_type or _PROBE_CONTENT_TYPE):
            return "a probe was copied with other bytes, another ETag or another content type"
        conditional = partial(copier.copy, original.key, attributes=sent, create=True)
        if not refuses_existing(lambda: conditional(probe.key), retry):
            return copier
        # Some services apply the condition to the source, and refuse every copy.
        written.append(free)
        return copier.refusing() if succeeds_where_free(free, lambda: conditional(free.key), retry) else copier
    finally:
        for _ in parallel_map(ObjectAt.try_delete, written, len(written)):
            pass


def _read_small(at: ObjectAt) -> tuple[Opened, bytes | None]:
    """Send one GET; return no bytes where there are many."""
    opened = at.open()
    return opened, opened.read() if opened.meta.size <= SMALL_BYTES else None
