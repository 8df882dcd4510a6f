"""What a run copied is ours to take away again, for as long as it is what the run put there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from advanced_alchemy.types.file_object import FileObject

from migrate_storage.cutover.backend import CutoverBackend
from migrate_storage.cutover.decisions import Phase, Side
from migrate_storage.cutover.outbox import Outbox
from migrate_storage.cutover.repair import Repair, repair_all
from migrate_storage.database.connection import Database
from tests.support.engine import registrations as places
from tests.support.engine.world import World


@pytest.fixture
def copied(rclone_s3, sqlite_url: str) -> Iterator[World]:
    """Every object copied by a run that re-pointed no row, and journaled."""
    world = World(
        sqlite_url,
        places.old_s3(rclone_s3, rclone_s3.new_bucket()).build(),
        places.new_s3(rclone_s3, rclone_s3.new_bucket()).build(),
    )
    world.fill(3)
    report = world.run(copy_only=True)
    assert report.exit_code == 0, report
    yield world
    world.close()


def test_what_the_journal_says_is_ours_and_only_that(copied: World) -> None:
    gone, replaced, kept = sorted(copied.contents)
    for name in (gone, replaced):
        copied.old.delete_object(name)
    # Somebody else's, under the name of a copy of ours.
    copied.new.save_object(FileObject(backend=copied.new.key, filename=replaced), b"another's")

    outbox = Outbox(Database(copied.url), "files")
    outbox.prepare()
    backend = CutoverBackend("files", copied.old, copied.new, outbox=outbox, phase=Phase.DUAL_WRITE)
    repair = Repair(copied.old, copied.new, outbox, phases=(Phase.DUAL_WRITE,))
    leveled = repair_all(backend, outbox, repair, Side.SOURCE)
    outbox.database.close()

    assert leveled.foreign == [replaced]
    assert (leveled.result.settled, leveled.result.left, leveled.result.failures) == (1, 0, {})
    assert not backend.destination.exists(gone)
    assert copied.new.get_content(replaced) == b"another's"
    assert copied.new.get_content(kept) == copied.contents[kept]
