"""What ``sync`` leaves is what ``rclone sync --checksum`` leaves; what ``check`` reports is what ``rclone check`` does."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from migrate_storage.core.filters import Filters, ObjectBounds
from migrate_storage.engine.compare import By
from migrate_storage.jobs.check import CheckJob, CheckOptions
from migrate_storage.reporting.diff_files import KINDS, Differences
from tests.support.evidence import Evidence
from tests.support.sync.fixtures import Run, end
from tests.support.sync.trees import files, pair, rclone

_FILTERS = (((), ()), (("*.d/**",), ()), ((), ("*1", "a.d/")))


def compared(
    source: Path, destination: Path, by: By, folder: Path, **options: object
) -> tuple[dict[str, list[str]], int]:
    """Our report files, each as its lines in order."""
    wanted = {kind: folder / f"ours-{kind}" for kind in KINDS}
    with Differences({kind.replace("-", "_"): path for kind, path in wanted.items()}) as differences:
        chosen = CheckOptions(by=by, **options)  # type: ignore[arg-type]
        report = CheckJob(end(source), end(destination), chosen, listener=differences.beside(lambda _: None)).run()
    return {kind: sorted(path.read_text().splitlines()) for kind, path in wanted.items()}, report.exit_code


def by_rclone(source: Path, destination: Path, folder: Path, *more: str) -> tuple[dict[str, list[str]], int]:
    wanted = {kind: folder / f"theirs-{kind}" for kind in KINDS}
    flags = [part for kind, path in wanted.items() for part in (f"--{kind}", str(path))]
    done = rclone("check", source, destination, *flags, *more)
    return {kind: sorted(path.read_text().splitlines()) for kind, path in wanted.items()}, done.returncode


def _alike(folder: Path, seed: int, sync: Run) -> int:
    source, destination = pair(folder, seed)
    include, exclude = _FILTERS[seed % len(_FILTERS)]
    flags = [part for name in include for part in ("--include", name)]
    flags += [part for name in exclude for part in ("--exclude", name)]
    filters = Filters(include, exclude)
    for more, options in (((), {}), (("--one-way",), {"one_way": True}), (("--size-only",), {"by": By.SIZE})):
        by = options.pop("by", By.DOWNLOAD)  # type: ignore[attr-defined]
        ours = compared(source, destination, by, folder, filters=filters, **options)  # type: ignore[arg-type]
        assert ours == by_rclone(source, destination, folder, *more, *flags), (seed, more)
    theirs = folder / f"theirs{seed}"
    shutil.copytree(destination, theirs)
    assert rclone("sync", "--checksum", source, theirs, *flags).returncode == 0
    report = sync(source, destination, filters=filters, by="checksum", delete=True, max_delete="100%", min_age=0)
    assert report.exit_code == 0, report
    assert files(destination) == files(theirs), seed
    again = sync(source, destination, filters=filters, by="checksum", delete=True, max_delete="100%", min_age=0)
    assert set(again.counts) == {"unchanged"}
    assert again.bytes_copied == 0
    return report.objects


def test_three_pairs_of_trees(tmp_path: Path, seed: int, sync: Run) -> None:
    for each in range(3):
        _alike(tmp_path, seed - seed % 3 + each, sync)


@pytest.mark.soak
def test_thirty_pairs_of_trees(tmp_path: Path, seed: int, sync: Run, evidence: Evidence) -> None:
    objects = sum(_alike(tmp_path, seed + each, sync) for each in range(30))
    evidence.record(
        "sync leaves what `rclone sync --checksum` leaves, and check reports what `rclone check` reports",
        pairs=30,
        objects=objects,
    )


_BOUNDS = (
    ({"min_size": 10}, ("--min-size", "10B")),
    ({"max_size": 10}, ("--max-size", "10B")),
    ({"min_size": 10, "max_size": 10}, ("--min-size", "10B", "--max-size", "10B")),
    ({"min_age": 86400.0 * 3}, ("--min-age", "3d")),
    ({"max_age": 86400.0 * 3}, ("--max-age", "3d")),
)


@pytest.mark.parametrize(("bounds", "flags"), _BOUNDS)
def test_sizes_and_ages_are_bounded_as_by_rclone(
    tmp_path: Path, sync: Run, bounds: dict[str, float], flags: tuple[str, ...]
) -> None:
    """Files of both sides, some on the bounds of size; none on those of age, for time passes between the two."""
    source, destination = tmp_path / "source", tmp_path / "destination"
    now = time.time()
    for side, days in ((source, (1, 2, 5)), (destination, (4, 6))):
        side.mkdir()
        for size in (9, 10, 11):
            for age in days:
                path = side / f"{side.name[0]}{size}-{age}"
                path.write_bytes(b"x" * size)
                os.utime(path, (now - 86400 * age,) * 2)
    theirs = tmp_path / "theirs"
    shutil.copytree(destination, theirs)
    assert rclone("sync", "--checksum", source, theirs, *flags).returncode == 0
    given = ObjectBounds(**bounds)  # type: ignore[arg-type]
    ours, code = compared(source, destination, By.DOWNLOAD, tmp_path, bounds=given)
    assert (ours, code) == by_rclone(source, destination, tmp_path, *flags)
    report = sync(source, destination, bounds=given, by="checksum", delete=True, max_delete="100%", min_age=0)
    assert report.exit_code == 0, report
    assert files(destination) == files(theirs)


def test_a_source_beyond_the_bounds_leaves_its_copy(tmp_path: Path, sync: Run) -> None:
    """rclone deletes such a copy."""
    source, destination = tmp_path / "source", tmp_path / "destination"
    for side, content in ((source, b"grown beyond"), (destination, b"small")):
        side.mkdir()
        (side / "a").write_bytes(content)
    report = sync(source, destination, bounds=ObjectBounds(max_size=10), delete=True, max_delete="100%", min_age=0)
    assert (report.exit_code, report.objects) == (0, 0)
    assert files(destination) == {"a": b"small"}
