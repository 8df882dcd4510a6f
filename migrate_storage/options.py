"""The options of a run: one frozen value, all defaults here. The command line builds it; the engine reads it."""

from __future__ import annotations

from dataclasses import dataclass

from migrate_storage.errors import ConfigurationError

__all__ = ("MiB", "RunOptions")

MiB = 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOptions:
    """How a migration runs.

    Raises:
        ConfigurationError: when a number is out of its range, or two options contradict each other.
    """

    #: Backend key that rows name now.
    source: str
    #: Backend key that rows shall name; ``None`` is the swap: the translation of ``source`` under the same key.
    destination: str | None = None
    #: ``table.column`` names to which the run is narrowed; empty means every StoredObject column.
    columns: tuple[str, ...] = ()
    #: SQL condition on the rows, in the database's own dialect.
    where: str | None = None
    #: At most this many rows, then stop with exit code 4.
    limit: int | None = None
    #: Objects under way at once.
    concurrency: int = 32
    #: Rows read in one short transaction.
    window: int = 500
    #: Copy and verify, leave the rows for a later run.
    copy_only: bool = False
    #: Take over: rows are never rewritten.
    keep_rows: bool = False
    #: Say what would happen, change nothing.
    dry_run: bool = False
    #: Seconds to wait before the last look at sources and before a missing object is listed as missing.
    settle: float = 2.0
    #: Attempts for one request, the first included.
    attempts: int = 5
    #: Bytes of object content held in memory at once, over all workers.
    memory: int = 64 * MiB
    #: URL of another database for the journal; ``None`` keeps it in the application's own.
    journal: str | None = None
    #: Database schema of the journal's tables.
    journal_schema: str | None = None
    #: Seconds after which a run that died without a word no longer holds up the next one.
    lease: float = 15.0
    #: Seconds given to objects in flight after the first interrupt.
    grace: float = 20.0

    def __post_init__(self) -> None:
        for name, least in (
            ("concurrency", 1),
            ("window", 1),
            ("attempts", 1),
            ("memory", MiB),
            ("settle", 0),
            ("lease", 1),
            ("grace", 0),
            ("lease", 1),
        ):
            if getattr(self, name) < least:
                raise ConfigurationError(f"--{name} must be at least {least}, not {getattr(self, name)}")
        if self.limit is not None and self.limit < 1:
            raise ConfigurationError(f"--limit must be at least 1, not {self.limit}")
        if self.copy_only and self.keep_rows:
            raise ConfigurationError(
                "--copy-only and --keep-rows exclude each other: the first leaves rows for a later run, the second for good"
            )
