"""The options of a run, with all defaults."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.preservation import Preservation, check_preservation
from migrate_storage.core.text import MiB
from migrate_storage.core.timetable import Bandwidth, check_bandwidth
from migrate_storage.jobs.census_options import CensusOptions

__all__ = ("INVALID_KEYS", "MANIFEST_FORMATS", "RunOptions")

INVALID_KEYS = ("fail", "encode")
MANIFEST_FORMATS = ("s3-batch", "storage-transfer", "rclone")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOptions(CensusOptions):
    """How a migration runs.

    Raises:
        ConfigurationError: when a number is out of its range, or two options contradict each other.
    """

    #: Backend key that rows name now.
    source: str
    #: Backend key that rows shall name; ``None`` migrates in place: the translation of ``source`` under the same key.
    destination: str | None = None
    #: ``table.column`` names to which the run is narrowed; empty means every StoredObject column.
    columns: tuple[str, ...] = ()
    #: SQL condition on the rows, in the database's own dialect.
    where: str | None = None
    #: At most this many rows, then stop with exit code 4.
    limit: int | None = None
    #: Objects under way at once; ``None`` begins with 32, and takes more while that is faster.
    concurrency: int | None = None
    #: Rows read in one short transaction.
    batch_size: int = 500
    #: Patterns of filenames, see :mod:`migrate_storage.core.filters`; empty includes all.
    include: tuple[str, ...] = ()
    #: Patterns of filenames that are left alone, included or not.
    exclude: tuple[str, ...] = ()
    #: What is done with a key that the destination cannot address: ``fail`` (listed) or ``encode``.
    invalid_keys: str = "fail"
    #: Gives copies other filenames: ``PATTERN=>REPLACEMENT``, or ``module:function``; ``None`` keeps them.
    rename: str | None = None
    #: Bytes of content read in a second, over all objects under way; ``None`` sets no limit.
    bandwidth: Bandwidth | None = None
    #: Requests in a second, about; ``None`` sets no limit.
    max_requests_per_second: float | None = None
    #: Bytes of content after which no further object is begun, with exit code 4.
    max_bytes: int | None = None
    #: Seconds after which no further object is begun, with exit code 4.
    max_duration: float | None = None
    #: SQL query on the rows' database: while its first value is true, or a number above zero, the run pauses.
    throttle_query: str | None = None
    #: Seconds that a replica of the rows' database may lag behind before the run pauses.
    max_replica_lag: float | None = None
    #: URLs of replicas to ask how far they lag; empty asks the primary, where it knows.
    replicas: tuple[str, ...] = ()
    #: The storage class of each copy; ``None`` leaves it to the destination's default.
    storage_class: str | None = None
    #: What a copy takes over from its source beside headers and user metadata: ``storage-class``, ``tags``.
    preserve: tuple[str, ...] = ()
    #: Copy and verify, leave the rows for a later run.
    copy_only: bool = False
    #: Take over: rows are never rewritten.
    keep_rows: bool = False
    #: Check again everything that earlier runs between the two keys copied, and repair what changed or is gone.
    recheck: bool = False
    #: Objects that a dry run reads to see how fast that goes, and whether they are archived; 0 reads none.
    probe: int = 0
    #: Report what would happen; change nothing.
    dry_run: bool = False
    #: Rows that a dry run reads, spread over each column, where more name ``source``; 0 reads all.
    sample: int = 1000
    #: A file to which a dry run writes each object that would be copied; it then reads all rows.
    manifest: Path | None = None
    #: The program that is to read it: ``s3-batch``, ``storage-transfer`` or ``rclone``.
    manifest_format: str = "rclone"
    #: Seconds to wait before the final check of sources, and before a missing object is reported as missing.
    settle_time: float = 2.0
    #: Attempts for one request, the first included.
    max_attempts: int = 5
    #: Bytes of object content in memory at once, over all workers.
    max_memory: int = 64 * MiB
    #: Backend keys whose ETags have the form of MD5s and are none, so that two reads that agree count as proof.
    opaque_etags: tuple[str, ...] = ()
    #: Backend keys whose listings show each write that was acknowledged before, so that one replaces many HEADs.
    consistent_listings: tuple[str, ...] = ()
    #: A prefix of filenames of ``source``, behind which canary objects may be written there: a page of a listing that shows
    #: one is fresh, and replaces HEADs. An empty one allows them behind each file; ``None`` forbids them.
    canary_prefix: str | None = None
    #: URL of another database for the journal; ``None`` keeps it in the application's own.
    journal: str | None = None
    #: Database schema of the journal's tables.
    journal_schema: str | None = None
    #: Seconds after which a killed run no longer blocks the next one.
    lease_ttl: float = 15.0
    #: Seconds given to objects in flight after the first interrupt.
    shutdown_timeout: float = 20.0

    def __post_init__(self) -> None:
        CensusOptions.__post_init__(self)
        for name, least in (
            ("concurrency", 1), ("batch_size", 1), ("max_attempts", 1), ("max_memory", MiB), ("settle_time", 0), ("probe", 0),
            ("sample", 0), ("lease_ttl", 1), ("shutdown_timeout", 0),
        ):  # fmt: skip
            if (value := getattr(self, name)) is not None and value < least:
                raise ConfigurationError(f"--{name.replace('_', '-')} must be at least {least}, not {value}")
        if self.limit is not None and self.limit < 1:
            raise ConfigurationError(f"--limit must be at least 1, not {self.limit}")
        check_bandwidth(self.bandwidth)
        for name in ("max_requests_per_second", "max_bytes", "max_duration"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConfigurationError(
                    f"--{name.replace('_', '-')} must be more than 0, not {value}; leave it out for no limit"
                )
        if self.max_replica_lag is not None and self.max_replica_lag < 0:
            raise ConfigurationError(f"--max-replica-lag must be at least 0, not {self.max_replica_lag}")
        if self.replicas and self.max_replica_lag is None:
            raise ConfigurationError("--replicas names whom to ask; --max-replica-lag SECONDS sets what is too much")
        if self.invalid_keys not in INVALID_KEYS:
            raise ConfigurationError(f"--invalid-keys must be {' or '.join(INVALID_KEYS)}, not {self.invalid_keys!r}")
        check_preservation(self.preservation)
        if self.destination is None and self.preservation.is_asked:
            raise ConfigurationError(
                "--storage-class and --preserve are about copies, and an in-place run makes none: give --to KEY"
            )
        self._check_rename()
        self._check_recheck()
        self._check_manifest()
        if self.copy_only and self.keep_rows:
            raise ConfigurationError(
                "--copy-only and --keep-rows exclude each other: the first leaves rows for a later run, the second for good"
            )

    @property
    def preservation(self) -> Preservation:
        """What copies get beside bytes, headers and user metadata."""
        return Preservation(storage_class=self.storage_class, preserve=self.preserve)

    def _check_rename(self) -> None:
        """Refuse other names where no copy is made, or where rows would not have them."""
        if self.rename is None:
            return
        if self.destination is None:
            raise ConfigurationError("--rename gives copies other names, and an in-place run makes none: give --to KEY")
        if self.keep_rows:
            raise ConfigurationError(
                "--rename goes without --keep-rows: rows that stay have the names of today, and no copy would have them"
            )

    def _check_recheck(self) -> None:
        """Refuse what leaves rows with a wrong size: each row that names a copy that is made anew must get its size."""
        if not self.recheck:
            return
        if self.destination is None:
            raise ConfigurationError("--recheck checks copies, and an in-place run makes none: give --to KEY")
        given = {
            "--dry-run": self.dry_run, "--copy-only": self.copy_only, "--keep-rows": self.keep_rows,
            "--where": self.where, "--limit": self.limit,
        }  # fmt: skip
        for flag, value in given.items():
            if value:
                instead = "verify changes nothing" if flag == "--dry-run" else "it updates each row that names a copy"
                raise ConfigurationError(f"--recheck goes without {flag}: {instead}")

    def _check_manifest(self) -> None:
        """Refuse a manifest of what no dry run sees, or sees in part."""
        if self.manifest_format not in MANIFEST_FORMATS:
            raise ConfigurationError(
                f"--manifest-format must be {', '.join(MANIFEST_FORMATS)}, not {self.manifest_format!r}"
            )
        if self.manifest is None:
            return
        if self.destination is None:
            raise ConfigurationError("--manifest lists what is copied, and without --to KEY nothing is")
        if not self.dry_run:
            raise ConfigurationError("--manifest is written by a plan, before the run")
        given = {"--limit": self.limit, "--max-bytes": self.max_bytes, "--max-duration": self.max_duration}
        for flag, value in given.items():
            if value is not None:
                raise ConfigurationError(f"--manifest goes without {flag}: it lists all that would be copied")
