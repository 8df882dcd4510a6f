"""Several files of one row are copied again: our write of one of them is nobody else's change of the others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from migrate_storage.application.application import from_database
from migrate_storage.core.events import Event, PassStarted
from migrate_storage.core.model import OutcomeKind
from migrate_storage.engine import repoint
from migrate_storage.jobs.revert.job import RevertJob, RevertOptions
from tests.support.engine.world import Album, Document, World

NAMES = [f"albums/{number}.png" for number in range(20)]


def on_pass(world: World, number: int, work: Callable[[], None]) -> None:
    """Do ``work`` when the pass of that number begins: the rows of the pass before name the copies by then."""

    class Events(list[Event]):
        def append(self, event: Event) -> None:
            if event == PassStarted(number=number):
                work()
            super().append(event)

    world.events = Events()


def replace_sources(world: World, names: list[str]) -> None:
    """Save other bytes under the old key, as a process does that loaded its row before."""
    for name in names:
        world.contents[name] = f"the second content of {name}".encode()
        Path(world.old.prefix, name).write_bytes(world.contents[name])


def add_album(world: World, names: list[str] = NAMES) -> None:
    world.add(Album(pictures=[world.file(name, name.encode()) for name in names]))


def assert_right(world: World, files: list[dict[str, Any]]) -> None:
    """Each file has the size, the tag and the bytes of the object that it names."""
    for file in files:
        content = Path(world.new.fs.prefix, file["filename"]).read_bytes()
        assert content == world.contents[file["metadata"]["name"]]
        assert (file["backend"], file["size"]) == ("new", len(content))
        assert file["etag"] == world.new.head(file["filename"]).e_tag


@pytest.mark.parametrize("journal", ["with the rows", "elsewhere"])
def test_all_files_of_a_list_are_replaced_during_a_run(worlds: World, tmp_path: Path, journal: str) -> None:
    add_album(worlds)
    before = worlds.raw("albums", "pictures")
    on_pass(worlds, 2, lambda: replace_sources(worlds, NAMES))
    url = f"sqlite:///{tmp_path}/journal.db" if journal == "elsewhere" else None
    report = worlds.run(journal=url)
    assert (report.exit_code, report.counts) == (0, {OutcomeKind.REPOINTED: 20})
    [pictures] = worlds.raw("albums", "pictures")
    assert_right(worlds, pictures)
    assert RevertJob(worlds.application, RevertOptions(settle_time=0.0, journal=url)).run().exit_code == 0
    [reverted] = worlds.raw("albums", "pictures")
    assert [file["filename"] for file in reverted] == [file["filename"] for file in before[0]]
    assert worlds.check(backend="old") == 20


def test_the_database_refuses_another_row_of_the_batch(world: World) -> None:
    """Then each row is written by itself."""
    add_album(world)
    world.add(Document(id=1, title="", file=world.file("refused.bin")))

    def work() -> None:
        replace_sources(world, [*NAMES, "refused.bin"])
        world.sql(
            "CREATE TRIGGER refuse BEFORE UPDATE OF file ON documents BEGIN SELECT RAISE(ABORT, 'not this one'); END"
        )

    on_pass(world, 2, work)
    report = world.run()
    assert report.counts == {OutcomeKind.REPOINTED: 20, OutcomeKind.FAILED: 1}
    assert "not this one" in report.problems[0].reason
    assert_right(world, world.raw("albums", "pictures")[0])


def test_files_of_a_document_are_replaced_also_in_a_string_of_it(worlds: World) -> None:
    worlds.sql("CREATE TABLE settings (owner VARCHAR(40) PRIMARY KEY, data TEXT)")
    worlds.columns = from_database(worlds.url, ["settings.data"], {}).columns
    files = {name: worlds.file(name, name.encode()).to_dict() for name in NAMES[:6]}
    inner = {"deep": [files[NAMES[2]], {"x": files[NAMES[3]]}]}
    document = {"logo": files[NAMES[0]], "list": [files[NAMES[1]], 7], "text": json.dumps(inner), "note": "keep"}
    document["twice"] = [files[NAMES[4]], files[NAMES[5]], files[NAMES[4]]]
    worlds.sql("INSERT INTO settings VALUES ('a', :v)", v=json.dumps(document))
    on_pass(worlds, 2, lambda: replace_sources(worlds, NAMES[:6]))
    report = worlds.run()
    assert (report.exit_code, report.counts) == (0, {OutcomeKind.REPOINTED: 6})
    [(value,)] = worlds.sql("SELECT data FROM settings")
    now = json.loads(value)
    nested = json.loads(now["text"])
    found = [now["logo"], now["list"][0], nested["deep"][0], nested["deep"][1]["x"], *now["twice"]]
    assert_right(worlds, found)
    assert (now["list"][1], now["note"]) == (7, "keep")


def test_the_application_changes_the_rest_of_the_row_meanwhile(all_worlds: World) -> None:
    """Its file goes first in the list, and one of ours is gone: the others get their sizes wherever they are now."""
    add_album(all_worlds, NAMES[:4])
    added = all_worlds.file("added.png")

    def work() -> None:
        replace_sources(all_worlds, NAMES[:4])
        [pictures] = all_worlds.raw("albums", "pictures")
        own = {**added.to_dict(), "backend": "new", "etag": "of the application"}
        all_worlds.new.save_object(added, all_worlds.contents["added.png"])
        all_worlds.sql("UPDATE albums SET pictures = :v", v=json.dumps([own, *pictures[1:]]))

    on_pass(all_worlds, 2, work)
    report = all_worlds.run()
    [pictures] = all_worlds.raw("albums", "pictures")
    assert [file["filename"] for file in pictures] == ["added.png", *NAMES[1:4]]
    assert pictures[0]["etag"] == "of the application"
    assert_right(all_worlds, pictures[1:])
    assert report.counts == {OutcomeKind.REPOINTED: 3, OutcomeKind.MODIFIED: 1}
    assert [outcome.source.path for outcome in report.problems] == [NAMES[0]]
    assert "no row names the copy any more" in report.problems[0].reason


def test_one_of_them_is_saved_again_with_the_same_bytes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its copy has all that the row has of it already, and the row has another value by then."""
    fields_for = repoint.file_fields_for

    def only_size(*given: Any) -> dict[str, Any]:
        times = ("last_modified", "etag")
        return {name: None if name in times else value for name, value in fields_for(*given).items()}

    monkeypatch.setattr(repoint, "file_fields_for", only_size)
    add_album(world, NAMES[:3])

    def work() -> None:
        replace_sources(world, [NAMES[0], NAMES[2]])
        Path(world.old.prefix, NAMES[1]).write_bytes(world.contents[NAMES[1]])

    on_pass(world, 2, work)
    report = world.run()
    assert (report.exit_code, report.counts) == (0, {OutcomeKind.REPOINTED: 3}), report.problems
    assert [file["size"] for file in world.raw("albums", "pictures")[0]] == [
        len(world.contents[name]) for name in NAMES[:3]
    ]


def test_a_file_of_a_list_that_two_runs_moved(worlds: World) -> None:
    """The first run recorded a value of the row that the second one has changed since."""
    add_album(worlds, NAMES[:2])
    worlds.add(Document(id=1, title="", file=worlds.file(NAMES[0], NAMES[0].encode())))
    missing = Path(worlds.old.prefix, NAMES[1])
    missing.rename(missing.with_suffix(".away"))
    assert worlds.run(columns=("albums.pictures",)).counts == {OutcomeKind.REPOINTED: 1, OutcomeKind.MISSING: 1}
    missing.with_suffix(".away").rename(missing)
    assert worlds.run(columns=("albums.pictures",)).exit_code == 0
    replace_sources(worlds, NAMES[:1])
    assert worlds.run().exit_code == 0
    assert_right(worlds, [*worlds.raw("albums", "pictures")[0], *worlds.raw()])


def test_all_files_are_replaced_again_and_again(world: World) -> None:
    """A value that our own later write has changed is no reason to stop either."""
    add_album(world, NAMES[:3])
    on_pass(world, 2, lambda: replace_sources(world, NAMES[:3]))
    assert world.run().exit_code == 0
    shared = [Document(id=n, title="", file=world.file(name)) for n, name in enumerate(NAMES[:3], 1)]
    world.add(*shared)
    assert world.run().exit_code == 0
    assert_right(world, [*world.raw("albums", "pictures")[0], *world.raw()])
