"""Storage class and tags of copies: what a user asks to preserve or to set beside bytes, headers and user metadata.

obstore writes both and reads neither. A signed HEAD shows a storage class: S3 leaves the header out for STANDARD
(https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html), Azure calls it the access tier. The tags of a source are
read through the application's filesystem of s3fs.
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from urllib.parse import urlencode

from migrate_storage.core.errors import ConfigurationError, PreflightError
from migrate_storage.core.model import Attributes, Note, Place, Severity
from migrate_storage.core.preservation import STORAGE_CLASS, TAGS, Preservation
from migrate_storage.engine.probe import SCRATCH, describe_destination, explain_unusable
from migrate_storage.stores.base import ObjectAt
from migrate_storage.stores.digest_headers import read_s3fs_tags
from migrate_storage.stores.resolved_backend import ResolvedBackend
from migrate_storage.stores.retry import Retry, StoreRequestError

__all__ = ("note_not_preserved", "probe_preservation", "read_preserved")

_CLASS_SERVICES = ("s3", "gcs", "azure")
_PROBE_TAGS = "migrate-storage=probe"
_DEFAULT_CLASSES = {"s3": "STANDARD"}
"""The class of a service for which a HEAD has no header."""
_NOT_PRESERVED = {
    "s3": "object tags, ACLs, storage class, retention and legal locks, encryption settings, older versions and Last-Modified",
    "gcs": "ACLs, storage class, retention locks, encryption keys, older generations and update time",
    "azure": "blob tags, access tier, immutability, snapshots, older versions and Last-Modified",
    "file": "owner, mode and modification time",
    "own": "anything but bytes; the content type is that of the row",
}
_NAMES = {STORAGE_CLASS: ("storage class, ", "access tier, "), TAGS: ("object tags, ",)}
"""How the texts above name what may be preserved."""


def read_preserved(
    asked: Preservation, source: ResolvedBackend, at: ObjectAt, place: Place, retry: Retry
) -> Attributes:
    """Return the storage class and the tags that the copy of one object gets; nothing else is set.

    Args:
        asked: what copies are to get.
        source: the side of the object.
        at: the object.
        place: where it is.
        retry: repeats failed requests.

    Raises:
        StoreRequestError: one of them cannot be read.
    """
    wanted = Attributes(storage_class=asked.storage_class)
    if STORAGE_CLASS in asked.preserve:
        wanted = replace(wanted, storage_class=retry.call(lambda: _read_class(at)))
    if TAGS in asked.preserve:
        wanted = replace(wanted, tags=_read_tags(source, place, retry))
    return wanted


def _read_class(at: ObjectAt) -> str | None:
    headers = at.store.digest_headers(at.key)
    if headers.e_tag is None:
        raise ConnectionError(f"the storage class of {at.key!r} cannot be seen: no signed HEAD was answered")
    return headers.storage_class


def _read_tags(source: ResolvedBackend, place: Place, retry: Retry) -> str:
    filesystem = source.registration.filesystem
    return urlencode(retry.call(lambda: read_s3fs_tags(filesystem, place.root, place.key)))


def probe_preservation(
    asked: Preservation, source: ResolvedBackend, destination: ResolvedBackend, retry: Retry, *, writes: bool
) -> tuple[Note, ...]:
    """Check that both sides have what is asked for, and write a probe object with it.

    Args:
        asked: what copies are to get.
        source: the side of the objects.
        destination: where the copies go.
        retry: repeats failed requests.
        writes: whether a probe object may be written.

    Returns:
        Notes for the report.

    Raises:
        ConfigurationError: a side does not have it.
        PreflightError: the destination refuses it, or does not keep it.
    """
    if not asked.is_asked:
        return ()
    _refuse_where_missing(asked, source, destination)
    if writes:
        _write_probe(asked, destination, retry)
    if destination.copier(source.root) is None:
        return ()
    message = "copies pass through this process, because a service that copies by itself does not set a storage class"
    return (Note(severity=Severity.INFO, code="copy.preserve", subject=destination.key, message=message),)


def _refuse_where_missing(asked: Preservation, source: ResolvedBackend, destination: ResolvedBackend) -> None:
    here, there = source.root.service, destination.root.service
    if there not in _CLASS_SERVICES:
        raise ConfigurationError(f"{describe_destination(destination)} has neither storage classes nor tags")
    if STORAGE_CLASS in asked.preserve and here != there:
        raise ConfigurationError(
            f"--preserve storage-class: {here} and {there} have classes of different names; --storage-class NAME sets one"
        )
    if TAGS not in asked.preserve:
        return
    if (here, there) != ("s3", "s3"):
        raise ConfigurationError(f"--preserve tags copies tags between S3 services, not from {here} to {there}")
    if not hasattr(source.registration.filesystem, "call_s3"):
        raise ConfigurationError(
            f"--preserve tags: obstore reads no tags, and {source.key!r} is no FSSpecBackend of s3fs; register it as one for the run"
        )


def _write_probe(asked: Preservation, destination: ResolvedBackend, retry: Retry) -> None:
    what, at = describe_destination(destination), destination.resolve(f"{SCRATCH}/{uuid.uuid4().hex}")
    attributes = Attributes(storage_class=asked.storage_class, tags=_PROBE_TAGS if TAGS in asked.preserve else None)
    try:
        retry.call(lambda: at.store.put(at.key, b"probe", attributes=attributes, create=False, part_size=None))
        seen = retry.call(lambda: at.store.digest_headers(at.key))
    except StoreRequestError as error:
        doing = f"writing a probe object with the {' and the '.join(_name_asked(asked))}"
        raise PreflightError(explain_unusable(what, doing, error)) from error
    finally:
        at.try_delete()
    wanted = asked.storage_class
    if wanted is not None and seen.storage_class != wanted and wanted != _DEFAULT_CLASSES.get(destination.root.service):
        raise PreflightError(
            f"{what} does not show the storage class {wanted} of a probe object: it shows {seen.storage_class or 'none'}; "
            "leave --storage-class out, or correct its name"
        )
    if attributes.tags and seen.tag_count != 1:
        raise PreflightError(
            f"{what} does not show that a probe object has a tag; grant s3:GetObjectTagging, or leave 'tags' out of --preserve"
        )


def _name_asked(asked: Preservation) -> tuple[str, ...]:
    named = (f"storage class {asked.storage_class}",) if asked.storage_class is not None else ()
    return (*named, *(("tags",) if TAGS in asked.preserve else ())) or ("storage class of a source",)


def note_not_preserved(source: ResolvedBackend, asked: Preservation) -> tuple[Note, ...]:
    """Return what copies do not take over from a source."""
    service = source.root.service
    what = _NOT_PRESERVED.get(service, "anything but bytes, content type, the usual headers and user metadata")
    for word in (*asked.preserve, *([STORAGE_CLASS] if asked.storage_class else [])):
        for name in _NAMES[word]:
            what = what.replace(name, "")
    todo = "set what you need of it on the destination; the source keeps it until it is purged"
    code, message = f"not-preserved.{service}", f"a copy does not preserve {what}"
    return (Note(severity=Severity.INFO, code=code, subject=source.key, message=message, todo=todo),)
