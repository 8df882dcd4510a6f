"""Take an object that a client uploaded through a signed URL into its FileObject."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from advanced_alchemy.types.file_object import FileObject

from migrate_storage.backend import attributes as object_attributes
from migrate_storage.backend.read_operations import Reads
from migrate_storage.backend.write_operations import Writes
from migrate_storage.core.errors import ConfigurationError, UploadRefusedError
from migrate_storage.core.model import ObjectMeta
from migrate_storage.core.text import MiB, one_line
from migrate_storage.stores.base import plain_e_tag
from migrate_storage.stores.obstore_store import to_meta
from migrate_storage.stores.sync_async import AWAITING, BLOCKING, Caller, run

__all__ = ("Confirms",)

_UNSPECIFIC = frozenset({"", "application/octet-stream", "binary/octet-stream"})
"""Content types of an upload whose client named none, or a promise of none."""


@dataclass(frozen=True, slots=True)
class _Bounds:
    min_size: int | None
    max_size: int | None
    #: Media types in lower case, such as ``image/png`` or ``image/*``; empty allows all.
    content_types: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.min_size is not None and self.max_size is not None and self.min_size > self.max_size:
            raise ConfigurationError(f"min_size={self.min_size} is more than max_size={self.max_size}")

    def find_problems(self, size: int, content_type: str) -> list[str]:
        problems = []
        if self.min_size is not None and size < self.min_size:
            problems.append(f"it has {size:,} bytes, and at least {self.min_size:,} are required")
        if self.max_size is not None and size > self.max_size:
            problems.append(f"it has {size:,} bytes, and at most {self.max_size:,} are allowed")
        media = _media_type(content_type)
        if self.content_types and not {media, f"{media.partition('/')[0]}/*"} & set(self.content_types):
            problems.append(f"its content type {content_type} is not among {', '.join(self.content_types)}")
        return problems


class Confirms(Reads, Writes):
    """Confirm uploads that did not pass through this process."""

    def confirm(
        self,
        file: FileObject,
        *,
        min_size: int | None = None,
        max_size: int | None = None,
        content_types: Collection[str] | str = (),
        delete_refused: bool = False,
    ) -> FileObject:
        """Check an object that a client uploaded through a signed URL, and describe it in its ``FileObject``.

        What is set in the file already is a promise: its ``size``, ``etag`` and ``checksum`` where they are set, and its
        content type. A checksum is compared by reading the object; anything else takes one request.

        Args:
            file: names the object; its size, etag, version, time and content type are set.
            min_size: bytes that the object must have at least.
            max_size: bytes that it may have at most.
            content_types: allowed media types, such as ``image/png`` or ``image/*``; empty allows all.
            delete_refused: delete an object that is refused. By default it stays.

        Returns:
            ``file``.

        Raises:
            FileNotFoundError: nothing was uploaded, or not yet.
            UploadRefusedError: the object breaks a promise or a bound; the file is unchanged.
            ConfigurationError: ``min_size`` is more than ``max_size``.
        """
        bounds = _Bounds(min_size, max_size, _to_media_types(content_types))
        return run(self._confirm(BLOCKING, file, bounds, delete_refused))

    async def confirm_async(
        self,
        file: FileObject,
        *,
        min_size: int | None = None,
        max_size: int | None = None,
        content_types: Collection[str] | str = (),
        delete_refused: bool = False,
    ) -> FileObject:
        """See :meth:`confirm`."""
        bounds = _Bounds(min_size, max_size, _to_media_types(content_types))
        return await self._confirm(AWAITING, file, bounds, delete_refused)

    async def _confirm(self, caller: Caller, file: FileObject, bounds: _Bounds, delete_refused: bool) -> FileObject:
        store, key = self._locate(file.path)
        with self._translate_errors("confirming", file.path):
            result = await self._send(caller, (store, key), "get", options={"head": True})
            meta, sent = result.meta, object_attributes.decode(result.attributes).content_type or ""
        found = to_meta(file.path, meta)
        content_type = file.content_type if _media_type(sent) in _UNSPECIFIC else sent
        problems = [*_broken_promises(file, found, content_type), *bounds.find_problems(found.size, content_type)]
        if not problems and file.checksum:
            problems = await self._check_checksum(caller, file, found)
        if problems:
            outcome = [await self._delete_refused(caller, file.path, (store, key))] if delete_refused else []
            raise UploadRefusedError(
                f"the upload of {file.path!r} to {self._locator.where} is refused: {'; '.join((*problems, *outcome))}",
                problems,
            )
        file.size, file.etag, file.version_id = found.size, meta["e_tag"] or "", meta["version"]
        file.last_modified = found.last_modified or 0.0
        file._content_type = content_type  # noqa: SLF001 - it has no setter
        return file

    async def _check_checksum(self, caller: Caller, file: FileObject, found: ObjectMeta) -> list[str]:
        """Read the object and compare the promised checksum."""
        kind, _, promised = str(file.checksum).partition(":")
        if kind not in ("sha256", "md5"):
            return [f"its promised checksum is {file.checksum}, which is neither sha256: nor md5:"]
        digest, size = hashlib.new(kind, usedforsecurity=False), 0
        stream = await self._open_stream(caller, file.path, MiB, None)
        while (piece := await self._read_piece(caller, stream, file.path)) is not None:
            digest.update(piece)
            size += len(piece)
        problems = []
        if digest.hexdigest() != promised.lower():
            problems.append(f"its checksum is {kind}:{digest.hexdigest()}, and {file.checksum} was promised")
        if (await self._fetch_head(caller, file.path)).evidence != found.evidence:
            problems.append("it was replaced while it was read")
        return problems

    async def _delete_refused(self, caller: Caller, path: str, at: tuple[Any, str]) -> str:
        try:
            await self._delete_one(caller, path, *at)
        except Exception as error:  # noqa: BLE001 - part of the message; the refusal is the error
            return f"it could not be deleted: {one_line(error)}"
        return "it was deleted"


def _broken_promises(file: FileObject, found: ObjectMeta, content_type: str) -> list[str]:
    problems = []
    if file.size is not None and file.size != found.size:
        problems.append(f"it has {found.size:,} bytes, and {file.size:,} were promised")
    promised = plain_e_tag(file.etag)
    if promised is not None and promised != found.e_tag:
        problems.append(f"its ETag is {found.e_tag}, and {promised} was promised")
    media = _media_type(file.content_type)
    if media not in _UNSPECIFIC and media != _media_type(content_type):
        problems.append(f"its content type is {content_type}, and {file.content_type} was promised")
    return problems


def _media_type(content_type: str) -> str:
    """Return a content type without its parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


def _to_media_types(given: Collection[str] | str) -> tuple[str, ...]:
    return tuple(_media_type(each) for each in ((given,) if isinstance(given, str) else given))
