"""Undo: a row goes back only where that is right; what changed since is copied back first, everything else is listed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from advanced_alchemy.types import FileObject
from sqlalchemy.orm import Session

from migrate_storage.core.errors import ConfigurationError, LeaseHeldError
from migrate_storage.core.events import PassStarted
from migrate_storage.core.model import OutcomeKind
from migrate_storage.database.compare_and_swap import CompareAndSwap
from migrate_storage.jobs.purge.job import PurgeJob
from migrate_storage.jobs.purge.rules import PurgeOptions
from migrate_storage.jobs.revert.job import RevertJob, RevertOptions
from migrate_storage.journal import Journal
from migrate_storage.journal.lease_holder import hold_lease
from migrate_storage.journal.rows import RowRepository
from migrate_storage.reporting import Report
from tests.support.engine import registrations as places
from tests.support.engine.world import Album, Document, World

D0, D1 = "docs/0/d0.bin", "docs/1/d1.bin"


@pytest.fixture
def s3_world(rclone_s3, sqlite_url: str) -> Iterator[World]:
    """Files on an S3 server, whose tags tell a replaced object."""
    old, new = places.old_s3(rclone_s3, rclone_s3.new_bucket()), places.new_s3(rclone_s3, rclone_s3.new_bucket())
    world = World(sqlite_url, old.build(), new.build())
    yield world
    world.close()


def revert(world: World, *, run: str | None = None, **options: Any) -> Report:
    given = RevertOptions(**{"lease_ttl": 1.0, "settle_time": 0.05, **options})
    return RevertJob(world.application, given, run=run, listener=world.events.append).run()


def values(world: World) -> dict[str, list[tuple[Any, ...]]]:
    return {table: rows for table, rows in world.dump().items() if not table.startswith("migrate_storage_")}


def test_it_is_a_revert_from_its_first_event_on(world: World) -> None:
    world.fill(1)
    assert world.run().exit_code == 0
    for dry_run in (True, False):
        world.events.clear()
        revert(world, dry_run=dry_run)
        assert [event.job for event in world.events if type(event).__name__ == "RunStarted"] == ["revert"]


def write_new(world: World, name: str, content: bytes) -> None:
    """The application, which uses the new key by now, replaces a file's content."""
    world.new.save_object(FileObject(backend="new", filename=name, content_type=world.types[name]), content)
    world.contents[name] = content


def write_old(world: World, name: str, content: bytes) -> None:
    world.old.fs.pipe(world.old._prepare_path(name), content)


def test_after_a_run_everything_is_as_before_and_a_run_moves_it_again(all_worlds: World) -> None:
    world = all_worlds
    world.fill(30, 12, 20)
    before, count = values(world), sum(1 for _ in world.files())
    assert world.run().exit_code == 0
    assert values(world) != before
    report = revert(world)
    assert (report.kind, report.state, report.exit_code, report.bytes_copied) == ("revert", "completed", 0, 0)
    assert report.counts == {OutcomeKind.REVERTED: 30 + 9 + 7 + 10}
    assert report.rows_repointed == 56
    assert [(row[0], row[1]) for row in values(world)["documents"]] == [(row[0], row[1]) for row in before["documents"]]
    assert [str(row[2]) for row in values(world)["documents"]] == [str(row[2]) for row in before["documents"]], (
        "updated_at"
    )
    assert world.check(backend="old") == count
    assert {entry.state for entry in world.journal.values()} == {"unreferenced"}
    for name, content in world.contents.items():
        assert world.new.get_content(name) == content, "an undo deletes nothing"
    nothing = revert(world)
    assert (nothing.exit_code, nothing.objects) == (0, 0)
    assert world.run().exit_code == 0
    assert world.check(backend="new") == count
    assert {entry.state for entry in world.journal.values()} == {"verified"}
    assert revert(world).rows_repointed == 56
    assert world.check(backend="old") == count


def test_a_value_goes_back_to_the_letter(world: World) -> None:
    world.fill(5, 8, 9)
    before = values(world)
    world.run()
    revert(world)
    assert values(world) == before


def test_half_way_through_a_run(world: World) -> None:
    world.fill(40)
    assert world.run(limit=15).state == "limit_reached"
    assert [value["backend"] for value in world.raw()].count("new") == 15
    assert revert(world).rows_repointed == 15
    assert world.check(backend="old") == 40


def test_one_run_of_several_by_its_name(world: World) -> None:
    world.fill(20)
    first = world.run(limit=5)
    world.run(limit=10)
    assert revert(world, run=first.run).rows_repointed == 5
    assert [value["backend"] for value in world.raw()].count("new") == 10
    assert revert(world).rows_repointed == 10
    assert world.check(backend="old") == 20


@pytest.mark.parametrize("dry_run", [True, False])
def test_rows_that_changed_since_stay_as_they_are(worlds: World, dry_run: bool) -> None:
    world = worlds
    world.fill(8)
    world.run()
    with Session(world.engine) as session:
        session.info["enable_file_object_listener"] = False
        mine = FileObject(backend="new", filename="mine.txt", content_type="text/plain", metadata={"name": "mine.txt"})
        world.contents["mine.txt"], world.types["mine.txt"] = b"mine", "text/plain"
        world.new.save_object(mine, b"mine")
        session.get_one(Document, 1).file = mine
        session.get_one(Document, 2).file = None
        session.delete(session.get_one(Document, 3))
        session.get_one(Document, 4).title = "renamed"
        session.commit()
    write_new(world, D0, b"nobody names this any more")
    theirs = values(world)["documents"]
    report = revert(world, dry_run=dry_run)
    assert report.counts == {OutcomeKind.REVERTED: 5, OutcomeKind.MODIFIED: 3}
    assert report.exit_code == 1
    assert {str(ref) for outcome in report.problems for ref in outcome.refs} == {
        f"documents.file[{i}]" for i in (1, 2, 3)
    }
    assert world.old.get_content(D0) != b"nobody names this any more", (
        "nothing is copied back for a row that is not ours"
    )
    after = values(world)["documents"]
    if dry_run:
        assert after == theirs
    else:
        assert after[:2] == theirs[:2]
        assert [row[:2] for row in after] == [row[:2] for row in theirs]
        assert [value["backend"] for value in world.raw() if value] == ["new", "old", "old", "old", "old", "old"]
    assert world.check() == 6


def test_what_the_application_writes_right_before_the_row_goes_back_stands(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.fill(3)
    world.run()
    original, left = CompareAndSwap.swap, [True]

    def swap(self: CompareAndSwap, *args: Any) -> bool:
        if left:
            left.pop()
            world.engine.dispose()
            connection = args[0]
            connection.execute(sa.text("UPDATE documents SET file = NULL WHERE id = 1"))
        return original(self, *args)

    monkeypatch.setattr(CompareAndSwap, "swap", swap)
    report = revert(world)
    assert report.counts == {OutcomeKind.REVERTED: 2, OutcomeKind.MODIFIED: 1}
    assert world.sql("SELECT id FROM documents WHERE file IS NULL") == [(1,)]
    assert world.check(backend="old") == 2


def test_content_that_changed_at_the_destination_is_copied_back_first(s3_world: World) -> None:
    world = s3_world
    world.fill(4)
    world.run()
    write_new(world, D0, b"a new version, written to the new key")
    dry = revert(world, dry_run=True)
    assert (dry.counts, dry.state) == ({OutcomeKind.REVERTED: 4}, "planned")
    assert world.old.get_content(D0) != world.contents[D0]
    report = revert(world)
    assert report.counts == {OutcomeKind.REVERTED: 4}
    assert report.verified_by == {"journal": 3, "copied_back": 1}
    assert report.bytes_copied == len(world.contents[D0])
    assert world.check(backend="old") == 4
    value = world.raw()[0]
    assert (value["size"], value["filename"]) == (len(world.contents[D0]), D0)
    assert value["etag"] == world.old.fs.info(world.old._prepare_path(D0))["ETag"].strip('"')
    assert value["metadata"] == {"name": D0}
    assert world.run().exit_code == 0
    assert world.check(backend="new") == 4


@pytest.mark.parametrize("where", ["s3", "local"])
def test_a_source_that_is_gone_is_copied_back(request: pytest.FixtureRequest, where: str) -> None:
    world: World = request.getfixturevalue({"s3": "s3_world", "local": "world"}[where])
    world.fill(4)
    world.run()
    for name in (D0, D1):
        world.old.fs.rm_file(world.old._prepare_path(name))
    report = revert(world)
    assert (report.exit_code, report.verified_by) == (0, {"journal": 2, "copied_back": 2})
    assert world.check(backend="old") == 4
    if where == "s3":
        assert world.old.fs.info(world.old._prepare_path(D0))["ContentType"] == world.types[D0]
    assert world.run().exit_code == 0
    assert world.check(backend="new") == 4


def test_when_both_sides_changed_the_row_is_left_and_listed(s3_world: World) -> None:
    world = s3_world
    world.fill(4)
    world.run()
    write_old(world, D0, b"written to the old key")
    write_old(world, D1, b"only the source was written")
    write_new(world, D0, b"written to the new key")
    for dry_run in (True, False):
        report = revert(world, dry_run=dry_run)
        assert report.counts == {OutcomeKind.REVERTED: 2, OutcomeKind.CONFLICT: 2}
        assert {outcome.source.path for outcome in report.problems} == {D0, D1}
    assert [value["backend"] for value in world.raw()] == ["new", "new", "old", "old"]
    assert world.check() == 4
    assert world.old.get_content(D0) == b"written to the old key"


def test_a_destination_that_is_gone_is_listed_where_the_source_was_replaced(world: World) -> None:
    world.fill(3)
    world.run()
    world.new.delete_object(D0)
    write_old(world, D0, b"replaced under the old key")
    report = revert(world)
    assert report.counts == {OutcomeKind.REVERTED: 2, OutcomeKind.MISSING: 1}
    assert [value["backend"] for value in world.raw()] == ["new", "old", "old"]


def test_a_writer_of_the_source_during_the_copy_back_is_not_overwritten(
    s3_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from migrate_storage.stores.obstore_store import ObstoreStore

    world = s3_world
    world.fill(2)
    world.run()
    write_new(world, D0, b"goes back")
    original = ObstoreStore.open

    def opened(self: ObstoreStore, path: str) -> Any:
        if path.endswith(D0) and self.name.startswith("new"):
            write_old(world, D0, b"a stale process writes here, just now")
        return original(self, path)

    monkeypatch.setattr(ObstoreStore, "open", opened)
    report = revert(world)
    assert report.counts == {OutcomeKind.REVERTED: 1, OutcomeKind.FAILED: 1}
    assert "another program" in report.problems[0].reason
    assert world.old.get_content(D0) == b"a stale process writes here, just now"
    assert world.check() == 2


def test_rows_that_share_an_object_go_back_together_with_one_copy(s3_world: World) -> None:
    world = s3_world
    shared = world.file("shared.bin")
    world.add(*(Document(id=number, title="x", file=shared) for number in range(1, 40)))
    world.run()
    write_new(world, "shared.bin", b"replaced under the new key")
    report = revert(world)
    assert (report.exit_code, report.rows_repointed) == (0, 39)
    assert report.bytes_copied == len(b"replaced under the new key")
    assert world.check(backend="old") == 39


def test_lists_of_files_go_back_as_a_whole_or_not_at_all(s3_world: World) -> None:
    world = s3_world
    world.fill(0, 8)
    world.run()
    write_new(world, "albums/2/1.png", b"another picture")
    world.new.delete_object("albums/3/0.png")
    write_old(world, "albums/3/0.png", b"replaced under the old key")
    report = revert(world)
    assert report.counts == {OutcomeKind.REVERTED: 5, OutcomeKind.MISSING: 1}
    backends = sorted({file["backend"] for file in value} for value in world.raw("albums", "pictures") if value)
    assert backends.count({"new"}) == 1
    with Session(world.engine) as session:
        for album in session.scalars(sa.select(Album)):
            for picture in album.pictures or []:
                if picture.metadata["name"] != "albums/3/0.png":
                    assert picture.get_content() == world.contents[picture.metadata["name"]]


def test_a_list_that_was_moved_in_two_steps_goes_back_to_its_beginning(world: World) -> None:
    """One picture was missing in the first run; between the runs the application appended another."""
    world.add(Album(pictures=[world.file("a.png"), world.file("b.png")]))
    held = world.contents["b.png"]
    world.old.delete_object("b.png")
    assert world.run().exit_code == 1
    assert [file["backend"] for file in world.raw("albums", "pictures")[0]] == ["new", "old"]
    write_old(world, "b.png", held)
    with Session(world.engine) as session:
        session.info["enable_file_object_listener"] = False
        album = session.scalars(sa.select(Album)).one()
        album.pictures = [world.file("c.png"), *album.pictures]
        session.commit()
    assert world.run().exit_code == 0
    assert world.check(backend="new") == 3
    assert revert(world).exit_code == 0
    assert [file["filename"] for file in world.raw("albums", "pictures")[0]] == ["c.png", "a.png", "b.png"]
    assert world.check(backend="old") == 3


def test_what_the_application_chose_between_two_runs_is_what_comes_back(world: World) -> None:
    """The first run's line of the row is history: the row goes back to what the application wrote after it."""
    world.fill(2)
    world.run()
    with world.session() as session:
        world.contents["again.txt"], world.types["again.txt"] = b"again", "text/plain"
        session.get_one(Document, 1).file = FileObject(
            backend="old",
            filename="again.txt",
            content_type="text/plain",
            metadata={"name": "again.txt"},
            content=b"again",
        )
        session.commit()
    world.run()
    assert revert(world).exit_code == 0
    assert world.raw()[0]["filename"] == "again.txt"
    assert world.check(backend="old") == 2
    assert revert(world).objects == 0


def test_a_row_that_came_back_word_for_word_goes_back_with_the_run_that_moved_it_again(worlds: World) -> None:
    """Both runs wrote the same line of it: each of them has its own, so that either can be undone by its name."""
    world = worlds
    world.fill(2)
    before = world.sql("SELECT file FROM documents WHERE id = 1")[0][0]
    text = before if isinstance(before, str) else json.dumps(before)
    first = world.run()
    world.sql("UPDATE documents SET file = :v WHERE id = 1", v=text)
    second = world.run()
    assert (first.rows_repointed, second.rows_repointed) == (2, 1)
    assert revert(world, run=second.run).rows_repointed == 1
    assert [value["backend"] for value in world.raw()] == ["old", "new"]
    assert world.run().rows_repointed == 1
    assert revert(world).rows_repointed == 2
    assert world.check(backend="old") == 2
    assert revert(world).objects == 0


def test_mended_rows_go_back_to_what_they_were_before_the_first_of_their_lines(s3_world: World) -> None:
    world = s3_world
    world.fill(3)
    stale = next(iter(world.files()))
    before = world.raw()

    class Events(list):
        def append(self, event: Any) -> None:
            if event == PassStarted(number=2):
                stale.save(b"late")
            super().append(event)

    world.events, kept = Events(), world.events
    world.contents[D0] = b"late"
    assert world.run().exit_code == 0
    world.events = kept
    lines = world.sql("SELECT count(*) FROM migrate_storage_row GROUP BY row_id ORDER BY 1 DESC")
    assert lines[0] == (2,), "the row was written twice"
    assert revert(world).exit_code == 0
    assert world.raw() == before
    assert world.check(backend="old") == 3


def test_what_is_still_written_to_the_destination_after_the_row_went_back_is_copied_back(s3_world: World) -> None:
    """A process that loaded its FileObject before saves to the new key; the last look finds it."""
    world = s3_world
    world.fill(3)
    world.run()
    write_new(world, D0, b"copied back in the first pass")

    class Events(list):
        def append(self, event: Any) -> None:
            if event == PassStarted(number=2):
                assert {value["backend"] for value in world.raw()} == {"old"}
                write_new(world, D0, b"saved by a process that knows nothing")
                write_new(world, D1, b"saved to both")
                write_old(world, D1, b"saved to both, and otherwise")
            super().append(event)

    world.events = Events()
    report = revert(world)
    assert report.counts == {OutcomeKind.REVERTED: 3, OutcomeKind.CONFLICT: 1}
    assert [(outcome.source.path, len(outcome.refs)) for outcome in report.problems] == [(D1, 1)]
    world.contents[D1] = b"saved to both, and otherwise"
    assert world.check(backend="old") == 3
    assert world.raw()[0]["size"] == len(world.contents[D0])


def test_what_is_written_later_for_a_row_that_went_elsewhere_is_left_where_it_is(s3_world: World) -> None:
    world = s3_world
    world.fill(2)
    world.run()
    before = world.contents[D0]

    class Events(list):
        def append(self, event: Any) -> None:
            if event == PassStarted(number=2):
                world.sql("UPDATE documents SET file = NULL WHERE id = 1")
                world.new.save_object(FileObject(backend="new", filename=D0), b"nobody's")
            super().append(event)

    world.events = Events()
    assert revert(world).counts == {OutcomeKind.REVERTED: 2}
    assert world.old.get_content(D0) == before


@pytest.fixture
def rekeyed(tmp_path: Path, sqlite_url: str) -> Iterator[World]:
    """Both keys at one place: only rows move."""
    old, new = places.old_local(tmp_path / "files"), places.new_local(tmp_path / "files")
    world = World(sqlite_url, old.build(), new.build())
    yield world
    world.close()


def test_a_rekey_goes_back_with_content_that_changed_and_without_what_is_gone(rekeyed: World) -> None:
    world = rekeyed
    world.fill(4)
    assert world.run().strategy == "rekey"
    write_new(world, D0, b"written since")
    world.new.delete_object(D1)
    report = revert(world)
    assert report.counts == {OutcomeKind.REVERTED: 3, OutcomeKind.MISSING: 1}
    assert report.bytes_copied == 0
    assert world.raw()[0]["size"] == len(b"written since")
    assert [value["backend"] for value in world.raw()] == ["old", "new", "old", "old"]


def test_purged_objects_refuse_before_anything_is_touched(world: World) -> None:
    world.fill(6)
    world.run(limit=2)
    PurgeJob(world.application, PurgeOptions(older_than=0, yes=True, lease_ttl=1.0)).run()
    world.run()
    before = world.dump()
    for options in ({}, {"dry_run": True}):
        with pytest.raises(
            ConfigurationError, match=r"of 2 of its rows .* nothing was touched.* run --from new --to old$"
        ):
            revert(world, **options)
    after = world.dump()
    del before["migrate_storage_lease"], after["migrate_storage_lease"]
    assert after == before
    back = world.migration(source="new", destination="old").run()
    assert back.exit_code == 0
    assert world.check(backend="old") == 6


def test_the_journal_in_another_database(world: World, tmp_path: Path) -> None:
    journal = f"sqlite:///{tmp_path / 'journal.db'}"
    world.fill(6, 5)
    count = sum(1 for _ in world.files())
    assert world.run(journal=journal).exit_code == 0
    with pytest.raises(ConfigurationError, match="no run"):
        revert(world)
    assert revert(world, journal=journal).exit_code == 0
    assert world.check(backend="old") == count
    assert not [table for table in world.dump() if table.startswith("migrate_storage_")]
    assert world.run(journal=journal).exit_code == 0
    assert world.check(backend="new") == count


def test_killed_between_rows_and_journal_a_revert_goes_on(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal is elsewhere, the rows are back, and nobody wrote that down."""
    journal = f"sqlite:///{tmp_path / 'journal.db'}"
    world.fill(6)
    world.run(journal=journal)
    with monkeypatch.context() as patch:
        patch.setattr(RowRepository, "mark_reverted", _dies)
        with pytest.raises(_Death):
            revert(world, journal=journal)
    assert world.check(backend="old") == 6
    report = revert(world, journal=journal)
    assert (report.exit_code, report.counts) == (0, {OutcomeKind.UNCHANGED: 6})
    assert revert(world, journal=journal).objects == 0


def test_killed_between_the_copy_back_and_the_row_a_revert_goes_on(
    s3_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = s3_world
    world.fill(4)
    world.run()
    write_new(world, D0, b"written since")
    with monkeypatch.context() as patch:
        patch.setattr(CompareAndSwap, "swap", _dies)
        with pytest.raises(_Death):
            revert(world)
    assert world.old.get_content(D0) == b"written since"
    assert world.check(backend="new") == 4
    report = revert(world)
    assert (report.exit_code, report.verified_by) == (0, {"journal": 3, "content_compared": 1})
    assert world.check(backend="old") == 4


def test_a_row_that_the_database_refuses_is_listed_and_the_others_go_back(world: World) -> None:
    world.fill(5)
    world.run()
    world.sql(
        "CREATE TRIGGER refuse BEFORE UPDATE ON documents WHEN NEW.id = 3 BEGIN SELECT RAISE(ABORT, 'row 3 is kept by law'); END"
    )
    report = revert(world)
    assert report.counts == {OutcomeKind.REVERTED: 4, OutcomeKind.FAILED: 1}
    assert "kept by law" in report.problems[0].reason
    assert [value["backend"] for value in world.raw()] == ["old", "old", "new", "old", "old"]
    world.sql("DROP TRIGGER refuse")
    assert revert(world).rows_repointed == 1
    assert world.check(backend="old") == 5


def test_when_nothing_works_any_more_it_stops_and_goes_on_later(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from migrate_storage.jobs.verify.check_object import VerifyOptions
    from migrate_storage.jobs.verify.job import VerifyJob
    from migrate_storage.stores.obstore_store import ObstoreStore

    def refuses(*_: Any, **__: Any) -> Any:
        raise PermissionError("the credentials are over")

    world.fill(80)
    world.run()
    with monkeypatch.context() as patch:
        patch.setattr(ObstoreStore, "head", refuses)
        for report in (revert(world), VerifyJob(world.application, VerifyOptions()).run()):
            assert (report.state, report.exit_code) == ("failed", 3)
            assert "concerns all: " in report.error
    assert world.check() == 80
    assert revert(world).exit_code == 0
    assert world.check(backend="old") == 80


class _Death(BaseException):
    """As if killed: nothing catches it."""


def _dies(*_: Any, **__: Any) -> Any:
    raise _Death


def test_rows_whose_swap_was_not_settled_when_the_run_died_go_back_too(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = f"sqlite:///{tmp_path / 'journal.db'}"
    world.fill(6)
    with monkeypatch.context() as patch:
        patch.setattr(RowRepository, "complete_intents", _dies)
        with pytest.raises(_Death):
            world.run(journal=journal, lease_ttl=1.0)
    # On a slow machine the first rows go by themselves, a second after they were read.
    swapped = [value["backend"] for value in world.raw()].count("new")
    assert swapped
    assert revert(world, journal=journal).rows_repointed == swapped
    assert world.check(backend="old") == 6


@pytest.mark.parametrize("pruned", ["object", "row"])
def test_what_was_pruned_from_the_journal_is_left(s3_world: World, pruned: str) -> None:
    world = s3_world
    world.fill(2)
    stale = next(iter(world.files()))
    world.run()
    if pruned == "object":
        world.sql("DELETE FROM migrate_storage_object WHERE source_path = :path", path=D0)
    else:
        row_id, value = world.sql("SELECT row_id, new_value FROM migrate_storage_row ORDER BY id LIMIT 1")[0]
        world.sql("UPDATE migrate_storage_row SET old_value = new_value WHERE row_id = :id", id=row_id)
    del stale
    report = revert(world)
    assert report.counts == {OutcomeKind.REVERTED: 1, OutcomeKind.FAILED: 1}
    assert "pruned" in report.problems[0].reason
    assert [value["backend"] for value in world.raw()].count("new") == 1


def test_it_refuses_what_it_cannot_undo(world: World) -> None:
    world.fill(2)
    with pytest.raises(ConfigurationError, match="no run"):
        revert(world)
    world.run()
    undone = revert(world)
    with pytest.raises(ConfigurationError, match="is a revert, not a run"):
        revert(world, run=undone.run)
    application = world.application
    object.__setattr__(application, "backends", {"new": world.new})
    with pytest.raises(ConfigurationError, match="'old' is not registered any more.* add --lifespan"):
        RevertJob(application).run()


def test_it_waits_for_no_other_at_work(world: World) -> None:
    from contextlib import closing
    from threading import Event

    from migrate_storage.database.connection import Database

    world.fill(2)
    world.run()
    before = world.raw()
    with closing(Database(world.url)) as database, hold_lease(Journal(database), 0.6, stopping=Event(), lost=print):
        with pytest.raises(LeaseHeldError, match="is at work"):
            revert(world, lease_ttl=0.3)
        assert revert(world, dry_run=True).counts == {OutcomeKind.REVERTED: 2}, "a look needs no lease"
    assert world.raw() == before


def test_a_stop_leaves_whole_batches_and_the_next_revert_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("migrate_storage.jobs.revert.job.RESTORE_BATCH_ROWS", 10)
    world.fill(60)
    world.run()
    job: RevertJob

    def stop(event: Any) -> None:
        if type(event).__name__ == "ObjectFinished":
            job.stop()

    job = RevertJob(world.application, RevertOptions(lease_ttl=1.0, concurrency=2), listener=stop)
    report = job.run()
    assert (report.state, report.exit_code) == ("interrupted", 130)
    assert 10 <= report.rows_repointed < 60
    assert world.check() == 60
    assert revert(world).rows_repointed == 60 - report.rows_repointed
    assert world.check(backend="old") == 60
