"""The journal's records of objects, rows, runs and shards, and their ids."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from json.encoder import encode_basestring_ascii
from typing import Any

from migrate_storage.core.model import Column, Evidence, Location, Place
from migrate_storage.core.proofs import SAME_OBJECT, SAME_OBJECT_LISTING
from migrate_storage.database.primary_keys import digest_of, dump_key, row_id_of
from migrate_storage.journal.states import ObjectState, RowState

__all__ = (
    "ObjectRecord",
    "RowRecord",
    "RunRecord",
    "ShardRecord",
    "digest",
    "dump_texts",
    "new_run_id",
    "object_id",
    "object_name",
)


def digest(*parts: str) -> str:
    """A short id of a tuple of texts, which no other tuple has."""
    return digest_of(dump_texts(parts))


def dump_texts(texts: Iterable[str]) -> str:
    """A JSON list of texts, as :func:`json.dumps` writes it, in a third of the time."""
    return f"[{', '.join(map(encode_basestring_ascii, texts))}]"


def object_id(place: Place, destination: str) -> str:
    """The id of an object's record: a digest of its place and its destination key."""
    return digest_of(object_name(place, destination))


def object_name(place: Place, destination: str) -> str:
    """The JSON text of which :func:`object_id` is the digest."""
    return dump_texts((place.service, place.endpoint, place.root, place.key, destination))


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectRecord:
    """The record of one object. The fields are columns of the table of objects."""

    id: str
    run: str
    source_key: str
    source_path: str
    destination_key: str
    destination_path: str
    state: str = ObjectState.INTENT
    written_by_us: bool | None = None
    outcome: str | None = None
    reason: str | None = None
    evidence: str | None = None
    size: int | None = None
    sha256: str | None = None
    source_etag: str | None = None
    source_modified: float | None = None
    source_version: str | None = None
    destination_etag: str | None = None
    destination_modified: float | None = None
    destination_version: str | None = None
    seconds: float | None = None
    #: When the record was last written, by the database's clock; set by the repository.
    updated: float = 0.0
    #: The shard of the run that copied it; ``None`` in a run of one process.
    shard: int | None = None

    @property
    def same_place(self) -> bool:
        """Whether both keys name one object, so that nothing was copied."""
        return self.evidence in (SAME_OBJECT, SAME_OBJECT_LISTING)

    @property
    def source(self) -> Location:
        """The backend key and filename of the source."""
        return Location(self.source_key, self.source_path)

    @property
    def destination(self) -> Location:
        """The backend key and filename of the destination."""
        return Location(self.destination_key, self.destination_path)

    @property
    def source_evidence(self) -> Evidence:
        """The source object as it was when it was copied."""
        etag, modified, version = self.source_etag, self.source_modified, self.source_version
        return Evidence(size=self.size or 0, e_tag=etag, last_modified=modified, version=version)

    @property
    def destination_evidence(self) -> Evidence:
        """The copy as it was when it was verified."""
        etag, modified, version = self.destination_etag, self.destination_modified, self.destination_version
        return Evidence(size=self.size or 0, e_tag=etag, last_modified=modified, version=version)


@dataclass(frozen=True, kw_only=True, slots=True)
class RowRecord:
    """The record of one re-pointed column of one row."""

    run: str
    column: Column
    pk: tuple[Any, ...]
    objects: tuple[str, ...]
    old_value: str
    new_value: str
    state: str = RowState.REPOINTED
    #: The primary key as JSON with its types.
    dumped_pk: str = field(init=False, repr=False)
    #: Digest of table, column and key.
    row_id: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dumped_pk", dump_key(self.pk))
        object.__setattr__(self, "row_id", row_id_of(self.column, self.dumped_pk))


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRecord:
    """The record of one run."""

    id: str
    kind: str
    source: str
    destination: str
    way: str
    state: str
    #: All times are seconds since the epoch by the database's clock.
    started: float
    updated: float
    finished: float | None = None
    #: The report as JSON.
    report: str | None = None
    #: What ``control`` requested, as JSON.
    control: str | None = None
    #: The last progress as JSON.
    progress: str | None = None
    #: The rule by which the run named its copies, as ``--rename`` has it; ``None`` where they kept their filenames.
    renaming: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardRecord:
    """The record of one shard of a run. The last one, number ``total``, ends the run."""

    run: str
    number: int
    total: int
    plan: str
    #: By column, the keys that bound the shard, as JSON.
    bounds: str = "{}"
    state: str = "open"
    report: str | None = None
    progress: str | None = None

    @property
    def done(self) -> bool:
        """Whether all work of the shard is done."""
        return self.state == "done"


def new_run_id() -> str:
    """A new id of a run, with the time of this machine's clock for a person. Runs are sorted by ``started``."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{uuid.uuid4().hex[:8]}"
