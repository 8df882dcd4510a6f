"""The words of the house: frozen values that the steps hand on. Standard library only.

One value goes through the pipeline, and each step returns the next one::

    registration -> translate -> plan -> transfer -> verify -> rewrite -> journal -> report
    Column, Route   StoreConfig  Item    Copied      Verified  Rewritten  Outcome    Report
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = (
    "Attributes",
    "Capabilities",
    "Column",
    "Evidence",
    "Location",
    "Note",
    "ObjectMeta",
    "Outcome",
    "OutcomeKind",
    "Place",
    "RowRef",
    "Severity",
    "Slot",
    "Way",
)


class Severity(enum.StrEnum):
    """How much a :class:`Note` matters."""

    INFO = "info"
    """Good to know; nothing to do."""
    WARNING = "warning"
    """Works, but something differs from before: read it."""
    REFUSED = "refused"
    """Cannot be carried over; ``todo`` says what to do instead."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """Something a person should know, from translation, plan or pre-flight."""

    severity: Severity
    #: A stable, dotted code that the docs explain, such as ``s3.region.missing``.
    code: str
    #: What it is, in one line, without any secret.
    message: str
    #: The option, column or store that it speaks of; empty where there is none.
    subject: str = ""
    #: What to do, in one line; empty where there is nothing to do.
    todo: str = ""


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Place:
    """Where bytes physically are, whatever registration names them. Equal places hold the same bytes."""

    #: ``s3``, ``gcs``, ``azure``, ``file``, ``memory``, ``http``, or an fsspec protocol.
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
        return f"{self.service}://{self.root}/{self.key}"


@dataclass(frozen=True, slots=True, order=True)
class Location:
    """Where a row says that one object sits: a backend key, and the filename in the row."""

    backend: str
    path: str

    def __str__(self) -> str:
        return f"{self.backend}:{self.path}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectMeta:
    """What ``head`` tells about one object."""

    path: str
    #: Bytes.
    size: int
    #: The store's entity tag without quotes or ``W/``; ``None`` where it has none.
    e_tag: str | None = None
    #: Seconds since the epoch.
    last_modified: float | None = None
    version: str | None = None
    #: MD5 of the whole content in hex, where the store says that it is one (never guessed from an ETag).
    md5: str | None = None

    @property
    def evidence(self) -> Evidence:
        """What would differ if the object had been replaced."""
        return Evidence(size=self.size, e_tag=self.e_tag, last_modified=self.last_modified, version=self.version)


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """The state of one object at one moment: equal evidence at two moments says it was not replaced between."""

    size: int
    e_tag: str | None = None
    last_modified: float | None = None
    version: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Attributes:
    """What an object carries beside its bytes. ``None`` where the store told nothing."""

    content_type: str | None = None
    content_encoding: str | None = None
    content_language: str | None = None
    content_disposition: str | None = None
    cache_control: str | None = None
    #: User metadata, lower-case keys.
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Capabilities:
    """What one store was seen to do, by probing it. Never deduced from its type."""

    #: ``put`` with ``mode="create"`` refuses to replace an object.
    create_only: bool = False
    #: The ETag of a simple put is the MD5 of the bytes.
    etag_is_md5: bool = False
    #: Content type and user metadata are kept.
    attributes: bool = False
    #: A listing shows at once what stands, what replaced it and that it is gone, with all that a look tells.
    listing: bool = False
    #: The ETag of an upload in parts is the MD5 of the bytes.
    large_etag_is_md5: bool = False
    #: The ETag of an upload in parts is the MD5 of its parts' MD5s.
    large_etag_is_of_parts: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One StoredObject column of one table."""

    table: str
    column: str
    schema: str | None = None
    #: Primary key columns, in key order; never empty.
    key: tuple[str, ...]
    #: The backend key that the column's type names; ``None`` when unknown (a reflected table).
    backend: str | None = None
    #: ``True`` for a list of files; ``None`` when unknown: the values decide.
    multiple: bool | None = None

    def __str__(self) -> str:
        name = f"{self.table}.{self.column}"
        return f"{self.schema}.{name}" if self.schema else name


@dataclass(frozen=True, slots=True)
class RowRef:
    """One slot of one row. ``index`` is the position in a list of files, ``None`` in a single one."""

    column: Column
    pk: tuple[Any, ...]
    index: int | None = None

    def __str__(self) -> str:
        key = ",".join(part.hex() if isinstance(part, bytes) else str(part) for part in self.pk)
        slot = "" if self.index is None else f"[{self.index}]"
        return f"{self.column}[{key}]{slot}"


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot of a row with the file that it names, as the row's JSON has it."""

    ref: RowRef
    file: Mapping[str, Any]


class Way(enum.StrEnum):
    """The four ways to leave fsspec."""

    SWAP = "swap"
    """Same place, same key, same paths: rows and bytes stay; every row is opened through the new registration."""
    REKEY = "rekey"
    """Same place, other key or path: only rows change."""
    MOVE = "move"
    """Another place: copy, verify, re-point each row."""
    TAKE_OVER = "take over"
    """Another place, rows kept: copy everything; the new store is then registered under the old key."""


class OutcomeKind(enum.StrEnum):
    """How an item ended."""

    REWRITTEN = "rewritten"
    """Copied where needed, verified, and every row that names it re-pointed."""
    COPIED = "copied"
    """Copied and verified; the rows were left as they are, as asked."""
    SKIPPED = "skipped"
    """Nothing had to change: opened and found equal, or done before."""
    PURGED = "purged"
    """Deleted, after everything was looked at once more."""
    QUARANTINED = "quarantined"
    """No row names it: moved aside, after everything was looked at once more."""
    RESTORED = "restored"
    """Back from the quarantine, byte for byte."""
    KNOWN = "known"
    """The row names an object that is missing, and somebody marked that as known."""
    ORPHAN = "orphan"
    """The store holds it, and no row names it."""
    CHANGED = "changed"
    """The row or the source was changed by somebody else; theirs stands, and the next pass looks again."""
    MISSING = "missing"
    """The row names an object that the source does not hold."""
    OCCUPIED = "occupied"
    """Something else stands at the destination; it was not overwritten."""
    CONFLICT = "conflict"
    """Source and destination were both changed since the copy; both are kept."""
    ARCHIVED = "archived"
    """The source keeps it in an archive class that must be restored first."""
    UNVERIFIED = "unverified"
    """Copied, but equality could not be proved; the row was left."""
    DIFFERS = "differs"
    """Read back, the destination's bytes are not the source's; the row was left."""
    FAILED = "failed"
    """It could not be moved; the reason says why."""

    @property
    def done(self) -> bool:
        """Whether nothing is left to do, so that the item is not listed and does not make the exit code 1."""
        return self in _DONE


_DONE = frozenset(
    {
        OutcomeKind.REWRITTEN,
        OutcomeKind.COPIED,
        OutcomeKind.SKIPPED,
        OutcomeKind.PURGED,
        OutcomeKind.QUARANTINED,
        OutcomeKind.RESTORED,
        OutcomeKind.KNOWN,
    }
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How one item ended, as a value."""

    kind: OutcomeKind
    source: Location
    destination: Location
    #: One line for a person, without secrets; empty only when ``kind.done``.
    reason: str = ""
    #: Bytes of the object, where known.
    size: int | None = None
    #: How equality was proved: ``md5``, ``etag``, ``read back``, ``same place``, ``journal``; empty when it was not.
    evidence: str = ""
    refs: tuple[RowRef, ...] = ()
    #: Seconds from first request to last.
    seconds: float = 0.0
