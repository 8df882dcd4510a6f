"""The options of a sync."""

from __future__ import annotations

from dataclasses import dataclass, field

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.filters import Filters, ObjectBounds
from migrate_storage.core.preservation import Preservation, check_preservation
from migrate_storage.core.text import MiB
from migrate_storage.core.timetable import Bandwidth, check_bandwidth
from migrate_storage.jobs.census_options import CensusOptions

__all__ = ("SyncOptions",)


@dataclass(frozen=True, kw_only=True, slots=True)
class SyncOptions(CensusOptions):
    """How a sync runs.

    Raises:
        ConfigurationError: when a number is out of its range, or two options contradict each other.
    """

    #: The keys that the sync deals with.
    filters: Filters = field(default_factory=Filters)
    #: Sizes and ages of the objects that the sync deals with. It neither copies nor deletes others.
    bounds: ObjectBounds = field(default_factory=ObjectBounds)
    #: ``None`` compares a digest that both sides report, else their times; ``checksum`` reads both instead; ``size`` is content
    #: with equal sizes.
    by: str | None = None
    #: Delete what only the destination has.
    delete: bool = False
    #: More than this, and nothing is deleted: a number, or a share of the destination's objects such as ``50%``.
    max_delete: str = "50%"
    #: Seconds for which an object at the destination is never deleted.
    min_age: float = 3600.0
    #: Seconds between two passes; ``None`` makes one.
    watch: float | None = None
    #: Objects under way at once; ``None`` begins with 32, and takes more while that is faster.
    concurrency: int | None = None
    bandwidth: Bandwidth | None = None
    max_requests_per_second: float | None = None
    max_bytes: int | None = None
    max_duration: float | None = None
    max_attempts: int = 5
    max_memory: int = 64 * MiB
    #: See :class:`migrate_storage.jobs.run.options.RunOptions`.
    storage_class: str | None = None
    preserve: tuple[str, ...] = ()
    #: Keys, folders or URLs of stores whose ETags are no digests, see :class:`migrate_storage.jobs.run.options.RunOptions`.
    opaque_etags: tuple[str, ...] = ()
    dry_run: bool = False
    #: URL of the journal's database; ``None`` keeps it with the rows, or in a file of our own.
    journal: str | None = None
    journal_schema: str | None = None
    lease_ttl: float = 15.0
    shutdown_timeout: float = 20.0

    def __post_init__(self) -> None:
        CensusOptions.__post_init__(self)
        for name, least in (
            ("concurrency", 1),
            ("max_attempts", 1),
            ("max_memory", MiB),
            ("lease_ttl", 1),
            ("min_age", 0),
        ):
            if (value := getattr(self, name)) is not None and value < least:
                raise ConfigurationError(f"--{name.replace('_', '-')} must be at least {least}, not {value}")
        check_bandwidth(self.bandwidth)
        for name in ("max_requests_per_second", "max_bytes", "max_duration", "watch"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConfigurationError(f"--{name.replace('_', '-')} must be more than 0, not {value}")
        if self.by not in (None, "checksum", "size"):
            raise ConfigurationError(f"objects are compared by checksum or by size, not by {self.by!r}")
        if self.watch is not None and self.dry_run:
            raise ConfigurationError("--watch repeats what --dry-run only rehearses: give one of them")
        self.most_deleted(0)
        check_preservation(self.preservation)

    @property
    def preservation(self) -> Preservation:
        """What copies get beside bytes, headers and user metadata."""
        return Preservation(storage_class=self.storage_class, preserve=self.preserve)

    def most_deleted(self, held: int) -> int:
        """Return how many objects may be deleted where the destination has so many."""
        text = self.max_delete.strip()
        try:
            most = int(held * float(text[:-1]) / 100) if text.endswith("%") else int(text)
        except ValueError:
            most = -1
        if most < 0:
            raise ConfigurationError(f"--max-delete {self.max_delete!r} is neither a number nor a share such as 10%")
        return most
