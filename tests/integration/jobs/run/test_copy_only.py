"""Copy first, re-point later: each source is looked at again, and what is still as it was needs no bytes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from advanced_alchemy.types import FileObject

from migrate_storage.core.model import OutcomeKind
from tests.support.engine import registrations as places
from tests.support.engine.world import World


@pytest.fixture
def copied(rclone_s3, database_url: str) -> Iterator[World]:
    """Rows on each database in turn, everything copied, no row re-pointed."""
    world = World(
        database_url,
        places.old_s3(rclone_s3.by_another_name, rclone_s3.new_bucket()).build(),
        places.new_s3(rclone_s3, rclone_s3.new_bucket()).build(),
    )
    world.fill(8, 4)
    before = world.raw()
    report = world.run(copy_only=True)
    assert (report.state, report.exit_code, report.rows_repointed) == ("completed", 0, 0), report
    assert report.counts == {OutcomeKind.COPIED: len(world.contents)}
    assert report.bytes_copied >= sum(map(len, world.contents.values()))
    assert world.raw() == before
    world.check(backend="old")
    yield world
    world.close()


def test_a_later_run_moves_no_bytes(copied: World) -> None:
    report = copied.run()
    assert (report.exit_code, report.rows_remaining, report.bytes_copied) == (0, 0, 0), report
    assert report.counts == {OutcomeKind.REPOINTED: len(copied.contents)}
    assert report.verified_by == {"journal": len(copied.contents)}
    assert report.resumed
    assert copied.check(backend="new") == 8 + 6
    assert {entry.written_by_us for entry in copied.journal.values()} == {True}


def test_copying_again_moves_no_bytes_either(copied: World) -> None:
    report = copied.run(copy_only=True)
    assert (report.exit_code, report.bytes_copied) == (0, 0)
    assert report.counts == {OutcomeKind.COPIED: len(copied.contents)}


def test_what_changed_meanwhile_is_copied_again(copied: World) -> None:
    copied.contents["docs/0/d0.bin"] = b"replaced between copy and run"
    copied.old.fs.pipe(copied.old._prepare_path("docs/0/d0.bin"), copied.contents["docs/0/d0.bin"])
    report = copied.run()
    assert (report.exit_code, report.bytes_copied) == (0, len(b"replaced between copy and run")), report
    assert copied.check(backend="new") == 8 + 6


def test_what_changed_on_both_sides_is_a_conflict(copied: World) -> None:
    name = "docs/0/d0.bin"
    copied.contents[name] = b"replaced at the source"
    copied.old.fs.pipe(copied.old._prepare_path(name), copied.contents[name])
    copied.new.save_object(FileObject(backend="new", filename=name), b"replaced at the destination")
    report = copied.run()
    assert (report.exit_code, report.rows_remaining) == (1, 1)
    assert report.counts == {OutcomeKind.REPOINTED: len(copied.contents) - 1, OutcomeKind.CONFLICT: 1}
    assert [(outcome.kind, outcome.source.path) for outcome in report.problems] == [(OutcomeKind.CONFLICT, name)]
    assert copied.new.get_content(name) == b"replaced at the destination"
    assert copied.check() == 8 + 6
    assert copied.raw()[0]["backend"] == "old"


def test_a_destination_that_was_lost_is_copied_again(copied: World) -> None:
    copied.new.delete_object("docs/0/d0.bin")
    report = copied.run()
    assert (report.exit_code, report.bytes_copied) == (0, len(copied.contents["docs/0/d0.bin"]))
    assert copied.check(backend="new") == 8 + 6
