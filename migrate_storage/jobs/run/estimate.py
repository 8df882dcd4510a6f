"""Estimate a run from the journal records of its dry run, and read a few objects to measure the speed."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from itertools import accumulate, islice

from migrate_storage.core.errors import KeyRefusedError
from migrate_storage.core.model import OutcomeKind
from migrate_storage.core.parallel import parallel_map
from migrate_storage.core.proofs import DRY_RUN
from migrate_storage.core.text import MiB
from migrate_storage.core.timetable import current_rate
from migrate_storage.engine.plan import MigrationPlan
from migrate_storage.engine.transfer import MD5, SMALL_BYTES, part_size
from migrate_storage.jobs.context import DEFAULT_CONCURRENCY, JobContext
from migrate_storage.jobs.run.options import RunOptions
from migrate_storage.journal import Journal, ObjectRecord
from migrate_storage.reporting import Estimate
from migrate_storage.stores.backend_store import READS_PER_OBJECT
from migrate_storage.stores.base import is_content_tag
from migrate_storage.stores.failures import FailureKind
from migrate_storage.stores.retry import StoreRequestError

__all__ = ("estimate",)

HEADS_PER_OBJECT = 3
"""HEAD requests for each source object: after the copy, after the row's commit, and at the end."""
PROBE_BYTES_PER_OBJECT = 8 * MiB
"""Bytes read of one object, at most, to measure the speed."""
PROBE_SECONDS = 10.0
"""Time after which no more bytes are read for that, also with a limited bandwidth."""


def estimate(
    route: MigrationPlan, journal: Journal, run: str, options: RunOptions, context: JobContext, *, share: float = 1.0
) -> Estimate | None:
    """Return what a run would take; ``None`` where it would copy nothing.

    Args:
        route: from where to where.
        journal: has the records of the dry run.
        run: the dry run's id.
        options: ``probe`` is the number of objects to read.
        context: the job's retries, and its request to stop.
        share: the share of all rows that the dry run read as a sample: counts are extrapolated to all.
    """
    copied = (
        record
        for batch in journal.objects.of_run(run, outcomes=(OutcomeKind.REPOINTED, OutcomeKind.COPIED), size=2000)
        for record in batch
        if record.evidence == DRY_RUN
    )
    # Ids are digests, so the first of them are a fair sample.
    sample = list(islice(copied, options.probe))
    counted = Estimate(by_service=route.shared and route.destination.root.service == "s3")
    local = route.source.root.service in ("file", "memory"), route.destination.root.service in ("file", "memory")
    proved = route.destination.root.service == "s3"
    for record in (*sample, *copied):
        counted = _add_object(counted, record, local=local, proved=proved)
    if not counted.objects:
        return None
    return _probe_speed(counted.times(1 / share), sample, route, options, context)


def _add_object(sum_: Estimate, record: ObjectRecord, *, local: tuple[bool, bool], proved: bool) -> Estimate:
    """Add one object. A disk's requests cost nothing and are not counted; S3's ETags prove what was written."""
    length = record.size or 0
    large = length > SMALL_BYTES
    twice = not local[0] and not _is_digest(record.source_etag)
    whole = is_content_tag(record.source_etag)
    reads, bodies = (READS_PER_OBJECT, READS_PER_OBJECT) if whole else (1 + twice + HEADS_PER_OBJECT, 1 + twice)
    back = not local[1] and not proved
    writes = 2 + math.ceil(length / part_size(length)) if large else 1
    return replace(
        sum_,
        objects=sum_.objects + 1,
        bytes=sum_.bytes + length,
        in_parts=sum_.in_parts + large,
        source_reads=sum_.source_reads + (0 if local[0] else reads),
        source_bytes=sum_.source_bytes + length * bodies,
        twice=sum_.twice + twice,
        destination_writes=sum_.destination_writes + (0 if local[1] else writes),
        destination_reads=sum_.destination_reads + (0 if local[1] else 2 + back),
        destination_bytes=sum_.destination_bytes + length * back,
    )


def _is_digest(tag: str | None) -> bool:
    """Whether a source's ETag is likely to be the MD5 of the bytes, or of a multipart upload."""
    return bool(MD5.fullmatch((tag or "").partition("-")[0]))


def _probe_speed(
    counted: Estimate, sample: list[ObjectRecord], route: MigrationPlan, options: RunOptions, context: JobContext
) -> Estimate:
    read: list[int] = []
    archived: list[str] = []

    def read_piece(record: ObjectRecord) -> int | None:
        """Return the bytes read; ``None`` for an archived object, -1 for one that failed or came too late."""
        if time.monotonic() - began > PROBE_SECONDS:
            return -1
        try:
            opened = context.retry.call(route.source.resolve(record.source_path).open)
            count = 0
            for piece in opened.chunks():
                context.checkpoint()
                count += len(piece)
                if count >= PROBE_BYTES_PER_OBJECT or time.monotonic() - began > PROBE_SECONDS:
                    break
        except StoreRequestError as error:
            return None if error.failure.kind is FailureKind.ARCHIVED else -1
        except (KeyRefusedError, OSError):
            return -1
        return count

    began = time.monotonic()
    bandwidth = current_rate(options.bandwidth)
    sample = _fit_bandwidth(sample, bandwidth)
    for record, count in parallel_map(
        read_piece, sample, max(1, min(options.concurrency or DEFAULT_CONCURRENCY, len(sample)))
    ):
        if count is None:
            archived.append(record.source_path)
        elif count >= 0:
            read.append(count)
    took = time.monotonic() - began
    done = replace(counted, probed=len(read), probed_bytes=sum(read), probed_seconds=took, archived=tuple(archived))
    least = []
    if read:
        least.append(took * max(counted.objects / len(read), counted.source_bytes / max(1, sum(read))))
    if bandwidth:
        least.append(counted.source_bytes / bandwidth)
    if options.max_requests_per_second:
        requests = counted.source_reads + counted.destination_writes + counted.destination_reads
        least.append(requests / options.max_requests_per_second)
    return replace(done, seconds=max(least, default=None))


def _fit_bandwidth(sample: list[ObjectRecord], bandwidth: float | None) -> list[ObjectRecord]:
    """Return as much of the sample as a limited bandwidth lets through in time."""
    if bandwidth is None:
        return sample
    sizes = accumulate(min(PROBE_BYTES_PER_OBJECT, record.size or 0) for record in sample)
    return [record for record, total in zip(sample, sizes, strict=True) if total <= bandwidth * PROBE_SECONDS]
