"""What a run has to do, measured in the database alone, to choose how many processes do it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from migrate_storage.application.application import Application
from migrate_storage.database.file_column import FileColumn
from migrate_storage.database.file_json import BrokenValueError, parse_slots
from migrate_storage.engine.plan import is_nested
from migrate_storage.jobs.connections import connected, find_backend
from migrate_storage.jobs.distributed.worker_count import Workload, is_for_one_process
from migrate_storage.jobs.run.options import RunOptions
from migrate_storage.stores.resolved_backend import ResolvedBackend

__all__ = ("measure_workload",)

_SAMPLE_ROWS = 50


def measure_workload(application: Application, options: RunOptions) -> Workload | None:
    """Count the rows of a run that several processes may share; no request is sent to a store.

    Args:
        application: its columns and backends.
        options: the run's options.

    Returns:
        ``None`` where one process has to do the run, or does it as fast: on SQLite and DuckDB; in place, as a re-key, as a dry run,
        with ``limit`` or ``recheck``; with few rows; and where a limit of bandwidth or requests is the bound.

    Raises:
        ConfigurationError: no such key or column.
    """
    single = options.dry_run or options.recheck or options.limit is not None or options.destination is None
    if single or options.bandwidth is not None or options.max_requests_per_second is not None:
        return None
    with connected(application, options.journal, options.journal_schema) as (database, journal):
        if not all(each.dialect.parallel_writers for each in (database, journal.database)):
            return None
        columns = application.select(options.columns)
        rows = [FileColumn(database, column, where=options.where) for column in columns]
        left = sum(each.estimate(options.source) for each in rows)
        if is_for_one_process(left):
            return None
        source, destination = (
            ResolvedBackend(find_backend(application.backends, key))
            for key in (options.source, options.destination or "")
        )
        if source.root.service == destination.root.service and is_nested(source, destination):
            return None  # it may be a re-key, which the database does
        sizes = [size for each in rows for size in _sample_sizes(each, source.key)]
        return Workload(
            rows=left,
            mean_bytes=sum(sizes) / len(sizes) if sizes else None,
        )


def _sample_sizes(rows: FileColumn, backend: str) -> Iterator[int]:
    for row in rows.sample(_SAMPLE_ROWS, backend):
        with contextlib.suppress(BrokenValueError):
            for slot in parse_slots(rows.column, row):
                if slot.file["backend"] == backend and isinstance(size := slot.file.get("size"), int):
                    yield size
