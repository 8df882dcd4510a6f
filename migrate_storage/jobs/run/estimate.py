"""Count what a run would take, from the lines of its rehearsal, and read a few objects to see how fast that goes."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from itertools import accumulate, islice

from migrate_storage.core.errors import KeyRefusedError
from migrate_storage.core.model import OutcomeKind
from migrate_storage.core.parallel import parallel_map
from migrate_storage.core.text import MiB
from migrate_storage.engine.plan import MigrationPlan
from migrate_storage.engine.transfer import MD5, SMALL_BYTES, part_size
from migrate_storage.jobs.context import JobContext
from migrate_storage.jobs.run.options import RunOptions
from migrate_storage.journal import Journal, ObjectRecord
from migrate_storage.reporting import Estimate
from migrate_storage.stores.failures import FailureKind
from migrate_storage.stores.retry import StoreRequestError

__all__ = ("estimate",)

_LOOKS = 3
"""HEAD requests for each source object: after the copy, after the row's commit, and at the end."""
_READ = 8 * MiB
"""Bytes that are read of one object, at most, to see how fast that goes."""
_SECONDS = 10.0
"""Time after which nothing more is read for that, and what a limited bandwidth may take."""


def estimate(
    route: MigrationPlan,
    journal: Journal,
    run: str,
    options: RunOptions,
    context: JobContext,
    *,
    share: float = 1.0,
) -> Estimate | None:
    """Return what a run would take; ``None`` where it would copy nothing.

    Args:
        route: from where to where.
        journal: holds the lines of the rehearsal.
        run: the rehearsal's id.
        options: ``probe`` says how many objects are read.
        context: the job's retries, and its request to stop.
        share: how much of all rows was rehearsed, where that was a sample: what is counted is reckoned up to all.
    """
    copied = (
        entry
        for batch in journal.objects.of_run(run, outcomes=(OutcomeKind.REWRITTEN, OutcomeKind.COPIED), size=2000)
        for entry in batch
        if entry.evidence == "dry run"
    )
    # Ids are digests, so the first of them are a fair sample.
    sample = list(islice(copied, options.probe))
    counted = Estimate(by_service=route.shared and route.destination.root.service == "s3")
    local = route.source.root.service in ("file", "memory"), route.destination.root.service in ("file", "memory")
    proved = route.destination.root.service == "s3"
    for entry in (*sample, *copied):
        counted = _with(counted, entry, local=local, proved=proved)
    if not counted.objects:
        return None
    return _probed(counted.times(1 / share), sample, route, options, context)


def _with(sum_: Estimate, entry: ObjectRecord, *, local: tuple[bool, bool], proved: bool) -> Estimate:
    """One more object. A disk's requests cost nothing, so they are not counted; S3's tags prove what was written."""
    length = entry.size or 0
    large = length > SMALL_BYTES
    twice = not local[0] and not _tells_digest(entry.source_etag)
    back = not local[1] and not proved
    writes = 2 + math.ceil(length / part_size(length)) if large else 1
    return replace(
        sum_,
        objects=sum_.objects + 1,
        bytes=sum_.bytes + length,
        in_parts=sum_.in_parts + large,
        source_reads=sum_.source_reads + (0 if local[0] else 1 + twice + _LOOKS),
        source_bytes=sum_.source_bytes + length * (1 + twice),
        twice=sum_.twice + twice,
        destination_writes=sum_.destination_writes + (0 if local[1] else writes),
        destination_reads=sum_.destination_reads + (0 if local[1] else 2 + back),
        destination_bytes=sum_.destination_bytes + length * back,
    )


def _tells_digest(tag: str | None) -> bool:
    """Whether a source's tag is likely to be the MD5 of the bytes, or that of an upload in parts."""
    return bool(MD5.fullmatch((tag or "").partition("-")[0]))


def _probed(
    counted: Estimate,
    sample: list[ObjectRecord],
    route: MigrationPlan,
    options: RunOptions,
    context: JobContext,
) -> Estimate:
    read: list[int] = []
    archived: list[str] = []

    def one(entry: ObjectRecord) -> int | None:
        """Bytes read; ``None`` of what is archived, less than nothing of what could not be read or came too late."""
        if time.monotonic() - began > _SECONDS:
            return -1
        try:
            opened = context.retry.call(route.source.resolve(entry.source_path).open)
            count = 0
            for piece in opened.chunks():
                context.checkpoint()
                count += len(piece)
                if count >= _READ or time.monotonic() - began > _SECONDS:
                    break
        except StoreRequestError as error:
            return None if error.failure.kind is FailureKind.ARCHIVED else -1
        except (KeyRefusedError, OSError):
            return -1
        return count

    began = time.monotonic()
    sample = _within(sample, options.bandwidth)
    for entry, count in parallel_map(one, sample, max(1, min(options.concurrency, len(sample)))):
        if count is None:
            archived.append(entry.source_path)
        elif count >= 0:
            read.append(count)
    took = time.monotonic() - began
    done = replace(
        counted, probed=len(read), probed_bytes=sum(read), probed_seconds=took, archived=tuple(archived)
    )  # fmt: skip
    least = []
    if read:
        least.append(took * max(counted.objects / len(read), counted.source_bytes / max(1, sum(read))))
    if options.bandwidth:
        least.append(counted.source_bytes / options.bandwidth)
    if options.max_requests_per_second:
        requests = counted.source_reads + counted.destination_writes + counted.destination_reads
        least.append(requests / options.max_requests_per_second)
    return replace(done, seconds=max(least, default=None))


def _within(sample: list[ObjectRecord], bandwidth: int | None) -> list[ObjectRecord]:
    """As many of the sample as a limited bandwidth lets through in time."""
    if bandwidth is None:
        return sample
    sizes = accumulate(min(_READ, entry.size or 0) for entry in sample)
    return [entry for entry, total in zip(sample, sizes, strict=True) if total <= bandwidth * _SECONDS]
