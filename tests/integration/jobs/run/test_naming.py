"""`run --rename` gives copies other names: all of them are checked before the first byte, and every job knows both."""

from __future__ import annotations

import itertools
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import obstore
import pytest
import sqlalchemy as sa
from advanced_alchemy.types import FileObject
from sqlalchemy.orm import Session

from migrate_storage.core.errors import ConfigurationError, StoppedError
from migrate_storage.core.model import OutcomeKind, Strategy
from migrate_storage.engine.rename import Rename
from migrate_storage.jobs.explain import explain
from migrate_storage.jobs.revert.job import RevertJob, RevertOptions
from migrate_storage.jobs.run import naming
from migrate_storage.jobs.verify.check_object import VerifyOptions
from migrate_storage.jobs.verify.job import VerifyJob
from tests.support.engine import other_process as outside
from tests.support.engine import registrations as places
from tests.support.engine.world import Document, World
from tests.support.jobs.purge import purge
from tests.support.servers import S3Server

LAYOUT = r"(docs|albums|notes)/(.*)=>files/\2/\1"


def revert(world: World, **options: Any) -> Any:
    return RevertJob(world.application, RevertOptions(settle_time=0.0, **options)).run()


def names(world: World) -> set[str]:
    """The names that rows have."""
    return {file.filename for file in world.files()}


def renamed(world: World, rule: str = LAYOUT) -> set[str]:
    rename = Rename.read(rule)
    return {rename.name_copy(name) for name in world.contents}


def objects(world: World) -> set[str]:
    """The keys of the objects of the new backend."""
    found = obstore.list(world.new.fs).collect()
    return {each["path"] for each in found if not each["path"].startswith(".migrate-storage/")}


def refused(world: World, **options: Any) -> str:
    """The one line with which a run is refused; nothing was changed."""
    rows, there = world.dump(), objects(world)
    with pytest.raises(ConfigurationError) as error:
        world.run(**options)
    assert (world.dump(), objects(world)) == (rows, there)
    message = str(error.value)
    assert "\n" not in message
    with pytest.raises(ConfigurationError) as planned:
        world.run(**options, dry_run=True)
    assert str(planned.value) == message, "a plan refuses it as well"
    return message


@pytest.fixture
def on_databases(any_database_url: str, moto_s3: S3Server) -> Iterator[World]:
    old, new = places.old_s3(moto_s3, moto_s3.new_bucket()), places.new_s3(moto_s3, moto_s3.new_bucket())
    world = World(any_database_url, old.build(), new.build())
    yield world
    world.close()


def test_there_and_back_again(on_databases: World) -> None:
    """Single files, lists and shared files; then each job that reads the journal, and another layout after a revert."""
    world = on_databases
    world.fill(6, 4, 9)
    count, before, tables = sum(1 for _ in world.files()), names(world), ("documents", "albums", "notes")
    rows = {table: world.sql(f"SELECT * FROM {table} ORDER BY 1, 2") for table in tables}
    planned = world.run(rename=LAYOUT, dry_run=True)
    assert (planned.exit_code, planned.counts) == (0, {OutcomeKind.REPOINTED: len(world.contents)})
    assert not objects(world)
    report = world.run(rename=LAYOUT)
    assert (report.exit_code, report.rows_remaining) == (0, 0), report
    [note] = [note for note in report.notes if note.code == "rename"]
    assert note.message.startswith(
        f"{len(before)} of {len(before)} files that rows name get another name, such as 'files/"
    )
    assert names(world) == renamed(world) == objects(world)
    assert world.check(backend="new") == count
    assert {old: record.destination_path for old, record in world.journal.items()} == {
        old: Rename.read(LAYOUT).name_copy(old) for old in world.contents
    }

    lines = "\n".join(explain(world.application, "documents.file", ["1"]))
    assert "names new:files/0/d0.bin/docs" in lines
    assert "copied it from old:docs/0/d0.bin" in lines
    assert "a revert would name old:docs/0/d0.bin again" in lines
    assert VerifyJob(world.application, VerifyOptions()).run().exit_code == 0
    world.old.fs.pipe(world.old._prepare_path("docs/0/d0.bin"), b"a later version")
    world.contents["docs/0/d0.bin"] = b"a later version"
    rechecked = world.run(rename=LAYOUT, recheck=True)
    assert (rechecked.exit_code, rechecked.rechecked["copied_again"]) == (0, 1), rechecked
    assert world.check(backend="new") == count
    assert names(world) == objects(world) == renamed(world)

    assert revert(world, dry_run=True).rows_repointed == 0
    back = revert(world)
    assert back.exit_code == 0, back.problems
    assert names(world) == before
    now = {table: world.sql(f"SELECT * FROM {table} ORDER BY 1, 2") for table in tables}
    assert {table: len(each) for table, each in now.items()} == {table: len(each) for table, each in rows.items()}
    assert world.check(backend="old") == count
    assert "named its copies by --rename" in refused(world, rename=r"(.*)=>v3/\1")
    assert purge(world, unreferenced_copies=True).exit_code == 0
    assert not objects(world)
    assert world.run(rename=r"(.*)=>v3/\1").exit_code == 0
    assert names(world) == objects(world) == {f"v3/{name}" for name in world.contents}
    assert world.check(backend="new") == count
    purged = purge(world)
    assert (purged.exit_code, purged.counts[OutcomeKind.DELETED]) == (0, len(world.contents))
    assert world.check(backend="new") == count


def test_a_resumed_run_has_the_same_rule(on_databases: World) -> None:
    world = on_databases
    world.fill(9)
    assert world.run(rename=LAYOUT, limit=4).exit_code == 4
    for other in (r"(.*)=>v2/\1", None):
        message = refused(world, rename=other)
        assert f"named its copies by --rename '{LAYOUT}'" in message
        assert "give the same rule" in message
    assert world.sql("SELECT DISTINCT renaming FROM migrate_storage_run WHERE kind = 'run'") == [(LAYOUT,)]
    report = world.run(rename=LAYOUT)
    assert (report.exit_code, report.resumed) == (0, True)
    assert names(world) == renamed(world)
    assert world.check(backend="new") == 9


def test_a_run_without_a_rule_is_not_resumed_with_one(world: World) -> None:
    world.fill(4)
    assert world.run(limit=2).exit_code == 4
    assert "kept the filenames" in refused(world, rename=LAYOUT)
    assert world.run().exit_code == 0


def test_a_killed_run_is_resumed_with_its_rule(sqlite_url: str, moto_s3: S3Server) -> None:
    old, new = places.old_s3(moto_s3, moto_s3.new_bucket()), places.new_s3(moto_s3, moto_s3.new_bucket())
    world = World(sqlite_url, old.build(), new.build())
    world.fill(60)
    killed = outside.forked(
        sqlite_url,
        old,
        new,
        "--rename",
        LAYOUT,
        "--batch-size",
        "10",
        "--concurrency",
        "4",
        after=20,
        steps=7,
        batch=10,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert 0 < sum(file.backend.key == "new" for file in world.files()) < 60
    resumed = outside.forked(sqlite_url, old, new, "--rename", LAYOUT)
    assert resumed.returncode == 0, resumed.stderr + resumed.stdout
    assert names(world) == renamed(world) == objects(world)
    assert world.check(backend="new") == 60
    world.close()


def test_two_files_with_one_new_name(world: World) -> None:
    world.fill(4)
    message = refused(world, rename=r"docs/\d/(.).*=>all/\1")
    assert "'docs/0/d0.bin' and 'docs/1/d1.bin' one name, 'all/d' (2 more of this kind)" in message
    assert message.endswith("nothing was changed")


def test_two_files_of_windows_far_apart(world: World) -> None:
    world.fill(14)
    message = refused(world, rename=r"docs/0/.*=>all", batch_size=3)
    assert "'docs/0/d0.bin' and 'docs/0/d7.bin' one name" in message


def test_two_files_of_equal_content_with_one_new_name(world: World) -> None:
    for number in (1, 2):
        world.add(Document(id=number, title="t", file=world.file(f"{number}.txt", b"same")))
    assert "one name" in refused(world, rename=r"\d.txt=>one.txt")


def test_a_new_name_is_the_kept_name_of_another_file(world: World) -> None:
    world.fill(3)
    assert "one name, 'docs/1/d1.bin'" in refused(world, rename="docs/0/d0.bin=>docs/1/d1.bin")


def test_a_name_that_another_object_has_already(on_databases: World) -> None:
    world = on_databases
    world.fill(4)
    world.new.save_object(FileObject(backend="new", filename="files/1/d1.bin/docs"), b"somebody else's")
    message = refused(world, rename=LAYOUT)
    assert "'docs/1/d1.bin' the name 'files/1/d1.bin/docs', where another object is already" in message
    assert world.new.get_content("files/1/d1.bin/docs") == b"somebody else's"
    same = world.contents["docs/1/d1.bin"]
    world.new.save_object(FileObject(backend="new", filename="files/1/d1.bin/docs"), same)
    assert world.run(rename=LAYOUT).exit_code == 0
    assert world.check(backend="new") == 4


def test_a_name_that_the_copy_of_another_file_has(world: World) -> None:
    """Also where the bytes are equal, because two sources never share a copy."""
    world.add(Document(id=1, title="t", file=world.file("docs/a", b"same")))
    assert world.run(rename="docs/.*=>one").exit_code == 0
    world.add(Document(id=2, title="t", file=world.file("docs/b", b"same")))
    assert "which the copy of 'docs/a' by run" in refused(world, rename="docs/.*=>one")


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (r"(.*)=>/\1", "which is absolute"),
        (r"(.*)=>../\1", "which has the part '..'"),
        (r"docs/0/(.*)=>", "which is empty"),
        (r"(.*)=>a//\1", "has an empty path segment"),
        (r"(.*)=>\1/", "ends with a slash"),
        (r"docs/0/(.*)=>\1#1", "a local store keeps for uploads under way"),
        (f"docs/0/(.*)=>{'x' * 260}", "has a file name longer than"),
    ],
)
def test_a_name_that_nothing_can_have(world: World, rule: str, reason: str) -> None:
    world.fill(3)
    assert reason in refused(world, rename=rule)


def test_a_name_that_the_service_cannot_hold(moto_s3: S3Server, tmp_path: Path, sqlite_url: str) -> None:
    new = places.new_s3(moto_s3, moto_s3.new_bucket()).build()
    world = World(sqlite_url, places.old_local(tmp_path / "old").build(), new)
    world.fill(2)
    assert "is longer than 1024 bytes" in refused(world, rename=rf"(.*)=>{'x' * 1020}/\1")
    world.close()


def test_keys_that_are_encoded_are_encoded_after_the_rule(world: World) -> None:
    world.fill(3)
    assert world.run(rename=r"docs/(.*)=>docs//\1", invalid_keys="encode").exit_code == 0
    assert names(world) == {f"docs/%2F{name.removeprefix('docs/')}" for name in world.contents}
    assert world.check(backend="new") == 3
    assert revert(world).exit_code == 0
    assert names(world) == set(world.contents)


def test_a_function(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = tmp_path / "layouts.py"
    layout.write_text(
        "import itertools, zlib\nnumbers = itertools.count()\n"
        "def hashed(old):\n    return f'{zlib.crc32(old.encode()) % 16:x}/{old}'\n"
        "def numbered(old):\n    return f'{next(numbers)}/{old}'\n"
        "def fails(old):\n    return {'docs/0/d0.bin': 'a'}[old]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    world.fill(5)
    with pytest.raises(ConfigurationError, match=r"the name '0/docs/0/d0.bin', and '5/docs/0/d0.bin' when it is asked"):
        world.run(rename="layouts:numbered")
    assert not objects(world)
    assert "fails for 'docs/1/d1.bin': KeyError" in refused(world, rename="layouts:fails")
    assert world.run(rename="layouts:hashed", limit=2).exit_code == 4
    assert world.sql("SELECT DISTINCT renaming FROM migrate_storage_run WHERE kind = 'run'") == [("layouts:hashed",)]
    assert world.run(rename="layouts:hashed").exit_code == 0
    assert all(name.partition("/")[2] in world.contents for name in names(world))
    assert world.check(backend="new") == 5


def test_a_function_that_was_changed_since(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The text of the rule is the same, and the name of a copy whose row was left is another one now."""
    world.fill(3)
    rules = iter(("v1", "v2"))

    def read(text: str) -> Rename:
        version = next(rules)
        return Rename(text, lambda name: f"{version}/{name}")

    monkeypatch.setattr("migrate_storage.jobs.run.preflight.Rename.read", read)
    assert world.run(rename="layouts:name", copy_only=True).exit_code == 0
    with pytest.raises(
        ConfigurationError, match=r"named its copy 'v1/docs/\S+': a rule must give the same name each time"
    ):
        world.run(rename="layouts:name")
    assert world.check(backend="old") == 3


def test_a_copy_without_rows_and_then_the_rows(world: World) -> None:
    world.fill(4)
    assert world.run(rename=LAYOUT, copy_only=True).exit_code == 0
    assert names(world) == set(world.contents)
    assert objects(world) == renamed(world)
    report = world.run(rename=LAYOUT)
    assert (report.exit_code, report.bytes_copied) == (0, 0)
    assert names(world) == renamed(world)


def test_within_one_bucket(moto_s3: S3Server, database_url: str) -> None:
    """Both keys reach one bucket: files with other names are copied within it, all others are only re-pointed."""
    bucket = moto_s3.new_bucket()
    world = World(database_url, places.old_s3(moto_s3, bucket).build(), places.new_s3(moto_s3, bucket).build())
    world.fill(5, 4)
    rule = r"docs/(.*)=>files/\1"
    report = world.run(rename=rule)
    assert (report.exit_code, report.strategy, report.rows_remaining) == (0, Strategy.MOVE, 0), report
    assert "each object that gets another name is copied" in report.strategy_reason
    assert names(world) == renamed(world, rule)
    assert world.check(backend="new") == len(list(world.files()))
    purged = purge(world)
    assert purged.counts[OutcomeKind.DELETED] == 5, "the pictures kept their names, and are the only objects"
    assert objects(world) == renamed(world, rule)
    assert world.check(backend="new") == len(list(world.files()))
    world.close()


def test_a_name_of_another_source_object_in_one_bucket(moto_s3: S3Server, sqlite_url: str) -> None:
    """A name of a file that the run leaves out is taken as well."""
    bucket = moto_s3.new_bucket()
    world = World(sqlite_url, places.old_s3(moto_s3, bucket).build(), places.new_s3(moto_s3, bucket).build())
    for number, name in enumerate(("a/1", "b/1")):
        world.add(Document(id=number + 1, title="t", file=world.file(name, name.encode())))
    with pytest.raises(ConfigurationError, match="where another object is already"):
        world.run(rename=r"a/(.*)=>b/\1", include=("/a/**",))
    assert world.check(backend="old") == 2
    world.close()


def test_a_row_that_comes_later_gets_no_name_of_another(world: World) -> None:
    """After the check, a live application adds a file whose new name is taken: its row stays, and is listed."""
    world.fill(3)
    steps = itertools.count()

    def listen(event: object) -> None:
        if type(event).__name__ == "PassStarted" and next(steps) == 0:
            world.add(Document(id=90, title="t", file=world.file("other/0/d0.bin", b"later")))

    job = world.migration(rename=r"(docs|other)/(.*)=>files/\2")
    job.context.stats._listener = listen
    report = job.run()
    assert report.exit_code == 1
    assert [(each.kind, each.source.path) for each in report.problems] == [
        (OutcomeKind.DESTINATION_EXISTS, "other/0/d0.bin")
    ]
    assert world.check() == 4
    assert sum(file.backend.key == "old" for file in world.files()) == 1


def test_a_row_that_comes_later_and_gets_no_name_at_all(world: World) -> None:
    world.fill(3)
    steps = itertools.count()

    def listen(event: object) -> None:
        if type(event).__name__ == "PassStarted" and next(steps) == 0:
            world.add(Document(id=90, title="t", file=world.file("other", b"later")))

    job = world.migration(rename=r"(?:docs/(.*)|other)=>\1")
    job.context.stats._listener = listen
    report = job.run()
    assert report.exit_code == 1
    [problem] = report.problems
    assert "gives 'other' the name '', which is empty" in problem.reason
    assert world.check() == 4


def test_a_plan_and_its_manifest(world: World, tmp_path: Path) -> None:
    """A program that copies in bulk gives no other names, so the manifest leaves these files to the run."""
    world.fill(5, 4)
    report = world.run(rename=r"docs/(.*)=>files/\1", dry_run=True, manifest=tmp_path / "keys.txt")
    listed = set((tmp_path / "keys.txt").read_text().splitlines())
    assert listed == {name for name in world.contents if name.startswith("albums/")}
    [left] = [note for note in report.notes if note.code == "manifest.left-out"]
    assert left.message.startswith("5 objects left out of the manifest")


def test_a_pattern_that_matches_nothing_is_reported(world: World) -> None:
    world.fill(3)
    report = world.run(rename="jpg=>png")
    [note] = [note for note in report.notes if note.code == "rename"]
    assert (note.severity, note.message) == ("warning", "0 of 3 files that rows name get another name")
    assert names(world) == set(world.contents)


def test_only_the_files_that_the_run_includes_are_named(world: World) -> None:
    world.fill(3, 4)
    report = world.run(rename=r"(.*)=>\1.x", include=("/docs/**",))
    [note] = [note for note in report.notes if note.code == "rename"]
    assert note.message.startswith("3 of 3 files")
    assert names(world) == {f"{name}.x" if name.startswith("docs") else name for name in world.contents}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"destination": None}, "an in-place run makes none"),
        ({"keep_rows": True}, "goes without --keep-rows"),
        ({"rename": "old"}, "write PATTERN=>REPLACEMENT"),
        ({"rename": "(=>x"}, "is no regular expression"),
    ],
)
def test_where_a_rule_makes_no_sense(world: World, options: dict[str, Any], reason: str) -> None:
    world.fill(1)
    with pytest.raises(ConfigurationError, match=reason):
        world.run(**{"rename": LAYOUT, **options})
    assert not objects(world)


def test_a_journal_of_its_own(worlds: World, tmp_path: Path) -> None:
    worlds.fill(4)
    book = f"sqlite:///{tmp_path}/journal.db"
    assert worlds.run(rename=LAYOUT, journal=book, limit=2).exit_code == 4
    with pytest.raises(ConfigurationError, match="named its copies by"):
        worlds.run(journal=book)
    assert worlds.run(rename=LAYOUT, journal=book).exit_code == 0
    assert names(worlds) == renamed(worlds)
    assert revert(worlds, journal=book).exit_code == 0
    assert names(worlds) == set(worlds.contents)


def test_a_stop_during_the_check_changes_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.fill(6)
    before = world.dump()
    job = world.migration(rename=LAYOUT, batch_size=2)
    read = naming._NameSurvey.add_rows

    def add_rows_and_stop(survey: Any, *given: Any) -> None:
        read(survey, *given)
        job.stop()

    monkeypatch.setattr(naming._NameSurvey, "add_rows", add_rows_and_stop)
    with pytest.raises(StoppedError):
        job.run()
    assert (world.dump(), objects(world)) == (before, set())


def test_a_row_keeps_all_else(worlds: World) -> None:
    """The value changes in the fields that a move changes, and in no other one."""
    worlds.fill(1)
    with Session(worlds.engine) as session:
        title = session.scalars(sa.select(Document.title)).one()
    [before] = worlds.raw()
    assert worlds.run(rename=LAYOUT).exit_code == 0
    [after] = worlds.raw()
    assert after["filename"] == "files/0/d0.bin/docs"
    assert {name for name in before if json.dumps(before[name]) != json.dumps(after.get(name))} <= {
        "backend", "filename", "size", "etag", "last_modified", "checksum", "version_id",
    }  # fmt: skip
    with Session(worlds.engine) as session:
        assert session.scalars(sa.select(Document.title)).one() == title
