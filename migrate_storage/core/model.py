"""Immutable value types that every package uses. Standard library only."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = (
    "Attributes", "Capabilities", "Column", "Evidence", "Location", "Note", "ObjectMeta", "Outcome", "OutcomeKind",
    "Place", "RowRef", "Severity", "Slot", "Strategy",
)  # fmt: skip


class Severity(enum.StrEnum):
    """How much a :class:`Note` matters."""

    INFO = "info"
    """Nothing to do."""
    WARNING = "warning"
    """It works, but something differs from before."""
    REFUSED = "refused"
    """It cannot be translated; ``todo`` has the alternative."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """A diagnostic for a person, from translation, plan or pre-flight."""

    severity: Severity
    #: A stable, dotted code that the documentation explains, such as ``s3.region.missing``.
    code: str
    #: The finding in one line, without any secret.
    message: str
    #: The option, column or store that it is about; empty where there is none.
    subject: str = ""
    #: What to do, in one line; empty where there is nothing to do.
    todo: str = ""


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Place:
    """The physical place of an object. Equal places are one object."""

    #: ``s3``, ``gcs``, ``azure``, ``file``, ``memory``, ``http``, an fsspec protocol, or ``own`` for a class of the application.
    service: str
    #: The service's endpoint, normalised (scheme, host, port, no trailing slash); empty for the vendor's own.
    endpoint: str
    #: Bucket or container; ``/`` for local disks.
    root: str
    #: The full key inside ``root``, the registration's prefix included.
    key: str

    def __str__(self) -> str:
        if self.service == "file":
            return "/" + self.key.lstrip("/")
        if self.service == "own":
            return f"{self.endpoint}:{self.key}"
        return f"{self.service}://{self.root}/{self.key}"


@dataclass(frozen=True, slots=True, order=True)
class Location:
    """An object as a row names it: by a backend key and a filename."""

    backend: str
    path: str

    def __str__(self) -> str:
        return f"{self.backend}:{self.path}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectMeta:
    """The metadata of one object that HEAD returns."""

    path: str
    #: Bytes.
    size: int
    #: The store's entity tag without quotes or ``W/``; ``None`` where it has none.
    e_tag: str | None = None
    #: Seconds since the epoch.
    last_modified: float | None = None
    version: str | None = None
    #: MD5 of the whole content in hex, where the store gives one. It is not derived from an ETag.
    md5: str | None = None

    @property
    def evidence(self) -> Evidence:
        """What would differ if the object were replaced."""
        return Evidence(size=self.size, e_tag=self.e_tag, last_modified=self.last_modified, version=self.version)


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """The state of an object at one moment; equal if it was not replaced."""

    size: int
    e_tag: str | None = None
    last_modified: float | None = None
    version: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Attributes:
    """Headers and user metadata of an object. ``None`` where the store gave nothing."""

    content_type: str | None = None
    content_encoding: str | None = None
    content_language: str | None = None
    content_disposition: str | None = None
    cache_control: str | None = None
    #: User metadata, lower-case keys.
    metadata: Mapping[str, str] = field(default_factory=dict)
    #: Written only, and no part of a comparison: the storage class, and tags. See :mod:`migrate_storage.engine.preserve`.
    storage_class: str | None = field(default=None, compare=False)
    #: Encoded as in a URL's query: ``name=value&name=value``.
    tags: str | None = field(default=None, compare=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Capabilities:
    """Capabilities of one store, found by a probe and not derived from its type."""

    #: ``put`` with ``mode="create"`` refuses to replace an object.
    create_only: bool = False
    #: The ETag of a simple put is the MD5 of the bytes.
    etag_is_md5: bool = False
    #: Content type and user metadata are kept.
    attributes: bool = False
    #: Listings are strongly consistent and include size, ETag and last-modified.
    listing: bool = False
    #: The ETag of an upload in parts is the MD5 of the bytes.
    large_etag_is_md5: bool = False
    #: The ETag of an upload in parts is the MD5 of its parts' MD5s.
    large_etag_is_of_parts: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One column whose rows name files."""

    table: str
    column: str
    schema: str | None = None
    #: Primary key columns, in key order; never empty.
    key: tuple[str, ...]
    #: The backend key that the column's type names; ``None`` when unknown (a reflected table).
    backend: str | None = None
    #: ``True`` for a list of files; ``None`` when unknown: the values decide.
    multiple: bool | None = None
    #: No model declares it. Files are found at any depth of its JSON, and everything else in it is the application's.
    nested: bool = False

    def __str__(self) -> str:
        name = f"{self.table}.{self.column}"
        return f"{self.schema}.{name}" if self.schema else name


@dataclass(frozen=True, slots=True)
class RowRef:
    """A slot: one file reference of one row."""

    column: Column
    pk: tuple[Any, ...]
    #: Where the file is in the row's JSON: ``()`` for a single file, ``(3,)`` in a list, ``("gallery", 0)`` nested.
    path: tuple[str | int, ...] = ()

    def __str__(self) -> str:
        key = ",".join(part.hex() if isinstance(part, bytes) else str(part) for part in self.pk)
        return f"{self.column}[{key}]{self.slot}"

    @property
    def in_metadata(self) -> bool:
        """Whether it is inside of a model's file, where ``backend`` and ``filename`` may mean anything."""
        return not self.column.nested and any(isinstance(part, str) for part in self.path)

    @property
    def slot(self) -> str:
        """The path for a person: ``[3]``, ``.gallery[0]``, ``["a key"]``; empty for a single file."""
        return "".join(
            f".{part}" if isinstance(part, str) and part.isidentifier() else f"[{json.dumps(part, ensure_ascii=False)}]"
            for part in self.path
        )


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot with its file, as the row's JSON has it."""

    ref: RowRef
    file: Mapping[str, Any]

    @property
    def location(self) -> Location:
        """The backend key and the filename."""
        return Location(self.file["backend"], self.file["filename"])


class Strategy(enum.StrEnum):
    """The four strategies of a migration."""

    IN_PLACE = "in_place"
    """Same place, same key, same paths: rows and bytes stay. Every object is opened through the new registration."""
    REKEY = "rekey"
    """Same place, other key or path: only rows change."""
    MOVE = "move"
    """Another place: copy, verify, re-point each row."""
    MIRROR = "mirror"
    """Another place, rows stay: copy everything. The new store is then registered under the old key."""

    @property
    def words(self) -> str:
        """The strategy as words of a text."""
        return self.value.replace("_", " ")


class OutcomeKind(enum.StrEnum):
    """The kind of an outcome."""

    REPOINTED = "repointed"
    """Copied where needed, verified, and every row that names it re-pointed."""
    REVERTED = "reverted"
    """The row names the old key again."""
    COPIED = "copied"
    """Copied and verified. The rows stay, as requested."""
    UNCHANGED = "unchanged"
    """Nothing had to change: the objects are equal, or it was done before."""
    KEPT = "kept"
    """A purge did not delete it, for the given reason."""
    IN_USE = "in_use"
    """It is no orphan, for the given reason."""
    DELETED = "deleted"
    """Deleted, after both objects were checked once more."""
    QUARANTINED = "quarantined"
    """Moved to the quarantine, after a last check that no row names it."""
    RESTORED = "restored"
    """Copied back from the quarantine, byte for byte."""
    KNOWN_MISSING = "known_missing"
    """The row names a missing object, which a person acknowledged."""
    ORPHAN = "orphan"
    """The store has it, and no row names it."""
    MODIFIED = "modified"
    """Another process changed the row or the source. Its change is kept, and the next pass tries again."""
    MISSING = "missing"
    """The row names an object that the source does not have."""
    DESTINATION_EXISTS = "destination_exists"
    """The destination has another object under the key, which was not overwritten."""
    CONFLICT = "conflict"
    """Source and destination were both changed since the copy. Both are kept."""
    ARCHIVED = "archived"
    """The source has it in an archive class, from which it must be restored first."""
    UNVERIFIED = "unverified"
    """Copied, but equality could not be proved. The row was not changed."""
    MISMATCH = "mismatch"
    """The destination's bytes, read back, are not the source's. The row was not changed."""
    FAILED = "failed"
    """It failed for the given reason."""

    @property
    def done(self) -> bool:
        """Whether no work is left. Other objects are problems, and the exit code is 1."""
        return self in _DONE

    @property
    def words(self) -> str:
        """The kind as words of a text."""
        return self.value.replace("_", " ")


_DONE = frozenset({
    OutcomeKind.REPOINTED, OutcomeKind.REVERTED, OutcomeKind.COPIED, OutcomeKind.UNCHANGED, OutcomeKind.KEPT,
    OutcomeKind.IN_USE, OutcomeKind.DELETED, OutcomeKind.QUARANTINED, OutcomeKind.RESTORED, OutcomeKind.KNOWN_MISSING,
})  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """The outcome of one object."""

    kind: OutcomeKind
    source: Location
    destination: Location
    #: The reason in one line, without secrets; it may be empty when ``kind.done``.
    reason: str = ""
    #: Bytes of the object, where the size is known.
    size: int | None = None
    #: How equality was proved, as tokens of :mod:`migrate_storage.core.proofs`; empty when it was not.
    verified_by: str = ""
    refs: tuple[RowRef, ...] = ()
    #: Seconds from first request to last.
    seconds: float = 0.0
