"""What the times of two sides prove: a time from the future proves nothing, and no time is copied anew for ever."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from migrate_storage.core.model import OutcomeKind
from migrate_storage.reporting import Report
from tests.support.servers import S3Server
from tests.support.sync.ends import objects_of, s3_backend
from tests.support.sync.fixtures import Run
from tests.support.sync.trees import files, write

YEAR = 365 * 86400.0
MOMENTS = {
    "in 50 years": 50 * YEAR,
    "in an hour": 3600.0,
    "an hour ago": -3600.0,
    "before 1970": -80 * YEAR,
}


def copied(report: Report) -> int:
    assert report.exit_code == 0, report
    return report.counts.get(OutcomeKind.COPIED, 0)


@pytest.mark.parametrize("moment", MOMENTS)
def test_an_object_of_any_time_is_level_after_one_copy(moment: str, tmp_path: Path, sync: Run) -> None:
    source, destination = tmp_path / "a", tmp_path / "b"
    write(source / "x", b"1", time.time() + MOMENTS[moment])
    assert [copied(sync(source, destination)) for _ in range(3)] == [1, 0, 0]
    write(source / "x", b"2", time.time() + 50 * YEAR)
    assert [copied(sync(source, destination)) for _ in range(2)] == [1, 0]
    assert files(destination) == {"x": b"2"}


@pytest.mark.parametrize("moment", MOMENTS)
def test_to_a_bucket(moment: str, tmp_path: Path, sync: Run, moto_s3: S3Server) -> None:
    bucket = moto_s3.new_bucket()
    write(tmp_path / "a" / "x", b"1", time.time() + MOMENTS[moment])
    assert [copied(sync(tmp_path / "a", s3_backend(moto_s3, bucket))) for _ in range(2)] == [1, 0]
    assert objects_of(moto_s3, bucket) == {"x": b"1"}


def test_a_destination_from_the_future_does_not_hide_a_change(tmp_path: Path, sync: Run) -> None:
    source, destination = tmp_path / "a", tmp_path / "b"
    write(source / "x", b"2")
    write(destination / "x", b"1", time.time() + 50 * YEAR)
    assert [copied(sync(source, destination)) for _ in range(2)] == [1, 0]
    assert files(destination) == {"x": b"2"}


@pytest.mark.parametrize("nanoseconds", [1, 499, 999, 1_000, 999_999_999])
def test_parts_of_a_second_are_not_lost_between_a_listing_and_a_head(
    nanoseconds: int, tmp_path: Path, sync: Run
) -> None:
    source, destination = tmp_path / "a", tmp_path / "b"
    moment = 1_700_000_000 * 10**9 + nanoseconds
    for path in (source / "x", destination / "x", destination / "old"):
        write(path, b"1" if path != destination / "x" else b"22")
        os.utime(path, ns=(moment, moment))
    report = sync(source, destination, delete=True, max_delete="100%", min_age=0)
    assert report.counts == {OutcomeKind.COPIED: 1, OutcomeKind.DELETED: 1}
    assert files(destination) == {"x": b"1"}
