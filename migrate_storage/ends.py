"""The two ends of a comparison or a sync: from what a person wrote (a key or a URL) to a side that can be listed."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import fsspec
from advanced_alchemy.types.file_object.backends.fsspec import FSSpecBackend

from migrate_storage.backend import ObstoreBackend
from migrate_storage.backend.urls import parse_url
from migrate_storage.compare import By, Compared, Pair, Relation, judge
from migrate_storage.errors import ConfigurationError, KeyRefusedError, UnknownOptionError
from migrate_storage.model import ObjectMeta
from migrate_storage.plan import actual
from migrate_storage.probe import SCRATCH
from migrate_storage.retry import Retry
from migrate_storage.stores.files import FsspecStore
from migrate_storage.stores.side import Side
from migrate_storage.streams import Listing
from migrate_storage.text import masked, one_line
from migrate_storage.translate import PROTOCOLS

__all__ = ("backend_at", "is_ours", "judge_at", "listing", "nested")

_CLOUDS = ("s3", "gcs", "azure")


def backend_at(text: str, backends: Mapping[str, Any], options: Mapping[str, Any], what: str) -> Any:
    """The storage backend that a person named.

    Args:
        text: a key of ``backends``, a path with a slash in it, or a URL of obstore or of fsspec.
        backends: those that are registered, or in the configuration file.
        options: with a URL, what the library takes besides. Names that obstore does not know, and the filesystem of
            fsspec does, open it with fsspec.
        what: what the person was asked for, such as ``FROM``.

    Raises:
        ConfigurationError: it names nothing, or cannot be opened.
    """
    if text in backends:
        if options:
            raise ConfigurationError(f"{what} {text} is registered with its own options: give others with a URL")
        return backends[text]
    local = text.startswith(("/", "./", "../", "~", "file:")) or text in (".", "..")
    if not local and "://" not in text and "::" not in text:
        known = ", ".join(sorted(backends)) or "none is known without --app or a configuration file"
        raise ConfigurationError(
            f"{what} {text!r} is no storage backend's key ({known}); write a folder as ./{text}, a store as s3://BUCKET/PREFIX"
        )
    try:
        if local:
            if options:
                raise ConfigurationError("a folder takes no options")
            folder = parse_url(text).root
            return FSSpecBackend(key=folder, fs=fsspec.filesystem("file", auto_mkdir=True), prefix=folder)
        return _opened(text, options)
    except ConfigurationError as error:
        raise ConfigurationError(f"{what} {masked(text)}: {error}") from None
    except Exception as error:
        raise ConfigurationError(f"{what} {masked(text)} cannot be opened: {one_line(error)}") from error


def _opened(url: str, options: Mapping[str, Any]) -> Any:
    shown = _shown(url)
    protocol = re.split(r"::|://", url, maxsplit=1)[0]
    if "::" in url or PROTOCOLS.get(protocol) not in (*_CLOUDS, "http"):
        return _through_fsspec(shown, url, options)
    try:
        return ObstoreBackend(shown, url, config=dict(options))
    except UnknownOptionError:
        takes = inspect.signature(fsspec.get_filesystem_class(protocol).__init__).parameters
        if not set(options) <= set(takes) - {"self", "kwargs"}:
            raise
        return _through_fsspec(shown, url, options)


def _through_fsspec(shown: str, url: str, options: Mapping[str, Any]) -> Any:
    filesystem, path = fsspec.core.url_to_fs(url, **options)
    return FSSpecBackend(key=shown, fs=filesystem, prefix=path or None)


def _shown(url: str) -> str:
    """The URL as the journal names it: without a user's password, and without a query."""
    parts = urlsplit(url)
    plain = url.partition("?")[0] if "::" not in url else url
    if "@" in parts.netloc:
        user, _, host = parts.netloc.rpartition("@")
        plain = plain.replace(parts.netloc, f"{user.partition(':')[0]}@{host}", 1)
    return plain.rstrip("/")[:250]


def listing(side: Side, retry: Retry, tell: Callable[[str], None]) -> Listing:
    """How a side is listed below its prefix.

    Args:
        side: what to list.
        retry: how a listing that broke off is begun again.
        tell: called when another library had to list it.

    Raises:
        ConfigurationError: it has no bucket or folder of its own.
    """
    root, name = side.root, side.registration.protocol
    if (name in _CLOUDS and not root.root) or (root.service == "file" and not root.key):
        raise ConfigurationError(
            f"{side.key!r} has no bucket or folder of its own, so it cannot be listed: give it a prefix, or name it by a URL"
        )
    if root.service == "file":
        # obstore leaves names such as x#1 out of the listing of a disk, without a word.
        folder = f"/{root.key.rstrip('/')}"
        disk = _Disk(fsspec.filesystem("file"), side.key, root=folder)
        return Listing(store=disk, prefix=folder, retry=retry)
    store, path = side.at("x")
    other = side.fallback("x")
    return Listing(
        store=store,
        prefix=_folder(path),
        ordered=_promises_order(side),
        fallback=(other[0], _folder(other[1])) if other is not None else None,
        tell=tell,
        retry=retry,
    )


class _Disk(FsspecStore):
    """A disk whose listing tells no tags: obstore, which reads it, has tags of its own."""

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectMeta]:
        """See :class:`migrate_storage.stores.base.Store`."""
        return (replace(meta, e_tag=None) for meta in super().list(prefix, after=after))


def _folder(path: str) -> str:
    return path[:-1].rstrip("/") or path[:-1]


def _promises_order(side: Side) -> bool:
    """Amazon's general purpose buckets and Google's list in the order of UTF-8 bytes; other services may not.

    Sources: Amazon S3 API, ListObjectsV2 (and its note on directory buckets); Cloud Storage, "Objects: list".
    """
    root = side.root
    return root.endpoint == "" and (
        root.service == "gcs" or (root.service == "s3" and not root.root.endswith("--x-s3"))
    )


_NOWHERE: Any = None
"""The store where none is asked: what the listings tell decides."""


def judge_at(pair: Pair, one: Side, other: Side, by: By, retry: Retry) -> Compared:
    """Say how the sides of a pair stand to each other. They are read not as they were listed, but as each key can be.

    Args:
        pair: as the listings of both sides gave it.
        one: the source.
        other: the destination.
        by: what makes them equal.
        retry: how a failed read is tried again.
    """
    if pair.source is None or pair.destination is None or by in (By.SIZE, By.EVIDENCE):
        return judge(pair, _NOWHERE, _NOWHERE, by)
    try:
        (source, here), (destination, there) = one.at(pair.key), other.at(pair.key)
    except KeyRefusedError as error:
        return Compared(pair=pair, relation=Relation.ERROR, evidence=str(error))
    met = Pair(key=pair.key, source=replace(pair.source, path=here), destination=replace(pair.destination, path=there))
    return judge(met, source, destination, by, retry)


_PROBES = f"{SCRATCH}/"


def is_ours(pair: Pair) -> bool:
    """Whether a key is a probe object of this tool, perhaps of another process that is at work."""
    return pair.key.startswith(_PROBES)


def nested(one: Side, other: Side) -> bool:
    """Whether one side's place is the other's, or inside of it, were both on one storage."""
    here, there = actual(one.root), actual(other.root)
    inside = here.key.startswith(there.key) or there.key.startswith(here.key)
    return here.root == there.root and inside
