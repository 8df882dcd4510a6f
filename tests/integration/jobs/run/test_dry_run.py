"""A dry run says exactly what would happen, in the same counts, and changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import obstore
import pytest
from advanced_alchemy.types import FileObject

from migrate_storage.core.events import ObjectFinished
from migrate_storage.core.model import OutcomeKind, Strategy
from migrate_storage.reporting import Report, render
from tests.support.engine import registrations as places
from tests.support.engine.world import Document, World


def disk(directory: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(directory)): (path.read_bytes(), path.stat().st_mtime_ns) if path.is_file() else (b"", 0)
        for path in directory.rglob("*")
        if path.name != "app.db"
    }


def difficult(world: World) -> None:
    """Rows that end in every way."""
    world.fill(20, 6, 10)
    shared = world.file("shared")
    world.add(*(Document(id=i, title="", file=shared) for i in range(100, 110)))
    world.old.delete_object("docs/1/d1.bin")
    world.sql('UPDATE documents SET file = \'{"backend": "old"}\' WHERE id = 3')
    for name, content in (("docs/3/d3.bin", world.contents["docs/3/d3.bin"]), ("docs/4/d4.bin", b"other")):
        world.new.save_object(FileObject(backend="new", filename=name), content)


def told(world: World) -> dict[tuple[OutcomeKind, str], int]:
    found: dict[tuple[OutcomeKind, str], int] = {}
    for event in world.events:
        if isinstance(event, ObjectFinished):
            key = (event.outcome.kind, event.outcome.source.path)
            found[key] = found.get(key, 0) + 1
    return found


@pytest.mark.parametrize("window", [3, 500])
def test_the_same_counts_as_the_run_and_nothing_changes(world: World, tmp_path: Path, window: int) -> None:
    difficult(world)
    files, rows = disk(tmp_path), world.dump()
    dry = world.run(dry_run=True, batch_size=window)
    assert (dry.state, dry.exit_code, dry.bytes_copied) == ("planned", 1, 0), dry
    assert disk(tmp_path) == files, "no object is written, read back or removed"
    assert world.dump() == rows, "no row, and no table of ours"
    said = told(world)
    world.events.clear()
    real = world.run(batch_size=window)
    assert dry.counts == real.counts == {
        OutcomeKind.REPOINTED: len(world.contents) - 3, OutcomeKind.MISSING: 1, OutcomeKind.FAILED: 1, OutcomeKind.DESTINATION_EXISTS: 1,
    }  # fmt: skip
    assert set(said) == set(told(world))
    assert set(said.values()) == {1}
    assert (dry.rows_repointed, dry.problem_count) == (real.rows_repointed, real.problem_count)
    assert {outcome.source for outcome in dry.problems} == {outcome.source for outcome in real.problems}
    assert (dry.strategy, dry.strategy_reason) == (real.strategy, real.strategy_reason)


@pytest.mark.parametrize("way", ["copy_only", "keep_rows"])
def test_of_a_copy(world: World, tmp_path: Path, way: str) -> None:
    world.fill(5)
    files, rows = disk(tmp_path), world.dump()
    dry = world.run(dry_run=True, **{way: True})
    assert (disk(tmp_path), world.dump()) == (files, rows)
    real = world.run(**{way: True})
    assert dry.counts == real.counts == {OutcomeKind.COPIED: 5}


def test_of_a_rekey_and_of_a_swap_on_a_server(rclone_s3, sqlite_url: str) -> None:
    bucket = rclone_s3.new_bucket()
    world = World(sqlite_url, places.old_s3(rclone_s3, bucket).build(), places.new_s3(rclone_s3, bucket).build())
    world.fill(5)
    rows, objects = world.dump(), listed(rclone_s3.store(bucket))
    swap, rekey = world.run(dry_run=True, destination=None), world.run(dry_run=True)
    assert (world.dump(), listed(rclone_s3.store(bucket))) == (rows, objects)
    assert (swap.strategy, swap.counts) == (Strategy.IN_PLACE, {OutcomeKind.UNCHANGED: 5})
    assert (rekey.strategy, rekey.counts) == (Strategy.REKEY, {OutcomeKind.REPOINTED: 5})
    assert world.run().counts == rekey.counts


def listed(store: Any) -> list[tuple[str, str | None]]:
    return sorted((meta["path"], meta["e_tag"]) for page in obstore.list(store) for meta in page)


@pytest.mark.parametrize(("limit", "state"), [(4, "limit_reached"), (5, "completed"), (9, "completed")])
def test_of_a_limited_run(world: World, limit: int, state: str) -> None:
    world.fill(5)
    dry = world.run(dry_run=True, limit=limit)
    real = world.run(limit=limit)
    assert real.state == state
    assert (dry.counts, dry.rows_repointed) == (real.counts, real.rows_repointed)
    assert dry.exit_code == real.exit_code


def test_after_an_interrupted_run_only_the_rest_is_said(world: World) -> None:
    world.fill(10)
    world.run(limit=4)
    dry = world.run(dry_run=True)
    assert (dry.counts, dry.rows_repointed) == ({OutcomeKind.REPOINTED: 6}, 6)


def test_after_a_copy_what_changed_since_is_said_to_be_copied_again(world: World) -> None:
    world.fill(3)
    world.run(copy_only=True)
    world.file("docs/0/d0.bin", b"replaced between copy and run")
    world.contents["docs/0/d0.bin"] = b"replaced between copy and run"
    dry = world.run(dry_run=True)
    assert dry.counts == world.run().counts == {OutcomeKind.REPOINTED: 3}


def test_an_object_that_far_apart_rows_share_counts_once(world: World) -> None:
    shared = world.file("shared")
    world.add(Document(id=1, title="", file=shared), Document(id=1000, title="", file=shared))
    files = world.files_at_once([f"f{i}" for i in range(2, 200)])
    world.add(*(Document(id=i, title="", file=file) for i, file in enumerate(files, start=2)))
    dry = world.run(dry_run=True, batch_size=2, concurrency=1)
    assert dry.counts == world.run(batch_size=2, concurrency=1).counts == {OutcomeKind.REPOINTED: 199}


def test_two_sources_that_would_become_one_are_said(rclone_s3, sqlite_url: str) -> None:
    one, two, bucket = (rclone_s3.new_bucket() for _ in range(3))
    world = World(sqlite_url, places.old_s3(rclone_s3, None).build(), places.new_s3(rclone_s3, bucket).build())
    world.fill(1, prefix=f"{one}/")
    world.sql("UPDATE documents SET id = 100")
    world.fill(1, prefix=f"{two}/")
    dry = world.run(dry_run=True)
    assert dry.counts == world.run().counts == {OutcomeKind.REPOINTED: 1, OutcomeKind.DESTINATION_EXISTS: 1}


def test_of_many_rows_a_sample_is_looked_at_and_said_to_be_one(rclone_s3, database_url: str) -> None:
    old = places.old_s3(rclone_s3.by_another_name, rclone_s3.new_bucket()).build()
    world = World(database_url, old, places.new_s3(rclone_s3, rclone_s3.new_bucket()).build())
    files = world.files_at_once([f"docs/{number}.bin" for number in range(1, 301)])
    world.add(*(Document(id=number, title="", file=file) for number, file in enumerate(files, 1)))
    world.fill(0, 10)
    report = world.run(dry_run=True, sample=60)
    assert report.sample is not None
    seen, of = report.sample
    assert of > 300, "albums among them"
    assert 60 <= seen <= 64
    assert report.objects < 100
    assert report.estimate is not None
    assert report.estimate.objects == round(report.objects * of / seen)
    assert report.estimate.destination_writes == report.estimate.objects
    looked_at = sorted(
        ref.pk[0] for event in world.events if isinstance(event, ObjectFinished) for ref in event.outcome.refs
        if ref.column.table == "documents"
    )  # fmt: skip
    assert all(sum(start <= number < start + 100 for number in looked_at) >= 15 for start in (1, 101, 201)), looked_at
    assert "by a sample of" in render(report)
    assert Report.from_dict(report.to_dict()).sample == report.sample
    for options in ({"sample": 0}, {"sample": of}, {"sample": 60, "limit": of}):
        world.events.clear()
        whole = world.run(dry_run=True, **options)
        assert (whole.sample, whole.rows_repointed) == (None, of)
    assert world.run(sample=60).rows_repointed == of, "a run looks at each row"
    world.close()
