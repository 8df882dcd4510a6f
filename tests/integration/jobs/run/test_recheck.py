"""`run --recheck` mends what happened after a run: sources that moved on, copies that are gone, rows with a wrong size."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from advanced_alchemy.types import FileObject
from advanced_alchemy.types.file_object import storages

from migrate_storage.core.errors import ConfigurationError
from migrate_storage.core.model import OutcomeKind
from migrate_storage.engine import listing_evidence, object_copier
from migrate_storage.jobs.orphans.job import OrphansJob, OrphansOptions
from migrate_storage.jobs.revert.job import RevertJob, RevertOptions
from migrate_storage.jobs.run import passes
from migrate_storage.jobs.run.recheck import CopyRecheck
from migrate_storage.jobs.verify.check_object import VerifyOptions
from migrate_storage.jobs.verify.job import VerifyJob
from migrate_storage.reporting import Report
from migrate_storage.reporting.text import render
from migrate_storage.stores.obstore_store import ObstoreStore
from tests.support.engine import registrations as places
from tests.support.engine.hooks import before_call
from tests.support.engine.world import Album, Document, World
from tests.support.jobs.purge import purge
from tests.support.servers import S3Server

D0, D1, D2, D3 = (f"docs/{n}/d{n}.bin" for n in range(4))
PICTURES = ["albums/3/0.png", "albums/3/1.png", "albums/3/2.png"]


@pytest.fixture(params=["disk sqlite", "s3 postgres"])
def moved(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """Documents and albums that a run moved, on a disk and between buckets."""
    where, database = request.param.split()
    if where == "disk":
        old, new = places.old_local(tmp_path / "old"), places.new_local(tmp_path / "new")
    else:
        server: S3Server = request.getfixturevalue("moto_s3")
        old, new = places.old_s3(server, server.new_bucket()), places.new_s3(server, server.new_bucket())
    world = World(request.getfixturevalue(f"{database}_url"), old.build(), new.build())
    world.fill(5, 4)
    assert world.run().exit_code == 0
    yield world
    world.close()


@pytest.fixture
def on_disk(world: World) -> World:
    world.fill(5, 4)
    assert world.run().exit_code == 0
    return world


def write_old(world: World, name: str, content: bytes) -> None:
    world.old.fs.pipe(world.old._prepare_path(name), content)


def write_new(world: World, name: str, content: bytes) -> None:
    world.new.save_object(FileObject(backend="new", filename=name), content)


def recheck(world: World, **options: Any) -> Report:
    return world.run(recheck=True, **options)


def assert_rows_right(world: World, *, but: tuple[str, ...] = ()) -> None:
    """Every row has the size and the tag of the object that it names, and opens with its bytes."""
    files = [*world.raw(), *(file for pictures in world.raw("albums", "pictures") for file in pictures)]
    for file in files:
        if file["backend"] == "new" and file["filename"] not in but:
            found = world.new.head(file["filename"])
            assert (file["size"], file["etag"]) == (found.size, found.e_tag), file["filename"]
            assert world.new.get_content(file["filename"]) == world.contents[file["metadata"]["name"]]


def reasons(report: Report) -> dict[str, str]:
    return {outcome.source.path: outcome.reason for outcome in report.problems}


def test_nothing_changed(moved: World) -> None:
    before = moved.raw(), moved.raw("albums", "pictures"), moved.journal
    report = recheck(moved)
    assert (report.exit_code, report.counts, report.rows_repointed, report.bytes_copied) == (0, {}, 0, 0)
    assert report.rechecked == {"objects": 11, "copied_again": 0, "rows_repaired": 0}
    assert (moved.raw(), moved.raw("albums", "pictures"), moved.journal) == before, "no record and no row was written"
    assert Report.from_dict(json.loads(json.dumps(report.to_dict()))).rechecked == report.rechecked
    assert "11 copies of earlier runs checked again" in render(report)


def test_sources_that_were_replaced_and_copies_that_are_gone(moved: World) -> None:
    """Among them all files of one list, of which one is gone and was replaced as well."""
    for name in (D0, *PICTURES):
        moved.contents[name] = b"replaced after the run " + name.encode()
        write_old(moved, name, moved.contents[name])
    for name in (D1, PICTURES[1]):
        moved.new.delete_object(name)
    assert moved.run().counts == {}, "an ordinary run sees none of it"
    report = recheck(moved)
    assert (report.exit_code, report.counts) == (0, {OutcomeKind.REPOINTED: 5})
    assert report.rechecked == {"objects": 11, "copied_again": 5, "rows_repaired": 0}
    assert_rows_right(moved)
    assert moved.check(backend="new") == 11
    assert recheck(moved).rechecked == {"objects": 11, "copied_again": 0, "rows_repaired": 0}
    assert VerifyJob(moved.application, VerifyOptions(columns=()), listener=print).run().exit_code == 0


def test_listings_that_are_known_to_be_fresh_replace_the_heads(
    moto_s3: S3Server, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a listing does not show is asked for."""
    old, new = places.old_s3(moto_s3, moto_s3.new_bucket()), places.new_s3(moto_s3, moto_s3.new_bucket())
    world = World(sqlite_url, old.build(), new.build())
    world.fill(12)
    assert world.run().exit_code == 0
    world.contents[D0] = b"replaced after the run"
    write_old(world, D0, world.contents[D0])
    for name in (D1, D2):
        world.new.delete_object(name)
    world.old.fs.rm_file(world.old._prepare_path(D2))
    monkeypatch.setattr(listing_evidence, "MIN_WANTED_OBJECTS", 1)
    heads: list[str] = []
    head = ObstoreStore.head

    def count(self: ObstoreStore, path: str) -> Any:
        heads.append(path)
        return head(self, path)

    monkeypatch.setattr(ObstoreStore, "head", count)
    report = recheck(world, consistent_listings=("old", "new"))
    assert report.counts == {OutcomeKind.REPOINTED: 2, OutcomeKind.MISSING: 1}
    others = [path for path in heads if path.startswith("docs/") and path not in (D0, D1, D2)]
    assert len(others) < 9, "not one for each of the others, but those that prove the listings"
    assert_rows_right(world, but=(D2,))
    world.close()


def test_then_revert_puts_every_row_back(moved: World) -> None:
    moved.contents[D0] = moved.contents[PICTURES[0]] = b"replaced after the run"
    for name in (D0, PICTURES[0]):
        write_old(moved, name, b"replaced after the run")
    moved.new.delete_object(PICTURES[1])
    assert recheck(moved).exit_code == 0
    report = RevertJob(moved.application, RevertOptions(settle_time=0.0)).run()
    assert (report.exit_code, report.counts) == (0, {OutcomeKind.REVERTED: 8})
    assert moved.check(backend="old") == 11


def test_then_purge_deletes_what_it_refused_before(moved: World) -> None:
    moved.contents[D0] = b"replaced after the run"
    write_old(moved, D0, b"replaced after the run")
    moved.new.delete_object(D1)
    refused = purge(moved)
    assert refused.counts == {OutcomeKind.MODIFIED: 1, OutcomeKind.MISSING: 1, OutcomeKind.DELETED: 9}
    assert all("'migrate-storage run --from old --to new --recheck'" in reason for reason in reasons(refused).values())
    assert recheck(moved).rechecked == {"objects": 11, "copied_again": 2, "rows_repaired": 0}
    assert purge(moved).counts == {OutcomeKind.DELETED: 2}
    assert moved.check(backend="new") == 11
    moved.new.delete_object(D2)
    lost = recheck(moved)
    assert (lost.exit_code, lost.counts) == (1, {OutcomeKind.MISSING: 1})
    assert "the source was purged" in reasons(lost)[D2]


def test_what_is_written_under_the_old_key_after_a_purge_is_listed(moved: World) -> None:
    """A process that loaded the file before its row was re-pointed."""
    assert purge(moved).counts == {OutcomeKind.DELETED: 11}
    for name, content in ((D0, b"a late write"), (D1, moved.contents[D1]), (D2, b"another one")):
        write_old(moved, name, content)
    moved.new.delete_object(D2)
    for _ in range(2):
        report = recheck(moved)
        assert (report.exit_code, report.counts) == (1, {OutcomeKind.CONFLICT: 2})
        assert reasons(report).keys() == {D0, D2}
        assert all("a process wrote under its old key since" in reason for reason in reasons(report).values())
        assert reasons(report)[D2].startswith(f"its copy new:{D2} is gone")
        assert_rows_right(moved, but=(D0, D2))
    moved.new.save_object(FileObject(backend="new", filename=D2), b"another one")
    moved.old.delete_object(D0)
    moved.old.delete_object(D2)
    assert recheck(moved).counts.get(OutcomeKind.CONFLICT) is None


def test_a_copy_that_the_application_replaced_is_listed_and_kept(moved: World) -> None:
    write_new(moved, D0, b"written by the application")
    report = recheck(moved)
    assert (report.exit_code, report.counts) == (1, {OutcomeKind.MODIFIED: 1})
    assert "was replaced since it was verified" in reasons(report)[D0]
    assert moved.new.get_content(D0) == b"written by the application"
    assert_rows_right(moved, but=(D0,))
    write_old(moved, D0, b"and the source too")
    report = recheck(moved)
    assert (report.exit_code, report.counts) == (1, {OutcomeKind.CONFLICT: 1})
    assert moved.new.get_content(D0) == b"written by the application"
    assert recheck(moved).counts == {OutcomeKind.CONFLICT: 1}, "listed each time"


def test_a_copy_that_was_restored_with_the_same_bytes(moved: World) -> None:
    """From a backup, say: another time, perhaps another tag. It is believed once its bytes were read."""
    moved.new.delete_object(D0)
    write_new(moved, D0, moved.contents[D0])
    assert recheck(moved).exit_code == 0
    assert moved.new.get_content(D0) == moved.contents[D0]
    assert_rows_right(moved)


def test_what_no_row_names_any_more_is_left_alone(moved: World) -> None:
    """One row is gone, one names another file, one went back to the old key by hand."""
    moved.sql("DELETE FROM documents WHERE id = 1")
    other = {**moved.raw()[0], "filename": "another.bin"}
    write_new(moved, "another.bin", b"of the application")
    moved.sql("UPDATE documents SET file = :v WHERE id = 2", v=json.dumps(other))
    for name in (D0, D1):
        write_old(moved, name, b"replaced after the run")
    moved.new.delete_object(D0)
    report = recheck(moved)
    assert (report.exit_code, report.counts) == (0, {})
    assert report.rechecked["objects"] == 9
    assert moved.new.get_content(D1) == moved.contents[D1]
    with pytest.raises(FileNotFoundError):
        moved.new.get_content(D0)


def test_rows_with_a_wrong_size_are_repaired_without_a_copy(moved: World) -> None:
    """As they were left where several files of a list were replaced during a run, also in a row that was cloned since."""
    [pictures] = [each for each in moved.raw("albums", "pictures") if len(each) == 3]
    wrong = [{**file, "size": 1, "etag": "wrong"} for file in pictures]
    moved.sql("DELETE FROM albums")
    moved.add(Album(pictures=[]), Album(pictures=[]))
    moved.sql("UPDATE albums SET pictures = :v", v=json.dumps(wrong))
    moved.old.fs.rm_file(moved.old._prepare_path(PICTURES[0]))
    report = recheck(moved)
    assert (report.exit_code, report.bytes_copied) == (0, 0)
    assert report.rechecked == {"objects": 8, "copied_again": 0, "rows_repaired": 6}
    assert_rows_right(moved)
    assert moved.raw("albums", "pictures")[0][0]["content_type"] == pictures[0]["content_type"]


def test_the_destination_itself_is_gone(on_disk: World, tmp_path: Path) -> None:
    """Its disk is not mounted: nothing counts as lost, and nothing is written to the place where it was."""
    (tmp_path / "new").rename(tmp_path / "unmounted")
    before = on_disk.journal
    with pytest.raises(ConfigurationError, match="is its disk mounted"):
        recheck(on_disk)
    assert (on_disk.journal, (tmp_path / "new").exists()) == (before, False)


def test_a_bucket_that_is_deleted_while_it_is_looked_at(
    moto_s3: S3Server, sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = moto_s3.new_bucket()
    world = World(sqlite_url, places.old_local(tmp_path / "old").build(), places.new_s3(moto_s3, bucket).build())
    world.fill(3)
    assert world.run().exit_code == 0
    before = world.raw()

    def delete_bucket(*_: Any) -> None:
        for listed in moto_s3.client.list_objects_v2(Bucket=bucket)["Contents"]:
            moto_s3.client.delete_object(Bucket=bucket, Key=listed["Key"])
        moto_s3.client.delete_bucket(Bucket=bucket)

    before_call(monkeypatch, CopyRecheck, "_check_window", delete_bucket)
    report = recheck(world)
    assert (report.state, report.counts.get(OutcomeKind.MISSING)) == ("failed", None)
    assert "create the bucket" in report.error
    assert world.raw() == before
    world.close()


def test_the_source_folder_is_gone(on_disk: World, tmp_path: Path) -> None:
    (tmp_path / "old").rename(tmp_path / "unmounted")
    with pytest.raises(ConfigurationError, match="is its disk mounted"):
        recheck(on_disk)


def test_everything_is_lost_but_the_bucket_answers(on_disk: World, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "new")
    (tmp_path / "new").mkdir()
    report = recheck(on_disk)
    assert (report.exit_code, report.counts) == (0, {OutcomeKind.REPOINTED: 11})
    assert_rows_right(on_disk)
    shutil.rmtree(tmp_path / "new")
    (tmp_path / "new").mkdir()
    Path(on_disk.old.prefix, D0).unlink()
    report = recheck(on_disk)
    assert report.counts == {OutcomeKind.REPOINTED: 10, OutcomeKind.MISSING: 1}
    assert "is gone, and the source is gone too" in reasons(report)[D0]


@pytest.mark.parametrize("where", ["disk sqlite", "s3 postgres"])
def test_a_copy_that_is_replaced_right_before_it_would_be(
    request: pytest.FixtureRequest, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The application writes it between the look and the PUT."""
    if where == "disk sqlite":
        world: World = request.getfixturevalue("on_disk")
    else:
        server: S3Server = request.getfixturevalue("moto_s3")
        old, new = places.old_s3(server, server.new_bucket()), places.new_s3(server, server.new_bucket())
        world = World(request.getfixturevalue("postgres_url"), old.build(), new.build())
        world.fill(2)
        assert world.run().exit_code == 0
    write_old(world, D0, b"replaced after the run")
    copy_verified = object_copier.copy_verified

    def write_first(*given: Any) -> Any:
        write_new(world, D0, b"written by the application")
        return copy_verified(*given)

    monkeypatch.setattr(object_copier, "copy_verified", write_first)
    report = recheck(world)
    assert (report.exit_code, report.counts) == (1, {OutcomeKind.CONFLICT: 1})
    assert world.new.get_content(D0) == b"written by the application"


@pytest.mark.parametrize("server", ["moto_s3", "azurite"])
def test_a_copy_that_is_replaced_right_before_the_put(
    request: pytest.FixtureRequest, server: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the last HEAD: the service itself refuses the PUT, by If-Match."""
    service = request.getfixturevalue(server)
    new = (
        places.new_azure(service, service.new_container())
        if server == "azurite"
        else places.new_s3(service, service.new_bucket())
    )
    world.new = new.build()
    storages.register_backend(world.new)
    world.add(Document(id=1, title="", file=world.file(D0)))
    assert world.run().exit_code == 0
    write_old(world, D0, b"replaced after the run")
    put = ObstoreStore.put

    def write_first(self: ObstoreStore, path: str, *given: Any, **options: Any) -> Any:
        if path.endswith(D0):
            write_new(world, D0, b"written by the application")
        return put(self, path, *given, **options)

    monkeypatch.setattr(ObstoreStore, "put", write_first)
    report = recheck(world)
    assert (report.exit_code, report.counts) == (1, {OutcomeKind.CONFLICT: 1})
    assert world.new.get_content(D0) == b"written by the application"


@pytest.mark.parametrize(
    "error", [FileExistsError("412, always"), NotImplementedError("501")], ids=["refuses", "cannot"]
)
def test_a_service_that_does_not_honour_the_condition(
    rclone_s3: S3Server, world: World, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """One that refuses it always, or cannot, is written without it; one that ignores it is as well."""
    world.new = places.new_s3(rclone_s3, rclone_s3.new_bucket()).build()
    storages.register_backend(world.new)
    world.add(Document(id=1, title="", file=world.file(D0)))
    assert world.run().exit_code == 0
    for number, fails in enumerate((True, False)):
        world.contents[D0] = b"replaced after the run %d" % number
        write_old(world, D0, world.contents[D0])
        put = ObstoreStore.put

        def refuse(self: ObstoreStore, *given: Any, fails: bool = fails, put: Any = put, **options: Any) -> Any:
            if fails and options.get("replaces") is not None:
                raise error
            return put(self, *given, **options)

        with monkeypatch.context() as patched:
            patched.setattr(ObstoreStore, "put", refuse)
            report = recheck(world)
        assert (report.exit_code, report.counts) == (0, {OutcomeKind.REPOINTED: 1})
        assert_rows_right(world)


def test_an_object_that_nobody_may_look_at_is_listed(on_disk: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its copy, or its source: what was not seen is said, and the others are done."""
    head = ObstoreStore.head

    def refuse(self: ObstoreStore, path: str) -> Any:
        if path.endswith(D0) or (path.endswith(D1) and self.name == "old"):
            raise PermissionError(f"403 Forbidden: {path}")
        return head(self, path)

    on_disk.new.delete_object(D2)
    before = on_disk.raw()
    with monkeypatch.context() as patched:
        patched.setattr(ObstoreStore, "head", refuse)
        report = recheck(on_disk)
    assert report.exit_code == 1
    assert {path for path, reason in reasons(report).items() if "could not be checked again" in reason} >= {D0}
    assert OutcomeKind.MISSING not in report.counts
    assert on_disk.new.get_content(D2) == on_disk.contents[D2]
    assert [file for file in on_disk.raw() if file["filename"] != D2] == [
        file for file in before if file["filename"] != D2
    ]
    assert recheck(on_disk).exit_code == 0


def test_a_copy_that_is_known_to_be_lost(on_disk: World) -> None:
    on_disk.new.delete_object(D0)
    Path(on_disk.old.prefix, D0).unlink()
    assert recheck(on_disk).counts == {OutcomeKind.MISSING: 1}
    options = OrphansOptions(keys=("new",), acknowledge_missing="lost in the flood", yes=True, lease_ttl=1.0)
    assert OrphansJob(on_disk.application, options).run().exit_code == 0
    report = recheck(on_disk)
    assert (report.exit_code, report.counts) == (0, {OutcomeKind.KNOWN_MISSING: 1})


def test_a_key_that_is_registered_for_another_place_is_not_compared(on_disk: World, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    on_disk.old = places.old_local(tmp_path / "elsewhere").build()
    report = recheck(on_disk)
    assert (report.exit_code, report.counts) == (1, {OutcomeKind.UNVERIFIED: 11})
    assert "registered for another place" in report.problems[0].reason


def test_a_copy_that_is_not_ours_is_kept_where_its_source_moves_on(world: World) -> None:
    """An equal object was at the destination before the run, so another program wrote it."""
    world.add(Document(id=1, title="", file=world.file(D0)))
    write_new(world, D0, world.contents[D0])
    assert world.run().exit_code == 0
    write_old(world, D0, b"replaced after the run")
    report = recheck(world)
    assert (report.exit_code, report.counts) == (1, {OutcomeKind.CONFLICT: 1})
    assert "nothing proves that we wrote" in reasons(report)[D0]
    assert world.new.get_content(D0) == world.contents[D0]


def test_rows_in_many_windows_and_columns_name_one_copy(worlds: World) -> None:
    shared = worlds.file("shared.bin")
    worlds.add(*(Document(id=n, title="", file=shared) for n in range(1, 8)), Album(pictures=[shared, shared]))
    assert worlds.run().exit_code == 0
    worlds.contents["shared.bin"] = b"replaced after the run"
    write_old(worlds, "shared.bin", b"replaced after the run")
    report = recheck(worlds, batch_size=2)
    assert (report.exit_code, report.counts) == (0, {OutcomeKind.REPOINTED: 1})
    assert report.rechecked["objects"] == report.rechecked["copied_again"] == 1
    assert_rows_right(worlds)


def test_rows_that_still_name_the_source_are_moved_first(on_disk: World) -> None:
    on_disk.add(Document(id=99, title="", file=on_disk.file("late.bin")))
    on_disk.new.delete_object(D0)
    report = recheck(on_disk)
    assert (report.exit_code, report.rows_repointed, report.rows_remaining) == (0, 1, 0)
    assert report.rechecked["copied_again"] == 1
    assert_rows_right(on_disk)


def test_the_journal_is_in_another_database(world: World, tmp_path: Path) -> None:
    world.fill(2, 4)
    journal = f"sqlite:///{tmp_path}/journal.db"
    assert world.run(journal=journal).exit_code == 0
    for name in (D0, *PICTURES):
        world.contents[name] = b"replaced " + name.encode()
        write_old(world, name, world.contents[name])
    assert recheck(world, journal=journal).rechecked["copied_again"] == 4
    assert_rows_right(world)
    assert RevertJob(world.application, RevertOptions(settle_time=0.0, journal=journal)).run().exit_code == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"dry_run": True}, "--recheck goes without --dry-run"),
        ({"copy_only": True}, "--recheck goes without --copy-only"),
        ({"keep_rows": True}, "--recheck goes without --keep-rows"),
        ({"where": "id = 1"}, "--recheck goes without --where"),
        ({"limit": 5}, "--recheck goes without --limit"),
        ({"destination": None}, "give --to KEY"),
    ],
)
def test_what_it_does_not_go_with(world: World, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        recheck(world, **options)


def test_patterns_choose_sources(on_disk: World) -> None:
    for name in (D0, D1):
        on_disk.new.delete_object(name)
    report = recheck(on_disk, include=(D0,))
    assert report.rechecked == {"objects": 1, "copied_again": 1, "rows_repaired": 0}


def test_a_source_is_replaced_again_while_it_is_copied_again(on_disk: World, monkeypatch: pytest.MonkeyPatch) -> None:
    write_old(on_disk, D0, b"replaced after the run")
    on_disk.contents[D0] = b"and once more"
    recheck_sources = passes.recheck_sources

    def write_then_recheck(*given: Any) -> None:
        write_old(on_disk, D0, b"and once more")
        recheck_sources(*given)

    monkeypatch.setattr(passes, "recheck_sources", write_then_recheck)
    assert recheck(on_disk).exit_code == 0
    assert_rows_right(on_disk)
