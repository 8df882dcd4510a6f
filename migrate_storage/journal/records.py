"""What the journal's lines say: an object's, a row's, a run's; and how they are named."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from migrate_storage.core.model import Column, Evidence, Location, Place
from migrate_storage.database.primary_keys import digest_of

__all__ = (
    "SAME_PLACE",
    "SAME_PLACE_LISTED",
    "ObjectRecord",
    "RowRecord",
    "RunRecord",
    "ShardRecord",
    "digest",
    "new_run_id",
    "object_id",
    "object_name",
)


SAME_PLACE = "same place"
"""Proof that both keys name one object: a look through each."""
SAME_PLACE_LISTED = "same place, listed"
"""The same, and a listing in place of the looks."""


def digest(*parts: str) -> str:
    """A short name for a tuple of strings that no other tuple shares."""
    return digest_of(json.dumps(parts))


def object_id(place: Place, destination: str) -> str:
    """The name of an object's line: its physical place and the backend key it goes to, however rows spell it."""
    return digest_of(object_name(place, destination))


def object_name(place: Place, destination: str) -> str:
    """What :func:`object_id` is the digest of, as JSON."""
    return json.dumps([place.service, place.endpoint, place.root, place.key, destination])


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectRecord:
    """One object's line."""

    id: str
    run: str
    source_key: str
    source_path: str
    destination_key: str
    destination_path: str
    state: str = "intent"
    ours: bool | None = None
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
    updated: float = field(default_factory=time.time)
    #: The range of the run in which it was carried; ``None`` in a run that is one process's.
    part: int | None = None

    @property
    def same_place(self) -> bool:
        """Whether both keys name one object: nothing was copied, and what is deleted here is gone there."""
        return self.evidence in (SAME_PLACE, SAME_PLACE_LISTED)

    @property
    def source(self) -> Location:
        """Where it came from."""
        return Location(self.source_key, self.source_path)

    @property
    def destination(self) -> Location:
        """Where it went."""
        return Location(self.destination_key, self.destination_path)

    @property
    def source_evidence(self) -> Evidence:
        """The source object as it was when it was copied."""
        return Evidence(
            size=self.size or 0, e_tag=self.source_etag, last_modified=self.source_modified, version=self.source_version
        )

    @property
    def destination_evidence(self) -> Evidence:
        """The copy as it was when it was verified."""
        return Evidence(
            size=self.size or 0,
            e_tag=self.destination_etag,
            last_modified=self.destination_modified,
            version=self.destination_version,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class RowRecord:
    """One rewritten column of one row."""

    run: str
    column: Column
    pk: tuple[Any, ...]
    objects: tuple[str, ...]
    old_value: str
    new_value: str
    state: str = "swapped"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRecord:
    """One run's line. ``report`` is its report as JSON, once there is one."""

    id: str
    kind: str
    source: str
    destination: str
    way: str
    state: str
    started: float
    updated: float
    finished: float | None = None
    report: str | None = None
    #: What ``control`` wants of it, as JSON.
    wanted: str | None = None
    #: What it was doing when it last wrote, as JSON.
    doing: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardRecord:
    """One range of a job that several processes share. The one whose number is ``total`` is the job's end."""

    run: str
    number: int
    total: int
    plan: str
    #: By column, as JSON, the keys between which it lies.
    bounds: str = "{}"
    state: str = "open"
    report: str | None = None
    doing: str | None = None

    @property
    def done(self) -> bool:
        """Whether nothing is left to do in it."""
        return self.state == "done"


def new_run_id() -> str:
    """A fresh name for a run, sortable by time."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{uuid.uuid4().hex[:8]}"
